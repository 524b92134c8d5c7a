"""A finished run's model, loaded for use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bab.config.run import EncoderConfig
from bab.core import registry
from bab.core.components import build_task
from bab.core.errors import BabError, did_you_mean
from bab.core.interfaces import Encoder, Head, Task
from bab.core.types import Labels, View
from bab.core.weights import first_line
from bab.data.content import content_id
from bab.running import model as models
from bab.running import published
from bab.running.assembly import assemble, open_encoder
from bab.running.model import Model


@dataclass(frozen=True, slots=True)
class Saved:
    """What a run left: a model with all that its use needs.

    place: its folder, or what a published model is called; tuned: by preset; spec: all of
    model.json; digest: of weights and description.
    """

    place: Path
    spec: Mapping[str, Any]
    task: Task
    labels: Labels
    encoder: Encoder
    members: Sequence[Encoder]
    model: Model
    view: View
    tuned: Mapping[str, Mapping[str, Any]]
    digest: str

    @property
    def name(self) -> str:
        """What records and tables call it: a published model's reference, or encoder@run."""
        return str(self.spec.get("published") or f"{self.spec['resolved']}@{self.spec['run']}")


def shown_as(saved: Saved) -> tuple[str, str]:
    """By which names what was measured of an encoder on a task is known: its own and the task's. An
    encoder that was trained further has none."""
    frozen = saved.encoder.fingerprint == saved.spec["fingerprint"]
    return saved.spec["resolved"] if frozen else "", saved.spec["task"]["name"]


def model_folder(folder: Path) -> Path:
    """Where a run's model is: in its folder, or `folder` itself.

    Raises:
        BabError: none there; of a run of several folds, which has one model for each, how to go on.
    """
    if not folder.is_dir():
        raise BabError(f"{folder}: there is no such run folder; one is RUNS/TASK/CORPUS/ENCODER/ID")
    if (folder / "model").is_dir():
        return folder / "model"
    folder = folder.parent if folder.name == "folds" else folder
    folds = sorted((folder / "folds").glob("*/model"), key=lambda path: int(path.parent.name))
    if folds:
        raise BabError(
            f"{folder} has {len(folds)} folds, each with a model of its own that has not met the "
            f"recordings it was tested on. Name one of them: {folds[0].parent} (or train one model "
            "on given splits: --set protocol=given)"
        )
    return folder


def load_saved(model: str | Path, offline: bool = False, trust_code: bool = False) -> Saved:
    """A trained model. model: a run's folder, the `model` folder in it, or a published model
    (NAME:WHERE, of a plugin of kind `models`).

    Raises:
        BabError: no model there, or an encoder that has changed since.
    """
    named = published.reference(model)
    if named is not None:
        return _published(named, offline, trust_code)
    place = model_folder(Path(model).expanduser())
    spec = models.load_spec(place)
    begun = spec.get("start")
    try:
        if begun:  # the encoder is that of another model
            start = load_saved(begun, offline, trust_code)
            encoder, members = start.encoder, start.members
        else:
            encoder, members = open_encoder(EncoderConfig(**spec["encoder"]), offline, trust_code)
        _refuse_changed(place, spec, encoder)
        tensors = models.load_weights(place, spec)
        return _saved(place, spec, tensors, encoder, members, content_id(place / models.WEIGHTS))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if models.sealed_by_bab(spec):
            raise
        # Nothing says that it is as it was written: it was edited, or is of an earlier version.
        raise BabError(f"{place / models.SPEC} can't be used: {first_line(error)}") from error


def _published(named: published.Reference, offline: bool, trust_code: bool) -> Saved:
    """Another tool's model, read by its plugin."""
    parts = published.read_published(named, offline, trust_code)
    spec = published.spec_of(parts, named)
    encoder, members = open_encoder(EncoderConfig(**spec["encoder"]), offline, trust_code)
    spec |= {"resolved": encoder.resolved, "fingerprint": encoder.fingerprint}
    digest = published.digest_of(spec, parts.tensors)
    spec["run"] = digest[:12]
    return _saved(Path(named.text), spec, parts.tensors, encoder, members, digest)


