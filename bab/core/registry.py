"""Name -> entry point, lazily; failures isolated.

A component is found by packaging metadata alone: `names` imports nobody's code, `load` imports
only what was named. Importing this module imports neither pluggy nor torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from bab.core.errors import PluginError, did_you_mean, warn

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
    "launchers": ("launcher", "Launcher"),
}
OWN = "bab"  # the distribution whose components the bare names are
FILES = "BAB_PLUGIN_FILES"  # in the environment, so that workers have it: paths of one-file plugins


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
        file = self.distribution.endswith(".py")  # whose version is its SHA-256
        return f"{self.distribution} {self.version[: 12 if file else None]}".strip()

    @property
    def full(self) -> str:
        """The name that no other distribution's component has: `my-plugin/fbank`."""
        return f"{_normal(self.distribution)}/{self.name}"

    @property
    def built_in(self) -> bool:
        """Whether it comes with bab."""
        return self.distribution == OWN

    @property
    def described(self) -> str:
        """As messages name it."""
        return f"the {KINDS[self.kind][0]} '{self.name}' of {self.owner} ({self.value})"


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
    """Everything that any installed distribution offers, sorted; read from metadata only. Before
    it, what the files hold that `bab.use_plugin` was given."""
    files = [path for path in os.environ.get(FILES, "").split(os.pathsep) if path]
    public: Any = import_module("bab") if files else None
    return (*(e for path in files for e in public.read_plugin(path)), *_scan(tuple(sys.path)))


def names(kind: str) -> dict[str, Entry]:
    """The components of a kind by name. Of two with one name, the built-in, else the first."""
    by_name: dict[str, Entry] = {}
    for entry in entries():
        if entry.kind == kind_of(kind) and (entry.built_in or entry.name not in by_name):
            by_name[entry.name] = entry
    return by_name


def known(kind: str, name: str) -> bool:
    """Whether a component is called so, by its bare name or in full."""
    return any(e.kind == kind and name in (e.name, e.full) for e in entries())


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
        # By hand: the parser of the standard library takes as long as all else together.
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        head = text.partition("\n\n")[0].splitlines()
        said = dict(line.split(": ", 1) for line in head if line[:6] in ("Name: ", "Versio"))
        return said["Name"].strip() or "unnamed", said.get("Version", "").strip()
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
    """The one entry of this name: NAME, or in full DISTRIBUTION/NAME. A bare name that a built-in
    has is the built-in's, whoever else uses it.

    Raises:
        PluginError: nothing is called so, or two distributions use the name.
    """
    kind = kind_of(kind)
    there = [entry for entry in entries() if entry.kind == kind]
    owner, _, bare = name.rpartition("/")
    wanted = f"{_normal(owner)}/{bare}" if owner else ""
    same = [e for e in there if (e.full == wanted if owner else e.name == name)]
    word = KINDS[kind][0]
    if not same:
        every = [*names(kind), *(e.full for e in there if owner)]
        raise PluginError(f"there is no {word} called '{name}': {did_you_mean(name, every)}")
    if len(same) > 1:
        others = " and ".join(f"'{e.full}' ({e.owner}, {e.value})" for e in same if not e.built_in)
        first = next((entry for entry in same if entry.built_in), None)
        if first is None:
            raise PluginError(f"two plugins offer the {word} '{name}': name one in full: {others}")
        warn(f"the {word} '{name}' is {first.owner}'s; there is also {others}")
        return first
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
    module, _, attribute = entry.value.partition(":")
    try:
        with redirect_stdout(sys.stderr):  # ours is for results
            component: Any = import_module(module.strip())
        for part in filter(None, attribute.split("[")[0].strip().split(".")):
            component = getattr(component, part)
    except (Exception, SystemExit) as error:  # a plugin may do anything at import
        raise PluginError(
            f"{entry.described} failed to load: {type(error).__name__}: {error}. Update that "
            "distribution, or tell its authors; everything that doesn't use it still works"
        ) from error
    fault = _breach(entry.kind, component)
    if fault:
        raise PluginError(f"{entry.described} breaks its contract: {fault}")
    claim(component, entry)
    return component


_loaded: dict[type, Entry] = {}
_ENTRY = "_bab_entry"  # of an object


def claim(component: object, entry: Entry) -> None:
    """Note whose a class or an object is, for messages and for what results are found by. An object
    may be of another's class, as where a stranger's `load` gives a built-in encoder."""
    if isinstance(component, type):
        _loaded[component] = entry
    else:
        vars(component)[_ENTRY] = entry
        _loaded.setdefault(type(component), entry)


def owner(component: object) -> Entry | None:
    """What an object or class was loaded as; None where it is no component, or came another way."""
    cls = component if isinstance(component, type) else type(component)
    if cls is not component and _ENTRY in getattr(component, "__dict__", {}):
        own: Entry = vars(component)[_ENTRY]
        return own
    return next((_loaded[base] for base in cls.__mro__ if base in _loaded), None)


def of_module(name: str) -> Entry | None:
    """A component that was loaded from this module's package; None of bab's own."""
    top = name.partition(".")[0]
    tops = ((entry.value.partition(":")[0].partition(".")[0], entry) for entry in _loaded.values())
    return next((entry for own, entry in tops if own == top != OWN), None)


def called(qualified: str) -> Entry | None:
    """What the class of this qualified name was loaded as."""
    return next((e for c, e in _loaded.items() if c.__qualname__ == qualified), None)


def origin(component: object) -> str:
    """Distribution, version and class of a stranger's component, for what its results are found
    by; "" for a built-in, whose own version says when its results change (docs/decisions.md)."""
    entry = owner(component)
    if entry is None or entry.built_in:
        return ""
    return " ".join(filter(None, (entry.distribution, entry.version, entry.value)))


def _breach(kind: str, component: Any) -> str:
    if not isinstance(component, type):
        return f"it must be a class, and is {type(component).__name__} {component!r:.60}"
    name = KINDS[kind][1]
    if not name:
        return ""
    from bab.core.options import Options

    public: Any = import_module("bab")  # which knows where the contracts are
    base = getattr(public, name)
    if not issubclass(component, base):
        return f"it must be a subclass of bab.{name}"
    options = getattr(component, "Options", None)
    if not (isinstance(options, type) and issubclass(options, Options)):
        return "its Options must be a subclass of bab.Options"
    taken = {"name", "options", "weights", "root"} & set(options.model_fields)
    if taken:
        return f"its Options use the reserved name {sorted(taken)}"
    return str(public.contract_fault(base, component))
