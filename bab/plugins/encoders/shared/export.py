"""A speech encoder -> a folder that bab and transformers both read.

Where the extras are a wav2vec 2.0 quantiser and its projections, the folder holds transformers'
model for pretraining, else the bare encoder; further tensors stand beside it, and transformers
leaves them out with a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bab import BabError, write_json, write_tensors

_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_QUANTISER = ("quantizer.codevectors", "quantizer.weight_proj.weight", "project_q.weight")


def write(
    folder: Path,
    config: Any,
    normalize: bool,
    states: Mapping[str, Tensor],
    extras: Mapping[str, Tensor],
    dtype: str,
    names: tuple[str, str],
) -> None:
    """Write model.safetensors, preprocessor_config.json and config.json, each whole or not at all.

    Args:
        folder: made where it is missing.
        config: the transformers configuration of the encoder.
        normalize: whether the encoder standardises its input.
        states: the encoder's tensors, without prefix.
        extras: further tensors, under their full names.
        dtype: "float32" or "float16", of the tensors in the file.
        names: transformers' classes, of the encoder and for pretraining ("" where it has none).

    Raises:
        BabError: another dtype, or a tensor of the extras that is named as one of the encoder's.
    """
    if dtype not in _DTYPES:
        raise BabError(f"export dtype '{dtype}': known are {', '.join(_DTYPES)}")
    said = config.to_dict()
    for key in ("_name_or_path", "dtype", "torch_dtype"):
        said.pop(key, None)
    pretraining = bool(names[1]) and all(name in extras for name in _QUANTISER)
    prefix = f"{config.model_type}." if pretraining else ""
    tensors = {prefix + name: tensor for name, tensor in states.items()}
    if tensors.keys() & extras.keys():
        raise BabError(f"extras may not hold the encoder's own '{min(tensors.keys() & extras)}'")
    if pretraining:
        said.update(_quantiser(extras))
    said.update(architectures=[names[1] if pretraining else names[0]], dtype=dtype)
    _save({**tensors, **extras}, folder / "model.safetensors", _DTYPES[dtype])
    write_json(folder / "preprocessor_config.json", _extractor(config, normalize))
    write_json(folder / "config.json", said)


def _quantiser(extras: Mapping[str, Tensor]) -> dict[str, Any]:
    """What transformers' configuration has to say for the quantiser's shapes."""
    codevectors, projection = extras["quantizer.codevectors"], extras["project_q.weight"]
    width = projection.shape[1]
    groups = width // codevectors.shape[2]
    return {
        "codevector_dim": width,
        "proj_codevector_dim": projection.shape[0],
        "num_codevector_groups": groups,
        "num_codevectors_per_group": codevectors.shape[1] // groups,
    }


def _extractor(config: Any, normalize: bool) -> dict[str, Any]:
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": 16000,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": normalize,
        # As published: models with group norm were trained without an attention mask.
        "return_attention_mask": config.feat_extract_norm == "layer",
    }


def _save(tensors: Mapping[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    plain = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None)
        for name, tensor in tensors.items()
    }
    write_tensors(path, plain, "encoder", format="pt")
