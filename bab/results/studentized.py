"""Points of the studentised range: how far the best and the worst of many equals lie apart by
chance. They are those of `scipy.stats.studentized_range.ppf`, which takes up to a second for each;
the marks of a table of many columns ask for a hundred.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_NARROW = 4**5  # degrees of freedom from which on a grid for all q would be larger
_ENDLESS = 1e5  # degrees of freedom; with more, q changes by less than 1e-4 of itself


@lru_cache(maxsize=4096)
def point(level: float, many: int, df: float) -> float:
    """q with P(R / s < q) = level: R the range of `many` independent normal values, s an estimate
    of their deviation with `df` degrees of freedom, at least 1."""
    low, high, x = math.log(1e-3), math.log(1e6), math.log(4.0)  # of q
    for _ in range(200):  # Newton's method; where it leaves what is known, the middle of that
        value, slope = cdf(math.exp(x), many, df)
        low, high = (x, high) if value < level else (low, x)
        nearer = x - (value - level) / slope if slope > 0 else math.inf
        nearer = nearer if low < nearer < high else (low + high) / 2
        x, before = nearer, x
        if abs(x - before) < 1e-10:
            break
    return math.exp(x)


def cdf(q: float, many: int, df: float) -> tuple[float, float]:
    """P(R / s < q), and its derivative by ln q: the range's distribution, averaged over s, where
    df s^2 is chi-squared (Lund and Lund 1983, AS 190). By the trapezoidal rule in ln s, which
    converges exponentially, since the integrand is smooth and falls off at both ends."""
    from scipy.special import gammaincc, gammaln

    df = min(df, _ENDLESS)
    if df > _NARROW:  # than the window in which s lies
        logs = math.log(q) + np.linspace(-9, 9, 64) / math.sqrt(2 * df)
        ranges = _ranges(np.exp(logs), many)
    else:
        logs, ranges = _grid(many, max(0, math.ceil(math.log(df, 4))))
    half, t = df / 2, logs - math.log(q)
    squares = np.exp(2 * t)
    parts = np.exp(df * t - half * squares + half * math.log(half) - gammaln(half)) * ranges
    parts *= 2 * float(logs[1] - logs[0])
    # Above the grid every range is below q s.
    rest = float(gammaincc(half, half * squares[-1]))
    return min(1.0, float(parts.sum()) + rest), float(parts @ (squares - 1)) * df


@lru_cache(maxsize=256)
def _grid(many: int, level: int) -> tuple[Floats, Floats]:
    """(ln w, P(R < w)) at even steps, fine enough for up to 4^level degrees of freedom: ln s then
    deviates by 1 / sqrt(2 df). The ends are where the sum's terms are below 1e-16."""
    # Below, there is hardly such an s; or hardly such a range, which goes with w^(k-1).
    low = max(-12.0, 0.2 - 37 / 4.0 ** (level - 1), -37 / (many - 1) - 1)
    high = {0: 10.0, 1: 10.0, 2: 5.0, 3: 3.7}.get(level, 2.8)
    step = min(0.125 / 2**level, 0.03)  # the range of hundreds hardly varies
    logs = np.arange(low, high, step)
    return logs, _ranges(np.exp(logs), many)


def _ranges(widths: Floats, many: int) -> Floats:
    """P(R < w) of each of the widths: k times the integral of phi(z) (Phi(z) - Phi(z - w))^(k-1),
    z the largest of the k values."""
    from scipy.special import ndtr

    z, step = np.linspace(-8.5, 8.5, 120, retstep=True)
    weights = many * step * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    below = ndtr(z)
    parts = [
        (below - ndtr(z - some[:, None])) ** (many - 1) @ weights
        for some in np.array_split(widths, 1 + len(widths) // 1000)
    ]
    return np.concatenate(parts)
