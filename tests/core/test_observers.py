"""The observers that ship: what a person, a script and TensorBoard get to see."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from io import StringIO
from pathlib import Path

import pytest

from bab.core.errors import BabError
from bab.core.record import RunInfo
from bab.plugins.observers.jsonl import Jsonl
from bab.plugins.observers.progress import INTERVAL, Plain, Progress, amount, clock
from bab.plugins.observers.tensorboard import TensorBoard


@pytest.fixture
def run(tmp_path) -> RunInfo:
    return RunInfo("id", str(tmp_path), "vtc", "rttm", "fbank", 100, {"seed": 0}, primary="f1")


def log(run: RunInfo) -> list[dict]:
    return [json.loads(line) for line in (Path(run.folder) / "log.jsonl").read_text().splitlines()]


def attempt(run: RunInfo, first: int, last: int, every: int = 10, end: bool = False) -> Jsonl:
    """The events of a run that goes from step `first` to `last`, and is killed unless `end`."""
    observer = Jsonl()
    observer.bab_run_start(run)
    continue_fold(observer, run, first, last, every)
    if end:
        observer.bab_run_end(run, None, "KeyboardInterrupt: ")
    return observer


def continue_fold(observer: Jsonl, run: RunInfo, first: int, last: int, every: int = 10) -> None:
    for step in range(first, last + 1):
        observer.bab_step(run, step, {"loss": 1 / step})
        if step % every == 0:
            observer.bab_evaluated(run, step, "dev", {"f1": 0.5}, True)
            observer.bab_checkpoint(run, step, f"checkpoints/{step}")


# ------------------------------------------------------------------------------- jsonl


def test_each_event_is_a_line_with_a_time(run):
    attempt(run, 1, 10, end=True)
    lines = log(run)
    assert [line["event"] for line in lines] == [
        "started", *["step"] * 10, "evaluated", "checkpoint", "ended",
    ]  # fmt: skip
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert times == sorted(times)
    assert times[0].tzinfo is not None
    assert lines[0]["config"] == {"seed": 0}
    assert lines[1] == {"event": "step", "time": lines[1]["time"], "step": 1, "loss": 1.0}


def test_a_resumed_run_leaves_each_step_once(run):
    """Killed at 37, resumed from the checkpoint of 30; what was logged of 31 to 37 goes."""
    attempt(run, 1, 37)
    path = Path(run.folder) / "log.jsonl"
    path.write_text(path.read_text() + '{"event": "step", "ti')  # cut short by SIGKILL
    attempt(run, 31, 50, end=True)
    lines = log(run)
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(1, 51))
    assert [line["step"] for line in lines if line["event"] == "evaluated"] == [10, 20, 30, 40, 50]
    assert [line["event"] for line in lines].count("resumed") == 1


def test_a_run_resumed_before_its_first_checkpoint_begins_again(run):
    attempt(run, 1, 7)
    attempt(run, 1, 3)
    assert [line["step"] for line in log(run) if line["event"] == "step"] == [1, 2, 3]


def test_folds_are_kept_apart(run):
    """Killed in the second fold at 24, which resumes from 20; the first fold's lines stay."""
    first, second = (replace(run, fold=fold, folds=2) for fold in (0, 1))
    observer = attempt(first, 1, 30)
    continue_fold(observer, second, 1, 24)
    attempt(second, 21, 30)
    steps: dict[int, list[int]] = {0: [], 1: []}
    for line in log(run):
        if line["event"] == "step":
            steps[line["fold"]].append(line["step"])
    assert steps == {0: list(range(1, 31)), 1: list(range(1, 31))}


def test_numbers_that_json_lacks_are_words(run):
    observer = Jsonl()
    observer.bab_run_start(run)
    observer.bab_step(run, 1, {"loss": float("nan"), "grad_norm": float("inf")})
    text = (Path(run.folder) / "log.jsonl").read_text().splitlines()[-1]
    line = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert (line["loss"], line["grad_norm"]) == ("nan", "inf")


def test_nothing_is_written_before_the_folder_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Jsonl().bab_progress(RunInfo("", "", "vtc", "rttm", "fbank", 0, {}), "checking", 1, 1, "files")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------- progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_at_intervals_with_the_time_left():
    """A stage of 100 s at 1 unit per second: a line each 10 s, and one at the end."""
    stream, time = StringIO(), Clock()
    plain = Plain(stream, time)
    for second in range(101):
        time.now = float(second)
        plain.stage("training", second, 100, "steps", "loss 0.5")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 100 / INTERVAL
    assert lines[2] == "training: 30 of 100 steps (30%), loss 0.5, 1:10 left"
    assert lines[-1] == "training: 100 steps in 1:40, loss 0.5"


