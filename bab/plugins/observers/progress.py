"""Observer `progress`: how far a run is, on standard error.

On a terminal, bars that move; elsewhere, or with `--quiet`, a plain line now and then, without
control characters, so that a log file stays readable.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from bab import Record, RunInfo, hookimpl, printable

INTERVAL = 10.0  # seconds between plain lines of one stage
_WIDE = 90  # columns of a terminal that has room for long bars
BRIEF = 2.0  # seconds: a stage that takes less is not worth a plain line


class Display(Protocol):
    """What shows it. unit: "s" is seconds of audio."""

    def stage(self, name: str, done: float, total: float, unit: str, note: str) -> None: ...

    def say(self, line: str) -> None: ...

    def close(self) -> None: ...


class Progress:
    """Events -> a display, chosen at the first event."""

    def __init__(self) -> None:
        self._display: Display | None = None

    @hookimpl
    def bab_run_start(self, run: RunInfo) -> None:
        self._on(run)

    @hookimpl
    def bab_progress(self, run: RunInfo, stage: str, done: float, total: float, unit: str) -> None:
        self._on(run).stage(stage + _fold(run), done, total, unit, "")

    @hookimpl
    def bab_step(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        note = f"loss {values['loss']:.4g}" if "loss" in values else ""
        self._on(run).stage("training" + _fold(run), step, run.steps, "steps", note)

    @hookimpl
    def bab_evaluated(
        self, run: RunInfo, step: int, split: str, metrics: Mapping[str, float], best: bool
    ) -> None:
        name = run.primary if run.primary in metrics else next(iter(metrics), "")
        score = f" {name} {metrics[name]:.4f}" if name else ""
        mark = " (best so far)" if best else ""
        self._on(run).say(f"step {step}{_fold(run)}: {split}{score}{mark}")

    @hookimpl
    def bab_notice(self, run: RunInfo, message: str) -> None:
        self._on(run).say(message)

    @hookimpl
    def bab_run_end(self, record: Record | None) -> None:
        if self._display is not None:
            self._display.close()
        self._display = None

    def _on(self, run: RunInfo) -> Display:
        if self._display is None:
            plain = bool(run.config.get("quiet")) or not moving(sys.stderr)
            self._display = Plain(sys.stderr, time.monotonic) if plain else Live()
        return self._display


def _fold(run: RunInfo) -> str:
    return f" (fold {run.fold + 1} of {run.folds})" if run.folds > 1 else ""


def moving(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def amount(value: float, unit: str) -> str:
    """`7200, "s"` -> "2.00 h"; other units are counted."""
    if unit != "s":
        return f"{value:.0f} {unit.removesuffix('s') if round(value) == 1 else unit}"
    for size, name in ((3600, "h"), (60, "min")):
        if value >= size:
            return f"{value / size:.2f} {name}"
    return f"{value:.0f} s"


def part(done: float, total: float, unit: str) -> str:
    """`8 of 60 steps`; of seconds `3.20 of 9.80 min`, or `40 s of 9.80 min`."""
    (first, one), (whole, two) = (amount(v, unit).split(" ", 1) for v in (done, total))
    return (
        f"{first} of {whole} {two}"
        if unit != "s" or one == two
        else f"{first} {one} of {whole} {two}"
    )


def clock(seconds: float) -> str:
    """`3725` -> "1:02:05", `65` -> "1:05"."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(slots=True)
class _Stage:
    began: float  # seconds on the clock
    first: float  # what was done then: a resumed stage doesn't start at 0
    spoken: float  # when its last line was written


class Plain:
    """A line per stage every `INTERVAL` seconds, and one when it ends, if it took any time."""

    def __init__(self, stream: TextIO, now: Callable[[], float]) -> None:
        self._stream = stream
        self._now = now
        self._stages: dict[str, _Stage] = {}

    def stage(self, name: str, done: float, total: float, unit: str, note: str) -> None:
        now = self._now()
        state = self._stages.setdefault(name, _Stage(now, done, now))
        elapsed = now - state.began
        tail = f", {note}" if note else ""
        if done >= total:
            del self._stages[name]
            if elapsed >= BRIEF:
                self.say(f"{name}: {amount(total, unit)} in {clock(elapsed)}{tail}")
        elif now - state.spoken >= INTERVAL:
            state.spoken = now
            left = elapsed * (total - done) / (done - state.first) if done > state.first else 0
            ahead = f", {clock(left)} left" if left else ""
            share = f" ({done / total:.0%})" if total else ""
            self.say(f"{name}: {part(done, total, unit)}{share}{tail}{ahead}")

    def say(self, line: str) -> None:
        print(printable(line), file=self._stream, flush=True)

    def close(self) -> None:
        self._stages.clear()


class Live:
    """Bars by rich, one per stage; those that come again and again vanish when they end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description:<10}", markup=False),
            BarColumn(bar_width=24 if console.width >= _WIDE else 8),
            TextColumn("{task.fields[count]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self._bars = Progress(*columns, console=console)
        self._tasks: dict[str, Any] = {}
        self._bars.start()
        # An error before the run has a folder ends without an event: give the cursor back.
        atexit.register(self.close)

    def stage(self, name: str, done: float, total: float, unit: str, note: str) -> None:
        count = part(done, total, unit)
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(
                name, total=total, completed=int(done), count=count, note=note
            )
        self._bars.update(self._tasks[name], completed=done, total=total, count=count, note=note)
        if done >= total and unit != "steps":
            bar = self._tasks.pop(name)
            if name.startswith("dev"):
                self._bars.remove_task(bar)

    def say(self, line: str) -> None:
        self._bars.console.print(printable(line), markup=False, soft_wrap=True)

    def close(self) -> None:
        self._bars.stop()
        atexit.unregister(self.close)
