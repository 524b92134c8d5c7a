"""`bab.json`: how an exported model's outputs become labels; what no config.json has a place for.

No name of a speaker, recording or folder of the training data is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab.core.types import Clip, Output, Prediction
from bab.data.rolling import raster_of
from bab.exporting import label
from bab.exporting.source import Source
from bab.running.saved import Saved

FILE = "bab.json"
FORMAT = 1
_FRAMES = 400  # of made-up logits, that two ways of decoding are compared on


def settings(source: Source, head: bool) -> dict[str, Any]:
    """What stands in `bab.json`; head: the model has one. Times are in samples at `sample_rate`."""
    grid = source.encoder.grid
    about: dict[str, Any] = {
        "format": FORMAT,
        "run": source.id,
        "sample_rate": grid.sample_rate,
        "hop": grid.hop,
        "field": grid.field,
        "offset": grid.offset,
    }
    saved = source.saved
    if saved is None or not head:
        return about
    task = saved.task
    raster = raster_of(saved.view, grid, saved.encoder.max_seconds, task.whole_clips)
    about |= {
        "task": saved.spec["task"]["name"],
        "level": task.level,
        "labels": {} if task.pairs else {k: list(names) for k, names in saved.labels.items()},
        "window": raster.window,
        "step": raster.step,
        "once": raster.once,
        "preset": task.presets[0],
        "presets": {name: _tuned(saved, name) for name in task.presets},
        "notice": task.notice,
    }
    if task.level == "frame":  # milliseconds
        about["fill_gaps"] = round(1000 * getattr(task.options, "fill_gaps", 0.0))
        about["min_segment"] = max(1, round(1000 * getattr(task.options, "min_segment", 0.0)))
    return about


def _tuned(saved: Saved, preset: str) -> dict[str, Any]:
    """What was tuned for a preset; frame tasks: with a threshold for every class."""
    tuned = dict(saved.tuned.get(preset, {}))
    if saved.task.level == "frame":
        names = [name for group in saved.labels.values() for name in group]
        given = tuned.get("thresholds", {})
        tuned["thresholds"] = {name: given.get(name, 0.5) for name in names}
    return tuned


def decodes(saved: Saved, about: Mapping[str, Any]) -> bool:
    """Whether `label.py` says of made-up logits what the run's task says of them."""
    if saved.encoder.grid.offset or not saved.encoder.grid.hop:
        return False  # its frames are counted as those of an encoder that pads nothing
    classes = sum(len(names) for names in saved.labels.values())
    draw = np.random.default_rng(0)
    if saved.task.level == "frame":
        rows = draw.normal(0, 0.7, (_FRAMES, classes)).cumsum(axis=0).astype(np.float32)
        seconds = saved.encoder.grid.samples(_FRAMES) / saved.encoder.grid.sample_rate
        own = _decoded(saved, rows, seconds, about["preset"]).segments
        said = label.segments(rows, dict(about), seconds)
        return said == [(s.start, s.end, s.label) for s in own]
    row = draw.normal(0, 2, classes).astype(np.float32)
    one = _decoded(saved, row, 1.0, about["preset"])
    values = label.classes(row, dict(about))
    same = all(values.get(kind) == name for kind, name in one.labels.items())
    return same and all(abs(values.get(k, -1.0) - v) < 1e-6 for k, v in one.scores.items())


def _decoded(saved: Saved, values: NDArray[np.float32], seconds: float, preset: str) -> Prediction:
    output = Output(Clip("made", "", 0.0, seconds, ""), values)
    return saved.task.decode(output, saved.encoder.grid, saved.labels, saved.tuned[preset])
