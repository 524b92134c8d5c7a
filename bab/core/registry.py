"""Name -> entry point, lazily; failures isolated.

A component is found by packaging metadata alone: `names` imports nobody's code, `load` imports
only what was named. Importing this module imports neither pluggy nor torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from bab.core.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import Distribution

# Kind -> what one of its components is called, and its contract, by its name in `bab`.
# An observer has no base class: it is any class with methods marked as hook implementations.
KINDS: Mapping[str, tuple[str, str]] = {
    "encoders": ("encoder", "Encoder"),
    "heads": ("head", "Head"),
    "objectives": ("objective", "Objective"),
    "tasks": ("task", "Task"),
    "datasets": ("corpus", "Corpus"),
    "observers": ("observer", ""),
    "formats": ("format", "Format"),
    "models": ("model", "ModelReader"),
}


class Entry(NamedTuple):
    """One line of a distribution's entry points: what it is called and where its class is."""

    name: str
    kind: str
    value: str  # "package.module:Class"
    distribution: str
    version: str

    @property
    def owner(self) -> str:
        """The distribution and its version, as messages name them."""
        return f"{self.distribution} {self.version}".strip()


def kind_of(text: str) -> str:
    """A kind from its plural, its singular ("corpus") or the field's other word ("corpora").

    Raises:
        PluginError: there is no such kind.
    """
    aliases = {singular: kind for kind, (singular, _) in KINDS.items()}
    aliases |= {kind: kind for kind in KINDS} | {"corpora": "datasets", "dataset": "datasets"}
    if text not in aliases:
        raise PluginError(
            f"there is no kind of component called '{text}': "
            + did_you_mean(text, [*KINDS, "plugins"])
        )
    return aliases[text]


def entries() -> tuple[Entry, ...]:
    """Everything that any installed distribution offers, sorted; read from metadata only."""
    return _scan(tuple(sys.path))


def names(kind: str) -> dict[str, Entry]:
    """The components of a kind by name. Of two with one name, the first; `load` refuses both."""
    by_name: dict[str, Entry] = {}
    for entry in entries():
        if entry.kind == kind_of(kind):
            by_name.setdefault(entry.name, entry)
    return by_name


@cache
def _scan(path: tuple[str, ...]) -> tuple[Entry, ...]:
    # Not importlib.metadata.entry_points(): it parses every file, and one that is malformed
    # stops it. The text test spares parsing the many distributions that offer us nothing.
    from importlib.metadata import distributions

    by_owner: dict[str, list[Entry]] = {}
    for distribution in distributions(path=list(path)):
        try:
            text = distribution.read_text("entry_points.txt")
        except (OSError, UnicodeDecodeError):
            continue
        if text and "[bab." in text:
            name, version = _named(distribution)
            # The first of two copies on the path is the one that Python imports.
            by_owner.setdefault(_normal(name), list(_parse(text, name, version)))
    return tuple(sorted(entry for group in by_owner.values() for entry in group))


def _named(distribution: Distribution) -> tuple[str, str]:
    try:
        metadata = distribution.metadata
        return str(metadata["Name"] or "unnamed"), str(metadata["Version"] or "")
    except Exception:  # damaged metadata: its components may still work, and are named by folder
        return str(getattr(distribution, "_path", "unnamed")), ""


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _parse(text: str, distribution: str, version: str) -> Iterator[Entry]:
    kind = ""
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            group = line.strip("[] ")
            kind = group.removeprefix("bab.") if group.startswith("bab.") else ""
        elif kind in KINDS and "=" in line:
            name, value = (part.strip() for part in line.split("=", 1))
            yield Entry(name, kind, value, distribution, version)


def find(kind: str, name: str) -> Entry:
    """The one entry of this name.

    Raises:
        PluginError: nothing is called so, or two distributions use the name.
    """
    kind = kind_of(kind)
    same = [entry for entry in entries() if (entry.kind, entry.name) == (kind, name)]
    word = KINDS[kind][0]
    if not same:
        raise PluginError(f"there is no {word} called '{name}': {did_you_mean(name, names(kind))}")
    if len(same) > 1:
        owners = " and ".join(f"{entry.owner} ({entry.value})" for entry in same)
        raise PluginError(
            f"two plugins offer the {word} '{name}': {owners}. Uninstall one of them "
            f"(pip uninstall {same[-1].distribution}) or ask its authors to rename it"
        )
    return same[0]


def load(kind: str, name: str) -> Any:
    """Import one component's class; nothing else is imported.

    Args:
        kind: a key of `KINDS`, or its singular.
        name: the component's name, without weights or root.

    Returns:
        The class, checked against its contract (right base, usable `Options`).

    Raises:
        PluginError: unknown, named twice, crashing on import or breaking its contract; the
            message names the distribution.
    """
    return imported(find(kind, name))


def imported(entry: Entry) -> Any:
    """The class that an entry names, checked. Raises PluginError as `load` does."""
    what = f"the {KINDS[entry.kind][0]} '{entry.name}' of {entry.owner} ({entry.value})"
    module, _, attribute = entry.value.partition(":")
    try:
        component: Any = import_module(module.strip())
        for part in filter(None, attribute.split("[")[0].strip().split(".")):
            component = getattr(component, part)
    except (Exception, SystemExit) as error:  # a plugin may do anything at import
        raise PluginError(
            f"{what} failed to load: {type(error).__name__}: {error}. "
            "Update or uninstall that distribution; everything that doesn't use it still works"
        ) from error
    fault = _breach(entry.kind, component)
    if fault:
        raise PluginError(f"{what} breaks its contract: {fault}")
    return component


def _breach(kind: str, component: Any) -> str:
    if not isinstance(component, type):
        return f"it must be a class, and is {type(component).__name__} {component!r:.60}"
    base = KINDS[kind][1]
    if not base:
        return ""
    from bab.core.options import Options

    if not issubclass(component, getattr(import_module("bab"), base)):
        return f"it must be a subclass of bab.{base}"
    options = getattr(component, "Options", None)
    if not (isinstance(options, type) and issubclass(options, Options)):
        return "its Options must be a subclass of bab.Options"
    taken = {"name", "options", "weights", "root"} & set(options.model_fields)
    return f"its Options use the reserved name {sorted(taken)}" if taken else ""
