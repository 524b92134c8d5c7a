"""A recording in windows, joined again: what is said of each frame is said at its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from train_worker import Small

from bab.audio import decoding
from bab.core.types import Clip, Encoded, View, Waves
from bab.data.batches import WaveSource
from bab.data.windows import Examples
from bab.running import inference
from bab.running.inference import infer, per_pass
from bab.running.model import LayerMix, Model

RATE, HOP = 100, 10
SECONDS = 30


@pytest.fixture(autouse=True)
def slow_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 samples a second keep these tests quick; no recording has so few."""
    monkeypatch.setattr(decoding, "_SLOWEST", 1)


@pytest.fixture
def home(tmp_path: Path) -> str:
    """A recording whose frame i is ten samples of the value i / 1000."""
    path = tmp_path / "home.wav"
    values = np.repeat(np.arange(SECONDS * RATE // HOP) / 1000, HOP)
    soundfile.write(path, values.astype(np.float32), RATE, subtype="FLOAT")
    return str(path)


class Values(Small):
    """Says of each frame what it is in the recording."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.depth = 1, 1
        self.heard: list[int] = []  # windows in each pass

    def forward(self, waves: Waves, mask: Any = None, layers: str = "all") -> Encoded:
        self.heard.append(len(waves.lengths))
        frames = waves.samples[:, : waves.samples.shape[1] // HOP * HOP]
        x = 1000 * frames.unfold(1, HOP, HOP).mean(2)
        return Encoded((x[..., None],), waves.lengths // HOP)


class Framed(nn.Module):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x**2], dim=-1)


class Single(nn.Module):
    """One output per window: the mean over its frames."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        inside = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        return (x * inside).sum(1) / lengths[:, None]


def model(head: nn.Module) -> tuple[Model, Values]:
    encoder = Values()
    return Model(encoder, LayerMix(1, "last"), head).eval(), encoder  # type: ignore[arg-type]


def said(
    head: nn.Module, regions: list[Clip], view: View, whole: bool, **more: Any
) -> list[np.ndarray]:
    scorer, encoder = model(head)
    examples = Examples(regions, view, encoder.grid, None, whole=whole)
    source, device = WaveSource(RATE), torch.device("cpu")
    outputs = infer(scorer, examples, source, device, more.pop("batch", 3), **more)
    return [output.values for output in outputs]


@pytest.mark.parametrize("hop", [None, 1.0])
def test_frames_of_windows_stand_where_they_were_heard(home: str, hop: float | None) -> None:
    regions = [Clip("a", home, 2.0, 13.5, ""), Clip("b", home, 20.0, 21.0, "")]
    first, second = said(Framed(), regions, View(window=4.0, hop=hop), whole=False)
    np.testing.assert_allclose(first[:, 0], np.arange(20, 135), atol=1e-3)
    np.testing.assert_allclose(first[:, 1], np.arange(20, 135) ** 2, rtol=1e-5)
    np.testing.assert_allclose(second[:, 0], np.arange(200, 210), atol=1e-3)


def test_frames_that_a_window_keeps_stand_after_those_of_the_one_before(home: str) -> None:
    """Overlapping windows of a whole clip give each frame once: `keep` says which."""
    regions = [Clip("a", home, 3.0, 18.0, "")]
    view = View(window=4.0, hop=3.0)
    examples = Examples(regions, view, Values().grid, None, whole=True)
    assert any(w.keep and w.keep[0] for w in examples.windows)  # else it would show nothing
    (values,) = said(Framed(), regions, view, whole=True)
    np.testing.assert_allclose(values[:, 0], np.arange(30, 180), atol=1e-3)


@pytest.mark.parametrize("view", [View(window=4.0, tail="short"), View(window=4.0, hop=3.0)])
def test_single_outputs_count_by_their_frames(home: str, view: View) -> None:
    """Windows of 40, 40 and 25 frames, or that keep fewer: the mean of them is that of all."""
    (value,) = said(Single(), [Clip("a", home, 0.0, 10.5, "")], view, whole=True)
    assert value.shape == (1,)
    assert value[0] == pytest.approx(np.arange(105).mean(), abs=1e-3)


def test_processes_share_the_regions_and_a_pass_takes_so_many_seconds(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_SECONDS_PER_PASS", 6.0)  # three regions of two
    regions = [Clip(f"{i}", home, 2.0 * i, 2.0 * i + 2, "") for i in range(7)]
    scorer, encoder = model(Framed())
    examples = Examples(regions, View(window=4.0), encoder.grid, None)
    told: list[tuple[float, float]] = []
    shares = [
        [
            output.clip.id
            for output in infer(
                scorer, examples, WaveSource(RATE), torch.device("cpu"), share=(rank, 2),
                progress=lambda done, total: told.append((done, total)),
            )
        ]
        for rank in range(2)
    ]  # fmt: skip
    assert shares == [["0", "2", "4", "6"], ["1", "3", "5"]]
    assert encoder.heard == [3, 1, 3]
    assert told == [(6.0, 8.0), (8.0, 8.0), (6.0, 6.0)]
    assert per_pass(examples.windows, 64.0) == 32 and per_pass([], 64.0) == 64


def test_what_is_computed_in_half_precision_is_told_in_full(home: str) -> None:
    class Halved(Framed):
        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return super().forward(x, lengths).bfloat16()

    regions, view = [Clip("a", home, 0.0, 2.0, "")], View(window=4.0)
    (values,) = said(Halved(), regions, view, whole=False)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[:, 0], np.arange(20), rtol=2**-8, atol=1e-3)


def test_a_region_without_audio_gives_nothing(home: str) -> None:
    regions = [Clip("a", home, 2.0, 2.0, ""), Clip("b", home, 2.0, 3.0, "")]
    assert len(said(Framed(), regions, View(window=4.0), whole=False)) == 1
