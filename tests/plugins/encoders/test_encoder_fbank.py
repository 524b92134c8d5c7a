"""fbank against torchaudio's Kaldi filter banks, put together as s3prl does (fbank.yaml)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

from bab.core.grid import Grid
from bab.core.types import Waves
from bab.core.weights import WeightsError
from bab.plugins.encoders.fbank import Fbank
from bab.plugins.encoders.shared import kaldi as log_mels


def load(**options: Any) -> Fbank:
    return Fbank.load("", Fbank.Options(**options))


def recipe(clip: Tensor, mels: int = 80, deltas: int = 2, cmvn: bool = True) -> Tensor:
    """The published steps, one clip at a time: f32[S] -> f32[T, mels * (1 + deltas)]."""
    stack = [kaldi.fbank(clip[None], num_mel_bins=mels, frame_length=25.0, frame_shift=10.0)]
    for _ in range(deltas):
        stack.append(compute_deltas(stack[-1].T[None], win_length=5)[0].T)
    x = torch.cat(stack, -1)
    return (x - x.mean(0)) / (1e-10 + x.std(0)) if cmvn else x


def batch(*sizes: int) -> Waves:
    """Clips of growing loudness, padded with noise."""
    torch.manual_seed(1)
    lengths = torch.tensor(sizes)
    loudness = torch.logspace(-3, -0.5, len(sizes))[:, None]
    return Waves(torch.randn(len(sizes), max(sizes)) * loudness, lengths)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cmvn": "none"},
        {"mels": 40},
        {"deltas": 0, "cmvn": "none"},
        {"deltas": 1},
    ],
)
def test_equals_the_recipe_in_a_mixed_batch(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_mels, "_CHUNK", 400 * 37)  # so that pieces are joined inside a clip
    encoder = load(**options)
    waves = batch(16000, 719, 720, 5003, 8641)
    out = encoder(waves)
    plain = {**options, "cmvn": options.get("cmvn") != "none"}
    for row, size in enumerate(waves.lengths.tolist()):
        want = recipe(waves.samples[row, :size], **plain)
        got = out.layers[0][row, : len(want)]
        assert int(out.lengths[row]) == len(want) == encoder.grid.frames(size)
        assert (
            encoder.dim == want.shape[1] == options.get("mels", 80) * (1 + options.get("deltas", 2))
        )
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
        static = recipe(waves.samples[row, :size], options.get("mels", 80), 0, False)
        assert out.local is not None
        torch.testing.assert_close(out.local[row, : len(want)], static, atol=1e-4, rtol=0)
        assert not out.layers[0][row, len(want) :].any()


def test_defaults_are_superbs() -> None:
    encoder = load()
    assert (encoder.dim, encoder.depth, encoder.grid) == (240, 1, Grid(16000, 160, 400))
    assert encoder.resolved == "fbank" and not list(encoder.parameters())


def test_a_clip_of_one_frame_and_silence_are_zero() -> None:
    """The recipe divides by the deviation of one frame, which is not a number."""
    out = load()(Waves(torch.zeros(2, 16000), torch.tensor([300, 16000])))
    assert out.lengths.tolist() == [1, 98] and not out.layers[0].any()


def test_an_offset_is_silence_too() -> None:
    """A constant is removed frame by frame: no rounding noise may be blown up to full size."""
    samples = torch.full((1, 16000), 0.3)
    assert float(load()(Waves(samples, torch.tensor([16000]))).layers[0].abs().max()) < 1e-3


def test_a_masked_frame_is_the_mean() -> None:
    waves = batch(16000)
    mask = torch.zeros(1, 98, dtype=torch.bool)
    mask[0, 10:20] = True
    plain, masked = load()(waves).layers[0], load()(waves, mask=mask).layers[0]
    assert not masked[0, 10:20].any()
    assert torch.equal(masked[~mask], plain[~mask])


def test_fingerprint_follows_the_options() -> None:
    made = [load(), load(mels=40), load(deltas=1), load(cmvn="none")]
    assert len({encoder.fingerprint for encoder in made}) == 4
    assert load().fingerprint == made[0].fingerprint


def test_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match="write 'fbank', not 'fbank:base'"):
        Fbank.load("base", Fbank.Options())
