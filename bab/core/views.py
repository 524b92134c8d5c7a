"""Clips -> what an encoder is given: annotated spans, and windows on a raster or at random.

A window is a Clip narrowed to a stretch of its file. Window starts are whole multiples of the
encoder's hop from the span's start, so the frames of all windows lie on one raster per span.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from bab.core.grid import Grid
from bab.core.records import Clip, View
from bab.core.seeds import derive


class Cutter:
    """Narrows one clip to many windows, finding the segments of each in logarithmic time."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self._starts = [s.start for s in clip.segments]
        # The latest end so far: finds the first segment that can still touch a time, by bisection.
        self._ends = list(accumulate((s.end for s in clip.segments), max))

    def cut(self, start: float, end: float) -> Clip:
        """The clip narrowed to [start, end) seconds of its file, with what touches it."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        touching = tuple(s for s in self.clip.segments[first:last] if s.end > start)
        return self.clip.within(start, end, touching)


def regions(clips: Iterable[Clip]) -> list[Clip]:
    """Every annotated span as a clip of its own (the same id); a clip without spans is one."""
    found = []
    for clip in clips:
        if clip.scored is None:
            found.append(clip)
            continue
        cutter = Cutter(clip)
        found += [cutter.cut(start, end) for start, end in clip.scored if end > start]
    return found


def samples_of(clip: Clip, rate: int) -> tuple[int, int]:
    """The first sample of a clip in its file at `rate`, and how many it has."""
    first = round(clip.start * rate)
    return first, round(clip.end * rate) - first


def window_samples(view: View, grid: Grid, max_seconds: float | None) -> int | None:
    """Window length in samples, or None where a clip is taken whole."""
    seconds = view.window
    if max_seconds is not None and (seconds is None or seconds > max_seconds):
        seconds = max_seconds
    return None if seconds is None else max(1, round(seconds * grid.sample_rate))


def _step(view: View, grid: Grid, window: int) -> int:
    """Samples between windows: as asked, a multiple of the hop, and never leaving a gap."""
    if grid.hop == 0:
        return window if view.hop is None else max(1, round(view.hop * grid.sample_rate))
    tile = grid.frames(window) * grid.hop
    if view.hop is None:
        return tile
    return min(tile, max(1, round(view.hop * grid.sample_rate / grid.hop)) * grid.hop)


def raster(region: Clip, view: View, grid: Grid, max_seconds: float | None) -> list[Clip]:
    """Windows that cover a region. All have the same length; the last is moved back to fit.

    A region shorter than a window is one window of its own length. Without `view.hop` the frames
    of neighbouring windows tile: 4 s at a hop of 20 ms gives 199 frames and a step of 3.98 s
    (BabyHuBERT's inference).
    """
    window = window_samples(view, grid, max_seconds)
    first, total = samples_of(region, grid.sample_rate)
    if window is None or total <= window:
        return [region] if total > 0 else []
    hop = max(1, grid.hop)
    starts = list(range(0, total - window + 1, _step(view, grid, window)))
    last = (total - window) // hop * hop
    if starts[-1] != last:
        starts.append(last)
    cutter = Cutter(region)
    rate = grid.sample_rate
    return [cutter.cut((first + s) / rate, (first + s + window) / rate) for s in starts]


class Examples:
    """The windows of a set of regions, in order, and random crops in their place.

    `windows` is the raster; `crop(i, seed)` is a window of the same length somewhere in the same
    region, on the frame raster, drawn from `seed` and the window alone.
    """

    def __init__(
        self, regions: Sequence[Clip], view: View, grid: Grid, max_seconds: float | None
    ) -> None:
        self.grid = grid
        self.cutters = [Cutter(region) for region in regions]
        self.windows: list[Clip] = []
        self.owners: list[int] = []
        for index, region in enumerate(regions):
            cut = raster(region, view, grid, max_seconds)
            self.windows += cut
            self.owners += [index] * len(cut)

    def __len__(self) -> int:
        return len(self.windows)

    def crop(self, index: int, seed: tuple[object, ...]) -> Clip:
        """Window `index` moved to a random place of its region."""
        window, cutter = self.windows[index], self.cutters[self.owners[index]]
        rate, hop = self.grid.sample_rate, max(1, self.grid.hop)
        first, total = samples_of(cutter.clip, rate)
        length = samples_of(window, rate)[1]
        places = (total - length) // hop + 1
        if places <= 1:
            return window
        draw = random.Random(derive(*seed, window.id, window.start)).randrange(places)
        start = first + draw * hop
        return cutter.cut(start / rate, (start + length) / rate)
