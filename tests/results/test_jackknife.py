"""Leaving out one group at a time, against scipy and against what is known of means."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from bab.results import jackknife


def test_of_a_mean_it_is_students_interval() -> None:
    """Equal groups: the jackknife's variance is the mean's, and G* - 1 is G - 1."""
    values = np.random.default_rng(0).normal(5, 2, 12)
    mean = float(values.mean())
    left_out = (values.sum() - values) / 11
    variance = float(jackknife.variance(left_out, mean))
    assert variance == pytest.approx(values.var(ddof=1) / 12)
    assert jackknife.freedom([3.0] * 12) == pytest.approx(11)
    wanted = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    made = jackknife.bounds(mean, variance, 11.0, "plain")
    assert made == (pytest.approx(wanted.low), pytest.approx(wanted.high))


def test_uneven_groups_count_for_fewer() -> None:
    assert jackknife.effective([1, 1, 1, 1]) == pytest.approx(4)
    assert jackknife.effective([97, 1, 1, 1]) == pytest.approx(100**2 / (97**2 + 3))
    assert jackknife.freedom([97, 1, 1, 1]) == 1  # never below one
    assert jackknife.effective([0, 0]) == 0 and jackknife.freedom([0, 0]) == 1


@pytest.mark.parametrize(
    ("scale", "value", "top"), [("share", 0.97, 1.0), ("percent", 97.0, 100.0), ("rate", 120.0, 0)]
)
def test_intervals_stay_where_the_metric_can_be(
    scale: jackknife.Scale, value: float, top: float
) -> None:
    low, high = (float(x) for x in jackknife.bounds(value, (value / 20) ** 2, 2.0, scale))
    assert 0 < low < value < high
    assert not top or high < top
    if scale == "rate":
        assert low * high == pytest.approx(value**2)


def test_percent_is_share_times_a_hundred() -> None:
    share = jackknife.bounds(0.3, 0.01**2, 7.0, "share")
    percent = jackknife.bounds(30.0, 1.0, 7.0, "percent")
    assert [float(x) * 100 for x in share] == pytest.approx([float(x) for x in percent])


def test_why_there_is_no_interval() -> None:
    why = jackknife.why_not
    assert why(0.5, [0.4, 0.6], "share") == "2 groups" and why(0.5, [0.5], "share") == "1 group"
    assert why(1.0, [1.0, 1.0, 0.9], "share") == "exactly 1"
    assert why(0.0, [0.0, 1.0, 2.0], "rate") == "exactly 0" and why(0, [1, 2, -1], "plain") == ""
    assert why(0.5, [0.5] * 4, "share") == "the same without any group"
    assert why(0.5, [0.5, float("nan"), 0.4], "share") == "undefined without one of the groups"
    assert why(float("nan"), [0.5] * 4, "share") == "undefined"
    assert why(0.5, [0.5, 0.4, 0.6], "share") == ""


def test_satterthwaite_against_welch() -> None:
    a, b = np.random.default_rng(1).normal(0, [[1], [4]], (2, 9))
    b = b[:5]
    parts = [(x.var(ddof=1) / len(x), len(x) - 1.0) for x in (a, b)]
    variance, df = jackknife.satterthwaite(parts)
    wanted = scipy.stats.ttest_ind(a, b, equal_var=False)
    assert df == pytest.approx(wanted.df)
    assert (a.mean() - b.mean()) / variance**0.5 == pytest.approx(wanted.statistic)


def test_critical_points() -> None:
    assert jackknife.critical(2, 7.5) == pytest.approx(scipy.stats.t.ppf(0.975, 7.5))
    for many, df in ((3, 2.0), (6, 17.3), (20, 171.0)):
        exact = scipy.stats.studentized_range.ppf(0.95, many, df) / 2**0.5
        assert exact <= jackknife.critical(many, df) < 1.02 * exact


def test_stepping_down_stops_at_the_first_that_is_not_shown_to_be_worse() -> None:
    values = np.array([0.50, 0.90, 0.30, 0.52, 0.88])
    even = np.full((5, 5), 0.05**2)
    worse = jackknife.step_down(values, even, np.full((5, 5), 9.0))
    assert worse == [2, 0, 3]  # the worst first; .88 stays
    assert jackknife.step_down(values, even * 100, np.full((5, 5), 9.0)) == []
    # Of two it is the paired test.
    point = scipy.stats.t.ppf(0.975, 9) * 0.05
    for gap, marked in ((0.99 * point, []), (1.01 * point, [0])):
        pair = jackknife.step_down(np.array([0, gap]), even[:2, :2], np.full((2, 2), 9.0))
        assert pair == marked
    # Where nothing varies, nothing can be told.
    assert jackknife.step_down(np.array([0.1, 0.9]), np.zeros((2, 2)), np.ones((2, 2))) == []
