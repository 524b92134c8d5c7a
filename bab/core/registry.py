"""Name -> entry point, lazily; failures isolated; the observers of a run.

A component is found by packaging metadata alone: `names` imports nobody's code, `load` imports
only what was named. Importing this module imports neither pluggy nor torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from bab.core.errors import BabError, PluginError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    import pluggy

    from bab.core.records import Record, RunInfo

# Kind -> what one of its components is called, and its contract in bab.core.interfaces.
# An observer has no base class: it is any class with methods marked as hook implementations.
KINDS: Mapping[str, tuple[str, str]] = {
    "encoders": ("encoder", "Encoder"),
    "heads": ("head", "Head"),
    "objectives": ("objective", "Objective"),
    "tasks": ("task", "Task"),
    "datasets": ("corpus", "Corpus"),
    "observers": ("observer", ""),
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


class Plugin(NamedTuple):
    """A distribution that contributes, what it gives, and what of it failed to load and why."""

    distribution: str
    version: str
    gives: tuple[Entry, ...]
    failures: tuple[tuple[Entry, str], ...] = ()


# ------------------------------------------------------------------------------- names


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
    found: dict[str, Entry] = {}
    for entry in entries():
        if entry.kind == kind_of(kind):
            found.setdefault(entry.name, entry)
    return found


@cache
def _scan(path: tuple[str, ...]) -> tuple[Entry, ...]:
    # Not importlib.metadata.entry_points(): it parses every file, and one that is malformed
    # stops it. The text test spares parsing the many distributions that offer us nothing.
    from importlib.metadata import distributions

    found: dict[str, list[Entry]] = {}
    for distribution in distributions(path=list(path)):
        try:
            text = distribution.read_text("entry_points.txt")
        except (OSError, UnicodeDecodeError):
            continue
        if text and "[bab." in text:
            name, version = _named(distribution)
            # The first of two copies on the path is the one that Python imports.
            found.setdefault(_normal(name), list(_parse(text, name, version)))
    return tuple(sorted(entry for group in found.values() for entry in group))


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


# ------------------------------------------------------------------------------- loading


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
    return _import(find(kind, name))


def _import(entry: Entry) -> Any:
    what = f"the {KINDS[entry.kind][0]} '{entry.name}' of {entry.owner} ({entry.value})"
    module, _, attribute = entry.value.partition(":")
    try:
        found: Any = import_module(module.strip())
        for part in filter(None, attribute.split("[")[0].strip().split(".")):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # a plugin may do anything at import
        raise PluginError(
            f"{what} failed to load: {type(error).__name__}: {error}. "
            "Update or uninstall that distribution; everything that doesn't use it still works"
        ) from error
    fault = _breach(entry.kind, found)
    if fault:
        raise PluginError(f"{what} breaks its contract: {fault}")
    return found


def _breach(kind: str, found: Any) -> str:
    if not isinstance(found, type):
        return f"it must be a class, and is {type(found).__name__} {found!r:.60}"
    base = KINDS[kind][1]
    if not base:
        return ""
    from bab.core import interfaces

    if not issubclass(found, getattr(interfaces, base)):
        return f"it must be a subclass of bab.{base}"
    options = getattr(found, "Options", None)
    if not (isinstance(options, type) and issubclass(options, interfaces.Options)):
        return "its Options must be a subclass of bab.Options"
    taken = {"name", "options", "weights", "root"} & set(options.model_fields)
    return f"its Options use the reserved name {sorted(taken)}" if taken else ""


def plugins(check: bool = False) -> list[Plugin]:
    """Every distribution that contributes, and what it gives.

    check: import everything too, and say what failed and why (slow: torch is imported).
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries():
        groups.setdefault((entry.distribution, entry.version), []).append(entry)
    report = []
    for (distribution, version), gives in sorted(groups.items()):
        failures = tuple(_failures(gives)) if check else ()
        report.append(Plugin(distribution, version, tuple(gives), failures))
    return report


