"""Models that segma trained: VTC 2.x, and BabyHuBERT's addressee model beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bab import (
    ConfigError,
    ModelParts,
    ModelReader,
    View,
    WeightsError,
    did_you_mean,
    read_tensors,
)
from bab.plugins.models.shared.files import one_file, read_settings

# thresholds/f1.toml and hp.toml of LAAC-LSCP/VTC, by label (arXiv 2509.15001).
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "f1": {"KCHI": 0.437, "OCH": 0.378, "MAL": 0.429, "FEM": 0.377},
    "high-precision": {"KCHI": 0.8, "OCH": 0.52, "MAL": 0.75, "FEM": 0.8},
}
# Preset of task vtc -> the names that its thresholds have.
_FILES = {"f1": ("f1", "thresholds", "best_thresholds"), "high-precision": ("hp",)}
_SUFFIXES = (".toml", ".yml", ".yaml")
ADDRESSEES = ("ADS", "KCDS", "Other")
_HEAD = "task_heads.linear_head_"
_CONVERTED = "surgical_hubert_hydra"


class Segma(ModelReader):
    """segma:DIR, a folder with a Lightning checkpoint (best.ckpt) and config.yml or config.toml.

    VTC 2.x (`hf download coml/VTC-2 --local-dir VTC-2`): windows of 4 s that tile, the last one
    shorter; thresholds of f1.toml and hp.toml where the folder holds them, else the published ones;
    gaps under .1 s filled, then segments under .1 s dropped: segma's labels to the last frame. VTC
    2.2 averages windows that overlap by three quarters: `bab predict --overlap .75`.

    The addressee model (coml/addressee: a `classifier` on the mean over an utterance's frames) is
    read for task addressee.

    Only tensors are read of the checkpoint (weights_only): no code in it is run.
    """

    source = "segma (github.com/arxaqapi/segma), LAAC-LSCP/VTC, LAAC-LSCP/addressee"

    def read(self, where: str, *, offline: bool = False, trust_code: bool = False) -> ModelParts:
        """See `ModelReader.read`."""
        if not where:
            raise ConfigError("segma needs a folder: segma:DIR")
        folder = Path(where).expanduser().resolve()
        checkpoint = one_file(folder, (".ckpt",), ("best",), "a Lightning checkpoint")
        settings = read_settings(one_file(folder, _SUFFIXES, ("config",), "segma's configuration"))
        tensors = read_tensors(checkpoint)
        if not any(name.endswith("conv_layers.0.conv.weight") for name in tensors):
            raise WeightsError(f"{checkpoint} holds no HuBERT of torchaudio's: no convolutions")
        if any(
            name.endswith("feature_extractor.conv_layers.1.layer_norm.weight") for name in tensors
        ):
            raise WeightsError(f"{checkpoint} holds a large HuBERT; read are those of base style")
        heads = _by_label(tensors)
        if heads:
            return _voices(folder, checkpoint, settings, heads)
        for name in tensors:
            if name.endswith("classifier.weight"):
                return _addressee(checkpoint, settings, tensors, name.removesuffix("weight"))
        raise WeightsError(
            f"{checkpoint} has neither '{_HEAD}LABEL' (VTC 2) nor 'classifier' (addressee)"
        )


def _by_label(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Label -> its linear head's weight and bias."""
    heads: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        _, there, rest = name.rpartition(_HEAD)
        if there:
            label, _, part = rest.rpartition(".")
            heads.setdefault(label, {})[part] = tensor
    return heads


def _voices(
    folder: Path, checkpoint: Path, settings: Mapping[str, Any], heads: Mapping[str, Any]
) -> ModelParts:
    """VTC 2: a Linear(D, 1) for each label on the last layer."""
    try:
        name = str(settings["model"]["name"])
        labels = tuple(str(label) for label in settings["data"]["classes"])
        window = float(settings["audio"]["chunk_duration_s"])
        rate = int(settings["audio"].get("sample_rate", 16000))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder}: segma's configuration lacks {error}") from error
    if name != _CONVERTED or rate != 16000:
        raise WeightsError(f"{folder}: model '{name}' at {rate} Hz; read is {_CONVERTED} at 16000")
    missing = [label for label in labels if label not in heads]
    if missing:
        raise WeightsError(f"{checkpoint} has no head for '{missing[0]}', which its config names")
    unknown = [label for label in labels if label not in PUBLISHED["f1"]]
    if unknown:
        raise WeightsError(
            f"{folder}: label '{unknown[0]}': {did_you_mean(unknown[0], PUBLISHED['f1'])}"
        )
    tuned, notices = _thresholds(folder, labels)
    output = {p: torch.cat([heads[label][p] for label in labels]) for p in ("weight", "bias")}
    return ModelParts(
        task="vtc",
        task_options={"classes": list(labels)},
        labels={"voice": labels},
        encoder=f"segma:{checkpoint}",
        head="frames",
        head_options={"dropout": 0.5},
        tensors={f"head.output.{part}": tensor for part, tensor in output.items()},
        tuned=tuned,
        view=View(window=window, crop=True, tail="short"),
        notices=notices,
    )


def _thresholds(
    folder: Path, labels: tuple[str, ...]
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """By preset and label: the folder's own, else the published ones; and what was assumed.

    Raises:
        WeightsError: a file without a threshold for one of the labels.
    """
    tuned: dict[str, dict[str, Any]] = {}
    notices = []
    for preset, names in _FILES.items():
        file = one_file(folder, _SUFFIXES, names)
        if file is None:
            chosen = {label: PUBLISHED[preset][label] for label in labels}
            notices.append(
                f"{folder.name} holds no {names[0]}.toml: thresholds of preset {preset} are those "
                "published with VTC 2"
            )
        else:
            chosen = _bounds(file, labels)
        tuned[preset] = {"thresholds": chosen}
    return tuned, tuple(notices)


def _bounds(file: Path, labels: tuple[str, ...]) -> dict[str, float]:
    """`[KCHI] lower_bound = .437`, looked up by label: segma itself goes by the file's order."""
    said = read_settings(file)
    chosen = {}
    for label in labels:
        value = said.get(label)
        value = value.get("lower_bound") if isinstance(value, Mapping) else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise WeightsError(
                f"{file}: {label} needs a lower_bound from 0 to 1, and has {value!r}"
            )
        chosen[label] = float(value)
    return chosen


def _addressee(
    checkpoint: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str
) -> ModelParts:
    """Linear(D, 3) on the mean over the utterance's frames; context_size is what is heard in all,
    utterance included."""
    weight = tensors[f"{prefix}weight"]
    if len(weight) != len(ADDRESSEES):
        raise WeightsError(
            f"{checkpoint}: {len(weight)} classes; the addressee model has {', '.join(ADDRESSEES)}"
        )
    return ModelParts(
        task="addressee",
        labels={"addressee": ADDRESSEES},
        encoder=f"segma:{checkpoint}",
        head="pooled",
        head_options={"hidden": 0, "dropout": 0.5},
        tensors={"head.output.weight": weight, "head.output.bias": tensors[f"{prefix}bias"]},
        view=View(context=float(settings.get("context_size", 20.0)) / 2),
    )
