"""Windows of audio that comes in blocks: those of a whole file, from any window on."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from bab.core.grid import Grid
from bab.core.types import Clip, View
from bab.data.rolling import LONGEST, raster_of, rolling
from bab.data.windows import Examples, samples_of

RATE = 16000


def pieces(audio: NDArray[np.float32], seed: int) -> Iterator[NDArray[np.float32]]:
    draw = random.Random(seed)
    cuts = sorted(draw.randrange(len(audio) + 1) for _ in range(5))
    for low, high in zip([0, *cuts], [*cuts, len(audio)], strict=True):
        yield audio[low:high]


@pytest.mark.parametrize("seed", range(300))
def test_the_windows_are_those_of_a_run(seed: int) -> None:
    draw = random.Random(seed)
    grid = Grid(RATE, draw.choice([160, 320]), 400)
    view = View(
        window=draw.choice([None, 0.5, 1.0, 2.37]),
        hop=draw.choice([None, 0.25, 0.6]),
        pool=draw.choice(["mean", "frames"]),  # type: ignore[arg-type]
    )
    whole, longest = draw.random() < 0.5, draw.choice([None, 1.5])
    total = draw.randrange(400, 7 * RATE)
    audio = np.arange(total, dtype=np.float32)
    clip = Clip("a", "a.wav", 0.0, total / RATE, "")
    examples = Examples([clip], view, grid, longest, whole)
    wanted = []
    for heard in examples.windows:
        first, count = samples_of(heard.clip, RATE)
        wanted.append((first, first + count, heard.keep))
    raster = raster_of(view, grid, longest, whole)
    found = list(rolling(pieces(audio, seed), raster))
    for window in found:  # the samples are those that the window says
        assert window.samples[0] == window.first
        assert window.samples[-1] == window.first + len(window.samples) - 1
        assert window.known <= total
    spans = [(w.first, w.first + len(w.samples), w.keep) for w in found]
    assert [span[:2] for span in spans] == [span[:2] for span in wanted]
    if whole:
        keeps = [(keep or (0, grid.frames(b - a))) for a, b, keep in spans]
        assert keeps == [(keep or (0, grid.frames(b - a))) for a, b, keep in wanted]


@pytest.mark.parametrize("seed", range(50))
def test_from_any_window_on_they_are_the_same(seed: int) -> None:
    draw = random.Random(seed)
    grid = Grid(RATE, 320, 400)
    raster = raster_of(View(window=1.0, hop=draw.choice([None, 0.5])), grid, None, seed % 2 == 0)
    audio = np.arange(draw.randrange(RATE, 9 * RATE), dtype=np.float32)
    every = list(rolling(pieces(audio, seed), raster))
    number = draw.randrange(len(every))
    while number and number * raster.step != every[number].first:
        number -= 1  # the last may lie anywhere
    later = list(rolling(pieces(audio[number * raster.step :], seed + 1), raster, number))
    assert [(w.first, w.keep) for w in later] == [(w.first, w.keep) for w in every[number:]]


def test_no_window_is_longer_than_memory_allows() -> None:
    raster = raster_of(View(), Grid(RATE, 320, 400), None, True)
    assert raster.window == LONGEST * RATE


def test_what_is_held_does_not_grow() -> None:
    raster = raster_of(View(window=4.0), Grid(RATE, 320, 400), None, False)
    block = np.zeros(RATE * 10, np.float32)
    longest = 0
    for window in rolling((block for _ in range(360)), raster):  # an hour
        base = window.samples.base
        longest = max(longest, len(window.samples if base is None else base))
    assert longest <= RATE * 10 + 2 * raster.window


def test_a_window_that_is_one_frame_and_where_windows_begin() -> None:
    one = raster_of(View(window=2.0), Grid(10, 0, 5), None, whole_clips=True)
    assert (one.hop, one.frames, one.step, one.once) == (1, 1, 20, False)
    assert [one.begin(number) for number in range(3)] == [0, 20, 40]
    tiles = raster_of(View(window=1.0), Grid(10, 2, 5), None, whole_clips=True)
    assert (tiles.hop, tiles.frames, tiles.step, tiles.once) == (2, 3, 6, True)
    assert [tiles.begin(number) for number in range(3)] == [0, 3, 6]
    assert [tiles.number_of(frame) for frame in range(8)] == [0, 0, 0, 1, 1, 1, 2, 2]
    over = raster_of(View(window=1.0, hop=0.2), Grid(10, 2, 5), None, whole_clips=False)
    assert (over.step, over.once) == (2, False)
    assert [over.number_of(frame) for frame in range(5)] == [0, 0, 0, 1, 2]
    mean = View(window=1.0, hop=0.2, pool="mean")
    assert not raster_of(mean, Grid(10, 2, 5), None, whole_clips=True).once
    short = View(window=1.0, tail="short")
    assert raster_of(short, Grid(10, 2, 5), None, True).short and not tiles.short
    assert raster_of(View(), Grid(10, 2, 5), 4.0, True).window == 40
    assert raster_of(View(window=400.0), Grid(10, 2, 5), None, True).window == 3000


@pytest.mark.parametrize("seed", range(60))
def test_a_short_last_window_is_that_of_a_run(seed: int) -> None:
    draw = random.Random(seed)
    grid = Grid(10, draw.choice([1, 2, 3]), draw.choice([3, 5]))
    view = View(window=draw.choice([1.0, 1.3]), hop=draw.choice([None, 0.4]), tail="short")
    whole, total = draw.random() < 0.5, draw.randrange(3, 60)
    audio = np.arange(total, dtype=np.float32)
    clip = Clip("a", "a.wav", 0.0, total / 10, "")
    wanted = []
    for heard in Examples([clip], view, grid, None, whole).windows:
        first, count = samples_of(heard.clip, 10)
        wanted.append((first, first + count, heard.keep))
    found = list(rolling(pieces(audio, seed), raster_of(view, grid, None, whole)))
    assert [(w.first, w.first + len(w.samples), w.keep) for w in found] == wanted
    assert all(w.samples[0] == w.first for w in found)


def test_windows_of_blocks_counted_by_hand() -> None:
    """A window of 10 samples, 3 frames, every 6; blocks of 7."""
    raster = raster_of(View(window=1.0), Grid(10, 2, 5), None, whole_clips=True)

    def found(total: int, **more: int) -> list[tuple[int, int, tuple[int, int] | None, int]]:
        audio = np.arange(total, dtype=np.float32)
        blocks = [audio[at : at + 7] for at in range(0, total, 7)]
        return [
            (w.first, w.first + len(w.samples), w.keep, w.known) for w in rolling(blocks, raster)
        ]

    assert found(0) == [] and found(9) == [(0, 9, None, 9)] and found(10) == [(0, 10, None, 10)]
    assert found(20) == [(0, 10, None, 14), (6, 16, None, 20), (10, 20, (1, 3), 20)]
    assert found(17) == [(0, 10, None, 14), (6, 16, None, 17)]  # less than a hop is left
    assert found(18) == [(0, 10, None, 14), (6, 16, None, 18), (8, 18, (2, 3), 18)]
    assert list(rolling([], raster)) == []
    later = list(rolling([np.arange(6, 20, dtype=np.float32)], raster, 1))
    assert [(w.first, w.keep, w.known) for w in later] == [(6, None, 20), (10, (1, 3), 20)]
    assert later[0].samples[0] == 6
    # Every 4; a shorter last window: frames that the one before it had are left out, all or some.
    raster = raster_of(View(window=1.0, hop=0.4, tail="short"), Grid(10, 2, 5), None, True)
    assert found(10) == [(0, 10, None, 10)]
    assert found(11) == [(0, 10, None, 11), (4, 11, (1, 2), 11)]
