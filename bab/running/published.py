"""Other tools' trained models, in our words: what a plugin of kind `models` reads, and how it is
named (`segma:DIR`, `hf:OWNER/NAME`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bab.config.run import EncoderConfig
from bab.core import names, registry
from bab.core.components import build_task
from bab.core.errors import BabError, PluginError
from bab.core.options import Component
from bab.core.types import Labels, View

if TYPE_CHECKING:
    from torch import Tensor

_LEFT = ("model.json", "model", "folds")  # of a run: a folder may be called as a reader is
_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A trained model as what a run leaves: components by name, labels, tuned values, tensors.

    encoder: as `--encoder` takes it, NAME or NAME:WEIGHTS, several joined by `+`; it holds its own
        weights, unless `tensors` has them.
    encoder_options: of a single encoder; of several, by name, and `fusion`.
    labels: output group -> class names, in the order of the head's outputs; of a sequence task the
        blank comes first.
    tensors: all of the head's, under `head.`; where layers are mixed, `mix.logits` f32[L], whose
        softmax weighs them. The names are those of the components' own state dicts.
    tuned: by preset of the task, what its `tune` would give (thresholds); what is missing is {}.
    layers: of the encoder's states: "last", "mix" or a number.
    view: what one example is; None: the task's.
    pool: the head gets one frame, the mean over each example's.
    notices: what a user should know: what was assumed, or what it must not be used for.
    """

    task: str
    labels: Labels
    encoder: str
    head: str
    tensors: Mapping[str, Tensor]
    task_options: Mapping[str, Any] = field(default_factory=dict)
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    head_options: Mapping[str, Any] = field(default_factory=dict)
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layers: Literal["last", "mix"] | int = "last"
    view: View | None = None
    pool: bool = False
    notices: tuple[str, ...] = ()


class ModelReader(Component):
    """Reads the models of another tool, wherever a run's folder may be named: NAME:WHERE."""

    where: str = "DIR"  # what stands after the colon, for `bab info`

    def read(self, where: str, *, offline: bool = False, trust_code: bool = False) -> ModelParts:
        """One model.

        Args:
            where: what stands after the colon; "" where nothing does.
            offline: never ask a hub.
            trust_code: allow code from the model's repository to run (off unless asked).

        Raises:
            BabError: naming the file and the remedy: nothing there, damaged, another kind of model.
        """
        raise NotImplementedError


class Reference(NamedTuple):
    """A published model as a person names it: `segma:/models/VTC-2`."""

    name: str
    where: str

    @property
    def text(self) -> str:
        """The same model from another working directory has the same name."""
        path = Path(self.where).expanduser()
        where = str(path.resolve()) if self.where and path.exists() else self.where
        return f"{self.name}:{where}" if where else self.name


def reference(model: str | Path) -> Reference | None:
    """The published model that is named; None for a run's folder.

    Raises:
        BabError: neither: a name that no reader has.
    """
    text = str(model)
    name, colon, where = text.partition(":")
    known = registry.names("models")
    place = Path(text).expanduser()
    if registry.known("models", name) and not any((place / left).exists() for left in _LEFT):
        return Reference(name, where)
    if colon and "/" not in name and not place.exists():
        raise BabError(
            f"'{text}': no folder, and no models are called '{name}': known are "
            + ", ".join(f"{one}:..." for one in known)
        )
    return None


def read_published(named: Reference, offline: bool, trust_code: bool) -> ModelParts:
    """What the reader makes of it.

    Raises:
        BabError: see `ModelReader.read`.
        PluginError: the reader gives something else.
    """
    reader = registry.load("models", named.name)()
    parts = reader.read(named.where, offline=offline, trust_code=trust_code)
    if not isinstance(parts, ModelParts):
        raise PluginError(f"the model '{named.name}' reads no bab.ModelParts: {parts!r:.60}")
    return parts


def spec_of(parts: ModelParts, named: Reference) -> dict[str, Any]:
    """What a run's model.json would say of it, but for what only the loaded encoder knows.

    Raises:
        ConfigError, PluginError: components or options that aren't there.
    """
    task = registry.load("tasks", parts.task)
    head = registry.load("heads", parts.head)
    options = task.Options(**parts.task_options).model_dump(mode="json")
    made = build_task(parts.task, options)
    unknown = sorted(set(parts.tuned) - set(made.presets))
    if unknown:
        raise PluginError(f"{named.text}: task '{parts.task}' has no preset '{unknown[0]}'")
    for preset, tuned in parts.tuned.items():
        for name, value in tuned.get("thresholds", _NONE).items():
            if not isinstance(value, Real) or not math.isfinite(value):
                told = f"threshold {name} of preset '{preset}' is {value!r}: a number expected"
                raise PluginError(f"{named.text}: {told}")
    encoder = _encoder(parts, task.level)
    return {
        "encoder": encoder.model_dump(mode="json"),
        "task": {"name": parts.task, "options": options},
        "task_version": task.version,
        "head": {
            "name": parts.head,
            "options": head.Options(**parts.head_options).model_dump(mode="json"),
        },
        "layers": parts.layers,
        "view": asdict(parts.view or task.view),
        "pool": parts.pool,
        "labels": {key: list(group) for key, group in parts.labels.items()},
        "tuned": {name: dict(parts.tuned.get(name, {})) for name in made.presets},
        "notice": made.notice,
        "notices": list(parts.notices),
        "published": named.text,
    }


def digest_of(spec: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """What identifies a model: 24 hexadecimal digits of its description and its tensors."""
    import torch

    said = {key: value for key, value in spec.items() if key not in ("published", "notices")}
    digest = hashlib.blake2b(json.dumps(said, sort_keys=True, default=str).encode(), digest_size=12)
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"\0{name}\0{plain.dtype}\0{tuple(plain.shape)}\0".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _encoder(parts: ModelParts, level: str) -> EncoderConfig:
    """The encoder, or the ensemble, with all options."""
    members = names.members(parts.encoder)
    if len(members) == 1:
        one = members[0]
        return EncoderConfig(
            name=one.name, weights=one.weights, options=_options(one, parts.encoder_options, level)
        )
    options: dict[str, Any] = {"fusion": parts.encoder_options.get("fusion", names.FUSIONS[0])}
    for one in members:
        options[one.name] = _options(one, parts.encoder_options.get(one.name, _NONE), level)
    return EncoderConfig(name=parts.encoder, options=options)


def _options(one: names.Member, given: Mapping[str, Any], level: str) -> dict[str, Any]:
    cls = registry.load("encoders", one.name)
    made: dict[str, Any] = cls.Options(**{**cls.defaults.get(level, {}), **given}).model_dump(
        mode="json"
    )
    return made
