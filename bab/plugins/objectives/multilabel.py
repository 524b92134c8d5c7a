"""Objective `multilabel`: binary cross-entropy on every frame and class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bab import Batch, Loss, Objective, PluginError, Scorer, Term


class Multilabel(Objective):
    """Cross-entropy summed over valid frames and classes; the count is the valid frames.

    So the mean is per frame, summed over classes, as BabyHuBERT's VTC 2 trains. Weights of
    examples, where given, multiply their frames' losses and leave the count alone: a weight of 2
    acts as if the example's loss were twice as large.
    """

    level = ("frame",)
    source = "BabyHuBERT VTC 2 (arXiv 2509.15001): BCE per frame, summed over the four classes"

    def counts(self, batch: Batch) -> dict[str, float]:
        """{"bce": valid frames of the batch}."""
        return {"bce": float(batch.target_lengths.sum())}

    def forward(self, model: Scorer, batch: Batch) -> Loss:
        """The term "bce". batch.targets: multi-hot f32[B, T, C].

        Raises:
            PluginError: where the model's frames or outputs are not those of the targets.
        """
        logits, lengths = model(batch)
        _check(logits, lengths, batch)
        sizes = batch.here.target_lengths
        frames = int(sizes.max())
        scores, wanted = logits[:, :frames].float(), batch.targets[:, :frames].float()
        padded = int(sizes.min()) < frames  # most batches are of windows of one length
        if padded:
            valid = torch.arange(frames, device=logits.device) < batch.target_lengths[:, None]
            # What stands in the padding is undefined, maybe NaN: it is replaced before the loss,
            # since a NaN times zero would still poison the gradient.
            padding = ~valid[..., None]
            scores, wanted = (one.masked_fill(padding, 0.0) for one in (scores, wanted))
        loss = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
        if padded:
            loss = loss.masked_fill(padding, 0.0)
        if batch.weights is not None:
            loss = loss * batch.weights.float()[:, None, None]
        return Loss({"bce": Term(loss.sum(), self.counts(batch.here)["bce"])})


def _check(logits: Tensor, lengths: Tensor, batch: Batch) -> None:
    """Refuse an output that doesn't stand on the targets' frames or hasn't their classes."""
    for clip, got, wanted in zip(
        batch.clips, lengths.tolist(), batch.here.target_lengths.tolist(), strict=True
    ):
        if got != wanted:
            raise PluginError(
                f"{clip.id} at {clip.start:.3f} s: the model gave {got} frames where the targets "
                f"have {wanted}; the encoder's grid must say exactly how many frames it returns"
            )
    if logits.ndim != 3 or logits.shape[-1] != batch.targets.shape[-1]:
        raise PluginError(
            f"the model gave an output of shape {tuple(logits.shape)} for targets of shape "
            f"{tuple(batch.targets.shape)}; a frame head with one output per class is needed"
        )
