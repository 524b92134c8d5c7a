"""How the work of a command begins and ends: events, signals, locks, what killed ones left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from filelock import Timeout

from bab.core.errors import BusyError, InterruptedRunError
from bab.core.record import Record, RunInfo
from bab.starting import folders as starting
from bab.starting import lifecycle as living
from bab.starting.folders import held, locked, place
from bab.starting.lifecycle import Lifecycle, stopper
from bab.starting.signals import terminable

INFO = RunInfo("r", "f", "t", "c", "e", 5, {})


class Told:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return lambda **given: self.events.append((name, given))


def life(stop: bool = False, main: bool = True) -> tuple[Lifecycle, Told]:
    told = Told()
    handle = SimpleNamespace(wait_for_everyone=lambda: told.events.append("waited"))
    return Lifecycle(handle, cast(Any, told), lambda: stop, main), told


def record() -> Record:
    return Record.failed(
        "failed", "why", id="i", task="t", corpus="c", encoder="e", seed=1, config={"a": 1}
    )


@pytest.mark.parametrize("main", [True, False])
def test_a_run_is_told_from_its_start_to_its_end(tmp_path: Path, main: bool) -> None:
    given, told = life(main=main)
    made, cleared = record(), list[int]()
    done = given.work(
        INFO, tmp_path / "x", lambda: cleared.append(1), lambda: ["a", "b"], lambda: made
    )
    assert done is made and cleared == [1] * main and (tmp_path / "x").exists() is main
    notices = [("bab_notice", {"run": INFO, "message": line}) for line in "ab"]
    end = ("bab_run_end", {"run": INFO, "record": made, "error": ""})
    assert told.events == ["waited", ("bab_run_start", {"run": INFO}), *notices, end]
    told.events.clear()
    given.work(INFO, tmp_path / "x", lambda: None, list, lambda: "no record")
    assert told.events[-1] == ("bab_run_end", {"run": INFO, "record": None, "error": ""})
    with pytest.raises(KeyError):
        given.work(INFO, tmp_path / "x", lambda: None, list, lambda: {}["x"])
    assert told.events[-1][1]["error"] == "KeyError: 'x'"
    given.before("t", "c", "e", True)("looking", 1, 2, "files")
    name, progress = told.events[-1]
    assert name == "bab_progress" and progress.pop("run").config == {"quiet": True}
    assert progress == {"stage": "looking", "done": 1, "total": 2, "unit": "files"}
    with pytest.raises(InterruptedRunError) as error:
        life(stop=True)[0].before("t", "c", "e", True)("looking", 1, 2, "files")
    assert str(error.value) == "stopped while looking; nothing was begun"


def test_a_record_of_what_came_to_nothing() -> None:
    made = record()
    assert (made.status, made.reason, made.task_version, made.primary) == ("failed", "why", "", "")
    assert (made.mode, made.protocol, made.split, made.higher_is_better) == (
        "probe",
        "given",
        "test",
        True,
    )
    kind = SimpleNamespace(version=3, primary="f1", higher_is_better=False, units={"f1": "%"})
    known = Record.failed(
        "not-applicable", "x", id="i", task="t", corpus="c", encoder="e", seed=1, config={},
        task_class=kind, corpus_class=SimpleNamespace(version="9"), mode="finetune", head="h",
    )  # fmt: skip
    assert (known.task_version, known.corpus_version, known.primary) == ("3", "9", "f1")
    assert (known.higher_is_better, known.units, known.mode) == (False, {"f1": "%"}, "finetune")
    assert known.created and known.corpus_digest == known.encoder_fingerprint == ""


@pytest.fixture
def plain_hangups() -> Iterator[None]:
    """Also where these tests run under nohup, which has SIGHUP ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("plain_hangups")
def test_signals_ask_for_a_stop_and_a_second_ctrl_c_stops_at_once() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        with stopper() as stop:
            assert not stop()
            signal.raise_signal(number)
            assert stop()
            signal.raise_signal(signal.SIGTERM)  # no matter how often
            signal.raise_signal(signal.SIGHUP)
    with pytest.raises(InterruptedRunError) as error, stopper():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert str(error.value) == "stopped at once; the last checkpoint stands"
    assert {n: signal.getsignal(n) for n in before} == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with stopper() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before[signal.SIGHUP])
    asked: list[bool] = []

    def elsewhere() -> None:
        with stopper() as stop:
            asked.append(stop())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert asked == [False]


@pytest.mark.usefixtures("plain_hangups")
@pytest.mark.parametrize(("terminal", "number", "told"), [
    (True, signal.SIGINT, "\nstopping at the next safe place (Ctrl-C again: at once)\n"),
    (True, signal.SIGTERM, ""),
    (False, signal.SIGINT, ""),  # a log says how the run ended
])  # fmt: skip
def test_ctrl_c_is_answered_at_once_on_a_terminal(
    terminal: bool,
    number: signal.Signals,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("os.isatty", {2: terminal}.get)
    with stopper():
        signal.raise_signal(number)
        assert capfd.readouterr() == ("", told)
        signal.raise_signal(signal.SIGTERM)
        assert capfd.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_waits_ends_by_both_signals(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), terminable():
        signal.raise_signal(number)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_folder_is_held_by_one_and_swept(tmp_path: Path) -> None:
    run, beside = tmp_path / "run", tmp_path / "beside"
    for folder in (run / "deep", beside / "deep"):
        folder.mkdir(parents=True)

    def litter() -> None:
        for folder in (run, run / "deep", beside, beside / "deep"):
            (folder / ".tmp-1-x.tmp").touch()

    def left() -> list[str]:
        return sorted(p.parent.relative_to(tmp_path).as_posix() for p in tmp_path.rglob(".tmp-*"))

    litter()
    (beside / ".tmp-999999999-x.tmp").touch()
    with locked(run, True, [beside]):
        # Below a folder that others use, and what a living process writes (1), stays.
        assert left() == ["beside", "beside/deep"]
        with pytest.raises(BusyError) as error, held(run):
            pass
        assert str(error.value) == f"another bab process is at work in {run}: wait for it"
        litter()
    assert left() == ["beside", "beside/deep"]
    with held(run):
        litter()
    with locked(run, False):
        assert "run" in left()  # another process of this run does it
    assert place("runs", "a b", "c:d", "e", "f") == Path("runs/a-b/c-d/e/f")


def test_a_disk_without_locks_has_a_file_that_says_who(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoLocks:
        def __init__(self, path: Any, blocking: bool) -> None:
            assert not blocking and path == tmp_path / ".lock"

        def acquire(self) -> None:
            raise OSError(38, "Function not implemented")

    monkeypatch.setattr(starting, "FileLock", NoLocks)
    with held(tmp_path):
        assert (tmp_path / ".lock-held").exists()
        with pytest.raises(BusyError), held(tmp_path):
            pass
    assert not (tmp_path / ".lock-held").exists()
    assert issubclass(Timeout, OSError) and living.locked is locked
