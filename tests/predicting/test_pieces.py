"""A recording that is decoded stretch by stretch says what it says as a whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from bab.core.components import build_task
from bab.core.grid import Grid
from bab.core.types import Clip, Output
from bab.predicting.outputs import decoded
from bab.predicting.recordings import Recording
from bab.running.saved import Saved

GRID = Grid(16000, 320, 400)
VOICES = {"voice": ("KCHI", "OCH", "MAL", "FEM")}
CHARACTERS = {"char": ("<blank>", " ", "a", "b")}
PHONES = {"phone": ("<blank>", "a", "b", "sil")}


class Pieces:
    """Rows in stretches of random lengths."""

    def __init__(self, rows: NDArray[np.float32], draw: random.Random) -> None:
        self.rows = rows
        self.cuts = sorted(draw.randrange(len(rows)) for _ in range(7))

    def read(self) -> Iterator[NDArray[np.float32]]:
        borders = [0, *self.cuts, len(self.rows)]
        for low, high in pairwise(borders):
            if low < high:
                yield self.rows[low:high]


def logits(frames: int, classes: int, draw: np.random.Generator) -> NDArray[np.float32]:
    """Classes that go on and off, some for long, with pauses between them."""
    lasting = draw.geometric(0.15, frames)
    path = np.repeat(draw.integers(0, classes, frames), lasting)[:frames]
    rows = draw.normal(-3, 1, (frames, classes))
    rows[np.arange(frames), path] += draw.choice([1.0, 6.0], frames)
    return rows.astype(np.float32)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(
    ("name", "labels", "tuned"),
    [
        ("vtc", VOICES, {"thresholds": dict.fromkeys(VOICES["voice"], 0.4)}),
        ("asr", CHARACTERS, {}),
        ("phonemes", PHONES, {}),
    ],
)
def test_pieces_say_what_the_whole_says(
    name: str, labels: dict[str, tuple[str, ...]], tuned: dict[str, Any], seed: int
) -> None:
    frames = 1500
    (classes,) = map(len, labels.values())
    rows = logits(frames, classes, np.random.default_rng(seed))
    seconds = GRID.samples(frames) / GRID.sample_rate
    task = build_task(name, {})
    encoder = SimpleNamespace(grid=GRID)
    saved = cast(Saved, SimpleNamespace(task=task, encoder=encoder, labels=labels))
    whole = task.decode(Output(Clip("a", "a.wav", 0.0, seconds, ""), rows), GRID, labels, tuned)
    pieces = Pieces(rows, random.Random(seed))
    found = decoded(saved, Recording("a", "a.wav"), pieces, seconds, tuned)
    assert found.text == whole.text and len(whole.segments) > 10
    assert sorted(found.segments, key=str) == sorted(whole.segments, key=str)
