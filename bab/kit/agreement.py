"""How well marked time agrees with annotated time, in seconds, as pyannote.metrics has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bab.kit.segments import Bools, Floats, Ints

METRICS = ("precision", "recall", "f1")  # in pyannote's order
BLOCK = 64  # segments that are added up by themselves
_EMPTY = 1e-6  # seconds; pyannote.core takes what is no longer for nothing


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
    """(tp, fp, fn) in seconds, all arguments f64[N, 2], sorted and disjoint: what
    pyannote.metrics 4 (`DetectionAccuracy`, collar 0, overlap kept) says of them.

    pyannote compares every segment with all that start before it, in Python. Here each stretch
    between two turns is looked at once, and lengths are added up in pyannote's order, in blocks of
    `BLOCK` segments as it was given them before: the sums are the same bits
    (tests/kit/test_detection.py). Stretches of up to a microsecond count nothing, as there.
    """
    starts = np.sort(np.concatenate([reference[:, 0], predicted[:, 0], spans[:, 0]]))
    cuts = np.unique(starts[BLOCK::BLOCK])
    rows = (reference, predicted, spans)
    times = np.unique(np.concatenate([cuts, *(one.ravel() for one in rows)]))
    if len(times) < 2:
        return 0.0, 0.0, 0.0
    left = times[:-1]
    true, said, inside = (np.searchsorted(one.ravel(), left, "right") % 2 == 1 for one in rows)
    block = np.searchsorted(cuts, left, side="right")
    apart = np.diff(block, prepend=-1, append=-1) != 0  # at each stretch's start, and at the end
    tp, fp, fn = (
        _seconds(times, block, apart, on & inside)
        for on in (true & said, said & ~true, true & ~said)
    )
    return tp, fp, fn


def _seconds(times: Floats, block: Ints, apart: Bools, on: Bools) -> float:
    """How long it is `on`, summed block by block, one after the other."""
    before, behind = np.append(False, on[:-1]), np.append(on[1:], False)
    begin = on & (~before | apart[:-1])
    end = on & (~behind | apart[1:])
    lengths = times[1:][end] - times[:-1][begin]
    lengths[lengths <= _EMPTY] = 0.0
    sums = np.bincount(block[begin], weights=lengths)
    return float(np.cumsum(sums)[-1]) if len(sums) else 0.0