def _failures(gives: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
    for entry in gives:
        try:
            find(entry.kind, entry.name)
            found = _import(entry)
            if entry.kind == "observers":
                _register(entry, found)
        except BabError as error:
            yield entry, str(error)


# ------------------------------------------------------------------------------- observers


def _register(entry: Entry, found: Any) -> pluggy.PluginManager:
    """One observer in a pluggy manager of its own, so that none can disturb another.

    Raises:
        PluginError: a hook that doesn't exist or has other arguments, or a failing constructor.
        BabError: what the observer itself says is missing.
    """
    import pluggy

    from bab.core.hooks import Events

    what = f"the observer '{entry.name}' of {entry.owner}"
    manager = pluggy.PluginManager("bab")
    manager.add_hookspecs(Events)
    try:
        manager.register(found(), name=entry.name)
        manager.check_pending()
    except BabError:
        raise
    except pluggy.PluginValidationError as error:
        known = ", ".join(name for name in vars(Events) if name.startswith("bab_"))
        reason = " ".join(str(error).split())
        raise PluginError(f"{what} has a wrong hook: {reason}. Events: {known}") from error
    except Exception as error:
        raise PluginError(f"{what} can't start: {type(error).__name__}: {error}") from error
    unmarked = [
        name
        for name, value in vars(found).items()
        if name.startswith("bab_") and callable(value) and not hasattr(value, "bab_impl")
    ]
    if unmarked:
        raise PluginError(f"{what}: {', '.join(unmarked)} must be marked with @bab.hookimpl")
    return manager


def _to_stderr(message: str) -> None:
    print(f"bab: warning: {message}", file=sys.stderr, flush=True)


class Watchers:
    """The observers of a run. Each event goes to each of them; one that raises is reported once,
    by its distribution's name, and dropped. A watcher never stops a run.

    problems: what was reported, for the run's record.
    """

    def __init__(self, warn: Callable[[str], None] = _to_stderr) -> None:
        self.problems: list[str] = []
        self._warn = warn
        self._managers: dict[Entry, pluggy.PluginManager] = {}

    def __len__(self) -> int:
        return len(self._managers)

    def report(self, message: str) -> None:
        """Warn of a plugin's fault, and keep it."""
        self.problems.append(message)
        self._warn(message)

    def add(self, entry: Entry) -> None:
        """Load and register one observer; a broken one is reported and left out.

        Raises:
            BabError: the observer says that something it needs is missing, and the remedy.
        """
        try:
            self._managers[entry] = _register(entry, _import(entry))
        except PluginError as error:
            self.report(str(error))

    def join(self, watcher: object) -> None:
        """Let an object of the calling program watch too; its hooks are checked as all are."""
        kind = type(watcher)
        value = f"{kind.__module__}:{kind.__qualname__}"
        entry = Entry(kind.__name__, "observers", value, kind.__module__, "")
        self._managers[entry] = _register(entry, lambda: watcher)

    def _call(self, event: str, arguments: Mapping[str, Any]) -> None:
        for entry, manager in list(self._managers.items()):
            try:
                getattr(manager.hook, event)(**arguments)
            except Exception as error:  # whatever a stranger's code raises
                del self._managers[entry]
                self.report(
                    f"the observer '{entry.name}' of {entry.owner} failed in {event} and was "
                    f"dropped: {type(error).__name__}: {error}"
                )

    # The events, as bab.core.hooks specifies them.

    def bab_run_start(self, run: RunInfo) -> None:
        self._call("bab_run_start", {"run": run})

    def bab_progress(self, run: RunInfo, stage: str, done: float, total: float, unit: str) -> None:
        arguments = {"run": run, "stage": stage, "done": done, "total": total, "unit": unit}
        self._call("bab_progress", arguments)

    def bab_step(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        self._call("bab_step", {"run": run, "step": step, "values": values})

    def bab_evaluated(
        self, run: RunInfo, step: int, split: str, metrics: Mapping[str, float], best: bool
    ) -> None:
        arguments = {"run": run, "step": step, "split": split, "metrics": metrics, "best": best}
        self._call("bab_evaluated", arguments)

    def bab_checkpoint(self, run: RunInfo, step: int, path: str) -> None:
        self._call("bab_checkpoint", {"run": run, "step": step, "path": path})

    def bab_notice(self, run: RunInfo, message: str) -> None:
        self._call("bab_notice", {"run": run, "message": message})

    def bab_run_end(self, run: RunInfo, record: Record | None, error: str) -> None:
        self._call("bab_run_end", {"run": run, "record": record, "error": error})


def observers(names: Sequence[str], warn: Callable[[str], None] = _to_stderr) -> Watchers:
    """The named observers, ready to be told of events; an empty list gives a silent one.

    Raises:
        PluginError: a name that nothing or more than one distribution offers.
        BabError: an observer that lacks something (its message says what to install).
    """
    watchers = Watchers(warn)
    for name in dict.fromkeys(names):
        watchers.add(find("observers", name))
    return watchers
