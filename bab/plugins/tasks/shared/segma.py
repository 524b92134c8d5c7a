"""The published script's conventions, so that a number can be set beside a published one.

segma (github.com/arxaqapi/segma, scripts/evaluate.py and tune.py), which scored VTC 2: thresholds
are tuned frame by frame; recordings in which nothing was found are skipped, misses and all; no UEM;
the mean is over all classes, and one that is neither spoken nor found has F1 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bab import Clip, Grid, Output, Prediction
from bab.kit import detection, probabilities, spoken, union

PRESET = "segma"
METRIC = "segma_f1"
RASTER = np.round(np.linspace(0.0, 1.0, 100), 2)  # its --precision 0.01


def thresholds(outputs: Sequence[Output], grid: Grid, classes: Sequence[str]) -> dict[str, float]:
    """Per class, the first of the raster's thresholds with the best F1 over the frames of all dev
    outputs. A frame is true where a segment touches it; 0 / 0 is 1, as in scikit-learn there."""
    chosen = {}
    for column, name in enumerate(classes):
        truth = np.concatenate([_touched(output, grid, name) for output in outputs])
        scores = np.concatenate([probabilities(o.values[:, column]) for o in outputs])
        below = np.searchsorted(RASTER, scores, side="left")  # thresholds that a score exceeds
        right, marked = (
            np.cumsum(np.bincount(some, minlength=len(RASTER) + 1)[::-1])[::-1][1:]
            for some in (below[truth], below)
        )
        whole = marked + truth.sum()
        f1 = np.divide(2 * right, whole, out=np.ones(len(RASTER)), where=whole > 0)
        chosen[name] = float(RASTER[int(f1.argmax())])
    return chosen


def _touched(output: Output, grid: Grid, name: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    truth = np.zeros(len(output.values), dtype=np.bool_)
    hop = grid.seconds_per_frame
    for start, end in spoken(output.clip.segments, name):
        first, last = ((time - output.clip.start) / hop - output.first for time in (start, end))
        truth[max(0, int(first)) : max(0, int(np.ceil(last)))] = True
    return truth


def statistics(
    reference: Clip, prediction: Prediction | None, classes: Sequence[str]
) -> dict[str, float]:
    """Seconds "segma/KCHI/tp", ... over all that was annotated or found; nothing of a recording in
    which nothing was found."""
    if prediction is None or not prediction.segments:
        return {}
    both = (*reference.segments, *prediction.segments)
    extent = union([(min(s.start for s in both), max(s.end for s in both))])
    sums: dict[str, float] = {}
    for name in classes:
        true, said = (spoken(one.segments, name) for one in (reference, prediction))
        for part, seconds in zip(("tp", "fp", "fn"), detection(true, said, extent), strict=True):
            sums[f"segma/{name}/{part}"] = seconds
    return sums


def shares(totals: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """ "segma_f1", the mean over all classes, and "segma_f1/KCHI", ...; nothing where every
    recording was skipped."""
    from pyannote.metrics.detection import DetectionPrecisionRecallFMeasure

    if not any(key.startswith("segma/") for key in totals):
        return {}
    metric = DetectionPrecisionRecallFMeasure()
    values = {}
    for name in classes:
        tp, fp, fn = (totals.get(f"segma/{name}/{part}", 0.0) for part in ("tp", "fp", "fn"))
        detail = {"retrieved": tp + fp, "relevant": tp + fn, "relevant retrieved": tp}
        values[f"{METRIC}/{name}"] = float(metric.compute_metrics(detail)[2])
    return {METRIC: float(np.mean(list(values.values()))), **values}
