"""Percentile bootstrap over groups (recordings, speakers): intervals and paired differences.

Groups, not clips, are drawn with replacement, because clips of one child or recording resemble
each other (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 13).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from bab.core.errors import BabError

Item = TypeVar("Item")
Metrics = Callable[[Mapping[str, float]], Mapping[str, float]]
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


def bootstrap(
    statistics: Mapping[str, Mapping[str, float]],
    metrics: Metrics,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of metrics that are functions of summed statistics.

    Args:
        statistics: group -> its additive statistics.
        metrics: summed statistics -> metrics; one that is undefined there may be left out or NaN.
        samples: resamples. level: share of them inside the interval.

    Returns:
        metric -> (low, high); empty with fewer than two groups, which say nothing of variation.
    """
    if len(statistics) < 2:
        return {}
    return percentiles(resampled(statistics, metrics, samples, seed), level)


def resampled(
    statistics: Mapping[str, Mapping[str, float]], metrics: Metrics, samples: int, seed: int
) -> list[Mapping[str, float]]:
    """The metrics of each resample of the groups, in the order of the resamples.

    Equal groups, samples and seed give equal resamples: two lists may be compared pair by pair.
    """
    keys, table = _matrix(statistics)
    return _resampled(keys, table, metrics, samples, seed)


def bootstrap_items(
    groups: Mapping[str, Sequence[Item]],
    score: Callable[[list[Item]], Mapping[str, float]],
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """As `bootstrap`, for scores that aren't functions of sums (EER, AUC): `score` gets the items
    of all drawn groups, those of a group drawn twice twice.
    """
    if len(groups) < 2:
        return {}
    return percentiles(resampled_items(groups, score, samples, seed), level)


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


def paired_difference(
    a: Mapping[str, Mapping[str, float]],
    b: Mapping[str, Mapping[str, float]],
    metrics: Metrics,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Difference]:
    """How much better A is than B, both resampled together: what the groups share cancels out.

    a, b: group -> additive statistics, over the same groups. Returns metric -> `Difference`, for
    metrics that both have; empty with fewer than two groups.

    Raises:
        BabError: where the groups differ.
    """
    if set(a) != set(b):
        odd = sorted(set(a) ^ set(b))
        raise BabError(
            f"results can only be compared on the same groups; {len(odd)} stand in one of the two "
            f"alone: {', '.join(odd[:5])}"
        )
    if len(a) < 2:
        return {}
    rows, values = [], []
    for statistics in (a, b):
        keys, table = _matrix(statistics)
        rows.append(_resampled(keys, table, metrics, samples, seed))
        values.append(metrics(dict(zip(keys, table.sum(axis=0).tolist(), strict=True))))
    differences = [_minus(x, y) for x, y in zip(*rows, strict=True)]
    observed = _minus(*values)
    intervals = percentiles(differences, level)
    return {
        name: Difference(value, *intervals[name])
        for name, value in observed.items()
        if name in intervals
    }


def _minus(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    return {name: value - b[name] for name, value in a.items() if name in b}


def _matrix(statistics: Mapping[str, Mapping[str, float]]) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the statistics, and f64[groups, statistics] in the order of the groups' names."""
    keys = list(dict.fromkeys(key for row in statistics.values() for key in row))
    rows = [[statistics[name].get(key, 0.0) for key in keys] for name in sorted(statistics)]
    return keys, np.array(rows, dtype=np.float64).reshape(len(rows), len(keys))


def _resampled(
    keys: Sequence[str], table: NDArray[np.float64], metrics: Metrics, samples: int, seed: int
) -> list[Mapping[str, float]]:
    """The metrics of each resample: its sums are how often each group was drawn, times `table`."""
    groups = len(table)
    drawn = draws(groups, samples, seed) + groups * np.arange(samples)[:, None]
    times = np.bincount(drawn.ravel(), minlength=samples * groups).reshape(samples, groups)
    return [metrics(dict(zip(keys, row, strict=True))) for row in (times @ table).tolist()]


def percentiles(rows: Sequence[Mapping[str, float]], level: float = 0.95) -> dict[str, Interval]:
    """The percentile interval of each metric over the resamples in which it is defined."""
    tail = 100 * (1 - level) / 2
    found: dict[str, Interval] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row and math.isfinite(row[name])]
        if values and len(values) >= (1 - UNDEFINED) * len(rows):
            low, high = np.percentile(values, [tail, 100 - tail]).tolist()
            found[name] = (low, high)
    return found
