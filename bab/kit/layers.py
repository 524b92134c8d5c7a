"""What keeps a clip's output independent of its batch: valid frames, means and norms over them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class GradScale(torch.autograd.Function):
    """The identity, whose gradient is multiplied with a number (fairseq's and torchaudio's
    GradMultiply)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None


class ValidGroupNorm(nn.GroupNorm):
    """Group norm over each item's valid frames only; the padding comes out as zeros.

    `lengths` (valid frames of each item) is set before each forward pass; None means all of them.
    Item by item, so that the statistics are the very ones that the item alone would get.
    """

    lengths: list[int] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """f32[B, C, T] -> f32[B, C, T]."""
        frames = input.shape[-1]
        if self.lengths is None or min(self.lengths) == frames:
            if len(input) == 1 and self._by_channel and not input.is_contiguous():
                return self._channels_last(input)
            return super().forward(input)
        if input.device.type != "cpu":
            return self._at_once(input)
        rows = [
            functional.pad(super(ValidGroupNorm, self).forward(row[None, :, :n]), (0, frames - n))
            for row, n in zip(input, self.lengths, strict=True)
        ]
        return torch.cat(rows)

    @property
    def _by_channel(self) -> bool:
        return self.num_groups == self.num_channels

    def _channels_last(self, input: Tensor) -> Tensor:
        """One item whose channels come last in memory, each a group: what batch norm has a kernel
        for (`GroupNorm` would turn it round first)."""
        picture = input[:, :, None]  # which has such a memory order
        return functional.batch_norm(
            picture, None, None, self.weight, self.bias, training=True, eps=self.eps
        )[:, :, 0]

    def _at_once(self, input: Tensor) -> Tensor:
        """The same without a loop, for devices on which launches cost more than the work."""
        assert self.lengths is not None
        count = torch.tensor(self.lengths).to(input.device, non_blocking=True)
        inside = valid(count, input.shape[-1])[:, None, None]
        x = input.float().view(len(input), self.num_groups, -1, input.shape[-1]) * inside
        numbers = (count * x.shape[2])[:, None, None, None]
        x = (x - x.sum((2, 3), keepdim=True) / numbers) * inside
        x = x * (x.square().sum((2, 3), keepdim=True) / numbers + self.eps).rsqrt()
        x = x.view(input.shape)
        if self.affine:
            x = x * self.weight[:, None].float() + self.bias[:, None].float()
        out: Tensor = x.masked_fill(~inside[:, 0], 0.0).to(input.dtype)
        return out


class ValidBatchNorm(nn.BatchNorm1d):
    """Batch norm with the statistics that were learned, never the batch's; padding stays zero.

    `lengths` as in `ValidGroupNorm`.
    """

    lengths: list[int] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """f32[B, C, T] -> f32[B, C, T]."""
        out = functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
        if self.lengths is None:
            return out
        lengths = torch.tensor(self.lengths, device=out.device)
        return out * valid(lengths, out.shape[-1])[:, None]


def valid(lengths: Tensor, size: int) -> Tensor:
    """i64[B] -> bool[B, size]: True before each length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def standardise(samples: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over each valid span, zeros after it.

    f32[B, S], i64[B] -> f32[B, S]. As transformers' Wav2Vec2FeatureExtractor: population variance,
    and 1e-7 under the root.
    """
    inside = valid(lengths, samples.shape[1])
    count = lengths.clamp(min=1)[:, None]
    mean = samples.sum(1, keepdim=True) / count
    centred = (samples - mean).masked_fill(~inside, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / (variance + 1e-7).sqrt()


def mean_over_time(x: Tensor, lengths: Tensor) -> Tensor:
    """x f32[B, T, D], lengths i64[B] in frames -> f32[B, D]. What stands in the padding, even NaN,
    stays out of it."""
    if x.shape[1] == 1:  # a clip has a frame at least: this is it, or its mean
        return x.squeeze(1)
    lengths = lengths.to(x.device)
    inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return x.masked_fill(~inside[..., None], 0.0).sum(1) / lengths[:, None]
