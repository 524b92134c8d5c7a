"""Runs that begin from a trained model: what it brings along, and what of it fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bab.config.files import Settings
from bab.config.run import RunConfig
from bab.core import registry
from bab.core.errors import ConfigError, NotApplicableError
from bab.core.interfaces import Task
from bab.core.types import Labels
from bab.running.model import Model
from bab.running.saved import Saved, load_saved


def model_settings(stated: Mapping[str, Any]) -> tuple[Settings, Settings]:
    """The keys of a run that a trained model brings: those that a recipe and the command line may
    change, and its encoder, which they may not. stated: the merged keys that somebody gave.

    Raises:
        BabError: there is no such model.
    """
    saved = load_saved(
        str(stated["model"]), bool(stated.get("offline")), bool(stated.get("trust_code"))
    )
    spec, name = saved.spec, f"the model {stated['model']}"
    solved = registry.load("heads", spec["head"]["name"]).closed_form
    keys = ("task", "head", "layers", "view")
    under = {key: spec[key] for key in keys} | {"mode": "probe" if solved else "finetune"}
    return (name, under), (name, {"encoder": spec["encoder"], "model": _lasting(saved, stated)})


def _lasting(saved: Saved, stated: Mapping[str, Any]) -> str:
    """The model's name from any working directory."""
    published = saved.spec.get("published")
    return str(published or saved.place.resolve())


def begin(config: RunConfig, task: Task) -> Saved | None:
    """The model that a run begins from, or evaluates, its labels under the task's names.

    Raises:
        ConfigError: nothing to evaluate, or changes to what is evaluated as it is.
        NotApplicableError: a model of another task.
    """
    if config.model is None:
        if config.mode == "evaluate":
            raise ConfigError("mode evaluate scores a trained model: name it with --model")
        return None
    saved = load_saved(config.model, config.offline, config.trust_code)
    if config.mode != "evaluate":
        return saved
    spec = saved.spec
    if config.protocol != "given":
        raise ConfigError(
            f"protocol={config.protocol}: a model that isn't trained has no folds; it is scored on "
            "the test split (protocol=given)"
        )
    for key, given in (("head", config.head.model_dump(mode="json")), ("layers", config.layers)):
        if given != spec[key]:
            raise ConfigError(
                f"{key}: {saved.name} is evaluated as it is; to train another {key}, leave out "
                "--evaluate"
            )
    name = config.task.name
    if name != spec["task"]["name"] and not (task.one_output and saved.task.one_output):
        raise NotApplicableError(
            f"{saved.name} is a model for task '{spec['task']['name']}', not for '{name}'"
        )
    return replace(saved, labels=_named(saved.labels, task), task=task)


def _named(labels: Labels, task: Task) -> Labels:
    """The labels of a whole-clip model under the task's kind of label, where there is one."""
    if not task.one_output or len(labels) != 1 or len(task.needs) != 1:
        return labels
    (names,) = labels.values()
    return {next(iter(task.needs)): names}


def inherit(scorer: Model, start: Saved, config: RunConfig, labels: Labels) -> str:
    """Copy the head and the layers' weights, as far as they fit: all of a head of the same kind
    but outputs of labels that the model didn't know. Returns what was taken, in words."""
    theirs = start.model.state_dict()
    mine = scorer.state_dict()
    taken = {k: v for k, v in theirs.items() if k.startswith("mix.") and _alike(k, v, mine)}
    told = f"from {start.name}: the encoder"
    if config.head.name != start.spec["head"]["name"]:
        scorer.load_state_dict(taken, strict=False)
        return (
            f"{told}; head {config.head.name} begins anew (its own is {start.spec['head']['name']})"
        )
    rows = _rows(labels, start.labels)
    outputs = _outputs_of(start, config)
    heads = [name for name in mine if name.startswith("head.")]
    for name in heads:
        if name in outputs and name in theirs and theirs[name].shape[1:] == mine[name].shape[1:]:
            taken[name] = mine[name].clone()
            for row, column in rows.items():
                taken[name][row] = theirs[name][column]
        elif name in theirs and name not in outputs and _alike(name, theirs[name], mine):
            taken[name] = theirs[name]
    scorer.load_state_dict(taken, strict=False)
    new = [name for name in heads if name not in taken]
    if new:
        return f"{told}; head {config.head.name} begins anew where it differs (e.g. {new[0]})"
    if not outputs:
        return f"{told} and the head"
    count = sum(map(len, labels.values()))
    return f"{told} and the head, {len(rows)} of {count} labels"


def _alike(name: str, tensor: Tensor, mine: Mapping[str, Tensor]) -> bool:
    return name in mine and mine[name].shape == tensor.shape


def _rows(labels: Labels, known: Labels) -> dict[int, int]:
    """Output of a label here -> its output in the model: by name, else by name in another case."""
    mine, theirs = ([n for group in one.values() for n in group] for one in (labels, known))
    exact = {name: i for i, name in reversed(list(enumerate(theirs)))}
    folded = {name.casefold(): i for i, name in reversed(list(enumerate(theirs)))}
    rows = {}
    for row, name in enumerate(mine):
        column = exact.get(name, folded.get(name.casefold()))
        if column is not None:
            rows[row] = column
    return rows


def _outputs_of(start: Saved, config: RunConfig) -> set[str]:
    """The head's tensors whose rows are labels: those that grow with the number of labels."""
    head = registry.load("heads", config.head.name)
    options = head.Options(**config.head.options)
    count = sum(map(len, start.labels.values()))
    dim = start.encoder.dim
    with torch.device("meta"):
        one, more = (head(dim, n, options).state_dict() for n in (count, count + 1))
    return {f"head.{name}" for name in one if one[name].shape[:1] != more[name].shape[:1]}
