"""transformers' heads -> ours: task, labels, head and tensors, by the end of a class's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bab import WeightsError
from bab.plugins.models.shared.vocabulary import blank_first, tokenizer_of

VOICES = frozenset({"KCHI", "OCH", "MAL", "FEM"})  # of task vtc
# The x-vector net that head `xvector` is (Snyder et al. 2018, transformers' default).
_TDNN = {
    "tdnn_dim": [512, 512, 512, 512, 1500],
    "tdnn_kernel": [5, 3, 3, 1, 1],
    "tdnn_dilation": [1, 2, 3, 1, 1],
}


def _labels(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """id2label in the order of the outputs."""
    said = {int(key): str(name) for key, name in (config.get("id2label") or {}).items()}
    return tuple(said.get(i, f"LABEL_{i}") for i in range(count))


def _taken(
    tensors: Mapping[str, Tensor], names: Mapping[str, str], path: Path
) -> dict[str, Tensor]:
    """Tensors under our names. names: theirs -> ours, without `.weight` and `.bias`.

    Raises:
        WeightsError: one is missing.
    """
    taken: dict[str, Tensor] = {}
    for theirs, ours in names.items():
        for part in ("weight", "bias"):
            if f"{theirs}.{part}" not in tensors:
                raise WeightsError(
                    f"{path} lacks '{theirs}.{part}', which its config.json promises"
                )
            taken[f"head.{ours}.{part}"] = tensors[f"{theirs}.{part}"]
    return taken


def _xvector(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> dict[str, Any]:
    for key, value in _TDNN.items():
        if list(config.get(key, value)) != value:
            raise WeightsError(f"{path}: {key} is {config[key]}; head xvector has {value}")
    names = [f"tdnn.{i}.kernel" for i in range(5)]
    names += ["projector", "feature_extractor", "classifier"]
    taken = _taken(tensors, {name: name for name in names}, path)
    speakers = tensors.get("objective.weight")
    count = 0 if speakers is None else speakers.shape[1]
    return {
        "task": "sv",
        "labels": {"speaker": _labels(config, count)},
        "head": "xvector",
        "head_options": {"size": len(taken["head.classifier.bias"])},
        "tensors": taken,
    }


def _ctc(config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    taken = _taken(tensors, {"lm_head": "output"}, path)
    size = len(taken["head.output.bias"])
    tokenizer = tokenizer_of(path, size, config.get("pad_token_id"))
    order = blank_first(size, tokenizer.blank)
    names = ("<blank>", *(tokenizer.names[i] for i in order[1:]))
    return {
        "task": "phonemes" if tokenizer.phones else "asr",
        "labels": {"phone" if tokenizer.phones else "char": names},
        "head": "ctc",
        "head_options": {"dropout": float(config.get("final_dropout", 0.0))},
        "tensors": {name: tensor[order] for name, tensor in taken.items()},
        "tuned": {"greedy": {} if tokenizer.phones else {"search": "greedy"}},
    }


def _clips(config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    if config.get("problem_type") not in (None, "single_label_classification"):
        raise WeightsError(
            f"{path}: problem_type '{config['problem_type']}'; read is one label for each clip"
        )
    taken = _taken(tensors, {"projector": "projection", "classifier": "output"}, path)
    names = _labels(config, len(taken["head.output.bias"]))
    if len(names) < 2:
        raise WeightsError(f"{path} has one output, a regression: read is one label for each clip")
    return {
        "task": "classify",
        "task_options": {"labels": ["label"]},
        "labels": {"label": names},
        "head": "pooled",
        "head_options": {"hidden": len(taken["head.projection.bias"])},
        "tensors": taken,
    }


def _frames(config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    taken = _taken(tensors, {"classifier": "output"}, path)
    names = _labels(config, len(taken["head.output.bias"]))
    if not set(names) <= VOICES:
        raise WeightsError(
            f"{path}: its frames' labels are {', '.join(names)}; task vtc knows "
            f"{', '.join(sorted(VOICES))}: rename them in config.json (id2label)"
        )
    return {
        "task": "vtc",
        "task_options": {"classes": list(names)},
        "labels": {"voice": names},
        "head": "frames",
        "tensors": taken,
    }


READERS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Tensor], Path], dict[str, Any]]] = {
    "XVector": _xvector,
    "CTC": _ctc,
    "SequenceClassification": _clips,
    "AudioFrameClassification": _frames,
}
