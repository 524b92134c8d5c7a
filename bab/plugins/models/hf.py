"""Models of Hugging Face transformers with a task's head, from a folder or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bab import (
    ConfigError,
    ModelParts,
    ModelReader,
    View,
    WeightsError,
    locate_weights,
    read_json,
    read_weights,
)
from bab.plugins.models.shared.heads import READERS

FAMILIES = ("wav2vec2", "hubert", "wavlm")


class HuggingFace(ModelReader):
    """hf:DIR or hf:OWNER/NAME[@REVISION]: what transformers saves of wav2vec 2.0, HuBERT and WavLM.

    ForXVector is read for task sv, ForCTC for asr (for phonemes, where its tokenizer is of phones),
    ForSequenceClassification for classify (or any task of whole clips with these labels),
    ForAudioFrameClassification for vtc, where its labels are voices. Labels are the model's
    id2label or its tokenizer's vocabulary. Logits are transformers' own to 1e-4; a recording over
    30 s is encoded in windows. No code from a repository is run.
    """

    where = "DIR or OWNER/NAME"
    source = "Hugging Face transformers"

    def read(self, where: str, *, offline: bool = False, trust_code: bool = False) -> ModelParts:
        """See `ModelReader.read`."""
        if not where:
            raise ConfigError("hf needs a folder or a name on the hub: hf:DIR or hf:OWNER/NAME")
        located = locate_weights(where, encoder="hf", hub={}, known=(), offline=offline)
        config = _config(located.path)
        kind, family = _kind(config, located.path)
        tensors = read_weights(located.path)
        shared = _shared(config, tensors)
        read = READERS[kind](config, tensors, located.path)
        return ModelParts(
            encoder=f"{family}:{located.name}",
            encoder_options={"normalize": _normalised(located.path)},
            layers="mix" if shared else "last",
            view=View(),
            **{**read, "tensors": {**read["tensors"], **shared}},
        )


def _config(path: Path) -> dict[str, Any]:
    """config.json.

    Raises:
        WeightsError: it isn't there.
    """
    if not (path / "config.json").is_file():
        raise WeightsError(
            f"{path} has no config.json: it should be a folder that transformers saved"
        )
    return read_json(path / "config.json")


def _kind(config: Mapping[str, Any], path: Path) -> tuple[str, str]:
    """("CTC", "wav2vec2") and the like.

    Raises:
        WeightsError: a model that isn't read here, by its name.
    """
    names = [str(name) for name in config.get("architectures") or ["no architecture"]]
    kind = next((k for name in names for k in READERS if name.endswith(f"For{k}")), None)
    family = str(config.get("model_type"))
    if kind is None or family not in FAMILIES:
        raise WeightsError(
            f"{path} holds {names[0]} of type '{family}': read are "
            f"{', '.join(f'For{k}' for k in READERS)} of {', '.join(FAMILIES)}"
        )
    if config.get("add_adapter"):
        raise WeightsError(f"{path}: {names[0]} with an adapter (add_adapter) is not read")
    return kind, family


def _normalised(path: Path) -> bool:
    """Whether the feature extractor standardises its input; transformers' default is yes."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (path / name).is_file():
            said = read_json(path / name)
            return bool(said.get("feature_extractor", said).get("do_normalize", True))
    return True


def _shared(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the layers, where they are mixed: softmax of `layer_weights`, as here."""
    if config.get("use_weighted_layer_sum") and "layer_weights" in tensors:
        return {"mix.logits": tensors["layer_weights"]}
    return {}
