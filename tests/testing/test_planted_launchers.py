"""Wrong launchers: the suite finds each, by the check for it. The engine is in this process, and
its clock is turned on by those who wait."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

import bab
from bab.testing import launchers
from bab.testing.launchers import CHECKS, LauncherCase
from bab.testing.suite import name_of, run_checks

Standing = bab.Standing
_now = [0.0]  # the clock


class Asleep(BaseException):
    """A job that sleeps: it is at work until it is told to end, or its time is over."""


class Job:
    """A job of Python code, run in this process."""

    def __init__(self, work: bab.Work) -> None:
        self.work, self.ends, self.stop = work, 0.0, signal.SIG_DFL
        self.call(lambda: exec(work.argv[2], {"__name__": "__main__"}))

    def call(self, act: Callable[[], object]) -> None:
        def sleep(seconds: float) -> None:
            self.ends = _now[0] + seconds
            raise Asleep

        modules = {
            "time": SimpleNamespace(sleep=sleep),
            "signal": SimpleNamespace(
                SIGTERM=signal.SIGTERM, signal=lambda number, stop: setattr(self, "stop", stop)
            ),
        }
        before = Path.cwd()
        os.chdir(self.work.folder)
        try:
            with (
                patch.dict(sys.modules, modules), patch.dict(os.environ, self.work.env),
                patch.object(sys, "argv", ["-c", *self.work.argv[3:]]),
                self.work.log.open("a") as log, redirect_stdout(log), redirect_stderr(log),
            ):  # fmt: skip
                act()
        except (Asleep, SystemExit):
            pass
        except Exception as error:
            print(error, file=sys.__stderr__)
        finally:
            os.chdir(before)

    def cancel(self) -> None:
        if self.ends > _now[0]:
            self.ends = _now[0]
            stop = self.stop
            if callable(stop):
                self.call(lambda: stop(signal.SIGTERM, None))


class Here(bab.Launcher):
    """Runs jobs in this process."""

    where = "a test"
    jobs: dict[str, Any]

    def submit(self, work: bab.Work) -> str:
        number = str(len(self.jobs) + 1)
        self.jobs[number] = Job(work)
        return number

    def poll(self, ids: Sequence[str]) -> Mapping[str, Standing]:
        return {one: self.standing(one) for one in ids}

    def standing(self, number: str) -> Any:
        job = self.jobs.get(number)
        return Standing("running" if job is not None and job.ends > _now[0] else "ended")

    def cancel(self, ids: Sequence[str]) -> None:
        for one in ids:
            self.jobs[one].cancel()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    _now[0] = 0.0

    def sleep(seconds: float) -> None:
        _now[0] += seconds

    own = SimpleNamespace(monotonic=lambda: _now[0], sleep=sleep)
    monkeypatch.setattr(launchers, "time", own)
    yield


def changed(work: bab.Work, **more: Any) -> bab.Work:
    facts = {key: getattr(work, key) for key in ("name", "argv", "folder", "log", "env", "spread")}
    return bab.Work(**facts | more)


def submits(change: Callable[[bab.Work], bab.Work], **members: Any) -> dict[str, Any]:
    return {"submit": lambda self, work: Here.submit(self, change(work)), **members}


def answers(change: Callable[[Any, str], Any]) -> dict[str, Any]:
    return {"standing": change}


def with_new_log(work: bab.Work) -> bab.Work:
    work.log.unlink(missing_ok=True)
    return work


class Elsewhere(Here):
    """Another folder is the job's."""

    def submit(self, work: bab.Work) -> str:
        other = work.folder / "other"
        other.mkdir()
        return super().submit(changed(work, folder=other))


class Killed(Here):
    """Nobody hears SIGTERM."""

    def cancel(self, ids: Sequence[str]) -> None:
        for one in ids:
            self.jobs[one].ends = _now[0]


class Forgets(Here):
    """What it has not submitted itself it doesn't know."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.own: set[str] = set()

    def submit(self, work: bab.Work) -> str:
        number = super().submit(work)
        self.own.add(number)
        return number

    def standing(self, number: str) -> Any:
        return super().standing(number) if number in self.own else Standing("ended")


class Alone(Forgets):
    """Others' jobs it does not cancel."""

    def standing(self, number: str) -> Any:
        return Here.standing(self, number)

    def cancel(self, ids: Sequence[str]) -> None:
        super().cancel([one for one in ids if one in self.own])


class Waits(Here):
    """No job begins."""

    def submit(self, work: bab.Work) -> str:
        self.jobs["1"] = SimpleNamespace(ends=1e9, cancel=lambda: None)
        return "1"


class Once(Here):
    """What has ended can't be cancelled."""

    def cancel(self, ids: Sequence[str]) -> None:
        for one in ids:
            if self.jobs[one].ends <= _now[0]:
                raise RuntimeError("no such job")
        super().cancel(ids)


