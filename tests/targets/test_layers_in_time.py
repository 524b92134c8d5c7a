"""Layers of encoders on the raster of targets: each frame is of the sound at its own time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from bab.core.grid import Grid
from bab.core.interfaces import Encoder
from bab.core.types import Encoded, Waves
from bab.targets import features as frame_features
from bab.targets.features import LayerFeatures, Piece, pieces
from bab.targets.store import RASTER, Stretch

SCALE = 2**20  # sample i of the file is i / SCALE


class Middle(Encoder):
    """Says of each frame which sample stands in its middle, and of which layer it is."""

    dim, depth, resolved, fingerprint = 2, 3, "middle", "0" * 16

    def __init__(self, grid: Grid, max_seconds: float | None = None) -> None:
        super().__init__()
        self.grid, self.sample_rate, self.max_seconds = grid, grid.sample_rate, max_seconds
        self.heard: list[list[int]] = []
        self.asked: list[str] = []
        self.rounded: list[bool] = []

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        self.heard.append(waves.lengths.tolist())
        self.asked.append(layers)
        self.rounded.append(torch.is_autocast_enabled("cpu"))
        assert not torch.is_grad_enabled()
        lengths = torch.tensor([self.grid.frames(n) for n in waves.lengths.tolist()])
        places = torch.arange(int(lengths.max())) * self.grid.hop + self.grid.field // 2
        middle = waves.samples[:, places.clamp(max=waves.samples.shape[1] - 1)] * SCALE
        every = [torch.stack([middle, torch.full_like(middle, i)], 2) for i in range(self.depth)]
        return Encoded(tuple(every[-1:] if layers == "last" else every), lengths)


@pytest.fixture
def ramp(tmp_path: Path) -> str:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.arange(16000 * 12) / SCALE, 16000, "FLOAT")
    return str(path)


def made(encoder: Middle, layer: int = 1, **changes: Any) -> LayerFeatures:
    return LayerFeatures(encoder, layer, torch.device("cpu"), **changes)


def middles(features: LayerFeatures, stretch: Stretch) -> np.ndarray:
    parts = features.extract(pieces(stretch, features))
    whole = torch.cat(parts)
    assert whole.dtype == torch.float32 and len(whole) == stretch.frames
    assert (whole[:, 1] == features.layer).all()
    return whole[:, 0].numpy()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_short_stretch_is_heard_at_once(ramp: str, layer: int) -> None:
    encoder = Middle(RASTER)
    stretch = Stretch(ramp, 777, 5 * 16000 + 319)
    got = middles(made(encoder, layer), stretch)
    assert got.tolist() == [777 + 320 * t + 200 for t in range(stretch.frames)]
    assert encoder.heard == [[5 * 16000 + 319]] and encoder.asked == [
        "last" if layer == 2 else "all"
    ]


@pytest.mark.parametrize("longest", [None, 1.0])
def test_a_long_stretch_is_heard_in_windows_with_context(
    ramp: str, longest: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if longest is None:
        monkeypatch.setattr(frame_features, "_WINDOW", 1.0)
    encoder = Middle(RASTER, longest)
    features = made(encoder)
    assert (features.whole, features.context, features.longest) == (49, 6, 37)
    stretch = Stretch(ramp, 123, 16000 * 3 + 77)
    cut = pieces(stretch, features)
    assert [(p.begin, p.end) for p in cut] == [(0, 29), (29, 59), (59, 89), (89, 119), (119, 149)]
    got = middles(features, stretch)
    assert got.tolist() == [123 + 320 * t + 200 for t in range(stretch.frames)]
    (heard,) = encoder.heard
    # From six frames before a piece to six after it, and to the stretch's end.
    frames = [RASTER.frames(n) for n in heard]
    assert frames == [35, 42, 42, 42, 36] and heard[0] == RASTER.samples(35)
    assert heard[-1] == stretch.samples - 113 * 320
    assert all(n <= 16000 for n in heard)


def test_what_is_left_after_the_last_frame_is_no_more_than_an_encoder_takes(ramp: str) -> None:
    encoder = Middle(RASTER, 1.0)
    stretch = Stretch(ramp, 0, 16000 + 300)  # 49 frames, and almost another
    got = middles(made(encoder), stretch)
    assert len(got) == stretch.frames == 50
    assert max(max(part) for part in encoder.heard) <= 16000
    assert got.tolist() == [320 * t + 200 for t in range(len(got))]


@pytest.mark.parametrize(
    "grid",
    [Grid(16000, 160, 400), Grid(16000, 640, 800), Grid(8000, 160, 200), Grid(16000, 320, 1025)],
)
def test_another_raster_gives_its_nearest_frame(ramp: str, grid: Grid) -> None:
    encoder = Middle(grid)
    stretch = Stretch(ramp, 1600, 16000 * 2)
    got = middles(made(encoder), stretch) - 1600
    centres = [320 * t + 200 for t in range(stretch.frames)]
    scale = 16000 // grid.sample_rate
    own = [scale * (grid.hop * i + grid.field // 2) for i in range(grid.frames(32000 // scale))]
    nearest = [min(abs(a - b) for b in own) for a in centres]
    if grid.sample_rate == 16000:
        assert np.abs(got - centres).tolist() == nearest
    else:  # resampled: a ramp is a ramp but at its ends
        np.testing.assert_allclose(np.abs(got - centres)[5:-5], nearest[5:-5], atol=8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_computes_in_the_precision_that_is_asked_for(ramp: str, precision: str) -> None:
    encoder = Middle(RASTER)
    made(encoder, precision=precision).extract([Piece(Stretch(ramp, 0, 8000), 0, 24)])
    assert encoder.rounded == [precision == "bf16"]


def test_several_stretches_are_computed_together(ramp: str) -> None:
    encoder = Middle(RASTER)
    listed = [Piece(Stretch(ramp, 16000 * i, 8000 + 320 * i), 0, 24 + i) for i in range(3)]
    parts = made(encoder).extract(listed)
    assert encoder.heard == [[8000, 8320, 8640]]
    for i, part in enumerate(parts):
        assert part[:, 0].tolist() == [16000 * i + 320 * t + 200 for t in range(24 + i)]
