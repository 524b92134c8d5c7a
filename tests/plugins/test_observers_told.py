"""What observers print and write of each event, to the letter."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import rich.console

from bab.core.record import RunInfo
from bab.plugins.observers import progress
from bab.plugins.observers.progress import Live, Plain, Progress, amount, clock, moving, part
from bab.plugins.observers.tensorboard import TensorBoard


@pytest.fixture
def run(tmp_path: Path) -> RunInfo:
    return RunInfo("id", str(tmp_path), "vtc", "rttm", "fbank", 100, {"seed": 0}, primary="f1")


def fold(run: RunInfo, number: int, of: int = 3) -> RunInfo:
    return replace(run, fold=number, folds=of)


# --- progress -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0, "s", "0 s"), (59.4, "s", "59 s"), (60, "s", "1.00 min"), (3599, "s", "59.98 min"),
        (3600, "s", "1.00 h"), (1, "files", "1 file"), (0.6, "files", "1 file"),
        (0, "files", "0 files"), (2, "files", "2 files"), (1.4, "steps", "1 step"), (1, "h", "1 h"),
    ],
)  # fmt: skip
def test_amounts(value: float, unit: str, said: str) -> None:
    assert amount(value, unit) == said


@pytest.mark.parametrize(
    ("done", "total", "unit", "said"),
    [
        (8, 60, "steps", "8 of 60 steps"), (1, 60, "steps", "1 of 60 steps"),
        (1, 1, "files", "1 of 1 file"), (40, 588, "s", "40 s of 9.80 min"),
        (192, 588, "s", "3.20 of 9.80 min"), (5, 50, "s", "5 of 50 s"),
        (90, 7200, "s", "1.50 min of 2.00 h"), (1, 4, "kinds of files", "1 of 4 kinds of files"),
    ],
)  # fmt: skip
def test_parts(done: float, total: float, unit: str, said: str) -> None:
    assert part(done, total, unit) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0:00"), (0, "0:00"), (59.5, "1:00"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00"),
     (86399, "23:59:59"), (360000, "100:00:00")],
)  # fmt: skip
def test_clocks(seconds: float, said: str) -> None:
    assert clock(seconds) == said


class Told:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []

    def stage(self, *told: Any) -> None:
        self.all.append(told)

    def say(self, line: str) -> None:
        self.all.append((line,))

    def close(self) -> None:
        self.all.append(("closed",))


def test_what_is_shown_of_each_event(run: RunInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, watch = Told(), Progress()

    def made(*given: Any) -> Told:
        assert given == (sys.stderr, progress.time.monotonic)
        return shown

    monkeypatch.setattr(progress, "Plain", made)
    watch.bab_run_end(None)  # before anything was shown
    watch.bab_run_start(run)
    watch.bab_progress(run, "features", 3.0, 9.0, "s")
    watch.bab_progress(fold(run, 1), "features", 3.0, 9.0, "s")
    watch.bab_step(run, 7, {"loss": 0.123456, "lr": 1.0})
    watch.bab_step(fold(run, 0, 2), 8, {"lr": 1.0})
    watch.bab_evaluated(run, 7, "dev", {"x": 0.1, "f1": 0.25}, True)
    watch.bab_evaluated(fold(run, 2), 8, "dev", {"x": 0.12345}, False)
    watch.bab_evaluated(run, 9, "dev", {}, False)
    watch.bab_notice(run, "a notice")
    watch.bab_run_end(None)
    watch.bab_run_end(None)
    assert shown.all == [
        ("features", 3.0, 9.0, "s", ""),
        ("features (fold 2 of 3)", 3.0, 9.0, "s", ""),
        ("training", 7, 100, "steps", "loss 0.1235"),
        ("training (fold 1 of 2)", 8, 100, "steps", ""),
        ("step 7: dev f1 0.2500 (best so far)",),
        ("step 8 (fold 3 of 3): dev x 0.1235",),
        ("step 9: dev",),
        ("a notice",),
        ("closed",),
    ]


@pytest.mark.parametrize(
    ("terminal", "term", "quiet", "live"),
    [(True, "xterm", False, True), (True, "xterm", True, False), (False, "xterm", False, False),
     (True, "dumb", False, False), (True, "", False, False), (True, None, False, False)],
)  # fmt: skip
def test_bars_are_for_terminals(
    run: RunInfo,
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    term: str | None,
    quiet: bool,
    live: bool,
) -> None:
    stream = StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    chosen: list[str] = []
    monkeypatch.setattr(progress, "Plain", lambda *given: chosen.append("plain") or Told())
    monkeypatch.setattr(progress, "Live", lambda: chosen.append("live") or Told())
    watch = Progress()
    for _ in range(2):
        watch.bab_run_start(replace(run, config={"quiet": quiet}))
    assert chosen == ["live" if live else "plain"]
    assert moving(stream) is (terminal and term == "xterm")
    watch.bab_run_end(None)
    watch.bab_run_start(run)
    assert len(chosen) == 2  # another run has a display of its own


def plain(*events: tuple[float, str, float, float, str]) -> list[str]:
    """The lines of (seconds, name, done, total, note)."""
    stream, now = StringIO(), [0.0]
    display = Plain(stream, lambda: now[0])
    for second, name, done, total, note in events:
        now[0] = second
        display.stage(name, done, total, "files", note)
    return stream.getvalue().splitlines()


def test_plain_lines() -> None:
    assert plain((0, "a", 0, 9, ""), (9.9, "a", 3, 9, "")) == []
    assert plain((0, "a", 0, 9, ""), (10, "a", 3, 9, "x")) == [
        "a: 3 of 9 files (33%), x, 0:20 left"
    ]
    assert plain((0, "a", 2, 9, ""), (10, "a", 2, 9, "")) == ["a: 2 of 9 files (22%)"]
    assert plain((0, "a", 0, 9, ""), (10, "a", 1, 9, ""), (19, "a", 2, 9, "")) == [
        "a: 1 of 9 files (11%), 1:20 left"
    ]
    assert plain((5, "a", 0, 9, ""), (7, "a", 9, 9, "x")) == ["a: 9 files in 0:02, x"]
    assert plain((5, "a", 0, 9, ""), (6.9, "a", 9, 9, "x")) == []
    # One that ends begins anew; two have clocks of their own.
    assert plain(
        (0, "a", 0, 1, ""), (3, "a", 1, 1, ""), (4, "a", 0, 1, ""), (5, "a", 1, 1, "")
    ) == ["a: 1 file in 0:03"]
    assert plain(
        (0, "a", 0, 1, ""), (9, "b", 0, 1, ""), (10, "b", 0, 1, ""), (11, "a", 2, 1, "")
    ) == ["a: 1 file in 0:11"]


def test_plain_lines_have_no_control_characters_and_are_there_at_once() -> None:
    flushed: list[str] = []
    stream, now = StringIO(), [0.0]
    stream.flush = lambda: flushed.append(stream.getvalue())  # type: ignore[method-assign]
    display = Plain(stream, lambda: now[0])
    display.say("a\x1b[31m")
    assert flushed == [stream.getvalue()] and "\x1b" not in flushed[0]
    display.stage("x", 0, 1, "files", "")
    display.close()
    now[0] = 9.0
    display.stage("x", 1, 1, "files", "")  # nothing is remembered of it
    assert flushed == [stream.getvalue()]


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], tuple[Live, StringIO]]:
    """Bars on a terminal of so many columns."""
    real = rich.console.Console

    def made(width: int) -> tuple[Live, StringIO]:
        stream = StringIO()

        def console(**given: Any) -> rich.console.Console:
            assert given == {"stderr": True, "highlight": False}
            return real(file=stream, force_terminal=True, width=width, highlight=False)

        monkeypatch.setattr("rich.console.Console", console)
        return Live(), stream

    return made


def last(stream: StringIO) -> list[str]:
    """The lines that are left on the terminal, without colours, bars as one sign."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).split("\r")[-1]
    return [re.sub("[━╸╺ ]{8,}", "=", line).rstrip() for line in text.splitlines() if line.strip()]


