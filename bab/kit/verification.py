"""Error rates of verification trials, which depend on the order of scores alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def operating_points(same: NDArray[Any], scores: Floats) -> tuple[Floats, Floats]:
    """(false alarm rate, miss rate) at every threshold that tells trials apart.

    Args:
        same: bool[N], True where a trial is of one speaker. scores: f64[N].

    Returns:
        From accepting nothing (0, 1) to accepting all (1, 0); a trial is accepted where its score
        is at least the threshold, so equal scores are accepted together.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each run of ties
    hits = np.cumsum(same[order])[last]
    alarms = last + 1 - hits
    false_alarm = np.concatenate([[0.0], alarms / alarms[-1]])
    return false_alarm, np.concatenate([[1.0], 1.0 - hits / hits[-1]])


def equal_error_rate(false_alarm: Floats, miss: Floats) -> float:
    """Where both rates are equal, on straight lines between operating points (the usual ROC)."""
    gap = false_alarm - miss  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    low, high = false_alarm[after - 1], false_alarm[after]
    return float(low + share * (high - low))


def min_dcf(false_alarm: Floats, miss: Floats, target: float) -> float:
    """The least detection cost over all thresholds, as a share of that of the best constant answer.

    Both errors cost 1 (NIST SRE 2016, VoxSRC). target: prior probability of the same speaker.
    """
    cost = target * miss + (1 - target) * false_alarm
    return float(cost.min() / min(target, 1 - target))
