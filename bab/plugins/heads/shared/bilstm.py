"""The bidirectional LSTM that the heads share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BiLSTM(nn.Module):
    """A bidirectional LSTM that gives what PyTorch's gives on packed sequences, ten times faster.

    PyTorch trains packed sequences on a slow path on CPUs (6.8 s against .6 s for 32 x 400 frames
    on one core). Here each direction is a plain LSTM: padding stands at the end, where a causal
    net can't be changed by it, and the backward direction reads each clip turned round.
    """

    def __init__(self, dim: int, hidden: int, layers: int, dropout: float = 0.0) -> None:
        """dropout: after each layer but the last, as PyTorch's LSTM has it."""
        super().__init__()
        sizes = [dim] + [2 * hidden] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(d, hidden, batch_first=True) for d in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(d, hidden, batch_first=True) for d in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """f32[B, T, D], i64[B] -> f32[B, T, 2 x hidden]; padding is undefined."""
        if torch.is_autocast_enabled(x.device.type):
            # cuDNN has no bf16 LSTM: it would be fp16, without the loss scale that this needs.
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.float(), lengths)
        frame = torch.arange(x.shape[1], device=x.device)
        mirrored = lengths[:, None] - 1 - frame
        turn = torch.where(mirrored >= 0, mirrored, frame)
        for index, (ahead, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            x = self.dropout(x) if index else x
            right = back(_picked(x, turn))[0]
            x = torch.cat([ahead(x)[0], _picked(right, turn)], dim=-1)
        return x


def _picked(x: Tensor, frames: Tensor) -> Tensor:
    """Frames of each clip: f32[B, T, D], i64[B, T] -> f32[B, T, D]. Row by row, which is ten times
    faster than number by number, forwards and backwards; a graph that is exported keeps its T."""
    if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return x.gather(1, frames[..., None].expand_as(x))
    rows = frames + torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, rows.flatten()).view_as(x)
