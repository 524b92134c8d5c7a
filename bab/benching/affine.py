"""Heads that map each frame by itself, and linearly: one matrix for all of a model's layers.

What such a head gives of the unit vectors says everything about it: said of e_d less said of 0 is
row d of its matrix. With the layers' weights before it, the whole model is one matrix, so that many
models read the frames of a batch once, and none of their mixtures is ever made.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bab.running.model import LayerMix, Model

_SCALES = (1.0, 100.0)  # of the frames that a head is tried on
_TOLERANCE = 1e-4  # of the largest value
Tensors = dict[str, Tensor]


@torch.no_grad()
def affine(head: nn.Module, dim: int) -> bool:
    """Whether a head does nothing but map each frame linearly: tried, not declared. dim: D."""
    training = head.training
    head.eval()
    try:
        x = torch.randn(2, 6, dim, generator=torch.Generator().manual_seed(1))
        lengths = torch.tensor([6, 4])
        for scale in _SCALES:
            said = head(scale * x, lengths)
            if said.ndim != 3:
                return False
            weight, bias = _map(head, dim)
            wanted = scale * x @ weight + bias
            apart = max(float((said - wanted)[i, :n].abs().max()) for i, n in ((0, 6), (1, 4)))
            if apart > _TOLERANCE * max(float(wanted.abs().max()), 1e-6):
                return False
        return True
    finally:
        head.train(training)


def depth(mix: LayerMix) -> int:
    """How many layers a mix is given."""
    return len(mix.logits) if hasattr(mix, "logits") else 1


def maps(base: Model, parameters: Tensors, buffers: Tensors, dim: int) -> tuple[Tensor, Tensor]:
    """Matrices f32[M, L, D, C] and biases f32[M, C] of M models, as functions of their weights.

    base: one of them; parameters, buffers: of all, stacked [M, ...], by their names in it.
    """
    units = torch.eye(depth(base.mix))[None, :, :, None]  # as one example of L frames of width 1

    def one(own: Tensors, kept: Tensors) -> tuple[Tensor, Tensor]:
        parts = {name: _of(own, name) | _of(kept, name) for name in ("mix", "head")}
        layers: Tensor = functional_call(base.mix, parts["mix"], (units,))[0]
        unit, lengths = _units(dim)
        said: Tensor = functional_call(base.head, parts["head"], (unit, lengths))[0]
        return layers[:, None] * (said[1:] - said[0]), said[0]

    matrices, biases = torch.vmap(one)(parameters, buffers)
    return matrices, biases


def said(states: Tensor, matrices: Tensor, biases: Tensor) -> Tensor:
    """What the models of `maps` say of frames: f32[B, L, T, D] -> f32[M, B, T, C].

    Nothing is told of the gradient with respect to the frames, which are frozen.
    """
    clips, _, frames, _ = states.shape
    models, classes = biases.shape
    columns = matrices.permute(1, 2, 0, 3).flatten(2)
    by_frame = states.transpose(1, 2)
    if by_frame.is_contiguous():  # a frame of all layers is one row
        rows = _Product.apply(by_frame.flatten(2).flatten(0, 1), columns.flatten(0, 1))  # type: ignore[no-untyped-call]
    else:
        rows = torch.bmm(states.transpose(0, 1).flatten(1, 2), columns).sum(0)
    told: Tensor = (rows + biases.flatten()).view(clips, frames, models, classes)
    return told.permute(2, 0, 1, 3)


class _Product(torch.autograd.Function):
    """Many rows times a narrow matrix, f32[N, K] x f32[K, C], of which only the matrix learns."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return _product(rows, matrix)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (rows,) = ctx.saved_tensors
        return None, _product(gradient.t(), rows).t()


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Of two matrices, one of them narrow: by oneDNN where torch has it, as MKL takes up to twice
    as long for so few columns."""
    linear = _onednn() if left.device.type == "cpu" else None
    if linear is None:
        return left @ right
    made: Tensor = linear(left.contiguous(), right.t(), None, "none", [], "")
    return made


@cache
def _onednn() -> Any:
    """torch's own linear map by oneDNN; None where it has none."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None) if there else None


def _map(head: nn.Module, dim: int) -> tuple[Tensor, Tensor]:
    unit, lengths = _units(dim)
    said = head(unit, lengths)[0]
    return said[1:] - said[0], said[0]


def _units(dim: int) -> tuple[Tensor, Tensor]:
    """0 and the unit vectors as the frames of one example, and how many they are."""
    return torch.cat([torch.zeros(1, dim), torch.eye(dim)])[None], torch.tensor([dim + 1])


def _of(tensors: Tensors, part: str) -> Tensors:
    """Those of a part of a model, by their names in it."""
    start = f"{part}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
