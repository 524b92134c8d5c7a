"""What a task hands over: targets, what it tuned, predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bab.checking.faults import fault
from bab.core.interfaces import Task
from bab.core.types import Clip, Labels, Output, Prediction, Segment

_THOROUGH = 20  # targets, and predictions, whose values are looked at too
Targets = Callable[[Clip, int], Tensor]


def check_labels(task: Task, labels: Labels) -> Labels:
    """What `fit` gives.

    Raises:
        PluginError: something else than groups of names, each once.
    """
    wrong = not isinstance(labels, Mapping) or not labels
    for names in () if wrong else labels.values():
        texts = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        wrong = wrong or not texts or len(set(names)) != len(names)
    if wrong:
        told = f"gives {labels!r:.80}: a mapping of group -> tuple of class names expected"
        raise fault(task, "fit", told)
    return labels


def checked_targets(task: Task, targets: Targets, labels: Labels) -> Targets:
    """The same function; shapes and types of all that it gives are checked, values of the first.

    Raises (when called):
        PluginError: see `Task.targets` for what is expected.
    """
    left = [_THOROUGH]

    def look(clip: Clip, frames: int) -> Tensor:
        given = targets(clip, frames)
        left[0] -= 1
        wrong = _wrong_target(task, given, frames, labels, left[0] >= 0)
        if wrong:
            raise fault(task, "targets", f"gives {wrong} (clip '{clip.id}')")
        return given

    return look


def _wrong_target(task: Task, given: Tensor, frames: int, labels: Labels, values: bool) -> str:
    if not isinstance(given, Tensor):
        return f"{type(given).__name__}, not a tensor"
    shape, sizes = list(given.shape), [len(names) for names in labels.values()]
    whole = given.dtype == torch.int64
    if task.one_target:
        if shape != [len(sizes)] or not whole:
            return f"{given.dtype} {shape}: int64 [{len(sizes)}], a class per group, expected"
        return "" if not values else _outside(given, torch.tensor(sizes), -1)
    if task.in_order:
        if given.ndim != 1 or not whole:
            return f"{given.dtype} {shape}: int64 [U], the labels in order, expected"
        return "" if not values else _outside(given, torch.tensor(sum(sizes)), 0)
    if given.ndim not in (1, 2) or shape[0] != frames or not (whole or given.is_floating_point()):
        return f"{given.dtype} {shape}: float32 or int64 [{frames}, C], a row per frame, expected"
    if given.is_floating_point() and given.dtype != torch.float32:
        return f"{given.dtype}: float32 expected"
    return "values that are not finite" if values and not bool(given.isfinite().all()) else ""


def _outside(given: Tensor, sizes: Tensor, lowest: int) -> str:
    if bool(((given < lowest) | (given >= sizes)).any()):
        return f"{given.tolist()!s:.60} for {sizes.tolist()} classes"
    return ""


def check_tuned(task: Task, tuned: Mapping[str, Any]) -> dict[str, Any]:
    """What `tune` gives.

    Raises:
        PluginError: no mapping, or one that lacks a preset.
    """
    if not isinstance(tuned, Mapping):
        raise fault(task, "tune", f"gives {type(tuned).__name__}, not a dict")
    lacking = [name for name in task.presets if not isinstance(tuned.get(name), Mapping)]
    if lacking:
        raise fault(task, "tune", f"gives no values for preset '{lacking[0]}' ({list(tuned)})")
    return dict(tuned)


def check_predictions(
    task: Task, outputs: Sequence[Output], predictions: Sequence[Prediction]
) -> list[Prediction]:
    """What `decode` gave of some outputs, one of each.

    Raises:
        PluginError: no prediction, one of another clip, or fields of another type.
    """
    for place, (output, one) in enumerate(zip(outputs, predictions, strict=True)):
        if not isinstance(one, Prediction):
            raise fault(task, "decode", f"gives {type(one).__name__}, not bab.Prediction")
        if one.id != output.clip.id:
            raise fault(task, "decode", f"gives id {one.id!r:.60} for clip '{output.clip.id}'")
        wrong = _wrong_prediction(one) if place < _THOROUGH else ""
        if wrong:
            raise fault(task, "decode", f"gives {wrong} (clip '{output.clip.id}')")
    return list(predictions)


def _wrong_prediction(one: Prediction) -> str:
    for segment in one.segments:
        if not isinstance(segment, Segment) or not segment.start <= segment.end:
            return f"segment {segment!r:.80}: bab.Segment(start, end, label) expected"
    for key, label in one.labels.items():
        if not (isinstance(key, str) and isinstance(label, str)):
            return f"label {key!r:.40} = {label!r:.40}: texts expected"
    numbers = [*one.scores.values(), *one.vector]
    if not all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers):
        return "scores or a vector that are not finite numbers"
    if not isinstance(one.text, (str, type(None))):
        return f"text {one.text!r:.60}"
    return ""


def check_metrics(task: Task, metrics: Mapping[str, float]) -> Mapping[str, float]:
    """What `score` and `metrics` give: names and numbers.

    Raises:
        PluginError: something else.
    """
    fine = isinstance(metrics, Mapping) and all(
        isinstance(name, str) and isinstance(value, (int, float)) for name, value in metrics.items()
    )
    if not fine:
        raise fault(task, "score", f"gives {metrics!r:.80}: names and numbers expected")
    return metrics
