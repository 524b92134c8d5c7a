"""Tasks that mark time: frames to segments and back, thresholds tuned on dev, F1 by duration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from bab.core.errors import CorpusError
from bab.core.grid import Grid
from bab.core.interfaces import Task
from bab.core.options import Options as AnyOptions
from bab.core.types import Clip, Labels, Output, Prediction, View
from bab.kit.agreement import METRICS, detection, shares
from bab.kit.confusion import confused
from bab.kit.finite import refuse_diverged
from bab.kit.rttms import write_rttms
from bab.kit.segments import (
    Timeline,
    heard,
    intersect,
    last_pause,
    marked,
    multi_hot,
    scored,
    spoken,
    thresholds_of,
)
from bab.kit.thresholds import Truth, curve, presets
from bab.results.segments import write_segments

_KEPT = 4_000_000  # frames of dev, about 200 MB, of which the truth is kept


class FrameOptions(AnyOptions):
    """What a frame task can be told of decoding and tuning; a task's own options derive from it."""

    fill_gaps: float = Field(
        0.1, ge=0.0, description="seconds: shorter gaps within a class are closed (VTC 2: .1)"
    )
    min_segment: float = Field(
        0.1, ge=0.0, description="seconds: shorter segments are dropped (VTC 2: .1)"
    )
    recall_floor: float = Field(
        0.5,
        gt=0.0,
        le=1.0,
        description="recall that the preset high-precision must reach on dev; where no threshold "
        "as high as that of the best F1 does, it keeps that one, and says so",
    )


