"""Objective `cross_entropy`: one class of each kind of label per clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from bab import Batch, Loss, Objective, Options, PluginError, Scorer, Term

NONE = -1  # the target of a clip without this label


class CrossEntropyOptions(Options):
    """What can be set under `objective`."""

    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: a class weighs the inverse of its frequency in train, so that all "
        "classes count the same",
    )
    label_smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of the target spread evenly over all classes"
    )


class CrossEntropy(Objective):
    """Cross-entropy summed over the clips that have the label, a term for each kind of label.

    With one kind of label the term is called "loss", else "0", "1", ... in the order of the
    labels; they are added, as SUPERB does for the three slots of an intent. Classes' weights
    multiply the loss and count with it, as in PyTorch's weighted mean. Weights of examples
    multiply the loss and leave the count alone.
    """

    level = ("clip",)
    Options = CrossEntropyOptions
    source = "SUPERB (arXiv 2105.01051); class weights as scikit-learn's class_weight='balanced'"

    def __init__(self, dim: int, sizes: Sequence[int], options: CrossEntropyOptions) -> None:
        super().__init__(dim, sizes, options)
        if dim != sum(sizes):
            raise PluginError(
                f"objective 'cross_entropy' needs a head with one output per class: {dim} outputs "
                f"for {sum(sizes)} classes"
            )
        self.sizes = list(sizes)
        self.options = options
        self.names = ["loss"] if len(self.sizes) == 1 else [str(i) for i in range(len(self.sizes))]
        # What each class weighs, f32[sum of sizes].
        self.register_buffer("balance", torch.ones(sum(self.sizes)))

    balance: Tensor

    def observe(self, targets: Tensor) -> None:
        """i64[N, G] of all training clips: sets balanced weights, N / (classes x clips of it)."""
        if self.options.class_weights == "none":
            return
        weights = []
        for size, column in zip(self.sizes, targets.T, strict=True):
            counts = torch.bincount(column[column != NONE], minlength=size).double()
            weights.append(counts.sum() / (size * counts.clamp(min=1)))
        self.balance.copy_(torch.cat(weights))

    def counts(self, batch: Batch) -> dict[str, float]:
        """The clips that have each label, or the sum of their classes' weights."""
        if self.options.class_weights == "none":
            counts = (batch.targets != NONE).sum(0).tolist()
            return dict(zip(self.names, map(float, counts), strict=True))
        weighed = {}
        weights = torch.split(self.balance, self.sizes)
        for name, weight, column in zip(self.names, weights, batch.targets.T, strict=True):
            known = column[column != NONE]
            # Weights of some classes, on the CPU: not every device has doubles.
            weighed[name] = float(weight.cpu().double()[known.cpu()].sum())
        return weighed

    def forward(self, model: Scorer, batch: Batch) -> Loss:
        """A term per kind of label. batch.targets: i64[B, G], -1 where a clip has no such label.

        Raises:
            PluginError: where the model doesn't give one output per class and clip.
        """
        logits, _ = model(batch)
        if logits.shape != (len(batch.targets), sum(self.sizes)):
            raise PluginError(
                f"the model gave an output of shape {tuple(logits.shape)}; a clip-level head with "
                f"{sum(self.sizes)} outputs is needed"
            )
        counts = self.counts(batch.here)
        terms = {}
        parts = zip(
            self.names,
            torch.split(logits.float(), self.sizes, dim=1),
            torch.split(self.balance, self.sizes),
            batch.targets.T,
            strict=True,
        )
        for name, values, weight, column in parts:
            losses = functional.cross_entropy(
                values,
                column,
                weight=weight,
                ignore_index=NONE,
                reduction="none",
                label_smoothing=self.options.label_smoothing,
            )
            if batch.weights is not None:
                losses = losses * batch.weights.float()
            terms[name] = Term(losses.sum(), counts[name])
        return Loss(terms)
