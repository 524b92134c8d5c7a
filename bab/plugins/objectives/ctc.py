"""Objective `ctc`: the labels in their order, wherever in time they are.

Connectionist temporal classification (Graves et al. 2006), by PyTorch's `ctc_loss`, the blank being
class 0. The loss is summed over utterances and divided by the number of labels, as fairseq does for
wav2vec 2.0 (`criterions/ctc.py`, sample_size = ntokens): every label weighs the same, in long and
in short utterances. (SUPERB's recipe averages each utterance's mean per label instead, which gives
the labels of short utterances more weight, and depends on how the batch is cut up.)
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from bab import Batch, Loss, Objective, PluginError, Scorer, Term

BLANK = 0


class Ctc(Objective):
    """-log p(labels | frames), summed over utterances; the count is the labels.

    A target that needs more frames than there are can't be said at all: its loss would be
    infinite. The core leaves such examples out of training and counts them (`refuses`); one that
    gets here all the same adds neither loss nor gradient. An utterance without labels is all blank:
    it adds loss, and nothing to the count.
    """

    level = ("sequence",)
    source: ClassVar[str] = "Graves et al. 2006; per label as in fairseq's ctc criterion"

    def refuses(self, target: Tensor, frames: int) -> str:
        """A target i64[U] that so many frames can't hold: between equal labels stands a blank."""
        return "more labels than frames" if needed(target) > frames else ""

    def counts(self, batch: Batch) -> dict[str, float]:
        """{"ctc": labels of the batch}."""
        return {"ctc": float(batch.target_lengths.sum())}

    def forward(self, model: Scorer, batch: Batch) -> Loss:
        """The term "ctc". batch.targets: i64[B, U], padded; no label is the blank, 0.

        Raises:
            PluginError: where the head has fewer outputs than the targets have labels.
        """
        logits, lengths = model(batch)
        sizes, here = batch.target_lengths, batch.here.targets
        if here.numel() and int(here.max()) >= logits.shape[-1]:
            raise PluginError(
                f"a target holds label {int(here.max())}, but the head has "
                f"{logits.shape[-1]} outputs (the blank is 0)"
            )
        lengths = lengths.to(logits.device)
        padding = torch.arange(logits.shape[1], device=logits.device) >= lengths[:, None]
        scores = logits.float().masked_fill(padding[..., None], 0.0).log_softmax(-1)
        loss = functional.ctc_loss(
            scores.transpose(0, 1),
            batch.targets,
            lengths,
            sizes,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,
        )
        if batch.weights is not None:
            loss = loss * batch.weights.float()
        return Loss({"ctc": Term(loss.sum(), self.counts(batch.here)["ctc"])})


def needed(target: Tensor) -> int:
    """Frames that the labels i64[U] take at least."""
    return len(target) + int((target[1:] == target[:-1]).sum())
