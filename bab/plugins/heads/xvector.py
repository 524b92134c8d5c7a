"""Head `xvector`: frames of any number -> one vector per utterance, for speaker verification.

The x-vector of Snyder et al. (ICASSP 2018) as SUPERB trains it (s3prl's `downstream/sv_voxceleb1`)
and transformers' `Wav2Vec2ForXVector` holds it. Parameters have transformers' names and shapes, so
that weights go over in both directions. s3prl differs by a ReLU after each of the last two linear
layers: `relu: true`.

Two things differ from transformers. There, a padded batch is pooled over too many frames (its
lengths leave the dilation out); here over each utterance's own frames. There, an utterance shorter
than the net's field of 15 frames is an error; here its frames are repeated, from the first on, up
to that field, and the deviation of a single frame is 0.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bab import Head, NotApplicableError, Options

WIDTHS = (512, 512, 512, 512, 1500)
CONTEXTS = (5, 3, 3, 1, 1)
DILATIONS = (1, 2, 3, 1, 1)
FIELD = 1 + sum((c - 1) * d for c, d in zip(CONTEXTS, DILATIONS, strict=True))  # 15 frames


class XVectorOptions(Options):
    """What can be set under `head`."""

    size: int = Field(512, ge=1, description="size of the vector that is compared")
    relu: bool = Field(
        False,
        description="a ReLU after each of the last two linear layers, as in s3prl",
    )


class XVector(Head):
    """f32[B, T, D] -> f32[B, size]: `embed` gives the vectors, `forward` what AM-softmax takes."""

    Options = XVectorOptions
    level = ("pair",)
    source = "SUPERB speaker verification (s3prl downstream/sv_voxceleb1); Wav2Vec2ForXVector"

    def __init__(self, dim: int, classes: int, options: XVectorOptions) -> None:
        """classes: unused; the objective `am_softmax` owns the speakers' centres."""
        super().__init__(dim, classes, options)
        self.outputs = options.size
        self.relu = options.relu
        self.projector = nn.Linear(dim, WIDTHS[0])
        inputs = (WIDTHS[0], *WIDTHS[:-1])
        self.tdnn = nn.ModuleList(
            Tdnn(*sizes) for sizes in zip(inputs, WIDTHS, CONTEXTS, DILATIONS, strict=True)
        )
        self.feature_extractor = nn.Linear(2 * WIDTHS[-1], options.size)
        self.classifier = nn.Linear(options.size, options.size)

    def embed(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The vectors that are compared, f32[B, size]: after the first layer past the pooling."""
        x, lengths = repeated(x, lengths.to(x.device))
        x = self.projector(x)
        for layer in self.tdnn:
            x = layer(x)
        vectors = cast(Tensor, self.feature_extractor(statistics(x, lengths - FIELD + 1)))
        return vectors.relu() if self.relu else vectors

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x f32[B, T, D], lengths i64[B] in frames -> f32[B, size], after the last layer."""
        logits = cast(Tensor, self.classifier(self.embed(x, lengths)))
        return logits.relu() if self.relu else logits

    def as_transformers(self) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        """See docs/plugins.md: `Wav2Vec2ForXVector`, whose names these are.

        The centres of its loss stay behind in training: zeros of two speakers stand for them.

        Raises:
            NotApplicableError: the ReLU of s3prl, which it hasn't got.
        """
        if self.relu:
            raise NotApplicableError("head xvector with relu")
        size = self.classifier.out_features
        shape = {"tdnn_dim": WIDTHS, "tdnn_kernel": CONTEXTS, "tdnn_dilation": DILATIONS}
        config = {name: list(values) for name, values in shape.items()}
        tensors = {**self.state_dict(), "objective.weight": torch.zeros(size, 2)}
        return "ForXVector", {**config, "xvector_output_dim": size}, tensors


class Tdnn(nn.Module):
    """A time-delay layer: `context` frames, `dilation` apart -> one; ReLU. No padding."""

    def __init__(self, dim: int, width: int, context: int, dilation: int) -> None:
        super().__init__()
        self.context = context
        self.dilation = dilation
        self.kernel = nn.Linear(dim * context, width)

    def forward(self, x: Tensor) -> Tensor:
        """f32[B, T, D] -> f32[B, T - (context - 1) x dilation, width]."""
        # The linear layer's inputs are frame after frame: [width, context, D].
        weight = self.kernel.weight.view(len(self.kernel.weight), self.context, -1).transpose(1, 2)
        frames = functional.conv1d(
            x.transpose(1, 2), weight, self.kernel.bias, dilation=self.dilation
        )
        return frames.transpose(1, 2).relu()


def repeated(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Padding becomes zeros, and utterances under `FIELD` frames are repeated up to it."""
    frame = torch.arange(max(x.shape[1], FIELD), device=x.device)
    short = (lengths < FIELD)[:, None]
    source = torch.where(short & (frame < FIELD), frame % lengths[:, None], frame)
    x = x.gather(1, source[..., None].expand(-1, -1, x.shape[2]))
    lengths = lengths.clamp(min=FIELD)
    return x.masked_fill((frame >= lengths[:, None])[..., None], 0.0), lengths


def statistics(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean and standard deviation (over N - 1) of valid frames: f32[B, T, D] -> f32[B, 2 D]."""
    x = x.float()  # bf16 has 8 bits: it counts 257 frames as 256
    outside = (torch.arange(x.shape[1], device=x.device) >= lengths[:, None])[..., None]
    count = lengths[:, None].to(x.dtype)
    mean = x.masked_fill(outside, 0.0).sum(1) / count
    squares = (x - mean[:, None]).masked_fill(outside, 0.0).square().sum(1)
    variance = squares / (count - 1).clamp(min=1)
    # The root has no slope at 0: a channel that never varies gets deviation 0 and no gradient.
    varies = variance > 0
    deviation = variance.where(varies, 1.0).sqrt().where(varies, 0.0)
    return torch.cat([mean, deviation], dim=-1)
