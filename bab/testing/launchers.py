"""The contract of a launcher, as checks that the author of a plugin runs.

    from bab.testing import LauncherContract

    class TestMine(LauncherContract):
        component = Mine

Small jobs are submitted to the engine itself, which has to be up. Each check takes a
`LauncherCase`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bab.core.launchers import Launcher, Standing, Work
from bab.testing.declared import described, standard
from bab.testing.suite import Contract

_PATIENCE = 120.0  # seconds that a small job may take, with its turn in the queue
_STATES = ("queued", "running", "ended")
_SAVES = """
import signal, sys, time
def stop(*_):
    open("saved", "w").close(); sys.exit(130)
signal.signal(signal.SIGTERM, stop)
open("begun", "w").close()
time.sleep(600)
"""


@dataclass(frozen=True)
class LauncherCase:
    """A launcher's class and options, and an empty folder that all of its machines see."""

    cls: type[Launcher]
    options: Any
    folder: Path

    def made(self) -> Launcher:
        """A launcher, as every command makes one of its own."""
        return self.cls(self.options if self.options is not None else standard(self.cls))

    def work(self, name: str, code: str, **env: str) -> Work:
        """A job of Python code, in a folder of its own."""
        folder = self.folder / name
        folder.mkdir()
        argv = (sys.executable, "-c", code)
        return Work(name, argv, folder, folder / "log", env)


def check_described(case: LauncherCase) -> None:
    """The class has a docstring, says what it needs, and explains its options.

    To do: `where` in a few words; a description for each option (pydantic.Field).
    """
    described(case.cls)
    assert case.cls.where, "`where` is empty: say what has to be there"
    nodes, processes = case.made().layout
    assert nodes >= 1 and processes >= 1, f"layout is {(nodes, processes)}: both are at least 1"


def check_runs(case: LauncherCase) -> None:
    """A job runs in its folder, with its environment over what it finds there; what it prints is
    appended to its log.

    To do: keep the order of `argv`, quote where a shell is in between, and set `folder` and `env`.
    """
    code = (
        "import os, sys; print('out ' + sys.argv[1]); print('err', file=sys.stderr);"
        "open('made', 'w').write(os.environ['BAB_TRY'])"
    )
    work = case.work("runs-1", code, BAB_TRY="a 'b' $c\"d")
    work = Work(work.name, (*work.argv, "x 'y' $z"), work.folder, work.log, work.env)
    work.log.write_text("before\n", encoding="utf-8")
    launcher = case.made()
    _over(launcher, [launcher.submit(work)])
    made = _text(work.folder / "made")
    assert made == work.env["BAB_TRY"], f"the job left {made!r}, and not BAB_TRY of its env"
    log = _text(work.log).splitlines()
    assert log[:1] == ["before"], "the log of an earlier job was thrown away: append to it"
    assert "out x 'y' $z" in log and "err" in log, f"what the job printed isn't in its log: {log}"


def check_states(case: LauncherCase) -> None:
    """Each id that is asked for gets an answer: queued or running until the job has ended; ended
    for one that failed, and for one that the engine doesn't know.

    To do: engines forget. An id that yours no longer knows is `Standing("ended")`.
    """
    launcher = case.made()
    ids = [
        launcher.submit(case.work("states-a", "import time; time.sleep(3)")),
        launcher.submit(case.work("states-b", "raise SystemExit(3)")),
    ]
    assert len(set(ids)) == 2 and all(isinstance(one, str) and one for one in ids), f"ids {ids}"
    first = launcher.poll(ids[:1])[ids[0]]
    assert first.state in _STATES[:2], f"a job of 3 s is {first} as soon as it was submitted"
    told = _over(launcher, ids)
    assert all(isinstance(one, Standing) for one in told.values()), f"poll gives {told}"
    assert launcher.poll(["999999999"])["999999999"].state == "ended"
    assert launcher.poll([]) == {}, "of no ids there is nothing to tell"


def check_found(case: LauncherCase) -> None:
    """Another process finds a job by its id, and polls and cancels it.

    To do: keep nothing that `poll` needs in the launcher: all of it is the engine's, or in the id.
    """
    number = case.made().submit(case.work("found", "import time; time.sleep(600)"))
    other = case.made()
    assert other.poll([number])[number].state in _STATES[:2]
    other.cancel([number])
    _over(case.made(), [number])


def check_cancel(case: LauncherCase) -> None:
    """A job that is cancelled gets SIGTERM and time to save; cancelled again, nothing happens.

    To do: SIGTERM to the process itself, and SIGKILL 30 s later at the earliest.
    """
    launcher, work = case.made(), case.work("cancel", _SAVES)
    number = launcher.submit(work)
    deadline = time.monotonic() + _PATIENCE
    while not (work.folder / "begun").exists():
        assert time.monotonic() < deadline, "the job hasn't begun after two minutes"
        time.sleep(0.1)
    launcher.cancel([number])
    _over(launcher, [number])
    assert (work.folder / "saved").exists(), "the job was ended without SIGTERM, or at once"
    launcher.cancel([number])


def _over(launcher: Launcher, ids: Sequence[str]) -> dict[str, Standing]:
    """How jobs ended."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        told = dict(launcher.poll(ids))
        assert set(told) == set(ids), f"asked for {list(ids)}, poll tells of {list(told)}"
        odd = [one for one in told.values() if one.state not in _STATES]
        assert not odd, f"{odd[0].state!r} is none of {_STATES}"
        if all(one.state == "ended" for one in told.values()):
            return told
        assert time.monotonic() < deadline, f"not ended after two minutes: {told}"
        time.sleep(0.2)


def _text(path: Path) -> str:
    """What a job has written, on another machine maybe: a moment late."""
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} isn't there: was the job run at all?"
        time.sleep(0.1)
    return path.read_text(encoding="utf-8")


CHECKS = (check_described, check_runs, check_states, check_found, check_cancel)


class LauncherContract(Contract):
    """Tests of one launcher. component: its class; options: left out, its defaults."""

    component: ClassVar[type[Launcher]]
    options: ClassVar[Any] = None
    checks = CHECKS

    def subject(self, folder: Path) -> LauncherCase:
        return LauncherCase(self.component, self.options, folder)
