"""Interval arithmetic and the way from frame decisions to segments, for tasks that mark time.

Tuning tries hundreds of thresholds and scoring writes one; both go through `join`, so what is tuned
is what is scored. Decided times are whole milliseconds, as an RTTM file holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab.core.grid import Grid
from bab.core.types import Clip, Output, Segment

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def union(intervals: Iterable[tuple[float, float]]) -> Floats:
    """Sorted, disjoint f64[N, 2] that cover the same time as `intervals` (seconds)."""
    pairs = np.array([(a, b) for a, b in intervals if b > a], dtype=np.float64).reshape(-1, 2)
    if len(pairs) == 0:
        return pairs
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    reach = np.maximum.accumulate(pairs[:, 1])
    fresh = np.concatenate([[True], pairs[1:, 0] > reach[:-1]])
    last = np.concatenate([np.flatnonzero(fresh)[1:] - 1, [len(pairs) - 1]])
    return np.stack([pairs[fresh, 0], reach[last]], axis=1)


def inside(spans: Floats, times: Floats) -> Floats:
    """Seconds of `spans` (disjoint) that lie before each of `times`: their running measure."""
    if len(spans) == 0:
        return np.zeros_like(times, dtype=np.float64)
    lengths = np.cumsum(spans[:, 1] - spans[:, 0])
    ends = np.stack([np.concatenate([[0.0], lengths[:-1]]), lengths], axis=1)
    before: Floats = np.interp(times, spans.ravel(), ends.ravel())
    return before


def intersect(a: Floats, b: Floats) -> Floats:
    """The time in both of two disjoint sets of intervals, as f64[N, 2]."""
    times = np.unique(np.concatenate([a.ravel(), b.ravel()]))
    middle = (times[:-1] + times[1:]) / 2
    both = covers(a, middle) & covers(b, middle)
    return union(zip(times[:-1][both], times[1:][both], strict=True))


def covers(spans: Floats, times: Floats) -> Bools:
    """Which of `times` lie in one of `spans`."""
    which = np.searchsorted(spans[:, 0], times, side="right") - 1
    if len(spans) == 0:
        return np.zeros(len(times), dtype=np.bool_)
    covered: Bools = (which >= 0) & (times < spans[np.maximum(which, 0), 1])
    return covered


def scored(clip: Clip) -> Floats:
    """The annotated time of a clip: its UEM, or all of it."""
    whole = union([(clip.start, clip.end)])
    return whole if clip.scored is None else intersect(whole, union(clip.scored))


def spoken(segments: Sequence[Segment], label: str) -> Floats:
    """The time in which `label` is heard."""
    return union((s.start, s.end) for s in segments if s.label == label)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Frames of several outputs in one row, so that thresholds are tried without a Python loop.

    Each output of T frames has T + 1 places: its cells' left borders, and its end. The last is no
    frame, is never active, and so keeps outputs apart. N is the number of places.

    edges: i64[N], milliseconds. first: i64[outputs], where each output begins. frame: bool[N].
    """

    edges: Ints
    first: Ints
    frame: Bools

    @staticmethod
    def of(outputs: Sequence[Output], grid: Grid) -> Timeline:
        """Lay the outputs' cells (see `Grid.edges`) one after the other."""
        rows, sizes = [], []
        for output in outputs:
            frames = len(output.values)
            edges = grid.edges(frames, output.clip.duration, output.first)
            borders = output.clip.start + edges
            rows.append(np.rint(borders * 1000).astype(np.int64))
            sizes.append(frames + 1)
        ends = np.cumsum(sizes)
        frame = np.ones(int(ends[-1]), dtype=np.bool_)
        frame[ends - 1] = False
        return Timeline(np.concatenate(rows), ends - np.array(sizes), frame)

    def row(self, values: Sequence[NDArray[np.floating]]) -> Floats:
        """One number per frame of each output -> f64[N]; -1 where there is no frame."""
        row = np.full(len(self.frame), -1.0)
        row[self.frame] = np.concatenate(values)
        return row


