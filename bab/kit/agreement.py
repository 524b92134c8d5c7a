"""How well marked time agrees with annotated time, in seconds, by pyannote.metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from bab.kit.segments import Floats

METRICS = ("precision", "recall", "f1")  # in pyannote's order
BLOCK = 64  # segments handed to pyannote at once


def shares(totals: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """Precision, recall and F1, each the mean over classes ("f1") and of each class ("f1/KCHI").

    The means are over the classes that are spoken in the reference: they can't jump because .01 s
    of another was predicted. A class that is predicted and never spoken has values of its own (F1
    0), one found in neither has none. pyannote's conventions hold at the edges: precision is 1
    where nothing was predicted, recall is 1 where nothing was spoken; F1 is 0 in both. Where no
    class is spoken there are no means.

    totals: summed seconds "<class>/tp", "<class>/fp", "<class>/fn".
    """
    from pyannote.metrics.detection import DetectionPrecisionRecallFMeasure

    metric = DetectionPrecisionRecallFMeasure(collar=0.0, skip_overlap=False)
    values: dict[str, float] = {}
    rows = []
    for name in classes:
        tp, fp, fn = (totals.get(f"{name}/{part}", 0.0) for part in ("tp", "fp", "fn"))
        if tp + fp + fn == 0:
            continue
        detail = {"retrieved": tp + fp, "relevant": tp + fn, "relevant retrieved": tp}
        row = dict(zip(METRICS, metric.compute_metrics(detail), strict=True))
        values |= {f"{key}/{name}": float(value) for key, value in row.items()}
        if tp + fn > 0:
            rows.append(row)
    order = sorted(METRICS)  # f1, the headline, first
    means = {key: float(np.mean([row[key] for row in rows])) for key in order if rows}
    return means | values


def detection(reference: Floats, predicted: Floats, spans: Floats) -> tuple[float, float, float]:
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
        seconds = metric.compute_components(
            parts[0].to_annotation(), parts[1].to_annotation(), uem=parts[2]
        )
        sums += [seconds["true positive"], seconds["false positive"], seconds["false negative"]]
    tp, fp, fn = (float(x) for x in sums)
    return tp, fp, fn


def _touching(rows: Floats, left: float, right: float) -> list[list[float]]:
    """The rows (sorted, disjoint) that touch [left, right)."""
    first = int(np.searchsorted(rows[:, 1], left, side="right"))
    last = int(np.searchsorted(rows[:, 0], right, side="left"))
    touching: list[list[float]] = rows[first:last].tolist()
    return touching
