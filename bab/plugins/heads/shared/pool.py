"""The mean over a clip's own frames."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_of(x: Tensor, lengths: Tensor) -> Tensor:
    """x f32[B, T, D], lengths i64[B] in frames -> f32[B, D]. What stands in the padding, even NaN,
    stays out of it."""
    if x.shape[1] == 1:  # a clip has a frame at least: this is it, or its mean
        return x[:, 0]
    lengths = lengths.to(x.device)
    inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return x.masked_fill(~inside[..., None], 0.0).sum(1) / lengths[:, None]
