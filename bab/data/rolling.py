"""Windows of audio that comes in blocks, of a length that nobody needs to know beforehand.

The windows are those of `bab.data.windows.raster`: of one length, a step apart, the last moved back
to end with the audio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab.core.grid import Grid
from bab.core.types import View
from bab.data.windows import step_samples, window_samples

# Where neither view nor encoder bounds a window, it is bounded here: a day in one window would not
# fit into memory. Clips up to this length are taken whole, as in a run.
LONGEST = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class Raster:
    """How windows lie, in samples at the encoder's rate, and what of each counts.

    once: frames that an earlier window had are left out (clips, texts); else they are averaged.
    short: what no whole window is left for is a shorter one; else the last is moved back.
    """

    grid: Grid
    window: int
    step: int
    once: bool
    short: bool = False

    @property
    def hop(self) -> int:
        """Samples between frames; 1 where a window is one frame."""
        return max(1, self.grid.hop)

    @property
    def frames(self) -> int:
        """Frames of a whole window."""
        return self.grid.frames(self.window)

    def begin(self, number: int) -> int:
        """The first frame of a window, counted from the beginning of the audio."""
        return number * self.step // self.hop

    def number_of(self, frame: int) -> int:
        """The first window that says anything of this frame or of a later one."""
        return max(0, -(-(frame - self.frames + 1) // (self.step // self.hop)))


def raster_of(view: View, grid: Grid, max_seconds: float | None, whole_clips: bool) -> Raster:
    """The raster of a model: the run's view, without the context that a whole file hasn't got."""
    window = window_samples(view, grid, max_seconds)
    longest = round(LONGEST * grid.sample_rate)
    length = longest if window is None else min(window, longest)
    averaged = view.hop is not None and view.pool == "mean"
    once = whole_clips and not averaged and grid.hop > 0
    return Raster(grid, length, step_samples(view, grid, length), once, view.tail == "short")


@dataclass(frozen=True, slots=True)
class RollingWindow:
    """A window. first: its first sample, from the beginning of the audio; keep: which of its
    frames count, None = all; known: samples that the audio has at least."""

    first: int
    samples: NDArray[np.float32]
    keep: tuple[int, int] | None
    known: int


def rolling(
    blocks: Iterable[NDArray[np.float32]], raster: Raster, number: int = 0
) -> Iterator[RollingWindow]:
    """The windows of some audio, from the `number`-th on.

    blocks: f32[S] each, which begin with that window's first sample.
    """
    first = at = number * raster.step  # of the next window; of the buffer
    held: NDArray[Any] = np.empty(0, np.float32)
    reached = raster.begin(number - 1) + raster.frames if number else 0
    for block in blocks:
        held = np.concatenate([held, block])
        known = at + len(held)
        while first + raster.window <= known:
            begin = first // raster.hop
            keep = _keep(raster, begin, raster.frames, reached)
            yield RollingWindow(first, held[first - at :][: raster.window], keep, known)
            reached = begin + raster.frames
            first += raster.step
        # The last window may begin before the next one would.
        low = min(first, max(at, known - raster.window - raster.hop))
        held, at = held[low - at :].copy(), low
    total = at + len(held)
    if first == 0:
        if total:
            yield RollingWindow(0, held, None, total)
        return
    last = (total - raster.window) // raster.hop * raster.hop
    if raster.short:
        last = first if total - first >= raster.grid.field else -1
    if last > first - raster.step:
        samples = held[last - at :][: raster.window]
        keep = _keep(raster, last // raster.hop, raster.grid.frames(len(samples)), reached)
        if keep is None or keep[0] < keep[1]:
            yield RollingWindow(last, samples, keep, total)


def _keep(raster: Raster, begin: int, frames: int, reached: int) -> tuple[int, int] | None:
    if not raster.once or reached <= begin:
        return None
    return reached - begin, frames
