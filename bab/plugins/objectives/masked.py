"""Objective `masked`: which cluster does a masked frame's sound belong to?

HuBERT (Hsu et al. 2021, arXiv 2106.07447): cosine similarity of the projected state to one learned
vector per cluster, over a temperature; cross-entropy on masked frames; and a penalty on the
convolutional features' size. Equal to torchaudio's `hubert_pretrain_base` with the loss of its
recipe (examples/hubert), which BabyHuBERT was trained with.

The recipe's penalty is the mean square of a batch's features times its masked frames, over the
masked frames of all batches: it weighs each batch's mean by how much was masked in it. Here it is
the sum of squares over the number of valid frames: the same for one batch of equal lengths, and
the same however a batch is cut up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bab import (
    Batch,
    ConfigError,
    Encoder,
    Grid,
    Loss,
    Objective,
    Options,
    PluginError,
    Scorer,
    Term,
    Waves,
)
from bab.plugins.objectives.shared.at_once import masked_rows

_PREFIX = "masked."


class MaskedOptions(Options):
    """What can be set under `objective`. Defaults are HuBERT's."""

    final_dim: int = Field(256, gt=0, description="width in which states and clusters are compared")
    temperature: float = Field(0.1, gt=0, description="what cosines are divided by")
    masked_weight: float = Field(1.0, ge=0, description="weight of the masked frames' loss")
    unmasked_weight: float = Field(0.0, ge=0, description="weight of the other frames' loss")
    feature_penalty: float = Field(
        10.0, ge=0, description="weight of the convolutional features' mean square"
    )