class FrameTask(Task):
    """Segments of some classes, which may overlap. A task says which, and from what labels.

    classes: in the head's order. group: what the labels are called as a whole. table: the file in
    which all predictions stand together, beside an RTTM of each.

    Scored by duration inside the annotated time: seconds of each class, pooled over recordings;
    precision, recall and F1, and their means over the classes that are there.
    """

    Options: ClassVar[type[AnyOptions]] = FrameOptions
    needs = frozenset({"segments"})
    level = "frame"
    head = "frames"
    objective = "multilabel"
    view = View(window=4.0, crop=True)
    presets: tuple[str, ...] = ("f1", "high-precision")
    primary = "f1"
    means = frozenset(METRICS)
    units: ClassVar[Mapping[str, str]] = dict.fromkeys(METRICS, "")
    # A linear layer on frozen features wants a high rate (see `vtc`, which has tried it).
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "probe": {"layers": "mix", "train": {"lr": 1e-2, "steps": 500, "batch": 32}},
    }

    group: ClassVar[str] = "class"
    table: ClassVar[str] = "segments.csv"
    classes: tuple[str, ...] = ()
    _known: tuple[Any, list[Clip], Truth] | None = None

    def kept(self, clip: Clip) -> Clip:
        """A clip with segments in this task's classes: a task that reads other labels replaces
        them here (`dataclasses.replace(clip, segments=...)`), for training, dev and test alike."""
        return clip

    def fit(self, clips: Sequence[Clip]) -> Labels:
        """{group: classes}, always in the same order.

        Raises:
            CorpusError: where a class has no annotated second in `clips`.
        """
        clips = [self.kept(clip) for clip in clips]
        missing = [v for v in self.classes if not any(heard(c, v) for c in clips)]
        if missing:
            there = sorted({s.label for c in clips for s in c.segments})
            raise CorpusError(
                f"no training recording has a segment of {' or '.join(missing)} "
                f"(labels found: {', '.join(there) or 'none'}): check the labels' names and the "
                f"split{self._without(missing)}"
            )
        return {self.group: self.classes}

    def _without(self, missing: Sequence[str]) -> str:
        """How a run does without some classes, at the end of a message."""
        kept = [v for v in self.classes if v not in missing]
        if not kept or "classes" not in type(self.options).model_fields:
            return ""
        return f", or leave it out with --set task.classes='[{', '.join(kept)}]'"

    def check(self, labels: Labels, clips: Sequence[Clip], split: str) -> None:
        """Refuse a split where no class is heard: nothing could be tuned or scored on it."""
        names = labels[self.group]
        if not any(heard(self.kept(clip), name) for clip in clips for name in names):
            raise CorpusError(
                f"the {split} recordings hold no segment of {', '.join(names)} in their "
                f"annotated time (recordings: {', '.join(c.id for c in clips[:5])}): check the "
                "labels' names, or split otherwise (split lists, or --set protocol=kfold)"
            )

    def targets(self, clip: Clip, grid: Grid, frames: int, labels: Labels) -> Tensor:
        """Multi-hot f32[frames, C]: 1 where the frame's centre lies in a segment [start, end)."""
        centres = clip.start + grid.centres(frames)
        segments = self.kept(clip).segments
        return torch.from_numpy(multi_hot(segments, centres, labels[self.group]))

    def tune(self, outputs: Sequence[Output], grid: Grid, labels: Labels) -> dict[str, Any]:
        """One threshold per class and preset, from dev, decoded and measured as in scoring.

        A class that dev doesn't hold keeps .5, with reached = False. The durations are those of
        scoring to the last digit, but for annotated spans that touch at a fraction of a
        millisecond: those differ by less than one at that border.

        Raises:
            CorpusError: where dev holds none of the classes, so that nothing could be chosen.
            DivergedError: where an output is not finite.
        """
        for output in outputs:
            refuse_diverged(output)
        own = [Output(self.kept(o.clip), o.values, o.first) for o in outputs]
        names = labels[self.group]
        if not any(heard(o.clip, name) for o in own for name in names):
            raise CorpusError(
                f"the dev recordings hold no segment of {', '.join(names)}, so no "
                "threshold can be chosen: move a recording with speech into dev"
            )
        truth, lengths = self._truth(outputs, own, grid), self._milliseconds()
        curves = {
            name: curve(own, truth.time, column, name, *lengths, truth)
            for column, name in enumerate(names)
        }
        return presets(curves, self.options.recall_floor)

    def _truth(self, outputs: Sequence[Output], own: Sequence[Output], grid: Grid) -> Truth:
        """What is true of dev, which is the same in every evaluation of a run, and of its cell."""
        clips = [output.clip for output in outputs]  # kept, so that their identities stay theirs
        key = (grid, [(id(o.clip), len(o.values), o.first) for o in outputs])
        if self._known is None or self._known[0] != key:
            self._known = None
            truth = Truth(own, Timeline.of(own, grid), *self._milliseconds())
            if len(truth.cell) > _KEPT:
                return truth
            self._known = key, clips, truth
        return self._known[2]

    def _milliseconds(self) -> tuple[int, int]:
        return round(self.options.fill_gaps * 1000), round(self.options.min_segment * 1000)

    def decode(
        self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]
    ) -> Prediction:
        """Logits f32[T, C] -> segments in seconds of the file, to the millisecond.

        tuned: {"thresholds": {class: probability}}; .5 for a class that isn't there.
        """
        chosen = thresholds_of(labels[self.group], tuned)
        return Prediction(output.clip.id, marked(output, grid, chosen, *self._milliseconds()))

    def cut(self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]) -> int:
        """In the last pause that is too long to be closed."""
        frames = math.ceil(self.options.fill_gaps / grid.seconds_per_frame) + 2
        chosen = thresholds_of(labels[self.group], tuned)
        return last_pause(output, list(chosen.values()), frames)

    def amounts(self, reference: Clip) -> dict[str, float]:
        """Annotated seconds of each class."""
        own = self.kept(reference)
        spans = scored(own)
        times = {name: intersect(spoken(own.segments, name), spans) for name in self.classes}
        return {name: float((time[:, 1] - time[:, 0]).sum()) for name, time in times.items()}

    def statistics(self, reference: Clip, prediction: Prediction | None) -> dict[str, float]:
        """Seconds per class inside the annotated time: "KCHI/tp", "KCHI/fp", "KCHI/fn", ...; and
        what was taken for what."""
        segments = () if prediction is None else prediction.segments
        true, spans = self.kept(reference).segments, scored(reference)
        sums: dict[str, float] = {}
        for name in self.classes:
            tp, fp, fn = detection(spoken(true, name), spoken(segments, name), spans)
            sums |= {f"{name}/tp": tp, f"{name}/fp": fp, f"{name}/fn": fn}
        return sums | confused(true, segments, spans, self.classes)

    def metrics(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Shares in [0, 1]: "precision/KCHI", "recall/KCHI", "f1/KCHI", ... and their means.

        See `shares` for classes that are nowhere, or never spoken.
        """
        return shares(totals, self.classes)

    def write(self, predictions: Sequence[Prediction], folder: Path) -> None:
        """`<recording>.rttm` each (empty where nothing was found), and all of it in a table."""
        write_rttms(predictions, folder)
        write_segments(predictions, folder / self.table)