def test_bars(live: Callable[[int], tuple[Live, StringIO]]) -> None:
    bars, stream = live(120)
    bars.stage("files [x]", 1.0, 4.0, "files", "")
    bars.stage("training", 3, 10, "steps", "loss [1]")
    bars.stage("training", 10, 10, "steps", "loss 2")
    bars.stage("features", 60, 60, "s", "")
    bars.stage("dev 1", 4, 4, "files", "")  # comes again and again
    bars.stage("features", 1, 3, "s", "")  # the same again is a bar of its own
    bars.say("a [notice] \x1b[31m")
    bars.close()
    shown = last(stream)
    assert [line.split("=")[0].strip() for line in shown] == [
        "files [x]", "training", "features", "features",
    ]  # fmt: skip
    assert "1 of 4 files" in shown[0] and "10 of 10 steps" in shown[1] and "loss 2" in shown[1]
    assert "1.00 of 1.00 min" in shown[2] and "1 of 3 s" in shown[3]
    assert "a [notice] \\x1b[31m" in stream.getvalue()
    assert [task.total for task in bars._bars.tasks] == [4, 10, 60, 3]
    assert [task.completed for task in bars._bars.tasks] == [1, 10, 60, 1]
    assert [column.elapsed_when_finished for column in bars._bars.columns[3:4]] == [True]


