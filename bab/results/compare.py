"""Rows of a table against each other: differences with intervals, marks, ranks, relative scores.

A record keeps its headline metric without each of its groups in turn. Leaving the same group out of
two runs pairs them, whatever the metric, and no prediction has to be read again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, variance
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bab.core.errors import counted
from bab.core.record import Record
from bab.results import jackknife
from bab.results.superb import relative

BEST, TIED = "best", "within noise"
Floats = NDArray[np.float64]


class Sample(NamedTuple):
    """A cell: its mean over seeds, and the same without each group. seeds: the values of each."""

    names: tuple[str, ...]
    sizes: tuple[float, ...]
    scale: jackknife.Scale
    value: float
    left_out: tuple[float, ...]
    seeds: tuple[float, ...]

    @property
    def between_seeds(self) -> list[tuple[float, float]]:
        """(variance of the mean over seeds, its degrees of freedom); nothing of one seed."""
        count = len(self.seeds)
        return [(_variance(self.seeds) / count, count - 1.0)] if count > 1 else []


# Exact, and asked for twice: of a cell's interval, and of what it is compared with.
_variance = lru_cache(maxsize=8192)(variance)


class Bounds(NamedTuple):
    """An interval, or why there is none."""

    low: float | None = None
    high: float | None = None
    why: str = ""


class Difference(NamedTuple):
    """A metric of A less that of B on the same groups; low, high: None where nothing can be told.

    apart: whether they differ, None where that can't be said.
    """

    value: float
    low: float | None = None
    high: float | None = None
    apart: bool | None = None


class Contest(NamedTuple):
    """Cells that can be compared: which of those given, their values f64[K], and the variance and
    degrees of freedom of each pair's difference, f64[K, K]; why the others, or all, can't be."""

    members: tuple[int, ...]
    values: Floats
    variances: Floats
    freedoms: Floats
    groups: int = 0
    why: str = ""


def sample(records: Sequence[Record]) -> Sample | None:
    """What a cell's records keep; None where they keep nothing, or are of different groups."""
    kept = [r.jackknife for r in sorted(records, key=lambda r: r.seed)]
    names = {tuple(one.get("groups", ())) for one in kept}
    if len(names) != 1 or not all(one.get("left_out") for one in kept):
        return None
    values = tuple(
        r.metrics.get(r.primary, math.nan) for r in sorted(records, key=lambda r: r.seed)
    )
    table = np.array([one["left_out"] for one in kept], dtype=np.float64)  # [seeds, groups]
    left_out = tuple(table.mean(axis=0).tolist())
    sizes, scale = tuple(kept[0]["sizes"]), kept[0]["scale"]
    return Sample(names.pop(), sizes, scale, fmean(values), left_out, values)


def interval(records: Sequence[Record]) -> Bounds:
    """The 95 % interval of a cell, over groups and seeds."""
    one = sample(records)
    if one is None:
        return Bounds(why="nothing kept to tell it from")
    if why := jackknife.why_not(one.value, one.left_out, one.scale):
        return Bounds(why=why)
    over_groups = float(jackknife.variance(np.array(one.left_out), one.value))
    parts = [(over_groups, jackknife.freedom(one.sizes)), *one.between_seeds]
    total, df = jackknife.satterthwaite(parts)
    low, high = jackknife.bounds(one.value, total, df, one.scale)
    return Bounds(float(low), float(high))


def contest(cells: Sequence[Sequence[Record]]) -> Contest:
    """What can be compared among the cells of a column, paired by group."""
    none = np.empty(0)
    samples = {i: one for i, cell in enumerate(cells) if cell and (one := sample(cell)) is not None}
    if not samples:
        return Contest((), none, none, none, why="the records keep nothing to compare them by")
    names, _ = Counter(one.names for one in samples.values()).most_common(1)[0]
    whole = {
        i: one
        for i, one in samples.items()
        if one.names == names and np.isfinite([one.value, *one.left_out]).all()
    }
    members = tuple(whole)
    groups = len(names)
    there = sum(bool(cell) for cell in cells)
    why = ""
    if len(members) < there:
        why = f"{there - len(members)} of {there} can't be compared: "
        undefined = any(not np.isfinite(one.left_out).all() for one in samples.values())
        why += "undefined without one of the groups" if undefined else "older, or of other groups"
    if groups < jackknife.TOO_FEW:
        why = f"{counted(groups, 'group')}, {jackknife.TOO_FEW} are needed"
    if groups < jackknife.TOO_FEW or len(members) < 2:
        return Contest(members, none, none, none, groups, why=why)
    values = np.array([one.value for one in whole.values()])
    left_out = np.array([one.left_out for one in whole.values()])
    # One row after the other: all pairs' groups at once would be large where encoders are many.
    over_groups = np.stack(
        [
            jackknife.variance(row - left_out, value - values)
            for row, value in zip(left_out, values, strict=True)
        ]
    )
    variances, freedoms = np.zeros_like(over_groups), np.ones_like(over_groups)
    between = [one.between_seeds for one in whole.values()]
    free = [jackknife.freedom(one.sizes) for one in whole.values()]
    for i, a in enumerate(between):
        for j, b in enumerate(between):
            parts = [(float(over_groups[i, j]), free[i]), *a, *b]
            variances[i, j], freedoms[i, j] = jackknife.satterthwaite(parts)
    return Contest(members, values, variances, freedoms, groups, why)