def unlike(self: Any, number: str) -> Any:
    return SimpleNamespace(state=Here.standing(self, number).state)


def odd(self: Any, number: str) -> Any:
    return Standing("lost")  # type: ignore[arg-type]


NEVER = "not ended after two minutes: "
FAULTS: dict[str, tuple[type | dict[str, Any], str, str]] = {
    "nowhere": ({"where": ""}, "described", "`where` is empty: say what has to be there"),
    "no machine": ({"layout": (0, 1)}, "described", "layout is (0, 1): both are at least 1"),
    "no process": ({"layout": (1, 0)}, "described", "layout is (1, 0): both are at least 1"),
    "a job's quotes go through a shell": (
        submits(lambda w: changed(w, env={k: v.replace("'", "") for k, v in w.env.items()})),
        "runs", "the job left 'a b $c\"d', and not BAB_TRY of its env",
    ),
    "arguments go through a shell": (
        submits(lambda w: changed(w, argv=(*w.argv[:3], *" ".join(w.argv[3:]).split()))),
        "runs", "what the job printed isn't in its log: ['before', 'out x', 'err']",
    ),
    "another folder": (Elsewhere, "runs", "made isn't there: was the job run at all?"),
    "a log begun anew": (submits(with_new_log), "runs", "the log of an earlier job was thrown "
                                                       "away: append to it"),
    "one id for all": ({"submit": lambda self, w: Here.submit(self, w) and "1"}, "states",
                       "ids ['1', '1']"),
    "ids that are numbers": ({"submit": lambda self, w: int(Here.submit(self, w)),
                              "standing": lambda self, n: Here.standing(self, str(n))},
                             "states", "ids [1, 2]"),
    "ended while it is at work": (
        answers(lambda self, n: Standing("ended")), "states",
        "a job of 3 s is Standing(state='ended', why='') as soon as it was submitted",
    ),
    "no Standing": (answers(unlike), "states", "poll gives {'1': namespace(state='ended')"),
    "another state": (answers(odd), "runs", "'lost' is none of ('queued', 'running', 'ended')"),
    "what it forgot is queued": (
        answers(lambda self, n: Here.standing(self, n) if n in self.jobs else Standing("queued")),
        "states", "AssertionError",
    ),
    "something of nothing": (
        {"poll": lambda self, ids: Here.poll(self, ids) or {"1": Standing("ended")}}, "states",
        "of no ids there is nothing to tell",
    ),
    "not all ids": ({"poll": lambda self, ids: Here.poll(self, ids[:1])}, "states",
                    "asked for ['1', '2'], poll tells of ['1']"),
    "a job that never ends": (
        answers(lambda self, n: Standing("running" if n in self.jobs else "ended")), "runs", NEVER
    ),
    "only its own jobs": (Forgets, "found", "AssertionError"),
    "cancels only its own": (Alone, "found", NEVER),
    "kills": (Killed, "cancel", "the job was ended without SIGTERM, or at once"),
    "never begins": (Waits, "cancel", "the job hasn't begun after two minutes"),
    "cancelled again": (Once, "cancel", "no such job"),
}  # fmt: skip


def tried(members: Any, folder: Path, only: str = "") -> dict[str, str]:
    """What each check that failed says."""
    base, more = (members, {}) if isinstance(members, type) else (Here, members)
    cls = type("Mine", (base,), {"__doc__": "Mine.", "jobs": {}, **more})
    checks = [check for check in CHECKS if name_of(check) in (only or name_of(check))]
    outcomes = run_checks(checks, LauncherCase(cls, None, folder))
    return {one.name: one.told for one in outcomes if one.verdict == "failed"}


def test_a_good_launcher_passes(tmp_path: Path) -> None:
    assert tried({}, tmp_path) == {}
    waiting = {"standing": lambda self, n: Standing("queued") if Here.standing(self, n).state ==
               "running" else Here.standing(self, n)}  # fmt: skip
    (tmp_path / "queued").mkdir()
    assert tried(waiting, tmp_path / "queued") == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_launchers_fault_is_found(fault: str, tmp_path: Path) -> None:
    members, check, said = FAULTS[fault]
    failed = tried(members, tmp_path, check)
    assert list(failed) == [check] and said in failed[check]


@pytest.mark.parametrize(("late", "good"), [(119.0, True), (121.0, False)])
def test_a_small_job_has_two_minutes(tmp_path: Path, late: float, good: bool) -> None:
    """From when somebody waits for it on, in its queue and at work."""

    def standing(self: Any, number: str) -> Any:
        return Standing("ended" if _now[0] >= late else "queued")

    failed = tried({"standing": standing}, tmp_path, "runs")
    assert failed == {} if good else re.match(NEVER, failed["runs"])
