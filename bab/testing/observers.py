"""The contract of an observer, as checks that the author of a plugin runs.

    from bab.testing import ObserverContract

    class TestMine(ObserverContract):
        component = Mine

A short run is played to it: every event, as the core sends them. Each check takes an
`ObserverCase`: the class, and an empty folder.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pluggy

from bab.core.observers import Events, registered
from bab.core.record import Record, RunInfo
from bab.core.registry import Entry
from bab.testing.declared import described, untouched
from bab.testing.suite import Contract

NAMES = tuple(name for name in vars(Events) if name.startswith("bab_"))


@dataclass(frozen=True)
class ObserverCase:
    """An observer's class, and an empty folder for what it writes."""

    cls: type
    folder: Path

    def manager(self) -> pluggy.PluginManager:
        """It alone, checked by pluggy as in a run."""
        kind = self.cls
        entry = Entry(
            kind.__name__, "observers", f"{kind.__module__}:{kind.__qualname__}", "here", ""
        )
        return registered(entry, kind)


def check_described(case: ObserverCase) -> None:
    """The class has a docstring, and listens to one event at least.

    To do: @bab.hookimpl above a method that is called as an event is.
    """
    described(case.cls)
    heard = [name for name in NAMES if hasattr(getattr(case.cls, name, None), "bab_impl")]
    assert heard, f"no method is marked with @bab.hookimpl; events: {', '.join(NAMES)}"


def check_hooks(case: ObserverCase) -> None:
    """Every hook is an event that there is, with arguments that it has, and is marked.

    To do: take any of the event's arguments, by name (docs/plugins.md lists them).
    """
    case.manager()


def check_run(case: ObserverCase) -> None:
    """A run from start to end, resumed once, in two folds: nothing is raised, whatever comes.

    To do: expect any event in any state; keep what can fail (files, network) inside a try.
    """
    _play(case, _done(case))


def check_failure(case: ObserverCase) -> None:
    """A run that fails: `bab_run_end` with no record, maybe before anything else happened.

    To do: record may be None; error says why.
    """
    _play(case, None)
    manager = case.manager()
    with _inside(case.folder):
        manager.hook.bab_run_end(run=_info(case), record=None, error="stopped")


def check_effects(case: ObserverCase) -> None:
    """It leaves what it is told as it was, uses no global random generator, and stays in the run's
    folder: nothing is written into the working directory.

    To do: copy a mapping before changing it; write under run.folder.
    """
    here = case.folder / "here"
    here.mkdir(exist_ok=True)
    with untouched() as used:
        told = _play(case, _done(case), here)
        drawn = used()
    assert not drawn, f"it draws from {' and '.join(drawn)} global generator"
    for name, before, after in told:
        assert before == after, f"{name}: it changed what it was told: {after}, was {before}"
    left = sorted(path.name for path in here.iterdir())
    assert not left, f"it wrote {left[:3]} into the working directory"


CHECKS: tuple[Callable[[ObserverCase], str | None], ...] = (
    check_described,
    check_hooks,
    check_run,
    check_failure,
    check_effects,
)


class ObserverContract(Contract):
    """`component` is the class."""

    checks: ClassVar = CHECKS
    component: ClassVar[type]

    def subject(self, folder: Path) -> ObserverCase:
        return ObserverCase(self.component, folder)


# ------------------------------------------------------------------------------ tools


def _info(case: ObserverCase, fold: int = 0) -> RunInfo:
    runs = case.folder / "run"
    runs.mkdir(exist_ok=True)
    names = ("task", "corpus", "encoder:random")
    return RunInfo("0123456789ab", str(runs), *names, 200, {"seed": 0}, "f1", fold, 2)


def _done(case: ObserverCase) -> Record:
    record = Record.failed(
        "done", "", id="0123456789ab", task="task", corpus="corpus", encoder="encoder:random",
        seed=0, config={},
    )  # fmt: skip
    record.metrics, record.primary = {"f1": 0.5}, "f1"
    return record


def _play(
    case: ObserverCase, record: Record | None, here: Path | None = None
) -> list[tuple[str, Any, Any]]:
    """Send every event; (event, what it was told, the same afterwards) of each."""
    hook = case.manager().hook
    told: list[tuple[str, Any, Any]] = []

    def send(name: str, **arguments: Any) -> None:
        before = copy.deepcopy(arguments)
        try:
            getattr(hook, name)(**arguments)
        except SystemExit as error:
            raise AssertionError(f"{name} raised SystemExit({error.code})") from error
        except Exception as error:
            raise AssertionError(f"{name} raised {type(error).__name__}: {error}") from error
        told.append((name, before, arguments))

    with _inside(here or case.folder):
        for fold in (0, 1):
            run = _info(case, fold)
            send("bab_run_start", run=run)
            send("bab_notice", run=run, message="3 clips were left out: no label, 'ünknown'")
            for done in (0.0, 0.5, 1.0):
                send("bab_progress", run=run, stage="encode", done=done, total=1.0, unit="s")
            send("bab_progress", run=run, stage="nothing", done=0.0, total=0.0, unit="files")
            for step in (1, 100, 101, 200):
                send("bab_step", run=run, step=step, values={"loss": 1.5 / step, "lr": 1e-3})
                send(
                    "bab_evaluated", run=run, step=step, split="dev",
                    metrics={"f1": step / 400, "f1/KCHI": 0.0}, best=step > 1,
                )  # fmt: skip
            send("bab_checkpoint", run=run, step=200, path=f"{run.folder}/checkpoint")
            send("bab_run_start", run=run)  # resumed
            send("bab_step", run=run, step=101, values={"loss": float("nan")})
        send("bab_run_end", run=run, record=record, error="" if record else "out of memory")
    return told


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in another directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
