"""wav2vec 2.0's product quantiser: a code of each group, chosen with Gumbel noise in training.

Baevski et al. 2020 (arXiv 2006.11477), sections 2 and 3.2; Jang et al. 2016 (arXiv 1611.01144).
Weights are named, shaped and drawn as those of transformers' `Wav2Vec2GumbelVectorQuantizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from bab import Options


class ContrastiveOptions(Options):
    """What can be set under `objective`. Sizes left unset are the checkpoint's, if it has a
    quantiser; all other defaults are those of wav2vec 2.0 base."""

    groups: int | None = Field(
        None, gt=0, description="groups of codes; unset: the checkpoint's, else 2"
    )
    codes: int | None = Field(
        None, gt=1, description="codes in each group; unset: the checkpoint's, else 320"
    )
    codevector_dim: int | None = Field(
        None,
        gt=0,
        description="width of a quantised vector, all groups; unset: the checkpoint's, else 256",
    )
    projection: int | None = Field(
        None,
        gt=0,
        description="width in which states and targets are compared; unset: the checkpoint's, "
        "else 256",
    )
    negatives: int = Field(100, gt=0, description="other masked frames that each is compared with")
    temperature: float = Field(0.1, gt=0, description="what cosines are divided by")
    diversity_weight: float = Field(0.1, ge=0, description="weight of the code diversity")
    gumbel_max: float = Field(2.0, gt=0, description="temperature of the choice at the first step")
    gumbel_decay: float = Field(0.999995, gt=0, le=1, description="its factor per step")
    gumbel_min: float = Field(0.5, gt=0, description="where its decay ends")

    @model_validator(mode="after")
    def _divisible(self) -> ContrastiveOptions:
        if self.codevector_dim and self.groups and self.codevector_dim % self.groups:
            raise ValueError(
                f"codevector_dim {self.codevector_dim} is no multiple of groups {self.groups}"
            )
        return self


@dataclass(slots=True)
class Quantised:
    """vectors f32[N, codevector_dim]; codes i64[N, G]; probs f32[N, G, V], what diversity counts:
    the soft choice without noise in training, the hard one otherwise."""

    vectors: Tensor
    codes: Tensor
    probs: Tensor


class Quantiser(nn.Module):
    """N frames of width C -> for each of `groups`, one of `codes` vectors; put side by side."""

    def __init__(self, dim: int, groups: int, codes: int, width: int) -> None:
        """dim: C; width: of a quantised vector, all groups together: a multiple of `groups`."""
        super().__init__()
        self.groups, self.codes = groups, codes
        self.codevectors = nn.Parameter(torch.rand(1, groups * codes, width // groups))
        self.weight_proj = nn.Linear(dim, groups * codes)
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)

    def forward(self, x: Tensor, temperature: float, noise: Tensor | None) -> Quantised:
        """x: f32[N, C]; noise: f32[N, G, V], of Gumbel's distribution; None: the likeliest code."""
        logits = self.weight_proj(x).float().view(-1, self.groups, self.codes)
        if noise is None:
            codes = logits.argmax(-1)
            hard = functional.one_hot(codes, self.codes).to(logits.dtype)
            return Quantised(self._look_up(hard), codes, hard)
        soft = ((logits + noise) / temperature).softmax(-1)
        codes = soft.argmax(-1)
        # Straight through: forward the hard choice, backward the soft one.
        chosen = functional.one_hot(codes, self.codes).to(soft.dtype) + (soft - soft.detach())
        return Quantised(self._look_up(chosen), codes, logits.softmax(-1))

    def _look_up(self, chosen: Tensor) -> Tensor:
        """f32[N, G, V], a row of weights over the codes -> f32[N, codevector_dim]."""
        book = self.codevectors.view(self.groups, self.codes, -1)
        with torch.autocast(chosen.device.type, enabled=False):  # vectors are kept as they are
            return torch.einsum("ngv,gvd->ngd", chosen, book.float()).flatten(1)


@dataclass(frozen=True, slots=True)
class Sizes:
    """width: of a quantised vector, all groups together; projection: in which it is compared."""

    groups: int
    codes: int
    width: int
    projection: int


BASE = Sizes(groups=2, codes=320, width=256, projection=256)  # wav2vec 2.0 base's


def sizes_of(tensors: Mapping[str, Tensor]) -> Sizes | None:
    """Of the quantiser in a checkpoint of `Wav2Vec2ForPreTraining`; None where it has none."""
    book, compared = tensors.get("quantizer.codevectors"), tensors.get("project_q.weight")
    if book is None or compared is None or book.ndim != 3 or compared.ndim != 2:
        return None
    (_, total, each), (projection, width) = book.shape, compared.shape
    if width % each or total * each % width:
        return None  # no quantiser that could be made
    return Sizes(width // each, total * each // width, width, projection)


def gumbel(frames: int, groups: int, codes: int, seed: int) -> Tensor:
    """f32[frames, groups, codes]: -log of exponential draws, from `seed` alone, on the CPU."""
    draw = torch.Generator().manual_seed(seed)
    drawn = torch.empty(frames, groups, codes).exponential_(generator=draw)
    return -drawn.clamp(min=torch.finfo(drawn.dtype).tiny).log()


def perplexity(marginal: Tensor) -> Tensor:
    """f32[G, V], each row summing to one -> the number of codes in use, summed over groups.

    A code that no frame gives any weight adds nothing, in the gradient too, which is not a number
    for `xlogy` at 0.
    """
    logs = marginal.clamp(min=torch.finfo(marginal.dtype).tiny).log()
    return (marginal * logs).sum(-1).neg().exp().sum()
