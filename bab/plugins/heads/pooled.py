"""Head `pooled`: the mean over a clip's frames -> one logit per class.

SUPERB's head for whole utterances (s3prl, `downstream/model.py: UtteranceLevel` with mean pooling):
Linear(D, 256) on every frame, the mean over frames, Linear(256, C), and nothing non-linear between
them. So the mean may be taken first, and one frame per clip and layer is all that has to be kept.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic import Field
from torch import Tensor, nn

from bab import Head, Options
from bab.kit import mean_over_time
from bab.plugins.heads.shared.pool import classification


class PooledOptions(Options):
    """What can be set under `head`."""

    hidden: int = Field(
        256, ge=0, description="units of the linear layer below the output; 0 = no such layer"
    )
    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="dropout before the output layer, on the pooled vector"
    )


class Pooled(Head):
    """f32[B, T, D] -> logits f32[B, C]; no clip depends on padding or on the other clips."""

    Options = PooledOptions
    level = ("clip",)
    linear = True
    source = "SUPERB (Yang et al. 2021, arXiv 2105.01051): utterance-level tasks"

    def __init__(self, dim: int, classes: int, options: PooledOptions) -> None:
        super().__init__(dim, classes, options)
        self.projection = nn.Linear(dim, options.hidden) if options.hidden else nn.Identity()
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(options.hidden or dim, classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x f32[B, T, D], lengths i64[B] in frames -> logits f32[B, C]."""
        mean = mean_over_time(x, lengths)
        return cast(Tensor, self.output(self.dropout(self.projection(mean))))

    def as_transformers(self) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        """See docs/plugins.md: `Wav2Vec2ForSequenceClassification`, which is this very head."""
        weight, bias, below = self.output.weight, self.output.bias, self.projection
        if isinstance(below, nn.Linear):
            return classification(weight, bias, below)
        return classification(weight, bias, weight.new_zeros(weight.shape[1]))
