"""Objective `am_softmax`: which training speaker is it? With a margin between them.

Additive-margin softmax (Wang et al. 2018, arXiv 1801.05599). Scale 30 and margin .4 are SUPERB's
(s3prl's `downstream/sv_voxceleb1`) and transformers' `AMSoftmaxLoss`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from bab import Batch, Loss, Objective, Options, PluginError, Scorer, Term


class AmSoftmaxOptions(Options):
    """What can be set under `objective`."""

    scale: float = Field(30.0, gt=0, description="s: what cosines are multiplied with")
    margin: float = Field(0.4, ge=0, description="m: what the right speaker's cosine is reduced by")


class AmSoftmax(Objective):
    """Cross-entropy of s (cos - m [right speaker]), summed over utterances; the count is theirs."""

    level = ("pair",)
    Options = AmSoftmaxOptions
    source = "Wang et al. 2018 (arXiv 1801.05599); s, m as in s3prl and transformers"

    def __init__(self, dim: int, sizes: Sequence[int], options: AmSoftmaxOptions) -> None:
        """sizes: (number of training speakers,)."""
        super().__init__(dim, sizes, options)
        if len(sizes) != 1:
            raise PluginError(
                f"objective 'am_softmax' takes one group of labels, the speakers; not {len(sizes)}"
            )
        self.scale, self.margin = options.scale, options.margin
        self.weight = nn.Parameter(torch.empty(dim, sizes[0]))  # the centres, as transformers'
        nn.init.xavier_normal_(self.weight)

    def counts(self, batch: Batch) -> dict[str, float]:
        """{"am_softmax": utterances of the batch}."""
        return {"am_softmax": float(len(batch.targets))}

    def forward(self, model: Scorer, batch: Batch) -> Loss:
        """The term "am_softmax". batch.targets: i64[B, 1], the speaker."""
        vectors, _ = model(batch)
        centres = functional.normalize(self.weight.float(), dim=0)
        # In half precision cosines would err by up to .02 once they are scaled.
        with torch.autocast(vectors.device.type, enabled=False):
            cosines = functional.normalize(vectors.float(), dim=1) @ centres
        speakers = batch.targets[:, 0]
        right = functional.one_hot(speakers, cosines.shape[1]).to(cosines.dtype)
        logits = self.scale * (cosines - self.margin * right)
        loss = functional.cross_entropy(logits, speakers, reduction="none")
        if batch.weights is not None:
            loss = loss * batch.weights.float()
        return Loss({"am_softmax": Term(loss.sum(), self.counts(batch.here)["am_softmax"])})
