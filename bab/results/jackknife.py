"""Intervals and comparisons from leaving out one group (recording, speaker, child) at a time.

Groups, not clips, are left out, because clips of one child or recording resemble each other. The
variance is the delete-one-group jackknife's (Efron and Stein 1981); the degrees of freedom are
those of groups of unequal size (Carter, Schnepel and Steigerwald 2017; MacKinnon, Nielsen and Webb,
arXiv 2301.04527), with several sources of variance Satterthwaite's (1946). `docs/intervals.md` says
how often such intervals held the truth in simulation, and how often the percentile bootstrap did.

Arrays may hold many cases at once: `...` is any leading shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bab.results import studentized

Floats = NDArray[np.float64]
Interval = tuple[float, float]
# What a metric's interval is made on. share: the logit of a share in [0, 1]; percent: the same of
# hundredths; rate: the logarithm of what is above 0 and has no upper bound (word errors); plain:
# the metric itself.
Scale = Literal["share", "percent", "rate", "plain"]
LEVEL = 0.95
TOO_FEW = 3  # groups below which there is no interval
MARKED = 5  # groups from which on encoders are marked
SMOOTH = 10  # groups below which an interval is called rough


def effective(sizes: Sequence[float] | Floats) -> float:
    """G*: how many groups of one size would weigh as evenly, (sum n)^2 / sum n^2."""
    n = np.asarray(sizes, dtype=np.float64)
    return float(n.sum() ** 2 / (n**2).sum()) if n.any() else 0.0


def freedom(sizes: Sequence[float] | Floats) -> float:
    """Degrees of freedom, G* - 1, within [1, G - 1]. sizes: the reference in each group."""
    return max(1.0, min(effective(sizes) - 1, len(sizes) - 1.0))


def variance(left_out: Floats, value: Floats | float) -> Floats:
    """f64[..., G], f64[...] -> f64[...]: of a metric, whose value without each group is left_out.

    (G - 1) / G * sum (theta_(-g) - theta)^2, about the value of all groups.
    """
    groups = left_out.shape[-1]
    spread = ((left_out - np.asarray(value)[..., None]) ** 2).sum(-1)
    return np.asarray(spread * (groups - 1) / groups)


def satterthwaite(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(variance, degrees of freedom) of a sum, from those of its independent parts."""
    total = math.fsum(v for v, _ in parts)
    weights = math.fsum(v**2 / df for v, df in parts)
    return total, (total**2 / weights if weights else min(df for _, df in parts))


def student(df: Floats | float) -> Floats:
    """The 97.5 % point of Student's t."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.asarray(df, dtype=np.float64), (1 + LEVEL) / 2))


def bounds(
    value: Floats | float, variance: Floats | float, df: Floats | float, scale: Scale
) -> tuple[Floats, Floats]:
    """The 95 % interval of a metric, by the delta method on its scale; NaN where it has none."""
    x = np.asarray(value, dtype=np.float64) / (100.0 if scale == "percent" else 1.0)
    half = student(df) * np.sqrt(variance) / (100.0 if scale == "percent" else 1.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # far out: 0 or the top
        if scale == "rate":
            return x * np.exp(-half / x), x * np.exp(half / x)
        if scale == "plain":
            return x - half, x + half
        logit, half = np.log(x / (1 - x)), half / (x * (1 - x))
        top = 100.0 if scale == "percent" else 1.0
        return top / (1 + np.exp(half - logit)), top / (1 + np.exp(-half - logit))


def why_not(value: float, left_out: Sequence[float], scale: Scale) -> str:
    """Why a metric has no interval, in a few words; "" where it has one."""
    if len(left_out) < TOO_FEW:
        return f"{len(left_out)} group{'s' if len(left_out) > 1 else ''}"
    if not math.isfinite(value):
        return "undefined"
    if not all(math.isfinite(x) for x in left_out):
        return "undefined without one of the groups"
    ends = {"share": (0.0, 1.0), "percent": (0.0, 100.0), "rate": (0.0,), "plain": ()}[scale]
    if value in ends:
        return f"exactly {value:g}"
    if not np.ptp([value, *left_out]):
        return "the same without any group"
    return ""


def critical(encoders: int, df: float) -> float:
    """How many deviations two of so many equal encoders may lie apart in 95 of 100 tables:
    q / sqrt 2 of the studentised range; of two encoders it is Student's t."""
    if encoders == 2:
        return float(student(df))
    # In steps of 2 %, downwards: few points are asked for often.
    steps = 1.02 ** math.floor(math.log(df) / math.log(1.02))
    return studentized.point(LEVEL, encoders, steps) / math.sqrt(2)


def margin(variances: Floats, freedoms: Floats, members: Sequence[int], a: int, b: int) -> float:
    """How far `a` and `b` of K members may lie apart by chance, in 95 of 100 tables of equals.

    variances, freedoms: f64[K, K], of the pairs' differences. The variance is the mean of the
    pair's own and of all pairs' mean, and so are the degrees of freedom: v of the pair, v (K - 1)
    of all (which by themselves marked up to .064 of tables; see docs/decisions.md).
    """
    rows, columns = np.triu_indices(len(members), 1)
    picked = np.asarray(members)
    spread = (variances[a, b] + variances[picked[rows], picked[columns]].mean()) / 2
    df = float(freedoms[a, b]) * len(members) / 2
    return critical(len(members), df) * math.sqrt(float(spread))


def step_down(values: Floats, variances: Floats, freedoms: Floats) -> list[int]:
    """Which of K encoders are worse than the best, the worst first.

    The best and the worst of those left are compared on the studentised range of as many; where
    they differ the worst goes, else all that are left stay (Welsch 1977; the order of elimination
    is that of Hansen, Lunde and Nason 2011). Of K equal encoders none is called worse in 95 % of
    tables.

    values: f64[K], higher is better; variances, freedoms: as in `margin`.
    """
    left = sorted(range(len(values)), key=lambda i: float(values[i]))
    worse = []
    while len(left) > 1:
        low, high = left[0], left[-1]
        chance = margin(variances, freedoms, left, low, high)
        if not 0 < chance < float(values[high] - values[low]):
            break  # also where nothing varies: then nothing can be told
        worse.append(left.pop(0))
    return worse
