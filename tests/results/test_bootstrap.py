"""The bootstrap against scipy's, against loops, and against what is known of coverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import scipy.stats

from bab.results.bootstrap import Interval, Score, draws, percentiles, resampled, resampled_items

Stats = dict[str, dict[str, float]]
Metrics = Callable[[Mapping[str, float]], Mapping[str, float]]


def each(metrics: Metrics) -> Score:
    return lambda names, table: [metrics(dict(zip(names, row, strict=True))) for row in table]


def bootstrap(
    stats: Stats, metrics: Metrics, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """As a record has its intervals."""
    return percentiles(resampled(stats, each(metrics), samples, seed), level)


def precision(totals: Mapping[str, float]) -> dict[str, float]:
    found = totals["tp"] + totals["fp"]
    return {"precision": totals["tp"] / found} if found else {}


def recordings(seed: int, n: int = 12) -> Stats:
    rng = np.random.default_rng(seed)
    return {
        f"rec{i:02}": {"tp": float(rng.uniform(1, 9)), "fp": float(rng.uniform(0, 5))}
        for i in range(n)
    }


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_equals_scipys_percentile_bootstrap(level: float) -> None:
    stats = recordings(0)
    tp, fp = (np.array([stats[k][name] for k in sorted(stats)]) for name in ("tp", "fp"))
    wanted = scipy.stats.bootstrap(
        (tp, fp),
        lambda a, b, axis: a.sum(axis) / (a.sum(axis) + b.sum(axis)),
        n_resamples=500,
        confidence_level=level,
        method="percentile",
        paired=True,
        rng=np.random.default_rng(3),
    ).confidence_interval
    found = bootstrap(stats, precision, samples=500, seed=3, level=level)
    assert found["precision"] == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_equals_a_loop_over_resamples_and_the_variant_for_lists() -> None:
    stats = recordings(1)
    names = sorted(stats)
    values = []
    for drawn in draws(len(names), 300, 7):
        tp = sum(stats[names[i]]["tp"] for i in drawn)
        fp = sum(stats[names[i]]["fp"] for i in drawn)
        values.append(tp / (tp + fp))
    found = bootstrap(stats, precision, samples=300, seed=7)["precision"]
    assert found == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    lists = {name: [row] for name, row in stats.items()}
    by_lists = resampled_items(
        lists, lambda rows: precision({k: sum(r[k] for r in rows) for k in ("tp", "fp")}), 300, 7
    )
    assert [row["precision"] for row in by_lists] == pytest.approx(values)


def test_lists_of_a_group_stay_together() -> None:
    seen: list[list[str]] = []

    def score(items: list[str]) -> dict[str, float]:
        seen.append(items)
        return {"n": float(len(items))}

    rows = resampled_items({"a": ["a1", "a2", "a3"], "b": ["b1"]}, score, 50, 0)
    assert {tuple(s) for s in seen} <= {
        ("a1", "a2", "a3") * 2,
        ("a1", "a2", "a3", "b1"),
        ("b1", "a1", "a2", "a3"),
        ("b1", "b1"),
    }
    assert percentiles(rows)["n"] == (2.0, 6.0)


def test_neither_order_nor_repetition_changes_the_interval() -> None:
    stats = recordings(2)
    found = bootstrap(stats, precision, seed=5)
    assert bootstrap(dict(reversed(stats.items())), precision, seed=5) == found
    assert bootstrap(stats, precision, seed=6) != found


def test_metrics_that_are_often_undefined_have_none() -> None:
    stats: Stats = {f"r{i}": {"tp": 0.0, "fp": 0.0} for i in range(10)}
    stats["r3"] = {"tp": 3.0}  # "fp" is missing: it counts as 0
    assert "precision" in bootstrap(stats, precision)  # drawn in 65 % of resamples
    rare = bootstrap(stats, lambda t: precision(t) if t["tp"] > 6 else {})  # in 8 %
    assert rare == {}
    nan = bootstrap(recordings(0), lambda t: {"x": float("nan"), **precision(t)})
    assert list(nan) == ["precision"]


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    """A mean of 40 normal groups: the percentile interval covers a little less than its level."""
    rng = np.random.default_rng(8)
    hits = 0
    for trial in range(200):
        stats = {str(i): {"sum": float(x), "n": 1.0} for i, x in enumerate(rng.normal(2, 1, 40))}
        low, high = bootstrap(stats, lambda t: {"mean": t["sum"] / t["n"]}, 200, trial)["mean"]
        hits += low <= 2 <= high
    assert 0.88 <= hits / 200 <= 0.985
