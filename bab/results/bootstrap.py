"""Percentile bootstrap over groups (recordings, speakers): resamples and their intervals.

Groups, not clips, are drawn with replacement, because clips of one child or recording resemble
each other (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 13).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")
Score = Callable[[Sequence[str], NDArray[np.float64]], list[Mapping[str, float]]]
Interval = tuple[float, float]
# A metric that is undefined (no class, one kind of trial) in more resamples than this has no
# interval: the few that are left would not say how it varies.
UNDEFINED = 0.5


class Difference(NamedTuple):
    """A metric of A less that of B on the same groups, and the interval of that difference."""

    value: float
    low: float
    high: float


def draws(groups: int, samples: int, seed: int) -> NDArray[np.int64]:
    """i64[samples, groups]: which groups each resample holds."""
    return np.random.default_rng(seed).integers(0, groups, (samples, groups))


def resampled(
    statistics: Mapping[str, Mapping[str, float]], score: Score, samples: int, seed: int
) -> list[Mapping[str, float]]:
    """The metrics of each resample of the groups, in the order of the resamples.

    score: names of the statistics and their sums f64[resamples, names] -> the metrics of each.
    Equal groups, samples and seed give equal resamples: two lists may be compared pair by pair.
    """
    keys, table = _matrix(statistics)
    groups = len(table)
    drawn = draws(groups, samples, seed) + groups * np.arange(samples)[:, None]
    # A resample's sums are how often each group was drawn, times `table`.
    times = np.bincount(drawn.ravel(), minlength=samples * groups).reshape(samples, groups)
    return score(keys, times @ table)


def resampled_items(
    groups: Mapping[str, Sequence[Item]],
    score: Callable[[list[Item]], Mapping[str, float]],
    samples: int,
    seed: int,
) -> list[Mapping[str, float]]:
    """As `resampled`, for scores that aren't functions of sums."""
    members = [groups[name] for name in sorted(groups)]
    return [
        score([item for index in drawn for item in members[index]])
        for drawn in draws(len(members), samples, seed)
    ]


def _matrix(statistics: Mapping[str, Mapping[str, float]]) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the statistics, and f64[groups, statistics] in the order of the groups' names."""
    keys = list(dict.fromkeys(key for row in statistics.values() for key in row))
    rows = [[statistics[name].get(key, 0.0) for key in keys] for name in sorted(statistics)]
    return keys, np.array(rows, dtype=np.float64).reshape(len(rows), len(keys))


def percentiles(rows: Sequence[Mapping[str, float]], level: float = 0.95) -> dict[str, Interval]:
    """The percentile interval of each metric over the resamples in which it is defined."""
    tail = 100 * (1 - level) / 2
    intervals: dict[str, Interval] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row and math.isfinite(row[name])]
        if values and len(values) >= (1 - UNDEFINED) * len(rows):
            low, high = np.percentile(values, [tail, 100 - tail]).tolist()
            intervals[name] = (low, high)
    return intervals
