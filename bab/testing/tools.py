"""Audio and comparisons for the checks of encoders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bab.core.interfaces import Encoder
from bab.core.types import Encoded, Waves

TOLERANCE = 1e-4


def longest(encoder: Encoder) -> int:
    """The longest clip that the encoder takes whole, in samples."""
    seconds = encoder.max_seconds or 60.0
    return round(seconds * encoder.sample_rate)


def noise(samples: int, seed: int = 0, loudness: float = 0.1) -> Tensor:
    """f32[samples]: white noise that stays within [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(samples, generator=generator) * loudness).clamp(-1, 1)


def waves(clips: list[Tensor]) -> Waves:
    """A batch whose padding is loud noise: nobody may look at it."""
    lengths = torch.tensor([len(clip) for clip in clips])
    samples = torch.stack([noise(int(lengths.max()), 99, 0.5) for _ in clips])
    for row, clip in zip(samples, clips, strict=True):
        row[: len(clip)] = clip
    return Waves(samples, lengths)


def run(encoder: Encoder, clips: list[Tensor], mask: Tensor | None = None, **how: Any) -> Encoded:
    """One forward pass over a padded batch, without gradients."""
    with torch.no_grad():
        out: Encoded = encoder(waves(clips), mask=mask, **how)
    return out


def close(got: Tensor, want: Tensor, what: str) -> None:
    """Assert that two tensors differ by no more than `TOLERANCE`."""
    gap = float((got - want).abs().max())
    assert gap <= TOLERANCE, f"{what}: they differ by {gap:.2g}, more than {TOLERANCE}"
