"""Seconds found, missed and invented, against pyannote.metrics: the same bits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pyannote.core import Segment, Timeline
from pyannote.metrics.detection import DetectionAccuracy

from bab.kit.agreement import BLOCK, detection
from bab.kit.segments import Floats, union

NOTHING = np.zeros((0, 2))


def pyannote(rows: tuple[Floats, Floats, Floats], block: int) -> tuple[float, ...]:
    """What pyannote says, given so many segments at once."""
    starts = np.sort(np.concatenate([one[:, 0] for one in rows]))
    cuts = np.unique(np.concatenate([[-np.inf], starts[block::block], [np.inf]]))
    metric, sums = DetectionAccuracy(collar=0.0, skip_overlap=False), np.zeros(3)
    for left, right in pairwise(cuts.tolist()):
        parts = [
            Timeline([Segment(max(a, left), min(b, right)) for a, b in one.tolist()])
            for one in rows
        ]
        said: Any = metric.compute_components(
            parts[0].to_annotation(), parts[1].to_annotation(), uem=parts[2]
        )
        sums += [said["true positive"], said["false positive"], said["false negative"]]
    return tuple(sums.tolist())


def drawn(rng: np.random.Generator, count: int, end: float, digits: int | None) -> Floats:
    starts = rng.uniform(0, end, count)
    ends = np.minimum(starts + rng.exponential(1.0, count), end)
    if digits is not None:  # many borders fall together
        starts, ends = starts.round(digits), ends.round(digits)
    return union(zip(starts.tolist(), ends.tolist(), strict=True))


@pytest.mark.parametrize("digits", [None, 3, 1, 0])
def test_the_seconds_are_those_of_pyannote_to_the_last_bit(digits: int | None) -> None:
    rng = np.random.default_rng(5)
    for end in (3.0, 60.0, 600.0):
        for several in (False, True):
            counts = rng.integers(0, 130, 2)
            reference, predicted = (drawn(rng, int(n), end, digits) for n in counts)
            spans = drawn(rng, 5, end, digits) if several else np.array([[0.0, end]])
            rows = (reference, predicted, spans)
            assert detection(*rows) == pyannote(rows, BLOCK)
            # The blocks themselves hardly matter.
            assert detection(*rows) == pytest.approx(pyannote(rows, 10**6), abs=1e-9)


def test_nothing_and_borders_that_touch() -> None:
    one, whole = np.array([[1.0, 2.0]]), np.array([[0.0, 9.0]])
    assert detection(NOTHING, NOTHING, NOTHING) == (0.0, 0.0, 0.0)
    assert detection(one, NOTHING, NOTHING) == (0.0, 0.0, 0.0)
    assert detection(one, NOTHING, whole) == (0.0, 0.0, 1.0)
    assert detection(NOTHING, one, whole) == (0.0, 1.0, 0.0)
    assert detection(one, np.array([[2.0, 3.0]]), whole) == (0.0, 1.0, 1.0)
    touching = np.array([[0.0, 1.5], [1.5, 9.0]])
    assert detection(one, touching, touching) == (1.0, 8.0, 0.0)
    # pyannote takes up to a microsecond for nothing.
    assert detection(np.array([[1.0, 1.0 + 5e-7]]), whole, whole)[0] == 0.0
