"""A saved model on recordings of any length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bab.core import audio, model, registry
from bab.core.build import build_encoder, content_memo, resolve_device
from bab.core.cache import FeatureSource, Store
from bab.core.content import cache_root
from bab.core.ensemble import Ensemble, EnsembleSource, fused_head, head_dims, mix_of
from bab.core.errors import BabError, did_you_mean
from bab.core.fold import merge
from bab.core.inference import infer, per_pass
from bab.core.interfaces import Encoder
from bab.core.loader import Source, WaveSource
from bab.core.model import LayerMix, Model
from bab.core.records import Clip, Labels, Prediction, View
from bab.core.schema import EncoderConfig
from bab.core.views import Examples


def predict(
    folder: Path,
    files: Sequence[Path],
    out: Path,
    preset: str | None = None,
    device: str = "auto",
    offline: bool = False,
    trust_code: bool = False,
    progress: Callable[[str, float, float], None] = lambda stage, done, total: None,
) -> list[Prediction]:
    """Run the model of a finished run over audio files and write what it says.

    Args:
        folder: a run's folder, or the `model` folder in it.
        files: audio files, or folders that are searched for them.
        out: folder that gets the predictions, in the task's own format.
        preset: one of the task's ways to decode; None = its first.
        device: auto, cpu, cuda or mps.
        progress: told (stage, seconds done, seconds in all).

    Raises:
        BabError: no model there, unknown preset, two files of one name, unreadable audio.
    """
    place = folder / "model" if (folder / "model").is_dir() else folder
    spec = model.load_spec(place)
    task_class = registry.load("tasks", spec["task"]["name"])
    task = task_class(task_class.Options(**spec["task"]["options"]))
    preset = preset or task.presets[0]
    if preset not in task.presets:
        raise BabError(f"preset '{preset}': {did_you_mean(preset, task.presets)}")
    clips = _clips(files)
    target = torch.device(resolve_device(device))
    labels: Labels = {key: tuple(names) for key, names in spec["labels"].items()}
    scorer = _load_model(place, spec, labels, offline, trust_code).to(target).eval()
    encoder = scorer.encoder
    assert encoder is not None
    view, whole = View(**spec["view"]), task.level != "frame"
    examples = Examples(clips, view, encoder.grid, encoder.max_seconds, whole)
    outputs = infer(
        scorer,
        examples,
        _source(encoder, spec, view, target),
        target,
        per_pass(examples),
        cut=not isinstance(encoder, Ensemble),
        embed=task.level == "pair",
        progress=lambda done, total: progress("predicting", done, total),
    )
    tuned = spec["tuned"][preset]
    found = merge([task.decode(output, encoder.grid, labels, tuned) for output in outputs])
    task.write(found, out)
    return found


def _load_model(
    place: Path, spec: dict[str, Any], labels: Labels, offline: bool, trust_code: bool
) -> Model:
    encoder = build_encoder(EncoderConfig(**spec["encoder"]), offline, trust_code)
    if encoder.fingerprint != spec["fingerprint"]:
        raise BabError(
            f"{place} was trained on {spec['resolved']}, whose weights or code have changed since "
            f"(fingerprint {spec['fingerprint']}, now {encoder.fingerprint}): use the weights and "
            "the bab version of its record, or train again"
        )
    head_class = registry.load("heads", spec["head"]["name"])
    sizes, dims = [len(names) for names in labels.values()], head_dims(encoder)
    options = head_class.Options(**spec["head"]["options"])
    head = fused_head([head_class(dim, sum(sizes), options) for dim in dims], dims, sizes)
    scorer = Model(encoder, mix_of(encoder, spec["layers"]), head, spec["pool"])
    missing, unexpected = scorer.load_state_dict(model.load_weights(place), strict=False)
    lost = [name for name in missing if not name.startswith("encoder.")]
    if lost or unexpected:
        raise BabError(f"{place} does not fit its own description ({[*lost, *unexpected][0]})")
    return scorer


def _source(encoder: Encoder, spec: dict[str, Any], view: View, device: torch.device) -> Source:
    """Audio; for an ensemble, the vectors of its members, made as they are asked for."""
    if not isinstance(encoder, Ensemble):
        return WaveSource(encoder.sample_rate)
    store = Store(cache_root() / "features", budget=0)
    sources = [
        FeatureSource(
            member, LayerMix(member.depth, spec["layers"]).wanted, store, content_memo(), device,
            pool=True,
        )
        for member in encoder.members
    ]  # fmt: skip
    return EnsembleSource(sources, view)


def _clips(files: Sequence[Path]) -> list[Clip]:
    """One clip per audio file; its name without the ending is its id."""
    found: dict[str, Path] = {}
    for path in _expand(files):
        if path.stem in found:
            raise BabError(
                f"{found[path.stem]} and {path} have the same name, and would overwrite each "
                "other's predictions: predict them into two folders"
            )
        found[path.stem] = path
    return [
        Clip(stem, str(path.resolve()), 0.0, audio.info(path).duration, stem)
        for stem, path in found.items()
    ]


def _expand(files: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in files:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in audio.SUFFIXES)
            if not inside:
                raise BabError(f"{path} holds no audio file ({', '.join(sorted(audio.SUFFIXES))})")
            found += inside
        else:
            found.append(path)
    if not found:
        raise BabError("no audio file was named")
    return found