def differences(held: Contest) -> dict[tuple[int, int], Difference]:
    """Of every two of the contest's cells, by their places among those given. The intervals hold
    all together in 95 % of cases (Tukey's, on the studentised range); of two cells it is the paired
    interval on Student's t. With fewer than five groups nothing is called apart."""
    gaps: dict[tuple[int, int], Difference] = {}
    if not len(held.values):
        return gaps
    every = range(len(held.members))
    for i, one in enumerate(held.members):
        for j, two in enumerate(held.members):
            value = float(held.values[i] - held.values[j])
            if i == j or not held.variances[i, j]:
                gaps[one, two] = Difference(value, apart=None if value else False)
                continue
            half = jackknife.margin(held.variances, held.freedoms, every, i, j)
            apart = abs(value) > half if held.groups >= jackknife.MARKED else None
            gaps[one, two] = Difference(value, value - half, value + half, apart)
    return gaps


def score(records: Sequence[Record]) -> float:
    """The mean of the headline metric over seeds."""
    return fmean(r.metrics.get(r.primary, math.nan) for r in records)


def marks(cells: Sequence[Sequence[Record]], higher_is_better: bool) -> tuple[list[str], str]:
    """For each cell of a column BEST, TIED (not shown to be worse than it) or "", and why there are
    none, or not of all.

    A cell is the records of its seeds; an empty one has no mark, nor has a column with one cell.
    """
    marked = [""] * len(cells)
    if sum(bool(cell) for cell in cells) < 2:
        return marked, ""
    held = contest(cells)
    few = 0 < held.groups < jackknife.TOO_FEW
    if few or (len(held.values) and held.groups < jackknife.MARKED):
        return marked, f"no marks: {counted(held.groups, 'group')}, {jackknife.MARKED} are needed"
    if not len(held.values):
        return marked, f"no marks: {held.why}"
    values = held.values if higher_is_better else -held.values
    worse = jackknife.step_down(values, held.variances, held.freedoms)
    for place, i in enumerate(held.members):
        if place not in worse:
            marked[i] = BEST if values[place] == values.max() else TIED
    return marked, held.why


def ranks(values: Sequence[Sequence[float | None]], higher: Sequence[bool]) -> list[float | None]:
    """The mean rank of each row over the columns, 1 the best; ties share the mean of their places.

    values: rows of a table. A row that lacks a column has no rank.
    """
    totals: list[list[float]] = [[] for _ in values]
    for j, up in enumerate(higher):
        column = {i: row[j] for i, row in enumerate(values)}
        known = {i: v for i, v in column.items() if v is not None and math.isfinite(v)}
        for i, value in known.items():
            better = sum((v > value) if up else (v < value) for v in known.values())
            same = sum(v == value for v in known.values())
            totals[i].append(better + (same + 1) / 2)
    return [fmean(places) if len(places) == len(higher) else None for places in totals]


def relative_scores(
    values: Sequence[Sequence[float | None]], higher: Sequence[bool], baseline: int
) -> tuple[list[float | None], list[int]]:
    """SUPERB's formula over a table's own columns: row `baseline` is 0, each column's best 1000.

    Returns each row's score (None where it lacks any column, or fewer than two columns are left),
    and the columns that give no scale, which are left out: those in which nothing beats the
    baseline.
    """
    top: dict[str, float] = {}
    low: dict[str, float] = {}
    for j, up in enumerate(higher):
        known = [v for row in values if (v := row[j]) is not None and math.isfinite(v)]
        start = values[baseline][j]
        if start is None or not known:
            continue
        best = max(known) if up else min(known)
        if best != start:
            top[str(j)], low[str(j)] = best, start
    left_out = [j for j in range(len(higher)) if str(j) not in top]
    scores: list[float | None] = []
    for row in values:
        own = {str(j): v for j, v in enumerate(row) if v is not None and math.isfinite(v)}
        whole = len(top) > 1 and len(own) == len(higher)
        scored = {j: own[j] for j in top} if whole else {}
        scores.append(relative(scored, low, top, [(j,) for j in top]) if whole else None)
    return scores, left_out
