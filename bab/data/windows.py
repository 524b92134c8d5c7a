"""Clips -> what an encoder is given: annotated spans, and windows on a raster or at random.

A window is a Clip narrowed to a stretch of its file. Window starts are whole multiples of the
encoder's hop from the span's start, so the frames of all windows lie on one raster per span.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from bab.audio import reading
from bab.core.grid import Grid
from bab.core.seeds import derive
from bab.core.types import Clip, Item, View, Window


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
    spans = []
    for clip in clips:
        if clip.scored is None:
            spans.append(clip)
            continue
        cutter = Cutter(clip)
        spans += [cutter.cut(start, end) for start, end in clip.scored if end > start]
    return spans


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


def step_samples(view: View, grid: Grid, window: int) -> int:
    """Samples between windows: as asked, a multiple of the hop, and never leaving a gap."""
    if grid.hop == 0:
        return window if view.hop is None else max(1, round(view.hop * grid.sample_rate))
    tile = grid.frames(window) * grid.hop
    if view.hop is None:
        return tile
    return min(tile, max(1, round(view.hop * grid.sample_rate / grid.hop)) * grid.hop)


def raster(region: Clip, view: View, grid: Grid, max_seconds: float | None) -> list[Clip]:
    """Windows that cover a region. All have the same length; the last is moved back to fit, or, as
    `view.tail` says, is shorter, and left out where it holds no frame.

    A region shorter than a window is one window of its own length. Without `view.hop` the frames
    of neighbouring windows tile: 4 s at a hop of 20 ms gives 199 frames and a step of 3.98 s
    (BabyHuBERT's inference).
    """
    window = window_samples(view, grid, max_seconds)
    first, total = samples_of(region, grid.sample_rate)
    if window is None or total <= window:
        return [region] if total > 0 else []
    hop = max(1, grid.hop)
    starts = list(range(0, total - window + 1, step_samples(view, grid, window)))
    last = (total - window) // hop * hop
    if view.tail == "short":
        last = starts[-1] + step_samples(view, grid, window)
        last = last if total - last >= grid.field else starts[-1]
    if starts[-1] != last:
        starts.append(last)
    cutter = Cutter(region)
    rate = grid.sample_rate
    return [
        cutter.cut((first + start) / rate, (first + min(start + window, total)) / rate)
        for start in starts
    ]


class Examples:
    """The examples of a set of clips, in order, and what stands in their place in training.

    whole=False (frame tasks): every window of every region is an example of its own.
    whole=True (clip, sequence and pair tasks): every region is one, of one or more windows.
    """

    def __init__(
        self,
        regions: Sequence[Clip],
        view: View,
        grid: Grid,
        max_seconds: float | None,
        whole: bool = False,
    ) -> None:
        self.view = view
        self.grid = grid
        self.max_seconds = max_seconds
        self.whole = whole
        self.cutters = [Cutter(region) for region in regions]
        self.items: list[Item] = []
        self.owners: list[int] = []  # index of each item's region
        for index, region in enumerate(regions):
            windows = self._windows(region)
            if whole:
                items = [Item(region, windows)] if windows else []
            else:
                items = [Item(window.clip, (window,)) for window in windows]
            self.items += items
            self.owners += [index] * len(items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def windows(self) -> list[Window]:
        """All windows, in order."""
        return [window for item in self.items for window in item.windows]

    def frames(self, item: Item) -> int:
        """Frames of an example, before any cropping or pooling."""
        rate = self.grid.sample_rate
        return sum(kept_frames(window, self.grid, rate) for window in item.windows)

    def moved(self, index: int, seed: tuple[object, ...]) -> Item:
        """A frame task's window, or `train_seconds` of it, at a random place of its region, on the
        frame raster (fine-tuning)."""
        item, cutter = self.items[index], self.cutters[self.owners[index]]
        rate, hop = self.grid.sample_rate, max(1, self.grid.hop)
        first, total = samples_of(cutter.clip, rate)
        length = samples_of(item.clip, rate)[1]
        if self.view.train_seconds is not None:
            length = min(length, round(self.view.train_seconds * rate))
        places = (total - length) // hop + 1
        if places <= 1:
            return item
        start = first + _draw(seed, item.clip).randrange(places) * hop
        window = cutter.cut(start / rate, (start + length) / rate)
        return Item(window, (Window(window),))

    def cropped(self, index: int, seed: tuple[object, ...]) -> Item:
        """`train_seconds` of an example's frames, at a random place (cached features)."""
        item, limit = self.items[index], self.view.train_seconds
        if limit is None or self.grid.hop == 0:
            return item
        frames, wanted = self.frames(item), self._wanted(limit)
        if frames <= wanted:
            return item
        begin = _draw(seed, item.clip).randrange(frames - wanted + 1)
        clip = item.clip
        if not self.whole:
            # A frame task's targets are those of the frames that are left.
            rate = self.grid.sample_rate
            start = samples_of(clip, rate)[0] + begin * self.grid.hop
            cutter = self.cutters[self.owners[index]]
            clip = cutter.cut(start / rate, (start + self.grid.samples(wanted)) / rate)
        return Item(clip, item.windows, (begin, begin + wanted))

    def rounds(self) -> list[int]:
        """What a pass over the training data is made of: indices of items, those of a frame task
        as often as `train_seconds` goes into them."""
        limit = self.view.train_seconds
        if self.whole or limit is None or self.grid.hop == 0:
            return list(range(len(self.items)))
        wanted = self._wanted(limit)
        return [
            index
            for index, item in enumerate(self.items)
            for _ in range(max(1, round(self.frames(item) / wanted)))
        ]

    def _wanted(self, seconds: float) -> int:
        return self.grid.frames(round(seconds * self.grid.sample_rate))

    def trimmed(self, index: int, seed: tuple[object, ...]) -> Item:
        """A long clip cut to one window of `train_seconds`, or of what the encoder takes in, at a
        random place: the example of fine-tuning, which encodes one window per clip."""
        item = self.items[index]
        limits = [x for x in (self.view.train_seconds, self.max_seconds) if x is not None]
        if len(item.windows) == 1 and (not limits or item.clip.duration <= min(limits)):
            return item
        rate, (first, total) = self.grid.sample_rate, samples_of(item.clip, self.grid.sample_rate)
        length = min(total, round(min(limits) * rate)) if limits else total
        start = first + _draw(seed, item.clip).randrange(total - length + 1)
        window = self.cutters[self.owners[index]].cut(start / rate, (start + length) / rate)
        return Item(window, (Window(window),))

    def _windows(self, region: Clip) -> tuple[Window, ...]:
        if self.view.context:
            return (self._heard(region),) if region.duration > 0 else ()
        cut = [Window(clip) for clip in raster(region, self.view, self.grid, self.max_seconds)]
        averaged = self.view.hop is not None and self.view.pool == "mean"
        if not self.whole or averaged or self.grid.hop == 0:
            return tuple(cut)
        return tuple(self._once(region, cut))

    def _once(self, region: Clip, windows: Sequence[Window]) -> Iterator[Window]:
        """Windows that overlap keep only frames that none before them had: each frame once."""
        rate, hop = self.grid.sample_rate, self.grid.hop
        first = samples_of(region, rate)[0]
        reached = 0
        for window in windows:
            start, length = samples_of(window.clip, rate)
            begin = (start - first) // hop
            count = self.grid.frames(length)
            if begin + count > reached:
                yield Window(window.clip, (reached - begin, count)) if reached > begin else window
                reached = begin + count

    def _heard(self, region: Clip) -> Window:
        """A region with its context, as far as file and encoder allow; the region's frames kept."""
        room = math.inf if self.max_seconds is None else self.max_seconds
        side = min(self.view.context, max(0.0, (room - region.duration) / 2))
        start = max(0.0, region.start - side)
        end = min(reading.duration(region.path), region.end + side)
        heard = replace(region, start=start, end=max(end, region.end))
        count = self.grid.frames(samples_of(heard, self.grid.sample_rate)[1])
        centres = self.grid.centres(count) + start
        first = min(int(centres.searchsorted(region.start)), count - 1)
        return Window(heard, (first, max(first + 1, int(centres.searchsorted(region.end)))))


def kept_frames(window: Window, grid: Grid, rate: int) -> int:
    """How many frames of a window count."""
    if window.keep is not None:
        return window.keep[1] - window.keep[0]
    return grid.frames(samples_of(window.clip, rate)[1])


def _draw(seed: tuple[object, ...], clip: Clip) -> random.Random:
    return random.Random(derive(*seed, clip.id, clip.start))
