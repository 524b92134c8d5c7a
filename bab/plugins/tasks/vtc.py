"""Task `vtc`: who speaks when, in four kinds of voice (key child, other child, man, woman).

The task of BabyHuBERT's voice type classifier (VTC 2, arXiv 2509.15001), with its decoding and its
score: F1 by duration, collar 0, overlap kept, seconds pooled over recordings, then the mean of the
classes. Unlike its script, a recording without prediction counts as missed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

import bab
from bab import Clip, CorpusError, Grid, Labels, Output, Prediction, View
from bab.plugins.tasks.shared import segma
from bab.plugins.tasks.shared.confusion import confused
from bab.plugins.tasks.shared.detection import METRICS, detection, shares
from bab.plugins.tasks.shared.finite import refuse_diverged
from bab.plugins.tasks.shared.rttm import write_rttms
from bab.plugins.tasks.shared.segments import (
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
from bab.plugins.tasks.shared.thresholds import curve, presets
from bab.plugins.tasks.shared.voices import VOICES, VoiceTypeOptions


class VoiceType(bab.Task):
    """Segments of four voices, from frames; scored by duration inside the annotated time."""

    Options = VoiceTypeOptions
    source = "BabyHuBERT and VTC 2 (arXiv 2509.15001; code LAAC-LSCP/BabyHuBERT and segma)"
    needs = frozenset({"segments"})
    level = "frame"
    corpus = "rttm"
    head = "frames"
    objective = "multilabel"
    view = View(window=4.0, crop=True)
    presets: tuple[str, ...] = ("f1", "high-precision")
    means = frozenset((*METRICS, segma.METRIC))
    primary = "f1"
    units: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(METRICS, ""),
        **{f"{name}/{v}": "" for name in METRICS for v in VOICES},
    }
    # A linear probe on frozen features wants a high rate: on the shipped sample 500 steps at 1e-2
    # gave hubert:random-tiny twice the F1 of 1e-3 (.46, .22). With a BiLSTM set 2e-3.
    # Fine-tuning follows VTC 2: last layer, dropout .5, learning rate 1e-5, 128 windows of 4 s per
    # step (cut into 4, so that it fits in memory). Its length isn't published: 5,000 steps, stopped
    # early by dev. From random weights, set train.lr higher (1e-3 for a small model).
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "probe": {"layers": "mix", "train": {"lr": 1e-2, "steps": 500, "batch": 32}},
        "finetune": {
            "layers": "last",
            "head": {"dropout": 0.5},
            "train": {
                "lr": 1e-5,
                "steps": 5000,
                "batch": 128,
                "accumulation": 4,
                "eval_every": 250,
                "patience": 10,
            },
        },
    }

    options: VoiceTypeOptions

    def __init__(self, options: VoiceTypeOptions) -> None:
        super().__init__(options)
        if options.convention == segma.PRESET:
            self.presets = (*self.presets, segma.PRESET)

    def fit(self, clips: Sequence[Clip]) -> Labels:
        """{"voice": classes}, always in the order KCHI, OCH, MAL, FEM.

        Raises:
            CorpusError: where a class has no annotated second in `clips`.
        """
        missing = [v for v in self.options.classes if not any(heard(c, v) for c in clips)]
        if missing:
            kept = [v for v in self.options.classes if v not in missing]
            there = sorted({s.label for c in clips for s in c.segments})
            less = f", or leave the voice out with --set task.classes='[{', '.join(kept)}]'"
            raise CorpusError(
                f"no training recording has a segment of {' or '.join(missing)} "
                f"(labels found: {', '.join(there) or 'none'}): check the labels' names and the "
                f"split{less if kept else ''}"
            )
        return {"voice": self.options.classes}

    def check(self, labels: Labels, clips: Sequence[Clip], split: str) -> None:
        """Refuse a split where no voice is heard: nothing could be tuned or scored on it."""
        if not any(heard(clip, voice) for clip in clips for voice in labels["voice"]):
            raise CorpusError(
                f"the {split} recordings hold no segment of {', '.join(labels['voice'])} in their "
                f"annotated time (recordings: {', '.join(c.id for c in clips[:5])}): check the "
                "labels' names, or split otherwise (split lists, or --set protocol=kfold)"
            )

    def targets(self, clip: Clip, grid: Grid, frames: int, labels: Labels) -> Tensor:
        """Multi-hot f32[frames, C]: 1 where the frame's centre lies in a segment [start, end)."""
        centres = clip.start + grid.centres(frames)
        return torch.from_numpy(multi_hot(clip.segments, centres, labels["voice"]))

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
        if not any(heard(o.clip, name) for o in outputs for name in labels["voice"]):
            raise CorpusError(
                f"the dev recordings hold no segment of {', '.join(labels['voice'])}, so no "
                "threshold can be chosen: move a recording with speech into dev"
            )
        time = Timeline.of(outputs, grid)
        curves = {
            name: curve(outputs, time, column, name, *self._milliseconds())
            for column, name in enumerate(labels["voice"])
        }
        tuned = presets(curves, self.options.recall_floor)
        if segma.PRESET in self.presets:
            chosen = segma.thresholds(outputs, grid, labels["voice"])
            tuned[segma.PRESET] = {"thresholds": chosen}
        return tuned

    def _milliseconds(self) -> tuple[int, int]:
        return round(self.options.fill_gaps * 1000), round(self.options.min_segment * 1000)

    def decode(
        self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]
    ) -> Prediction:
        """Logits f32[T, C] -> segments in seconds of the file, to the millisecond.

        tuned: {"thresholds": {class: probability}}; .5 for a class that isn't there.
        """
        chosen = thresholds_of(labels["voice"], tuned)
        return Prediction(output.clip.id, marked(output, grid, chosen, *self._milliseconds()))

    def cut(self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]) -> int:
        """In the last pause that is too long to be closed."""
        frames = math.ceil(self.options.fill_gaps / grid.seconds_per_frame) + 2
        return last_pause(output, list(thresholds_of(labels["voice"], tuned).values()), frames)

    def amounts(self, reference: Clip) -> dict[str, float]:
        """Annotated seconds of each voice."""
        spans = scored(reference)
        times = {v: intersect(spoken(reference.segments, v), spans) for v in self.options.classes}
        return {voice: float((time[:, 1] - time[:, 0]).sum()) for voice, time in times.items()}

    def statistics(self, reference: Clip, prediction: Prediction | None) -> dict[str, float]:
        """Seconds per class inside the annotated time: "KCHI/tp", "KCHI/fp", "KCHI/fn", ...; and
        those of `shared.confusion`, and of `shared.segma` where that is asked for."""
        segments = () if prediction is None else prediction.segments
        spans = scored(reference)
        sums: dict[str, float] = {}
        for name in self.options.classes:
            tp, fp, fn = detection(spoken(reference.segments, name), spoken(segments, name), spans)
            sums |= {f"{name}/tp": tp, f"{name}/fp": fp, f"{name}/fn": fn}
        sums |= confused(reference.segments, segments, spans, self.options.classes)
        if segma.PRESET in self.presets:
            sums |= segma.statistics(reference, prediction, self.options.classes)
        return sums

    def metrics(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Shares in [0, 1]: "precision/KCHI", "recall/KCHI", "f1/KCHI", ... and their means.

        See `shared.detection.shares` for classes that are nowhere, or never spoken.
        """
        classes = self.options.classes
        return shares(totals, classes) | segma.shares(totals, classes)

    def write(self, predictions: Sequence[Prediction], folder: Path) -> None:
        """`<recording>.rttm` each (empty where nothing was found), and all of it in `vtc.csv`."""
        write_rttms(predictions, folder)
        bab.write_segments(predictions, folder / "vtc.csv")