def test_the_time_left_of_a_resumed_stage_counts_from_where_it_went_on():
    """From 80 of 100 at half a unit per second: after 10 s at 85, 30 s are left."""
    stream, time = StringIO(), Clock()
    plain = Plain(stream, time)
    plain.stage("training", 80, 100, "steps", "")
    time.now = 10.0
    plain.stage("training", 85, 100, "steps", "")
    assert stream.getvalue() == "training: 85 of 100 steps (85%), 0:30 left\n"


def test_brief_stages_are_silent():
    stream, time = StringIO(), Clock()
    plain = Plain(stream, time)
    for done in range(5):
        time.now += 0.1
        plain.stage("dev", done, 4, "s", "")
    assert stream.getvalue() == ""


def test_amounts_and_clocks():
    assert [amount(x, "s") for x in (5, 90, 7200)] == ["5 s", "1.50 min", "2.00 h"]
    assert amount(3, "files") == "3 files"
    assert [clock(x) for x in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]


def test_no_control_characters_where_there_is_no_terminal(run, capsys):
    observer = Progress()
    observer.bab_run_start(run)
    observer.bab_notice(run, "encoder [fbank]")
    observer.bab_progress(run, "features", 3.0, 9.0, "s")
    observer.bab_step(run, 100, {"loss": 0.25})
    observer.bab_evaluated(run, 100, "dev", {"precision": 0.1, "f1": 0.625}, True)
    observer.bab_run_end(None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "encoder [fbank]\nstep 100: dev f1 0.6250 (best so far)\n"
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", captured.err)


ON_TERMINAL = """
from bab.core.record import RunInfo
from bab.plugins.observers.progress import Progress
run = RunInfo("id", "f", "vtc", "rttm", "fbank", 10, {CONFIG}, primary="f1")
watch = Progress()
watch.bab_progress(run, "checking files", 1.0, 2.0, "files")
watch.bab_run_start(run)
watch.bab_notice(run, "a [notice]")
for step in range(1, 11):
    watch.bab_step(run, step, {"loss": 0.5})
watch.bab_evaluated(run, 10, "dev", {"f1": 0.5}, False)
raise SystemExit("bab: error: stopped")
"""


def on_terminal(config: str) -> str:
    """What a terminal receives from a run that dies without an event of its end."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL.replace("CONFIG", config)],
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "90"},
    )
    os.close(theirs)
    received = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux: the other end was closed
            break
        if not chunk:
            break
        received += chunk
    process.wait()
    os.close(ours)
    return received.decode()


def test_bars_on_a_terminal_give_the_cursor_back():
    text = on_terminal("")
    assert "training" in text
    assert "10 of 10 steps" in text
    assert "a [notice]" in text
    assert "bab: error: stopped" in text
    hidden, shown = text.rfind("\x1b[?25l"), text.rfind("\x1b[?25h")
    assert 0 <= hidden < shown


def test_quiet_is_plain_on_a_terminal_too():
    text = on_terminal("'quiet': True")
    assert text.replace("\r\n", "\n") == (
        "a [notice]\nstep 10: dev f1 0.5000\nbab: error: stopped\n"
    )


# ------------------------------------------------------------------------------- tensorboard


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_reads_what_was_written_also_after_a_kill(run):
    first = TensorBoard()
    for step in (1, 2, 3, 4):
        first.bab_step(run, step, {"loss": float(step)})
    first.bab_run_end(None)  # only flushes here; the killed attempt had reached step 4
    second = TensorBoard()
    for step in (3, 4, 5):
        second.bab_step(run, step, {"loss": 10.0 * step})
    second.bab_evaluated(run, 5, "dev", {"f1": 0.5})
    second.bab_run_end(None)
    folder = Path(run.folder)
    assert scalars(folder, "train/loss") == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)]
    assert scalars(folder, "dev/f1") == [(5, 0.5)]


def test_tensorboard_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr("bab.plugins.observers.tensorboard.find_spec", lambda name: None)
    with pytest.raises(BabError, match=r"pip install 'bab\[tensorboard\]'"):
        TensorBoard()