def _saved(
    place: Path,
    spec: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    encoder: Encoder,
    members: Sequence[Encoder],
    digest: str,
) -> Saved:
    """The parts put together."""
    task = build_task(spec["task"]["name"], spec["task"]["options"])
    labels: Labels = {key: tuple(names) for key, names in spec["labels"].items()}
    fusion = EncoderConfig(**spec["encoder"]).fusion
    scorer = _assembled(place, spec, labels, encoder, members, fusion, tensors)
    if any(name.startswith("encoder.") for name in tensors):
        # Caches of features must not take it for the encoder that it was before training.
        facts = f"{encoder.fingerprint} {digest}".encode()
        encoder.fingerprint = hashlib.sha256(facts).hexdigest()[:32]
    view = View(**spec["view"])
    return Saved(place, spec, task, labels, encoder, members, scorer, view, spec["tuned"], digest)


def choose_preset(saved: Saved, name: str | None) -> str:
    """A preset of the task; None = its first.

    Raises:
        BabError: it has none of this name.
    """
    if name is None:
        return saved.task.presets[0]
    if name not in saved.task.presets:
        raise BabError(f"preset '{name}': {did_you_mean(name, saved.task.presets)}")
    return name


def with_thresholds(
    saved: Saved, preset: str, thresholds: Mapping[str, float]
) -> Mapping[str, Any]:
    """The tuned values of a preset, with some classes' thresholds replaced.

    Raises:
        BabError: a task without thresholds, a class that it doesn't have, no share in [0, 1].
    """
    tuned = dict(saved.tuned[preset])
    if not thresholds:
        return tuned
    if "thresholds" not in tuned:
        raise BabError(f"--threshold: task '{saved.spec['task']['name']}' has no thresholds")
    known = dict(tuned["thresholds"])
    for name, value in thresholds.items():
        if name not in known:
            raise BabError(f"--threshold {name}: {did_you_mean(name, known)}")
        if not 0 <= value <= 1:
            raise BabError(f"--threshold {name}={value:g}: a threshold is a probability, 0 to 1")
    return tuned | {"thresholds": known | dict(thresholds)}


def _refuse_changed(place: Path, spec: Mapping[str, Any], encoder: Encoder) -> None:
    """Raises BabError: the encoder isn't the one that the model was trained on."""
    if encoder.fingerprint != spec["fingerprint"]:
        raise BabError(
            f"{place} was trained on {spec['resolved']}, whose weights or code have changed since "
            f"(fingerprint {spec['fingerprint']}, now {encoder.fingerprint}): use the weights and "
            "the bab version of its record, or train again"
        )


def _assembled(
    place: Path,
    spec: Mapping[str, Any],
    labels: Labels,
    encoder: Encoder,
    members: Sequence[Encoder],
    fusion: str,
    tensors: Mapping[str, Tensor],
) -> Model:
    """The model with its trained weights."""
    head_class = registry.load("heads", spec["head"]["name"])
    options = head_class.Options(**spec["head"]["options"])
    sizes = [len(names) for names in labels.values()]

    def head(dim: int) -> Head:
        made: Head = head_class(dim, sum(sizes), options)
        return made

    scorer = assemble(encoder, members, fusion, spec["layers"], head, sizes, spec["pool"])
    missing, unexpected = _filled(scorer, tensors, place)
    lost = [name for name in missing if not name.startswith("encoder.")]
    if lost or unexpected:
        raise BabError(f"{place} does not fit its own description ({[*lost, *unexpected][0]})")
    return scorer.requires_grad_(False).eval()


def _filled(scorer: Model, tensors: Mapping[str, Tensor], place: Path) -> tuple[list[str], ...]:
    """Load the tensors; the names that are missing and those that have no place.

    Raises:
        BabError: a tensor of another shape.
    """
    there = scorer.state_dict()
    for name, tensor in tensors.items():
        if name in there and there[name].shape != tensor.shape:
            raise BabError(
                f"{place} does not fit its own description: {name} is {list(tensor.shape)}, and "
                f"{list(there[name].shape)} is described"
            )
    missing, unexpected = scorer.load_state_dict(tensors, strict=False)
    return list(missing), list(unexpected)
