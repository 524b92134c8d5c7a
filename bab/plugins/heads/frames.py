"""Head `frames`: every frame of the encoder -> one logit per class, optionally with context.

The published voice type classifier (BabyHuBERT's VTC 2) has one Linear(D, 1) for each class. One
Linear(D, C) is the same map with the same initialisation: PyTorch draws weights and biases from
U(-1/sqrt(fan_in), 1/sqrt(fan_in)), and fan_in is D in both. Published weights load by stacking.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from bab import Head, NotApplicableError, Options
from bab.plugins.heads.shared.bilstm import BiLSTM
from bab.plugins.heads.shared.padding import unpadded


class FramesOptions(Options):
    """What can be set under `head`."""

    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="dropout before the output layer (VTC 2 fine-tunes at .5)"
    )
    conv: int = Field(
        0, ge=0, description="channels of a convolution (5 frames wide) before all else; 0 = none"
    )
    rnn: Literal["none", "bilstm"] = Field("none", description="context over the whole window")
    hidden: int = Field(96, ge=1, description="units of the BiLSTM, per direction")
    layers: int = Field(2, ge=1, description="layers of the BiLSTM")


class Frames(Head):
    """f32[B, T, D] -> logits f32[B, T, C]; no frame depends on padding or on the other clips."""

    Options = FramesOptions
    level = ("frame",)
    source = "BabyHuBERT VTC 2 (arXiv 2509.15001): one linear output per class on each frame"

    def __init__(self, dim: int, classes: int, options: FramesOptions) -> None:
        super().__init__(dim, classes, options)
        self.conv: nn.Conv1d | None = None
        self.rnn: BiLSTM | None = None
        if options.conv:
            self.conv = nn.Conv1d(dim, options.conv, kernel_size=5, padding=2)
            dim = options.conv
        if options.rnn == "bilstm":
            self.rnn = BiLSTM(dim, options.hidden, options.layers)
            dim = 2 * options.hidden
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(dim, classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x f32[B, T, D], lengths i64[B] in frames -> logits f32[B, T, C] (padding: undefined)."""
        lengths = lengths.to(x.device)
        # Zeros after a clip's end are what the convolution sees at the end of a lone clip, and
        # whatever stood in the padding, even NaN, stays out of the gradient.
        x = unpadded(x, lengths)
        if self.conv is not None:
            x = torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        if self.rnn is not None:
            x = self.rnn(x, lengths)
        return cast(Tensor, self.output(self.dropout(x)))

    def as_transformers(self) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        """See docs/plugins.md: `Wav2Vec2ForAudioFrameClassification`'s linear layer.

        Raises:
            NotApplicableError: a convolution or a BiLSTM, which it has no place for.
        """
        for name, part in (("conv", self.conv), ("rnn: bilstm", self.rnn)):
            if part is not None:
                raise NotApplicableError(f"head frames with {name}")
        tensors = {f"classifier.{name}": value for name, value in self.output.state_dict().items()}
        return "ForAudioFrameClassification", {}, tensors