@pytest.mark.parametrize(("columns", "bar"), [(90, 24), (89, 8)])
def test_how_long_bars_are(
    live: Callable[[int], tuple[Live, StringIO]], columns: int, bar: int
) -> None:
    bars, stream = live(columns)
    bars.stage("x", 2, 4, "files", "")
    bars.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).split("\r")[-1]
    assert len("".join(re.findall("[━╸╺]", text))) == bar
    assert text.startswith("x          ")  # ten places for the name, one between


def test_bars_end_with_the_interpreter_unless_they_have(
    live: Callable[[int], tuple[Live, StringIO]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(progress.atexit, "register", kept.append)
    monkeypatch.setattr(progress.atexit, "unregister", kept.remove)
    bars, _ = live(90)
    assert kept == [bars.close] and bars._bars.live.is_started
    bars.close()
    assert kept == [] and not bars._bars.live.is_started


# --- tensorboard --------------------------------------------------------------------------------


def test_each_fold_has_a_folder_and_a_writer(run: RunInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            self.told: list[Any] = [(str(Path(folder).relative_to(run.folder)), purge_step)]
            made.append(self)

        def add_scalar(self, *given: Any) -> None:
            self.told.append(given)

        def flush(self) -> None:
            self.told.append("flushed")

        def close(self) -> None:
            self.told.append("closed")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", Writer)
    watch = TensorBoard()
    watch.bab_step(run, 4, {"loss": 1.0, "lr": 0.1})
    watch.bab_step(fold(run, 2), 1, {"loss": 2.0})
    watch.bab_evaluated(run, 5, "dev", {"f1": 0.5})
    watch.bab_run_end(None)
    assert [writer.told for writer in made] == [
        [("tensorboard", 4), ("train/loss", 1.0, 4), ("train/lr", 0.1, 4), ("dev/f1", 0.5, 5),
         "flushed", "closed"],
        [("tensorboard/2", 1), ("train/loss", 2.0, 1), "closed"],
    ]  # fmt: skip
    watch.bab_step(fold(run, 1, 2), 6, {})
    assert made[2].told == [("tensorboard/1", 6)]  # of two folds each has one, too
    assert len(made) == 3  # after the end another one is opened
