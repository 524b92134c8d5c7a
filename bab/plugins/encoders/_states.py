"""From files to a configuration and tensors with transformers' names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bab.core.weights import WeightsError, checkpoint, read_folder, read_json, read_tensors
from bab.plugins.encoders._torchaudio import convert, modern

# May be missing: a model that was fine-tuned without masking has no mask embedding.
_OPTIONAL = {"masked_spec_embed"}


@dataclass(frozen=True, slots=True)
class Weights:
    """A configuration (config.json's keys) and the encoder's tensors; None: untrained.

    normalize: whether the model was trained on normalised input. where: for messages.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor] | None
    normalize: bool
    where: str

    def fill(self, model: nn.Module) -> None:
        """Copy the tensors into the model.

        Raises:
            WeightsError: some are missing, or differ in shape from the configuration's.
        """
        given = self.tensors or {}
        wanted = model.state_dict()
        missing = [name for name in wanted if name not in given and name not in _OPTIONAL]
        if missing:
            raise WeightsError(
                f"{self.where} lacks {len(missing)} of the encoder's {len(wanted)} tensors, e.g. "
                f"'{missing[0]}': it doesn't hold the model that its configuration describes"
            )
        for name, tensor in wanted.items():
            if name in given and given[name].shape != tensor.shape:
                raise WeightsError(
                    f"{self.where}: '{name}' is {list(given[name].shape)}, but the configuration "
                    f"asks for {list(tensor.shape)}"
                )
        model.load_state_dict({name: given.get(name, wanted[name]) for name in wanted})


def read(path: Path, model_type: str) -> Weights:
    """A transformers folder, or a checkpoint file in torchaudio's format.

    Raises:
        WeightsError: naming the file: no weights, damaged, or another family's.
    """
    file = checkpoint(path)
    if file is not None:
        if model_type != "hubert":
            raise WeightsError(
                f"{file} is a checkpoint without config.json: only hubert reads those "
                "(torchaudio's HuBERTPretrainModel)"
            )
        config, tensors = convert(read_tensors(file), str(file))
        # torchaudio's recipe, and BabyHuBERT's, feed the waveform as it is.
        return Weights(config, tensors, False, str(file))
    config = read_json(path / "config.json")
    _check_family(config, model_type, path)
    tensors = _encoder_part(read_folder(path), model_type)
    extractor = path / "preprocessor_config.json"
    said = read_json(extractor) if extractor.is_file() else {}
    rate = said.get("sampling_rate", 16000)
    if rate != 16000:
        raise WeightsError(f"{extractor}: sampling_rate is {rate} Hz; {model_type} runs at 16000")
    return Weights(config, tensors, bool(said.get("do_normalize", True)), str(path))


def _check_family(config: dict[str, Any], model_type: str, folder: Path) -> None:
    found = config.get("model_type")
    if found == model_type:
        return
    remedy = f"name {model_type} weights"
    if found in ("hubert", "wav2vec2", "wavlm"):
        remedy = f"try --encoder {found}:{folder}"
    file = folder / "config.json"
    raise WeightsError(f"{file} describes a '{found}' model, not a '{model_type}': {remedy}")


def _encoder_part(tensors: dict[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """The encoder's tensors without the prefix that task and pretraining models give them."""
    prefix = f"{model_type}."
    inner = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return {modern(name): tensor for name, tensor in (inner or tensors).items()}