def join(time: Timeline, active: Bools, fill: int, shortest: int) -> tuple[Ints, Ints]:
    """Active frames -> segments: gaps shorter than `fill` ms closed, then those under `shortest`
    ms dropped.

    Returns (i64[S], i64[S]): places in `time.edges` where each segment starts and ends.
    """
    return bridged(time, np.concatenate([[False], active, [False]]), fill, shortest)


def bridged(time: Timeline, bounded: Bools, fill: int, shortest: int) -> tuple[Ints, Ints]:
    """The same of active frames that have one more place at each end, which is not active."""
    turns = np.flatnonzero(bounded[1:] != bounded[:-1])
    begin, end = turns[0::2], turns[1::2]
    if len(begin) == 0:
        return begin, end
    if fill > 0:
        owner = np.searchsorted(time.first, begin, side="right")
        gap = time.edges[begin[1:]] - time.edges[end[:-1]]
        apart = (gap >= fill) | (owner[1:] != owner[:-1])
        begin = begin[np.concatenate([[True], apart])]
        end = end[np.concatenate([apart, [True]])]
    lasting = time.edges[end] - time.edges[begin] >= max(shortest, 1)
    return begin[lasting], end[lasting]


def marked(
    output: Output, grid: Grid, thresholds: Mapping[str, float], fill: int, shortest: int
) -> tuple[Segment, ...]:
    """An output's segments, sorted: logits f32[T, C] -> the time in which each class is on.

    thresholds: probability of each class, in the order of the columns; the rest is as in `join`.
    """
    time = Timeline.of([output], grid)
    segments = []
    for column, (name, threshold) in enumerate(thresholds.items()):
        active = time.row([probabilities(output.values[:, column])]) >= threshold
        begin, end = join(time, active, fill, shortest)
        for a, b in zip(time.edges[begin].tolist(), time.edges[end].tolist(), strict=True):
            segments.append(Segment(a / 1000, b / 1000, name))
    return tuple(sorted(segments, key=lambda s: (s.start, s.end, s.label)))


def thresholds_of(classes: Sequence[str], tuned: Mapping[str, Any]) -> dict[str, float]:
    """The threshold of each class; .5 for one that isn't there."""
    thresholds = tuned.get("thresholds", {})
    return {name: float(thresholds.get(name, 0.5)) for name in classes}


def last_pause(output: Output, thresholds: Sequence[float], frames: int) -> int:
    """A frame in the middle of the last pause of so many frames, in which no class is on; 0 where
    there is none. What lies before it and behind it can be decoded apart."""
    on = [
        probabilities(output.values[:, column]) >= threshold
        for column, threshold in enumerate(thresholds)
    ]
    places = np.flatnonzero(np.any(on, axis=0))
    bounds = np.concatenate([[-1], places, [len(output.values)]])
    gaps = np.flatnonzero(np.diff(bounds) > frames)
    if len(gaps) == 0:
        return 0
    last = gaps[-1]
    return int(bounds[last] + bounds[last + 1] + 1) // 2


def probabilities(logits: NDArray[np.floating]) -> Floats:
    """The logistic function in float64, exact at both ends."""
    x = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def heard(clip: Clip, name: str) -> bool:
    """Whether a class has any time inside the clip's annotated time."""
    if not any(s.label == name for s in clip.segments):
        return False
    return len(intersect(spoken(clip.segments, name), scored(clip))) > 0


def multi_hot(segments: Sequence[Segment], times: Floats, classes: Sequence[str]) -> Singles:
    """f32[T, C]: 1 where a time (f64[T], ascending) lies in a segment [start, end) of the class."""
    column = {name: i for i, name in enumerate(classes)}
    known = [s for s in segments if s.label in column]
    if not known:
        return np.zeros((len(times), len(classes)), dtype=np.float32)
    which = np.array([column[s.label] for s in known])
    turns = np.zeros((len(times) + 1, len(classes)), dtype=np.int32)
    np.add.at(turns, (np.searchsorted(times, [s.start for s in known]), which), 1)
    np.add.at(turns, (np.searchsorted(times, [s.end for s in known]), which), -1)
    return (np.cumsum(turns[:-1], axis=0) > 0).astype(np.float32)
