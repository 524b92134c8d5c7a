"""Labels from frames, and frames for labels, counted by hand and against all paths."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from bab.core.errors import DivergedError
from bab.core.grid import Grid
from bab.core.types import Clip, Output
from bab.plugins.tasks.shared import sequences
from bab.plugins.tasks.shared.sequences import Spelt

NAMES = ("<blank>", " ", "a", "b")
GRID = Grid(1000, 100, 200)  # cells end at 150, 250 ms ...


def output(*best: int, first: int = 0, start: float = 0.0) -> Output:
    """Frames that say these outputs, by far."""
    values = np.full((len(best), 4), -9.0, np.float32)
    values[np.arange(len(best)), list(best)] = 9.0
    return Output(Clip("a", "a.wav", start, start + 0.05 + 0.1 * len(best), "g"), values, first)


def test_runs_become_one_and_blanks_go() -> None:
    told = sequences.greedy(output(0, 2, 2, 0, 2, 3, 3, 1, first=5), NAMES)
    assert told == [*(Spelt("a", 6, 8), Spelt("a", 9, 10), Spelt("b", 10, 12), Spelt(" ", 12, 13))]
    assert sequences.greedy(output(0, 0), NAMES) == []
    bad = output(0, 2)
    bad.values[0, 0] = np.nan
    with pytest.raises(DivergedError):
        sequences.greedy(bad, NAMES)


def likeliest(values: np.ndarray, wanted: list[int]) -> float:
    """The largest sum of logs over all paths that say `wanted`."""
    logs = values - np.log(np.exp(values).sum(1, keepdims=True))
    best = -np.inf
    for path in product(range(values.shape[1]), repeat=len(values)):
        said = [p for i, p in enumerate(path) if p and (i == 0 or path[i - 1] != p)]
        if said == wanted:
            best = max(best, sum(logs[i, p] for i, p in enumerate(path)))
    return best


def test_known_labels_stand_where_they_are_likeliest() -> None:
    draw = np.random.default_rng(3)
    for units in (["a"], ["a", "b"], ["a", "a"], ["b", " ", "a"]):
        values = draw.normal(0, 2, (6, 4)).astype(np.float32)
        one = Output(Clip("a", "a.wav", 0.0, 0.65, "g"), values, 2)
        told = sequences.aligned(one, units, NAMES)
        assert [s.unit for s in told] == units
        path = np.zeros(6, int)
        for s in told:
            path[s.first - 2 : s.end - 2] = NAMES.index(s.unit)
        logs = values - np.log(np.exp(values).sum(1, keepdims=True))
        said = float(logs[np.arange(6), path].sum())
        assert said == pytest.approx(likeliest(values, [NAMES.index(u) for u in units]), abs=1e-4)
    assert sequences.aligned(output(2, 3), [], NAMES) == []
    assert sequences.aligned(output(2), ["a", "b"], NAMES) == []
    assert sequences.aligned(output(2, 2), ["a", "a"], NAMES) == []  # a blank must stand between
    assert len(sequences.aligned(output(2, 3), ["a", "b"], NAMES)) == 2


def test_words_last_from_their_first_label_to_their_last() -> None:
    one = output(2, 0, 3, 1, 0, 2, 2, start=10.0)
    told = sequences.timed(sequences.greedy(one, NAMES), one, GRID, " ")
    assert [(s.start, s.end, s.label) for s in told] == [(10.0, 10.35, "ab"), (10.55, 10.75, "a")]
    each = sequences.timed(sequences.greedy(one, NAMES), one, GRID)
    assert [(s.start, s.end, s.label) for s in each] == [
        *((10.0, 10.15, "a"), (10.25, 10.35, "b"), (10.35, 10.45, " "), (10.55, 10.75, "a"))
    ]
    later = output(2, 0, 3, first=4)
    spelt: Any = sequences.greedy(later, NAMES)
    (a, b) = sequences.timed(spelt, later, GRID)
    assert (a.start, b.label) == (0.45, "b")


def test_where_frames_can_be_cut() -> None:
    one = output(2, 0, 3, 1, 0, 0, 2)
    assert sequences.pause(one, NAMES) == 6 and sequences.pause(one, NAMES, " ") == 6
    assert sequences.pause(output(2, 1, 0, 3, 0), NAMES, " ") == 3  # the other follows a letter
    assert sequences.pause(output(2, 0, 3, 0), NAMES, " ") == 0 == sequences.pause(output(2), NAMES)
    assert (
        sequences.pause(output(0, 2), NAMES) == 1 and sequences.pause(output(0, 2), NAMES, " ") == 0
    )
    assert sequences.pause(output(2, 0, 3, 0), NAMES, "x") == 4  # no such label: any blank


def test_vocabulary_targets_and_rates() -> None:
    names = sequences.vocabulary([["b", "a"], ["a", "c"]])
    assert names == ("<blank>", "a", "b", "c")
    assert sequences.targets(["c", "?", "a", "<blank>"], names).tolist() == [3, 1]
    assert sequences.targets([], names).shape == (0,)
    assert sequences.rate({"wer_errors": 3.0, "words": 12.0}, "wer", "words") == {"wer": 25.0}
    assert sequences.rate({"wer_errors": 0.0, "words": 0.0}, "wer", "words") == {}
    assert sequences.rate({}, "wer", "words") == {}
