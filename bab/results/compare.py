"""Rows of a table against each other: differences with intervals, marks, ranks, relative scores.

A record keeps its headline metric in each bootstrap resample of its groups, and all runs draw the
same resamples. So the difference of two rows in one resample is a paired difference, whatever the
metric, and no prediction has to be read again (Efron and Tibshirani 1993, chapter 16).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab.core.record import Record
from bab.results.bootstrap import Difference
from bab.results.superb import relative

BEST, TIED = "best", "within noise"
_FEW = 0.5  # share of resamples that must be defined, as in bab.core.intervals


def resamples(records: Sequence[Record]) -> tuple[str, NDArray[np.float64]] | None:
    """(hash of the groups, f64[samples]): the mean over seeds in each resample of the groups.

    With several seeds, each resample draws seeds too (with replacement): the spread is over groups
    and seeds. None where a record keeps none, or they are not of the same groups.
    """
    kept: list[Mapping[str, Any]] = [r.resamples for r in sorted(records, key=lambda r: r.seed)]
    names = {(one.get("groups"), len(one.get("values", ()))) for one in kept}
    if len(names) != 1 or not all(one.get("values") for one in kept):
        return None
    table = np.array([one["values"] for one in kept], dtype=np.float64)  # [seeds, samples]
    seeds, samples = table.shape
    drawn = np.random.default_rng(0).integers(0, seeds, (seeds, samples))
    if seeds == 1:
        drawn[:] = 0
    return str(kept[0]["groups"]), np.take_along_axis(table, drawn, axis=0).mean(axis=0)


def interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """The percentile interval; None where the metric is undefined in most resamples."""
    finite = values[np.isfinite(values)]
    if not len(finite) or len(finite) < _FEW * len(values):
        return None
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(finite, [tail, 100 - tail]).tolist()
    return low, high


def difference(a: Sequence[Record], b: Sequence[Record]) -> Difference | None:
    """The headline metric of A's runs less that of B's, with the paired interval.

    a, b: the runs of two cells of one column, over seeds. None where it can't be told: resamples
    that were not kept (bootstrap=0, a single group), or are of other groups.
    """
    left, right = resamples(a), resamples(b)
    if left is None or right is None or left[0] != right[0] or len(left[1]) != len(right[1]):
        return None
    bounds = interval(left[1] - right[1])
    if bounds is None:
        return None
    return Difference(score(a) - score(b), *bounds)


def score(records: Sequence[Record]) -> float:
    """The mean of the headline metric over seeds."""
    return fmean(r.metrics.get(r.primary, math.nan) for r in records)


def marks(cells: Sequence[Sequence[Record]], higher_is_better: bool) -> list[str]:
    """For each cell of a column: BEST, TIED (its paired interval to the best holds 0), or "".

    A cell is the records of its seeds; an empty one has no mark, nor has a column with one cell.
    """
    sign = 1 if higher_is_better else -1
    scores = [sign * score(cell) if cell else math.nan for cell in cells]
    known = [i for i, value in enumerate(scores) if math.isfinite(value)]
    marked = [""] * len(cells)
    if len(known) < 2:
        return marked
    top = max(known, key=lambda i: scores[i])
    for i in known:
        if scores[i] == scores[top]:
            marked[i] = BEST
            continue
        gap = difference(cells[top], cells[i])
        if gap is not None and gap.low <= 0 <= gap.high:
            marked[i] = TIED
    return marked


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
