"""Gaps and short segments at every threshold at once, against one threshold after the other."""

from __future__ import annotations

import numpy as np
import pytest

from bab.core.grid import Grid
from bab.core.types import Clip, Output
from bab.kit.closing import Rules
from bab.kit.segments import Timeline, join

LEVELS = 6
GRIDS = {
    "20 ms": Grid(16000, 320, 400),
    "10 ms, wide": Grid(16000, 160, 1200, offset=-80),
    "of no whole millisecond": Grid(16000, 333, 400),
    "100 ms": Grid(16000, 1600, 3200, offset=-800),
}


def lines(rng: np.random.Generator, grid: Grid) -> Timeline:
    """A few recordings, some of them of one frame, that begin anywhere."""
    outputs = []
    for count in (1, 2, *rng.integers(1, 60, 3).tolist()):
        start = float(rng.choice([0.0, 1.2345, 7.0007]))
        end = start + float(grid.centres(count)[-1]) + rng.uniform(0.01, 0.06)
        values = np.zeros((count, 1), dtype=np.float32)
        outputs.append(Output(Clip("r", "r.wav", start, end, "r"), values))
    return Timeline.of(outputs, grid)


@pytest.mark.parametrize("name", GRIDS)
def test_each_threshold_is_joined_as_it_is_alone(name: str) -> None:
    rng = np.random.default_rng(3)
    for fill in (0, 1, 20, 100, 990, 100_000):
        for shortest in (0, 20, 100, 260, 5000):
            time = lines(rng, GRIDS[name])
            passed = np.where(time.frame, rng.integers(0, LEVELS + 1, len(time.frame)), 0)
            levels = Rules.of(time, fill, shortest).applied(passed.astype(np.int16))
            for threshold in range(LEVELS):
                active = np.zeros(len(passed), dtype=np.bool_)
                for begin, end in zip(*join(time, passed > threshold, fill, shortest), strict=True):
                    active[begin:end] = True
                assert (active == (levels > threshold)).all(), (fill, shortest, threshold)