class Masked(Objective):
    """Cross-entropy over k-means clusters, summed over masked frames; the count is theirs.

    Weights: `final_proj` and `label_embeddings`, named and drawn as torchaudio's.
    """

    Options = MaskedOptions
    pretrains: ClassVar[bool] = True
    targets: ClassVar[bool] = True
    # HuBERT base's, as in torchaudio's recipe; the batch is for one GPU.
    defaults: ClassVar[Mapping[str, Any]] = {
        "mask": {"prob": 0.8, "length": 10},
        "train": {
            "lr": 5e-4, "betas": [0.9, 0.98], "eps": 1e-6, "clip": 10.0, "schedule": "linear",
        },
    }  # fmt: skip
    source = "Hsu et al. 2021 (arXiv 2106.07447); torchaudio's hubert_pretrain_base and its recipe"

    def __init__(self, dim: int, sizes: Sequence[int], options: MaskedOptions) -> None:
        """sizes: (number of clusters,)."""
        super().__init__(dim, sizes, options)
        if len(sizes) != 1:
            raise PluginError(f"objective 'masked' takes one set of clusters, not {len(sizes)}")
        self.options = options
        self.grid: Grid | None = None
        self.label_embeddings = nn.Parameter(torch.rand(sizes[0], options.final_dim))
        self.final_proj = nn.Linear(dim, options.final_dim)

    def attach(self, encoder: Encoder) -> None:
        """See `Objective.attach`; nothing here depends on the width of the local features."""
        if encoder.local_dim is None:
            raise ConfigError(
                f"objective 'masked' can't pretrain '{encoder.resolved}': it has no convolutional "
                "features; hubert, wav2vec2 and wavlm have"
            )
        self.grid = encoder.grid

    def counts(self, batch: Batch) -> dict[str, float]:
        """{"masked": masked frames, "penalty": valid frames, "unmasked": masked frames}.

        The recipe divides the loss of unmasked frames, too, by the number of masked ones.
        """
        masked = float(_mask(batch).sum())
        counts = {"masked": masked}
        if self.options.feature_penalty > 0:
            counts["penalty"] = float(sum(self._frames(batch)))
        if self.options.unmasked_weight > 0:
            counts["unmasked"] = masked
        return counts

    def _frames(self, batch: Batch) -> list[int]:
        """Valid frames of each example."""
        if self.grid is None or not isinstance(batch.inputs, Waves):
            raise PluginError("objective 'masked' needs audio, and `attach` before anything else")
        return [self.grid.frames(n) for n in batch.inputs.lengths.tolist()]

    def forward(self, model: Scorer, batch: Batch) -> Loss:
        """See `Objective.forward`. batch.targets: i64[B, T], the cluster of each frame, padded.

        Raises:
            PluginError: targets that don't fit the encoder's frames or the number of clusters.
        """
        encoded = model.encode(batch)
        states, mask = encoded.layers[-1], _mask(batch.here)
        if batch.targets.shape[:2] != states.shape[:2]:
            raise PluginError(
                f"targets of {list(batch.targets.shape[:2])} for frames of {list(states.shape[:2])}"
            )
        counts, options = self.counts(batch.here), self.options
        logits = self._logits(masked_rows(states, mask))
        targets = batch.here.targets[mask].to(states.device, non_blocking=True)
        loss = functional.cross_entropy(logits, targets, reduction="sum")
        terms = {"masked": Term(loss, counts["masked"], options.masked_weight)}
        if options.feature_penalty > 0:
            assert encoded.local is not None
            # Padding is zero there, and adds nothing.
            squares = encoded.local.float().square().sum() / encoded.local.shape[-1]
            terms["penalty"] = Term(squares, counts["penalty"], options.feature_penalty)
        if options.unmasked_weight > 0:
            sizes = torch.tensor(self._frames(batch.here), device=mask.device)
            places = torch.arange(mask.shape[1], device=mask.device) < sizes[:, None]
            places = places & ~mask
            wanted = batch.here.targets[places].to(states.device, non_blocking=True)
            other = self._logits(masked_rows(states, places))
            rest = functional.cross_entropy(other, wanted, reduction="sum")
            terms["unmasked"] = Term(rest, counts["unmasked"], options.unmasked_weight)
        frames = encoded.lengths if states.device == mask.device else batch.here.target_lengths
        return Loss(terms, self._logs(logits.detach(), targets, frames))

    def _logits(self, states: Tensor) -> Tensor:
        """f32[N, D] -> f32[N, clusters]: cosines over the temperature."""
        ours = functional.normalize(self.final_proj(states).float(), dim=-1)
        theirs = functional.normalize(self.label_embeddings.float(), dim=-1)
        # Half precision would round cosines / .1 to 1/100: not worth the speed of one product.
        with torch.autocast(states.device.type, enabled=False):
            return ours @ theirs.T / self.options.temperature

    def _logs(
        self, logits: Tensor, targets: Tensor, lengths: Tensor
    ) -> dict[str, tuple[float | Tensor, float]]:
        """accuracy of masked frames; perplexity of what is predicted, over all of them (1: always
        the same cluster); mask_share of the valid frames."""
        masked = float(len(targets))
        right = (logits.argmax(-1) == targets).sum()
        marginal = logits.softmax(-1).sum(0) / max(1.0, masked)
        perplexity = torch.xlogy(marginal, marginal).sum().neg().exp()
        told: Any = (right.float(), perplexity)
        if perplexity.device.type == "cpu":  # else the trainer fetches them with the rest
            told = (right.item(), perplexity.item())
        return {
            "accuracy": (told[0], masked),
            "perplexity": (told[1] * masked, masked),
            "mask_share": (masked, float(lengths.sum())),
        }

    def load_pretrained(self, tensors: Mapping[str, Tensor]) -> bool:
        """Take `masked.final_proj.*` and `masked.label_embeddings`; False where they are missing,
        or of another width or number of clusters: clusters made anew have other vectors."""
        own = self.state_dict()
        given = {name: tensors[_PREFIX + name] for name in own if _PREFIX + name in tensors}
        if any(name not in given or given[name].shape != own[name].shape for name in own):
            return False
        self.load_state_dict(given)
        return True

    def extras(self) -> Mapping[str, Tensor]:
        """See `Objective.extras`: `masked.final_proj.*` and `masked.label_embeddings`."""
        return {_PREFIX + name: tensor for name, tensor in self.state_dict().items()}


def _mask(batch: Batch) -> Tensor:
    if batch.mask is None:
        raise PluginError("objective 'masked' needs a mask of frames: it is for `bab pretrain`")
    return batch.mask
