"""Gaps closed and short segments dropped at every threshold at once.

That a frame is active at a threshold and not at a higher one is one number: how many thresholds it
passes. Closing gaps and dropping segments keep that order, so both are done on these numbers:
a frame stays inactive at a threshold if a stretch around it that is long enough (or reaches the end
of its recording) passes no more; it stays active if a stretch around it that is long enough passes
more. So the closing is a least of greatest numbers, the dropping a greatest of least ones
(grey-scale closing and opening: Serra 1982, Image Analysis and Mathematical Morphology).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab.kit.segments import Ints, Timeline

_Levels = NDArray[np.int16]
_Choose = Callable[[Any, Any], Any]  # np.minimum or np.maximum


@dataclass(frozen=True, slots=True)
class Spans:
    """A span [begin, end) around each of N places, none of them empty: i64[N] each.

    Most of them lie alike: `width` places, from `offset` before their own on. `others` don't.
    """

    begin: Ints
    end: Ints
    offset: int
    width: int
    others: Ints

    @staticmethod
    def of(begin: Ints, end: Ints) -> Spans:
        offsets, widths = np.arange(len(begin)) - begin, end - begin
        middle = len(begin) // 2
        offset, width = int(offsets[middle]), int(widths[middle])
        others = np.flatnonzero((offsets != offset) | (widths != width))
        return Spans(begin, end, offset, width, others)

    def choice(self, choose: _Choose, values: _Levels) -> _Levels:
        """The least or greatest of each span's values: that of two powers of two which cover it."""
        alike = np.empty_like(values)
        fixed: list[tuple[Ints, _Levels]] = []
        left, size, table = self.others, 1, values
        while len(left) or size <= self.width:
            if size <= self.width < 2 * size:
                both = choose(table[: len(table) - self.width + size], table[self.width - size :])
                here = alike[self.offset : self.offset + len(both)]
                here[:] = both[: len(here)]
            begin, end = self.begin[left], self.end[left]
            now = end - begin < 2 * size
            fixed.append((left[now], choose(table[begin[now]], table[end[now] - size])))
            left = left[~now]
            table = np.concatenate([choose(table[:-size], table[size:]), table[-size:]])
            size *= 2
        for places, chosen in fixed:
            alike[places] = chosen
        return alike


@dataclass(frozen=True, slots=True)
class Stretches:
    """For each place of a timeline, the shortest stretches around it that last so long.

    A place more than the timeline has stands before it, so that each output has one before and one
    behind it where nothing is active.

    ahead: from here to where it is long enough, or just behind the output, where it never is.
    around: the places whose stretch ahead holds this one. before: from the last one whose doesn't
    up to here.
    """

    ahead: Spans
    around: Spans
    before: Spans

    @staticmethod
    def of(time: Timeline, least: int) -> Stretches:
        """least: milliseconds."""
        count = len(time.edges)
        owner = np.cumsum(np.bincount(time.first, minlength=count)) - 1
        own = time.edges - time.edges[time.first][owner]
        far = int(own.max(initial=0)) + least + 1
        along = own + owner * far  # grows over all outputs; no stretch fits between two of them
        here = np.arange(count + 1)
        reach = np.maximum(np.searchsorted(along, along + least, side="left"), here[1:])
        reach = np.concatenate([[1], reach + 1])
        first = np.searchsorted(reach, here, side="right")
        ahead, around = Spans.of(here, reach), Spans.of(first, here + 1)
        return Stretches(ahead, around, Spans.of(np.maximum(first - 1, 0), here + 1))

    def choice(self, inner: _Choose, outer: _Choose, values: _Levels) -> _Levels:
        """The `outer` choice, over all stretches that hold a place, of the `inner` one in each."""
        ahead = self.around.choice(outer, self.ahead.choice(inner, values))
        chosen: _Levels = outer(ahead, self.before.choice(inner, values))
        return chosen


@dataclass(frozen=True, slots=True)
class Rules:
    """How frames become segments: gaps shorter than `fill` are closed, then segments shorter than
    `shortest` are dropped, both in milliseconds (see `bab.kit.segments.join`)."""

    closing: Stretches | None
    opening: Stretches

    @staticmethod
    def of(time: Timeline, fill: int, shortest: int) -> Rules:
        closing = Stretches.of(time, fill) if fill > 0 else None
        return Rules(closing, Stretches.of(time, max(shortest, 1)))

    def applied(self, passed: _Levels) -> _Levels:
        """How many thresholds each place passes, i16[N], 0 where there is no frame -> at how many
        it is active once gaps are closed and short segments dropped."""
        levels = np.concatenate([np.zeros(1, dtype=passed.dtype), passed])
        if self.closing is not None:
            levels = self.closing.choice(np.maximum, np.minimum, levels)
        return self.opening.choice(np.minimum, np.maximum, levels)[1:]
