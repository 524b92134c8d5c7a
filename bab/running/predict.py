"""A saved model on recordings of any length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bab.audio import reading
from bab.config.run import EncoderConfig
from bab.core import registry
from bab.core.components import build_task
from bab.core.device import resolve_device
from bab.core.errors import BabError, did_you_mean
from bab.core.interfaces import Encoder, Head
from bab.core.types import Clip, Labels, Prediction, Tell, View
from bab.data.windows import Examples
from bab.running import model
from bab.running.assembly import assemble, live_source, open_encoder
from bab.running.fold import merge
from bab.running.inference import infer, per_pass
from bab.running.model import Model


def predict(
    folder: Path,
    files: Sequence[Path],
    out: Path,
    preset: str | None = None,
    device: str = "auto",
    offline: bool = False,
    trust_code: bool = False,
    tell: Tell = lambda stage, done, total, unit: None,
) -> list[Prediction]:
    """Run the model of a finished run over audio files and write what it says.

    Args:
        folder: a run's folder, or the `model` folder in it.
        files: audio files, or folders that are searched for them.
        out: folder that gets the predictions, in the task's own format.
        preset: one of the task's ways to decode; None = its first.
        device: auto, cpu, cuda or mps.
        tell: is told how many seconds are done.

    Raises:
        BabError: no model there, unknown preset, two files of one name, unreadable audio.
    """
    place = folder / "model" if (folder / "model").is_dir() else folder
    spec = model.load_spec(place)
    task = build_task(spec["task"]["name"], spec["task"]["options"])
    preset = preset or task.presets[0]
    if preset not in task.presets:
        raise BabError(f"preset '{preset}': {did_you_mean(preset, task.presets)}")
    clips = _clips(files)
    target = torch.device(resolve_device(device))
    labels: Labels = {key: tuple(names) for key, names in spec["labels"].items()}
    config, view = EncoderConfig(**spec["encoder"]), View(**spec["view"])
    encoder, members = open_encoder(config, offline, trust_code)
    _refuse_changed(place, spec, encoder)
    scorer = _load_model(place, spec, labels, encoder, members, config.fusion).to(target).eval()
    examples = Examples(clips, view, encoder.grid, encoder.max_seconds, task.whole_clips)
    outputs = infer(
        scorer,
        examples,
        live_source(members, spec["layers"], view, target),
        target,
        per_pass(examples),
        embed=task.pairs,
        progress=lambda done, total: tell("predicting", done, total, "s"),
    )
    tuned = spec["tuned"][preset]
    predictions = merge([task.decode(output, encoder.grid, labels, tuned) for output in outputs])
    task.write(predictions, out)
    return predictions


def _refuse_changed(place: Path, spec: dict[str, Any], encoder: Encoder) -> None:
    """Raises BabError: the encoder isn't the one that the model was trained on."""
    if encoder.fingerprint != spec["fingerprint"]:
        raise BabError(
            f"{place} was trained on {spec['resolved']}, whose weights or code have changed since "
            f"(fingerprint {spec['fingerprint']}, now {encoder.fingerprint}): use the weights and "
            "the bab version of its record, or train again"
        )


def _load_model(
    place: Path,
    spec: dict[str, Any],
    labels: Labels,
    encoder: Encoder,
    members: Sequence[Encoder],
    fusion: str,
) -> Model:
    """The model of a finished run, with its trained weights."""
    head_class = registry.load("heads", spec["head"]["name"])
    options = head_class.Options(**spec["head"]["options"])
    sizes = [len(names) for names in labels.values()]

    def head(dim: int) -> Head:
        made: Head = head_class(dim, sum(sizes), options)
        return made

    scorer = assemble(encoder, members, fusion, spec["layers"], head, sizes, spec["pool"])
    missing, unexpected = scorer.load_state_dict(model.load_weights(place), strict=False)
    lost = [name for name in missing if not name.startswith("encoder.")]
    if lost or unexpected:
        raise BabError(f"{place} does not fit its own description ({[*lost, *unexpected][0]})")
    return scorer


def _clips(files: Sequence[Path]) -> list[Clip]:
    """One clip per audio file; its name without the ending is its id."""
    by_stem: dict[str, Path] = {}
    for path in _expand(files):
        if path.stem in by_stem:
            raise BabError(
                f"{by_stem[path.stem]} and {path} have the same name, and would overwrite each "
                "other's predictions: predict them into two folders"
            )
        by_stem[path.stem] = path
    return [
        Clip(stem, str(path.resolve()), 0.0, reading.info(path).duration, stem)
        for stem, path in by_stem.items()
    ]


def _expand(files: Sequence[Path]) -> list[Path]:
    expanded: list[Path] = []
    for path in files:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in reading.SUFFIXES)
            if not inside:
                raise BabError(
                    f"{path} holds no audio file ({', '.join(sorted(reading.SUFFIXES))})"
                )
            expanded += inside
        else:
            expanded.append(path)
    if not expanded:
        raise BabError("no audio file was named")
    return expanded
