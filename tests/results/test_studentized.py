"""Points of the studentised range, against scipy's."""

from __future__ import annotations

import math

import pytest
import scipy.stats

from bab.results.studentized import cdf, point


@pytest.mark.parametrize(
    ("many", "df"),
    [(2, 1.0), (3, 1.4), (3, 4.0), (7, 4.1), (5, 23.0), (40, 171.0), (200, 900.0), (12, 3e4)],
)
def test_points_are_scipys(many: int, df: float) -> None:
    q = point(0.95, many, df)
    assert scipy.stats.studentized_range.cdf(q, many, df) == pytest.approx(0.95, abs=1e-9)
    share, slope = cdf(q, many, df)
    assert share == pytest.approx(0.95, abs=1e-9)
    nearby = (cdf(q * 1.001, many, df)[0] - cdf(q / 1.001, many, df)[0]) / 2 / math.log(1.001)
    assert slope == pytest.approx(nearby, rel=1e-4)


def test_two_are_students() -> None:
    for df in (1.0, 6.5, 300.0):
        assert point(0.95, 2, df) == pytest.approx(2**0.5 * scipy.stats.t.ppf(0.975, df), rel=1e-9)


def test_far_from_the_point_it_is_still_a_probability() -> None:
    for df in (1.0, 2000.0):
        shares = [cdf(q, 9, df)[0] for q in (1e-3, 0.5, 3.0, 30.0, 1e5)]
        assert shares == pytest.approx(sorted(shares), abs=1e-9)
        assert 0 <= shares[0] < 1e-6 and 0.999 < shares[-1] <= 1
