"""The mean over a clip's own frames, and linear heads on it as transformers has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def mean_of(x: Tensor, lengths: Tensor) -> Tensor:
    """x f32[B, T, D], lengths i64[B] in frames -> f32[B, D]. What stands in the padding, even NaN,
    stays out of it."""
    if x.shape[1] == 1:  # a clip has a frame at least: this is it, or its mean
        return x[:, 0]
    lengths = lengths.to(x.device)
    inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return x.masked_fill(~inside[..., None], 0.0).sum(1) / lengths[:, None]


def classification(
    weight: Tensor, bias: Tensor, below: nn.Linear | None
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """A linear head on the mean, f32[C, H] and f32[C], as `Wav2Vec2ForSequenceClassification`.

    below: the layer under it, D -> H, which transformers calls `projector` and always has; None:
    the identity stands there.
    """
    size = weight.shape[1]
    tensors = {
        "projector.weight": torch.eye(size) if below is None else below.weight,
        "projector.bias": torch.zeros(size) if below is None else below.bias,
        "classifier.weight": weight,
        "classifier.bias": bias,
    }
    return "ForSequenceClassification", {"classifier_proj_size": size}, tensors
