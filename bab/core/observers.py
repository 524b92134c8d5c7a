"""Events of a run, as pluggy hook specifications. Fire and forget: no return value, no order.

An observer is a class with methods of these names, marked with `hookimpl`; any argument may be
left out. An observer that raises is reported once, by its distribution's name, and dropped: a
watcher never stops a run. All times are seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

from bab.core.errors import BabError, PluginError, warn
from bab.core.record import Record, RunInfo
from bab.core.registry import Entry, find, imported

hookspec = pluggy.HookspecMarker("bab")
hookimpl = pluggy.HookimplMarker("bab")


class Events:
    """The specifications that pluggy checks every observer against."""

    @hookspec
    def bab_run_start(self, run: RunInfo) -> None:
        """A run begins, or resumes. The run's folder exists."""

    @hookspec
    def bab_progress(self, run: RunInfo, stage: str, done: float, total: float, unit: str) -> None:
        """`done` of `total` units ("s" of audio, "files", "steps") of a stage are finished."""

    @hookspec
    def bab_step(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        """An optimizer step ended. values: loss, lr, grad_norm, audio_seconds, seconds, ..."""

    @hookspec
    def bab_evaluated(
        self, run: RunInfo, step: int, split: str, metrics: Mapping[str, float], best: bool
    ) -> None:
        """A split was scored. best: this is the best dev score so far."""

    @hookspec
    def bab_checkpoint(self, run: RunInfo, step: int, path: str) -> None:
        """A checkpoint was written, atomically, and can be resumed from."""

    @hookspec
    def bab_notice(self, run: RunInfo, message: str) -> None:
        """Something that the user should know and that is not an error."""

    @hookspec
    def bab_run_end(self, run: RunInfo, record: Record | None, error: str) -> None:
        """The run ended. record: None where it failed or was interrupted; error says why."""


def registered(entry: Entry, observer: Any) -> pluggy.PluginManager:
    """One observer in a pluggy manager of its own, so that none can disturb another.

    Raises:
        PluginError: a hook that doesn't exist or has other arguments, or a failing constructor.
        BabError: what the observer itself says is missing.
    """
    what = f"the observer '{entry.name}' of {entry.owner}"
    manager = pluggy.PluginManager("bab")
    manager.add_hookspecs(Events)
    try:
        manager.register(observer(), name=entry.name)
        manager.check_pending()
    except BabError:
        raise
    except pluggy.PluginValidationError as error:
        known = ", ".join(name for name in vars(Events) if name.startswith("bab_"))
        reason = re.sub(r"( object)? at 0x\w+", "", " ".join(str(error).split()))
        raise PluginError(f"{what} has a wrong hook: {reason}. Events: {known}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what} can't start: {type(error).__name__}: {error}") from error
    unmarked = [
        name
        for name, value in vars(observer).items()
        if name.startswith("bab_") and callable(value) and not hasattr(value, "bab_impl")
    ]
    if unmarked:
        raise PluginError(f"{what}: {', '.join(unmarked)} must be marked with @bab.hookimpl")
    return manager


class Watchers:
    """The observers of a run. Each event goes to each of them; one that raises is reported once,
    by its distribution's name, and dropped. A watcher never stops a run.

    problems: what was reported, for the run's record.
    """

    def __init__(self, warn: Callable[[str], None] = warn) -> None:
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
            self._managers[entry] = registered(entry, imported(entry))
        except PluginError as error:
            self.report(str(error))

    def join(self, watcher: object) -> None:
        """Let an object of the calling program watch too; its hooks are checked as all are."""
        kind = type(watcher)
        value = f"{kind.__module__}:{kind.__qualname__}"
        entry = Entry(kind.__name__, "observers", value, kind.__module__, "")
        self._managers[entry] = registered(entry, lambda: watcher)

    def _call(self, event: str, arguments: Mapping[str, Any]) -> None:
        for entry, manager in list(self._managers.items()):
            try:  # with copies: what one observer changes is nobody else's
                own = {k: dict(v) if isinstance(v, dict) else v for k, v in arguments.items()}
                getattr(manager.hook, event)(**own)
            except (Exception, SystemExit) as error:  # whatever a stranger's code raises
                del self._managers[entry]
                self.report(
                    f"the observer '{entry.name}' of {entry.owner} failed in {event} and was "
                    f"dropped: {type(error).__name__}: {error}"
                )

    # The events, as `Events` specifies them.

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


def observers(names: Sequence[str], warn: Callable[[str], None] = warn) -> Watchers:
    """The named observers, ready to be told of events; an empty list gives a silent one.

    Raises:
        PluginError: a name that nothing or more than one distribution offers.
        BabError: an observer that lacks something (its message says what to install).
    """
    watchers = Watchers(warn)
    for name in dict.fromkeys(names):
        watchers.add(find("observers", name))
    return watchers
