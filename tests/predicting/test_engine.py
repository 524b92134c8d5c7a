"""Rows of a stream: the same from wherever they go on, and those of the model on whole windows."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bab.core.grid import Grid
from bab.core.types import View
from bab.data.rolling import RollingWindow, raster_of
from bab.machine.arithmetic import halve
from bab.predicting.spool import Spool
from bab.predicting.walking import Joined, Rows, Walk, ahead


class Ramp(Walk):
    """Says of a frame the sample that it begins with, of a window the mean over its frames."""

    def __init__(
        self, view: View, grid: Grid, longest: float, whole: bool, by_frame: bool, batch: int
    ) -> None:
        super().__init__(raster_of(view, grid, longest, whole), by_frame, 0.0, self._all)
        self.batch = batch

    def _all(self, windows: Sequence[RollingWindow]) -> list[NDArray[np.float32]]:
        return [self._said(window) for window in windows]

    def _said(self, window: RollingWindow) -> NDArray[np.float32]:
        count = self.raster.grid.frames(len(window.samples))
        low, high = window.keep or (0, count)
        places = np.minimum(np.arange(count) * self.raster.hop, len(window.samples) - 1)[low:high]
        values: NDArray[np.float32] = window.samples[places][:, None]
        return values if self.by_frame else np.asarray(values.mean(0), np.float32)


@pytest.mark.parametrize("seed", range(150))
def test_rows_go_on_from_any_row(seed: int) -> None:
    draw = random.Random(seed)
    grid = Grid(16000, draw.choice([160, 320]), 400)
    hop, pool = draw.choice([None, 0.25, 0.6]), draw.choice(["mean", "frames"])
    view = View(window=draw.choice([0.5, 1.0, 2.37]), hop=hop, pool=pool)  # type: ignore[arg-type]
    by_frame = draw.random() < 0.6
    whole = not by_frame or draw.random() < 0.5
    audio = np.arange(draw.randrange(400, 16000 * 7), dtype=np.float32)
    engine = Ramp(view, grid, 1.5, whole, by_frame, draw.choice([1, 2, 5]))

    def blocks(skip: int) -> Iterator[NDArray[np.float32]]:
        rest = audio[skip:]
        middle = random.Random(seed).randrange(len(rest) + 1)
        return iter([rest[:middle], rest[middle:]])

    parts = [part for part in engine.rows(blocks) if len(part.values)]
    every = np.concatenate([part.values for part in parts])
    assert [part.first for part in parts] == list(np.cumsum([0, *map(len, _values(parts))])[:-1])
    if by_frame:
        assert grid.frames(len(audio)) - 1 <= len(every) <= grid.frames(len(audio))
        places = np.arange(len(every)) * grid.hop
        assert np.abs(every[:, 0] - np.minimum(places, len(audio) - 1)).max() < 1e-2
    for done in {1, len(every) // 2, len(every) - 1, draw.randrange(len(every))}:
        if 0 <= done < len(every):
            rest = [part.values for part in engine.rows(blocks, done) if len(part.values)]
            later = np.concatenate(rest)
            assert later.shape == every[done:].shape
            assert np.abs(later - every[done:]).max() < 1e-3


def _values(parts: Sequence[Rows]) -> list[NDArray[np.float32]]:
    return [part.values for part in parts]


def test_frames_that_several_windows_speak_of_are_averaged() -> None:
    joined = Joined(0)
    joined.add(0, np.array([[1.0], [1.0]], np.float32))
    joined.add(1, np.array([[3.0], [5.0]], np.float32))
    (first,) = joined.final(2, 1.0)
    assert first.values.tolist() == [[1.0], [2.0]]
    (rest,) = joined.final(None, 2.0)
    assert (rest.first, rest.values.tolist()) == (2, [[5.0]])
    assert not list(joined.final(None, 2.0))


def test_what_is_read_ahead_comes_in_order_and_errors_in_their_place() -> None:
    assert list(ahead(range(50), 2)) == list(range(50))

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("the disk is gone")

    items = ahead(broken(), 2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="the disk is gone"):
        next(items)


def test_a_reader_that_nobody_listens_to_ends() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = ahead(endless(), 2)
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert closed.wait(5)
    for _ in range(50):
        if not any(t.name == "bab-reader" for t in threading.enumerate()):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the reader lives on")


def rows_of(low: int, high: int) -> Rows:
    return Rows(low, np.arange(low, high, dtype=np.float32)[:, None], float(high))


def test_a_spool_goes_on_where_it_was(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "one")
    spool.add(rows_of(0, 700))  # over ten minutes: written at once
    spool.add(rows_of(700, 720))
    assert spool.done == 720 and Spool(tmp_path / "one").done == 700  # the rest waits
    assert np.concatenate(list(spool.read()))[:, 0].tolist() == list(range(720))
    spool.flush()
    again = Spool(tmp_path / "one")
    assert again.done == 720
    again.add(rows_of(720, 1500))
    again.flush()
    found = np.concatenate(list(Spool(tmp_path / "one").read()))
    assert found[:, 0].tolist() == list(range(1500))


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_stretch_and_all_after_it_is_made_again(tmp_path: Path, damage: str) -> None:
    spool = Spool(tmp_path)
    for low in (0, 100, 200):
        spool.add(rows_of(low, low + 100))
        spool.flush()
    middle = sorted(tmp_path.glob("rows-*.npy"))[1]
    middle.unlink() if damage == "gone" else middle.write_bytes(middle.read_bytes()[:90])
    again = Spool(tmp_path)
    assert again.done == 100
    again.add(rows_of(100, 300))
    again.flush()
    assert np.concatenate(list(Spool(tmp_path).read()))[:, 0].tolist() == list(range(300))


def test_weights_rounded_once_give_what_autocast_gives() -> None:
    """To the bit: autocast rounds the same weights at every pass."""
    import torch
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        conv_dim=[16] * 7,
        num_conv_pos_embedding_groups=2,
    )
    model = HubertModel(config).eval()
    waves = torch.randn(2, 8000)

    def output() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            states: torch.Tensor = model(waves).last_hidden_state
            return states

    before = output()
    halve(model, "bf16")
    assert model.encoder.layers[0].attention.q_proj.weight.dtype == torch.bfloat16
    assert model.encoder.layer_norm.weight.dtype == torch.float32
    assert torch.equal(before, output())
