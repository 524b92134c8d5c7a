"""Encoder + layer mix + head as one module; saved without the encoder where that was frozen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bab.checking.encoders import encode
from bab.core import sealed
from bab.core.errors import BabError, ConfigError
from bab.core.interfaces import Encoder, Head, Scorer
from bab.core.types import Batch, Waves
from bab.data.sealed import read_json, write_json

_FORMAT = 1
SPEC = "model.json"
_KEYS = (
    *("encoder", "resolved", "fingerprint", "task", "head", "layers", "view", "pool", "labels"),
    *("tuned", "run"),
)
_REMEDY = "run again with --force"
WEIGHTS = "model.safetensors"


class LayerMix(nn.Module):
    """Layers -> one sequence: softmax-weighted sum (SUPERB's featurizer), the last, or the n-th.

    SUPERB (Yang et al. 2021, arXiv 2105.01051): one learned scalar per layer, the input embedding
    included, softmax over layers, zero at the start (equal weights).
    """

    def __init__(self, depth: int, layers: Literal["mix", "last"] | int) -> None:
        super().__init__()
        if isinstance(layers, int) and not -depth <= layers < depth:
            raise ConfigError(f"layers={layers}: this encoder has layers 0 to {depth - 1}")
        self.layers = layers
        if layers == "mix" and depth > 1:
            self.logits = nn.Parameter(torch.zeros(depth))

    @property
    def wanted(self) -> Literal["last", "all"] | int:
        """What the encoder, or the feature store, has to give."""
        return "all" if self.layers == "mix" else self.layers

    def weights(self) -> Tensor:
        """f32[L], summing to one."""
        return self.logits.softmax(0) if hasattr(self, "logits") else torch.ones(1)

    def forward(self, states: Tensor) -> Tensor:
        """f32[B, L, T, D] -> f32[B, T, D]; L is 1 unless the layers are mixed."""
        states = states.float()  # as kept features come to a GPU, maybe in half precision
        if not hasattr(self, "logits"):
            return states[:, 0]
        weights = self.logits.softmax(0)
        if states.shape[2] == 1:  # einsum's preparations would cost twice the sum
            return torch.bmm(weights.expand(len(states), 1, -1), states.squeeze(2))
        return torch.einsum("l,bltd->btd", weights, states)


class Answered(Scorer):
    """Stands for a model before an objective: its output is known already, for one batch alone."""

    known = True

    def __init__(self, logits: Tensor, lengths: Tensor) -> None:
        super().__init__()
        self.encoder = None
        self.answer = (logits, lengths)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.answer


class Model(Scorer):
    """What is trained and run. `encoder` is None where inputs are cached features."""

    def __init__(
        self, encoder: Encoder | None, mix: LayerMix, head: Head, pool: bool = False
    ) -> None:
        """pool: the head gets one frame, the mean over each example's frames."""
        super().__init__()
        self.pool = pool
        self.encoder = encoder
        self.mix = mix
        self.head = head

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The head's output, and the valid frames of each example, i64[B]."""
        x, lengths = self.frames(batch)
        return self.head(x, lengths), lengths

    def embed(self, batch: Batch) -> Tensor:
        """The head's embedding of each example, f32[B, E] (pair tasks)."""
        embedding: Tensor = self.head.embed(*self.frames(batch))
        return embedding

    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the head is given: f32[B, T, D], and the valid frames of each example, i64[B]."""
        if not isinstance(batch.inputs, Waves):
            return self.mix(batch.inputs.states), batch.inputs.lengths
        states, lengths = self._encode(batch.inputs, batch.mask)
        x = self.mix(states)
        if batch.inputs.keep is not None:
            x, lengths = kept(x, lengths, batch.inputs.keep)
        if self.pool:
            inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
            x = (x * inside[..., None]).sum(1, keepdim=True) / lengths[:, None, None]
            lengths = torch.ones_like(lengths)
        return x, lengths

    def _encode(self, waves: Waves, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.encoder is None:
            raise TypeError("this model was built for cached features: it has no encoder")
        wanted = self.mix.wanted
        encoded = encode(self.encoder, waves, mask, "last" if wanted == "last" else "all")
        kept = encoded.layers
        if isinstance(wanted, int):
            kept = (kept[wanted],)
        return torch.stack(kept, dim=1), encoded.lengths


def kept(x: Tensor, lengths: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [first, last) of each example, moved to the front: x f32[B, T, D], keep i64[B, 2]."""
    last = torch.minimum(keep[:, 1], lengths)
    counts = (last - keep[:, 0]).clamp(min=1)
    spans = zip(keep[:, 0].tolist(), counts.tolist(), strict=True)
    rows = [x[i, first : first + n] for i, (first, n) in enumerate(spans)]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), counts


def save(folder: Path, weights: Mapping[str, Tensor], spec: Mapping[str, Any]) -> None:
    """Write model.safetensors, then model.json, each whole or not at all.

    spec: what `load_spec` gives back: components with options, labels, what was tuned.
    """
    written = sealed.write_tensors(folder / WEIGHTS, weights, str(spec["run"]))
    write_json(folder / SPEC, {"format": _FORMAT, **spec, "weights": written})


def load_spec(folder: Path) -> dict[str, Any]:
    """The description of a saved model.

    Raises:
        BabError: where the folder holds none, or one that is damaged or of another version.
    """
    path = folder / SPEC
    try:
        spec = read_json(path, ("format",), _REMEDY)
    except FileNotFoundError:
        raise BabError(
            f"{folder} holds no model ({SPEC} is missing): name a finished run's `model` folder"
        ) from None
    if spec["format"] != _FORMAT:
        raise BabError(f"{path} has format {spec['format']}; this bab reads format {_FORMAT}")
    if lost := [key for key in _KEYS if key not in spec]:
        raise BabError(f"{path} is damaged (it lacks '{lost[0]}'): {_REMEDY}")
    return spec


def sealed_by_bab(spec: Mapping[str, Any]) -> bool:
    """Whether a description was checked against its checksum."""
    return "weights" in spec


def load_weights(folder: Path, spec: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a saved model, by their names in `Model.state_dict()`.

    spec: what `load_spec` gave.

    Raises:
        BabError: where they are missing, damaged, or of another model.
    """
    path = folder / WEIGHTS
    try:
        tensors, about = sealed.read(path, str(spec["run"]), _REMEDY)
    except FileNotFoundError:
        raise BabError(f"{path} is missing: {_REMEDY}") from None
    if spec.get("weights") not in (None, about.get(sealed.SUM)):
        raise BabError(f"{path} holds other weights than {SPEC} was written with: {_REMEDY}")
    return tensors
