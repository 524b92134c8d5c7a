"""Task `vtc`: who speaks when, in four kinds of voice (key child, other child, man, woman).

The task of BabyHuBERT's voice type classifier (VTC 2, arXiv 2509.15001), with its decoding and its
score: F1 by duration, collar 0, overlap kept, seconds pooled over recordings, then the mean of the
classes. Unlike its script, a recording without prediction counts as missed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from bab.core.atomic import write_text
from bab.core.errors import CorpusError, DivergedError, did_you_mean
from bab.core.grid import Grid
from bab.core.interfaces import Options, Task
from bab.core.records import Clip, Labels, Output, Prediction, Segment, View
from bab.plugins.tasks._segments import (
    Floats,
    Timeline,
    intersect,
    join,
    probabilities,
    scored,
    spoken,
)
from bab.plugins.tasks._thresholds import best_f1, curve, high_precision

VOICES = ("KCHI", "OCH", "MAL", "FEM")
METRICS = ("precision", "recall", "f1")  # in pyannote's order
BLOCK = 64  # segments handed to pyannote at once


class VoiceTypeOptions(Options):
    """What can be set under `task`."""

    classes: tuple[str, ...] = Field(VOICES, description="voices to find, of KCHI OCH MAL FEM")
    fill_gaps: float = Field(
        0.1, ge=0.0, description="seconds: shorter gaps within a voice are closed (VTC 2: .1)"
    )
    min_segment: float = Field(
        0.1, ge=0.0, description="seconds: shorter segments are dropped (VTC 2: .1)"
    )
    recall_floor: float = Field(
        0.5, gt=0.0, le=1.0, description="recall that the preset high-precision must reach on dev"
    )

    @field_validator("classes")
    @classmethod
    def _known(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        """The head's order is always that of VOICES."""
        for name in classes:
            if name not in VOICES:
                raise ValueError(f"no voice is called {name!r}: {did_you_mean(name, VOICES)}")
        if not classes:
            raise ValueError(f"at least one voice of {', '.join(VOICES)} is needed")
        return tuple(name for name in VOICES if name in classes)


