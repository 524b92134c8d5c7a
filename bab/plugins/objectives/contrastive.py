"""Objective `contrastive`: which quantised sound hides behind a masked frame?

wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477): the state of a masked frame is compared with
its own quantised features and with those of `negatives` other masked frames of the utterance. Equal
to transformers' `Wav2Vec2ForPreTraining` on the same weights, mask, negatives and noise, over the
number of masked frames; computed on the masked frames alone. One thing is meant there and not quite
done: a negative that has the positive's codes is no negative. Here codes are compared; there,
vectors, which rounding of the straight-through choice can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from bab import (
    Batch,
    ConfigError,
    Encoder,
    Loss,
    Objective,
    PluginError,
    Scorer,
    Term,
    derive_seed,
)
from bab.plugins.objectives.shared import at_once
from bab.plugins.objectives.shared.at_once import masked_rows
from bab.plugins.objectives.shared.diversity import unused_codes
from bab.plugins.objectives.shared.negatives import similarities
from bab.plugins.objectives.shared.quantiser import (
    BASE,
    ContrastiveOptions,
    Quantiser,
    gumbel,
    sizes_of,
)


class Contrastive(Objective):
    """Cross-entropy of the positive among its negatives, summed over masked frames; and diversity.

    An utterance with a single masked frame has no negatives: it counts for nothing. Noise and
    negatives are drawn from `batch.seeds`, so that no example's depend on the batch. Weights:
    `quantizer`, `project_hid`, `project_q`, named and drawn as transformers'.
    """

    Options = ContrastiveOptions
    pretrains: ClassVar[bool] = True
    # wav2vec 2.0 base's (Baevski et al. 2020, sec. 4.2); the batch is for one GPU.
    defaults: ClassVar[Mapping[str, Any]] = {
        "mask": {"prob": 0.65, "length": 10},
        "train": {
            "lr": 5e-4, "betas": [0.9, 0.98], "eps": 1e-6, "clip": None, "schedule": "linear",
        },
    }  # fmt: skip
    source = "Baevski et al. 2020 (arXiv 2006.11477); transformers' Wav2Vec2ForPreTraining"
    quantizer: Quantiser
    project_hid: nn.Linear
    project_q: nn.Linear

    def __init__(self, dim: int, sizes: Sequence[int], options: ContrastiveOptions) -> None:
        """sizes: of no labels: there are none. `attach` makes the quantiser."""
        super().__init__(dim, sizes, options)
        self.options = options
        self._dim = dim
        self.groups = options.groups or BASE.groups
        self.codes = options.codes or BASE.codes

    def attach(self, encoder: Encoder) -> None:
        """See `Objective.attach`: the quantiser is as wide as the local features, and of the size
        of the checkpoint's where the options don't say otherwise."""
        if encoder.local_dim is None:
            raise ConfigError(
                f"objective 'contrastive' can't pretrain '{encoder.resolved}': it has no "
                "convolutional features to quantise; wav2vec2, hubert and wavlm have"
            )
        o, there = self.options, sizes_of(encoder.extras()) or BASE
        self.groups, self.codes = o.groups or there.groups, o.codes or there.codes
        width, projection = o.codevector_dim or there.width, o.projection or there.projection
        if width % self.groups:
            raise ConfigError(
                f"objective.codevector_dim {width} is no multiple of objective.groups {self.groups}"
            )
        self.project_hid = nn.Linear(self._dim, projection)
        self.project_q = nn.Linear(width, projection)
        self.quantizer = Quantiser(encoder.local_dim, self.groups, self.codes, width)

    def gumbel_temperature(self, step: int) -> float:
        """The temperature of the choice of codes at a step, from 0."""
        o = self.options
        return max(o.gumbel_min, o.gumbel_max * o.gumbel_decay**step)

    def counts(self, batch: Batch) -> dict[str, float]:
        """{"contrastive": masked frames, "diversity": the same}."""
        frames = float(_mask(batch).sum())
        return {"contrastive": frames, "diversity": frames}

    def forward(self, model: Scorer, batch: Batch) -> Loss:
        """See `Objective.forward`. The term "diversity" is exempt from equality over accumulation:
        it is a function of how often each code was chosen in a micro-batch, over all ranks."""
        encoded = model.encode(batch)
        mask = _mask(batch.here)
        local = encoded.local if encoded.normed is None else encoded.normed
        if local is None:
            raise PluginError("the encoder gives no local features: there is nothing to quantise")
        if len(batch.seeds) != len(mask):
            raise PluginError(f"{len(batch.seeds)} seeds for {len(mask)} examples")
        sizes = mask.sum(1).tolist()
        noise = self._noise(sizes, batch.seeds, local.device) if self.training else None
        heard = masked_rows(local, mask)
        quantised = self.quantizer(heard, self.gumbel_temperature(batch.step), noise)
        states = self.project_hid(masked_rows(encoded.layers[-1], mask))
        targets = self.project_q(quantised.vectors)
        o = self.options
        seeds = [derive_seed(seed, "negatives") for seed in batch.seeds]
        logits = similarities(
            states, targets, quantised.codes, sizes, seeds, o.negatives, o.temperature
        )
        count = self.counts(batch.here)["contrastive"]
        first = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        loss = functional.cross_entropy(logits, first, reduction="sum")
        diversity, used = unused_codes(quantised.probs, count, self.training)
        terms = {
            "contrastive": Term(loss, count),
            "diversity": Term(diversity, count, o.diversity_weight, exact=False),
        }
        frames = encoded.lengths if local.device == mask.device else batch.here.target_lengths
        return Loss(terms, self._logs(logits.detach(), used, count, frames, batch.step))

    def _noise(self, sizes: Sequence[int], seeds: Sequence[int], device: torch.device) -> Tensor:
        """f32[N, G, V] for the masked frames of all examples, each example's from its own seed."""
        seeds = [derive_seed(seed, "gumbel") for seed in seeds]
        if device.type != "cpu":
            return at_once.gumbel(at_once.Layout.of(sizes, device), self.groups, self.codes, seeds)
        draws = [
            gumbel(size, self.groups, self.codes, seed)
            for size, seed in zip(sizes, seeds, strict=True)
        ]
        return torch.cat(draws)

    def _logs(
        self, logits: Tensor, used: Tensor, count: float, lengths: Tensor, step: int
    ) -> dict[str, tuple[float | Tensor, float]]:
        """accuracy: the positive is the likeliest, where any negative differs from it at all;
        perplexity: codes in use, of `groups * codes`, at worst `groups`; mask_share of the valid
        frames; gumbel, the temperature."""
        right = (logits[:, :1] > logits[:, 1:]).all(1) & (logits[:, 1:] > -torch.inf).any(1)
        told: Any = (right.sum().float(), used)
        if used.device.type == "cpu":  # else the trainer fetches them with the rest of the step
            told = (told[0].item(), told[1].item())
        return {
            "accuracy": (told[0], count),
            "perplexity": (told[1] * count, count),
            "mask_share": (count, float(lengths.sum())),
            "gumbel": (self.gumbel_temperature(step), 1.0),
        }

    def load_pretrained(self, tensors: Mapping[str, Tensor]) -> bool:
        """Take `quantizer.*`, `project_hid.*`, `project_q.*` of `Wav2Vec2ForPreTraining`.

        Raises:
            ConfigError: they are of another size than the options and the encoder say.
        """
        own = self.state_dict()
        if any(name not in tensors for name in own):
            return False
        for name, tensor in own.items():
            if tensors[name].shape != tensor.shape:
                raise ConfigError(
                    f"the checkpoint's '{name}' is {list(tensors[name].shape)}, but objective "
                    f"'contrastive' has {list(tensor.shape)}: leave objective.groups, codes, "
                    "codevector_dim and projection unset, and they are the checkpoint's"
                )
        self.load_state_dict({name: tensors[name] for name in own})
        return True

    def extras(self) -> Mapping[str, Tensor]:
        """See `Objective.extras`: transformers' names."""
        return dict(self.state_dict())


def _mask(batch: Batch) -> Tensor:
    """bool[B, T]: the masked frames of the examples that have more than one."""
    if batch.mask is None:
        raise PluginError(
            "objective 'contrastive' needs a mask of frames: it is for `bab pretrain`"
        )
    mask: Tensor = batch.mask & (batch.mask.sum(1, keepdim=True) > 1)
    return mask
