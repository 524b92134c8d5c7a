"""Frames of several examples in one batch: how they lie in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def laid(states: Sequence[Tensor], by_frame: bool = False) -> Tensor:
    """Examples [L, T, D] of any type, padded with zeros -> f32[B, L, T, D]. In memory a layer of
    all examples comes after the other, as the layer mix goes through them: nothing is turned round
    at each step, and the sums are the same bits.

    by_frame: a frame of all layers comes after the other, as they are kept on the disk: for what
    reads a frame as one row (bab.benching.affine).
    """
    layers, _, dim = states[0].shape
    whole = room([one.shape[1] for one in states], layers, dim, by_frame)
    for own, one in zip(whole, states, strict=True):
        own[:, : one.shape[1]] = one
    return whole


def room(sizes: Sequence[int], layers: int, dim: int, by_frame: bool) -> Tensor:
    """f32[B, L, T, D] for so many frames each, laid out as `laid` has it; zeros behind them."""
    if by_frame:
        whole = torch.empty(len(sizes), max(sizes), layers, dim).transpose(1, 2)
    else:
        whole = torch.empty(layers, len(sizes), max(sizes), dim).transpose(0, 1)
    for own, frames in zip(whole, sizes, strict=True):
        own[:, frames:] = 0.0
    return whole