class VoiceType(Task):
    """Segments of four voices, from frames; scored by duration inside the annotated time."""

    Options = VoiceTypeOptions
    source = "BabyHuBERT and VTC 2 (arXiv 2509.15001; code LAAC-LSCP/BabyHuBERT and segma)"
    needs = frozenset({"segments"})
    level = "frame"
    corpus = "rttm"
    head = "frames"
    objective = "multilabel"
    view = View(window=4.0, crop=True)
    presets = ("f1", "high-precision")
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

    def fit(self, clips: Sequence[Clip]) -> Labels:
        """{"voice": classes}, always in the order KCHI, OCH, MAL, FEM.

        Raises:
            CorpusError: where a class has no annotated second in `clips`.
        """
        missing = [v for v in self.options.classes if not any(_heard(c, v) for c in clips)]
        if missing:
            kept = [v for v in self.options.classes if v not in missing]
            found = sorted({s.label for c in clips for s in c.segments})
            raise CorpusError(
                f"no training recording has a segment of {' or '.join(missing)} "
                f"(labels found: {', '.join(found) or 'none'}): check the labels' names and the "
                f"split, or leave the voice out with --set task.classes='[{', '.join(kept)}]'"
            )
        return {"voice": self.options.classes}

    def check(self, labels: Labels, clips: Sequence[Clip], split: str) -> None:
        """Refuse a split where no voice is heard: nothing could be tuned or scored on it."""
        if not any(_heard(clip, voice) for clip in clips for voice in labels["voice"]):
            raise CorpusError(
                f"the {split} recordings hold no segment of {', '.join(labels['voice'])} in their "
                f"annotated time (recordings: {', '.join(c.id for c in clips[:5])}): check the "
                "labels' names, or split otherwise (split lists, or --set protocol=kfold)"
            )

    def targets(self, clip: Clip, grid: Grid, frames: int, labels: Labels) -> Tensor:
        """Multi-hot f32[frames, C]: 1 where the frame's centre lies in a segment [start, end)."""
        classes = labels["voice"]
        column = {name: i for i, name in enumerate(classes)}
        heard = [s for s in clip.segments if s.label in column]
        if not heard:
            return torch.zeros(frames, len(classes))
        centres = clip.start + grid.centres(frames)
        which = np.array([column[s.label] for s in heard])
        turns = np.zeros((frames + 1, len(classes)), dtype=np.int32)
        np.add.at(turns, (np.searchsorted(centres, [s.start for s in heard]), which), 1)
        np.add.at(turns, (np.searchsorted(centres, [s.end for s in heard]), which), -1)
        return torch.from_numpy((np.cumsum(turns[:-1], axis=0) > 0).astype(np.float32))

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
            if not np.isfinite(output.values).all():
                raise DivergedError(f"{output.clip.id}: the model's output is not finite")
        f1: dict[str, float] = {}
        precise: dict[str, float] = {}
        reached: dict[str, bool] = {}
        if not any(_heard(o.clip, name) for o in outputs for name in labels["voice"]):
            raise CorpusError(
                f"the dev recordings hold no segment of {', '.join(labels['voice'])}, so no "
                "threshold can be chosen: move a recording with speech into dev"
            )
        time = Timeline.of(outputs, grid)
        for column, name in enumerate(labels["voice"]):
            found = curve(outputs, time, column, name, *self._milliseconds())
            f1[name] = best_f1(found)
            precise[name], reached[name] = high_precision(found, self.options.recall_floor)
        return {
            "f1": {"thresholds": f1},
            "high-precision": {"thresholds": precise, "reached": reached},
        }

    def _milliseconds(self) -> tuple[int, int]:
        return round(self.options.fill_gaps * 1000), round(self.options.min_segment * 1000)

    def decode(
        self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]
    ) -> Prediction:
        """Logits f32[T, C] -> segments in seconds of the file, to the millisecond.

        tuned: {"thresholds": {class: probability}}; .5 for a class that isn't there.
        """
        thresholds = tuned.get("thresholds", {})
        time = Timeline.of([output], grid)
        segments = []
        for column, name in enumerate(labels["voice"]):
            scores = time.row([probabilities(output.values[:, column])])
            active = scores >= float(thresholds.get(name, 0.5))
            begin, end = join(time, active, *self._milliseconds())
            for a, b in zip(time.edges[begin].tolist(), time.edges[end].tolist(), strict=True):
                segments.append(Segment(a / 1000, b / 1000, name))
        return Prediction(output.clip.id, tuple(sorted(segments, key=_order)))

    def statistics(self, reference: Clip, prediction: Prediction | None) -> dict[str, float]:
        """Seconds per class inside the annotated time: "KCHI/tp", "KCHI/fp", "KCHI/fn", ..."""
        segments = () if prediction is None else prediction.segments
        spans = scored(reference)
        sums: dict[str, float] = {}
        for name in self.options.classes:
            tp, fp, fn = _detection(spoken(reference.segments, name), spoken(segments, name), spans)
            sums |= {f"{name}/tp": tp, f"{name}/fp": fp, f"{name}/fn": fn}
        return sums

    def metrics(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Shares in [0, 1]: "precision/KCHI", "recall/KCHI", "f1/KCHI", ... and their means.

        A class found neither in the reference nor in the prediction has no value and no part in
        the means. A class that is predicted and never spoken has F1 0 and counts. pyannote's
        conventions hold at the edges: precision is 1 where nothing was predicted, recall is 1
        where nothing was spoken; F1 is 0 in both. With no class at all there is no metric.
        """
        from pyannote.metrics.detection import DetectionPrecisionRecallFMeasure

        metric = DetectionPrecisionRecallFMeasure(collar=0.0, skip_overlap=False)
        values: dict[str, float] = {}
        rows = []
        for name in self.options.classes:
            tp, fp, fn = (totals.get(f"{name}/{part}", 0.0) for part in ("tp", "fp", "fn"))
            if tp + fp + fn == 0:
                continue
            detail = {"retrieved": tp + fp, "relevant": tp + fn, "relevant retrieved": tp}
            row = dict(zip(METRICS, metric.compute_metrics(detail), strict=True))
            values |= {f"{key}/{name}": float(value) for key, value in row.items()}
            rows.append(row)
        order = sorted(METRICS)  # f1, the headline, first
        means = {key: float(np.mean([row[key] for row in rows])) for key in order if rows}
        return means | values

    def write(self, predictions: Sequence[Prediction], folder: Path) -> None:
        """`<recording>.rttm` each (empty where nothing was found), and all of it in `vtc.csv`.

        Raises:
            CorpusError: where two recordings' names become the same file name.
        """
        owners: dict[str, str] = {}
        rows: list[tuple[str, str, str, str]] = []
        for prediction in predictions:
            stem = re.sub(r"[^\w.\-]+", "_", prediction.id).lstrip(".") or "_"
            if owners.setdefault(stem.casefold(), prediction.id) != prediction.id:
                raise CorpusError(
                    f"recordings {owners[stem.casefold()]!r} and {prediction.id!r} would both be "
                    f"written to {stem}.rttm: rename one of them"
                )
            write_text(folder / f"{stem}.rttm", _rttm(prediction))
            for s in prediction.segments:
                rows.append((prediction.id, f"{s.start:.3f}", f"{s.end - s.start:.3f}", s.label))
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("uid", "start_time_s", "duration_s", "label"))
        writer.writerows(rows)
        write_text(folder / "vtc.csv", table.getvalue())


def _order(segment: Segment) -> tuple[float, float, str]:
    return segment.start, segment.end, segment.label


def _heard(clip: Clip, name: str) -> bool:
    """Whether a class has any time inside the clip's annotated time."""
    if not any(s.label == name for s in clip.segments):
        return False
    return len(intersect(spoken(clip.segments, name), scored(clip))) > 0


def _rttm(prediction: Prediction) -> str:
    """The lines of one recording; an RTTM field can't hold white space."""
    uri = re.sub(r"\s+", "_", prediction.id)
    return "".join(
        f"SPEAKER {uri} 1 {s.start:.3f} {s.end - s.start:.3f} <NA> <NA> {s.label} <NA> <NA>\n"
        for s in prediction.segments
    )


def _detection(reference: Floats, predicted: Floats, spans: Floats) -> tuple[float, float, float]:
    """(tp, fp, fn) in seconds by pyannote.metrics, all arguments f64[N, 2] and disjoint.

    pyannote compares every segment with all that start before it, so a ten-hour recording takes
    minutes. The three durations are additive over time, so it gets blocks of `BLOCK` segments.
    """
    from pyannote.core import Segment as Span
    from pyannote.core import Timeline as Spans
    from pyannote.metrics.detection import DetectionAccuracy

    metric = DetectionAccuracy(collar=0.0, skip_overlap=False)
    starts = np.sort(np.concatenate([reference[:, 0], predicted[:, 0], spans[:, 0]]))
    cuts = np.unique(np.concatenate([[-np.inf], starts[BLOCK::BLOCK], [np.inf]]))
    sums = np.zeros(3)
    for left, right in pairwise(cuts.tolist()):
        parts = [
            Spans([Span(max(a, left), min(b, right)) for a, b in _touching(rows, left, right)])
            for rows in (reference, predicted, spans)
        ]
        found = metric.compute_components(
            parts[0].to_annotation(), parts[1].to_annotation(), uem=parts[2]
        )
        sums += [found["true positive"], found["false positive"], found["false negative"]]
    tp, fp, fn = (float(x) for x in sums)
    return tp, fp, fn


def _touching(rows: Floats, left: float, right: float) -> list[list[float]]:
    """The rows (sorted, disjoint) that touch [left, right)."""
    first = int(np.searchsorted(rows[:, 1], left, side="right"))
    last = int(np.searchsorted(rows[:, 0], right, side="left"))
    found: list[list[float]] = rows[first:last].tolist()
    return found
