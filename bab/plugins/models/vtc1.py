"""VTC 1.0, the voice type classifier of 2020: four nets of pyannote.audio 1, one for each voice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bab import ConfigError, ModelParts, ModelReader, View, WeightsError, read_tensors
from bab.plugins.models.shared.files import read_settings

# Its names of the voices, in the order of task vtc. SPEECH, its fifth class, is no voice.
VOICES: Mapping[str, str] = {"KCHI": "KCHI", "CHI": "OCH", "MAL": "MAL", "FEM": "FEM"}
_LATER = {"OCH": "OCH"}  # the second release's name
WINDOW = 2.0  # seconds, `task.params.duration`
HOP = 0.5  # pyannote.audio 1 applies a model every quarter of its window


class Vtc1(ModelReader):
    """vtc1:DIR, the folder that holds weights/NNNN.pt, weights/specs.yml and, for each voice,
    validate_VOICE/.../params.yml with the chosen epoch and threshold (`onset`).

    SincNet, two BiLSTMs, two tanh layers, a sigmoid output; one checkpoint for each voice, of
    which that voice's output is used. Windows of 2 s every .5 s, averaged (as logits; pyannote
    averages probabilities); no gaps are filled and nothing is dropped, as params.yml says.

    Only tensors are read of the checkpoints (weights_only): no code in them is run.
    """

    source = "VTC 1.0: arXiv 2005.12656, github.com/MarvinLvn/voice-type-classifier"

    def read(self, where: str, *, offline: bool = False, trust_code: bool = False) -> ModelParts:
        """See `ModelReader.read`."""
        if not where:
            raise ConfigError("vtc1 needs a folder: vtc1:DIR")
        folder = Path(where).expanduser().resolve()
        weights = _weights(folder)
        classes = _classes(weights)
        chosen = _chosen(weights.parent, classes)
        files = sorted(weights.glob("*.pt"))
        # The encoder gives all files' nets side by side: each voice reads its own block of these.
        outputs = [read_tensors(file) for file in files]
        for file, tensors in zip(files, outputs, strict=True):
            if {"linear_.weight", "linear_.bias"} - tensors.keys():
                raise WeightsError(f"{file} has no output layer 'linear_': no net of VTC 1.0")
        widths = [tensors["linear_.weight"].shape[1] for tensors in outputs]
        labels = tuple(voice for voice, _, _, _ in chosen)
        weight, bias = torch.zeros(len(labels), sum(widths)), torch.zeros(len(labels))
        for row, (_, column, file, _) in enumerate(chosen):
            index = files.index(file)
            begin = sum(widths[:index])
            weight[row, begin : begin + widths[index]] = outputs[index]["linear_.weight"][column]
            bias[row] = outputs[index]["linear_.bias"][column]
        thresholds = {voice: onset for voice, _, _, onset in chosen}
        tensors_: dict[str, Tensor] = {"head.output.weight": weight, "head.output.bias": bias}
        return ModelParts(
            task="vtc",
            task_options={"classes": list(labels), "fill_gaps": 0.0, "min_segment": 0.0},
            labels={"voice": labels},
            encoder=f"pyannet:{weights}",
            head="frames",
            tensors=tensors_,
            tuned={key: {"thresholds": thresholds} for key in ("f1", "high-precision")},
            view=View(window=WINDOW, hop=HOP),
            notices=("VTC 1.0 has one set of thresholds: both presets are the same",),
        )


def _weights(folder: Path) -> Path:
    """The folder of checkpoints, in `folder` or below.

    Raises:
        WeightsError: none, or several.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder}: there is no such folder")
    there = sorted(
        {path.parent for path in folder.rglob("specs.yml") if any(path.parent.glob("*.pt"))}
    )
    if len(there) != 1:
        raise WeightsError(
            f"{folder} holds {len(there)} folders with specs.yml and .pt files: name that of one "
            "VTC 1.0 (model/train/...)"
        )
    return there[0]


def _classes(weights: Path) -> list[str]:
    """The output's classes, from specs.yml.

    Raises:
        WeightsError: it names none.
    """
    said = read_settings(weights / "specs.yml").get("y")
    classes = said.get("classes") if isinstance(said, Mapping) else None
    if not isinstance(classes, list):
        raise WeightsError(f"{weights / 'specs.yml'} names no classes under y")
    return [str(name) for name in classes]


def _chosen(folder: Path, classes: list[str]) -> list[tuple[str, int, Path, float]]:
    """Of each voice: its label, its column, its checkpoint and its threshold.

    Raises:
        WeightsError: a voice without params.yml, or one that says nothing usable.
    """
    rows = []
    for column, name in enumerate(classes):
        voice = {**VOICES, **_LATER}.get(name)
        if voice is None:
            continue
        files = sorted(folder.glob(f"validate_{name}/**/params.yml"))
        if len(files) != 1:
            raise WeightsError(
                f"{folder} holds {len(files)} validate_{name}/.../params.yml, not one"
            )
        said: dict[str, Any] = read_settings(files[0])
        try:
            onset = float(said["params"]["onset"])
            checkpoint = folder / "weights" / f"{int(said['epoch']):04d}.pt"
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{files[0]} lacks {error}") from error
        if not checkpoint.is_file() or not 0 <= onset <= 1:
            raise WeightsError(f"{files[0]}: {checkpoint.name} is not there, or onset is no share")
        rows.append((voice, column, checkpoint, onset))
    if not rows:
        raise WeightsError(f"{folder}: none of {', '.join(classes)} is a voice")
    order = list(VOICES.values())
    return sorted(rows, key=lambda row: order.index(row[0]))
