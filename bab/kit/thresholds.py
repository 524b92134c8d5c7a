"""One threshold per class, tuned on dev with the decoding and the durations that scoring uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bab.core.types import Output
from bab.kit.closing import Rules
from bab.kit.segments import (
    Floats,
    Timeline,
    inside,
    intersect,
    probabilities,
    scored,
    spoken,
)

EXACT = 512  # with so few different scores, every cut between two of them is tried
QUANTILES = 101
RASTER = np.arange(1, 100) / 100
EQUAL = 1e-9  # two scores that differ by less are a tie


@dataclass(frozen=True, slots=True)
class Curve:
    """Durations of one class over candidate thresholds, in seconds, all f64[K] but `relevant`.

    correct: predicted and true; predicted: all that was predicted; relevant: all that is true.
    """

    thresholds: Floats
    correct: Floats
    predicted: Floats
    relevant: float

    @property
    def precision(self) -> Floats:
        """Share of the predicted time that is true; 0 where nothing was predicted."""
        return _ratio(self.correct, self.predicted)

    @property
    def recall(self) -> Floats:
        """Share of the true time that was predicted; 0 where there is none."""
        return _ratio(self.correct, np.full_like(self.correct, self.relevant))

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall, from durations."""
        return _ratio(2 * self.correct, self.predicted + self.relevant)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def candidates(scores: Floats, true: NDArray[np.bool_]) -> Floats:
    """Thresholds worth trying: f64[K], ascending; a frame counts where its score is at least that.

    Few different scores: every cut between neighbours, and the lowest score, so none is missed.
    Many: the quantiles of all scores, which follow a squeezed distribution wherever it lies, and
    those of the class's own frames, which are evenly spaced in recall however rare it is. Both
    with a fixed raster, so that clear cases get a round number in the middle.
    """
    own, scores = scores[true], np.sort(scores)  # what follows is fast then
    distinct = scores[np.diff(scores, prepend=-np.inf) > 0]
    if len(distinct) <= EXACT:
        cuts = np.concatenate([distinct[:1], (distinct[:-1] + distinct[1:]) / 2])
    else:
        shares = np.linspace(0.0, 1.0, QUANTILES)
        cuts = np.quantile(scores, shares)
        if true.any():
            cuts = np.concatenate([cuts, np.quantile(own, shares)])
    return np.unique(np.concatenate([cuts, RASTER]))


class Truth:
    """What is true of some outputs' time, whatever was said of it: made once for all classes, and
    for all models that are tuned on the same clips."""

    def __init__(self, outputs: Sequence[Output], time: Timeline, fill: int, shortest: int) -> None:
        """fill, shortest: milliseconds."""
        self.clips = [output.clip for output in outputs]
        self.time = time
        self.rules = Rules.of(time, fill, shortest)
        self.cell = self._cells([scored(clip) for clip in self.clips])
        self.counted = time.frame & (self.cell > 0)
        self._known: dict[str, tuple[Floats, NDArray[np.bool_], float]] = {}

    def of(self, label: str) -> tuple[Floats, NDArray[np.bool_], float]:
        """Scored seconds of a class at each place, f64[N]; which counted frames are its, bool; and
        its seconds in all."""
        if label not in self._known:
            spans = [intersect(spoken(c.segments, label), scored(c)) for c in self.clips]
            share = self._cells(spans)
            true = share[self.counted] > self.cell[self.counted] / 2
            relevant = sum(float(np.diff(one).sum()) for one in spans)
            self._known[label] = share, true, relevant
        return self._known[label]

    def _cells(self, spans: Sequence[Floats]) -> Floats:
        """Seconds of each output's spans in each place's cell: f64[N]."""
        cells = np.zeros(len(self.time.edges))
        bounds = [*self.time.first.tolist(), len(self.time.edges)]
        for own, start, stop in zip(spans, bounds[:-1], bounds[1:], strict=True):
            cells[start : stop - 1] = np.diff(inside(own, self.time.edges[start:stop] / 1000))
        return cells


def curve(
    outputs: Sequence[Output],
    time: Timeline,
    column: int,
    label: str,
    fill: int,
    shortest: int,
    truth: Truth | None = None,
) -> Curve:
    """Decode and measure one class at every candidate threshold. fill, shortest: milliseconds;
    truth: of these outputs' clips and these milliseconds, where it is known."""
    truth = truth or Truth(outputs, time, fill, shortest)
    share, true, relevant = truth.of(label)
    scores = time.row([probabilities(output.values[:, column]) for output in outputs])
    tried = candidates(scores[truth.counted], true)
    passed = np.searchsorted(tried, scores, side="right").astype(np.int16)
    active = truth.rules.applied(passed)
    # Whoever is active at so many thresholds is so at the lowest of them.
    many = len(tried) + 1
    correct, predicted = (
        np.bincount(active, weights=seconds, minlength=many)[::-1].cumsum()[::-1][1:]
        for seconds in (share, truth.cell)
    )
    return Curve(tried, correct, predicted, relevant)


def best(score: Floats, thresholds: Floats) -> int:
    """Where `score` is highest; ties go to the threshold nearest to .5, then to the lower."""
    tied = np.flatnonzero(score >= score.max() - EQUAL)
    return int(tied[np.argmin(np.abs(thresholds[tied] - 0.5))])


def best_f1(curve: Curve) -> float:
    """The threshold of the best F1 (.5 where the class is absent: all are equally bad)."""
    if curve.relevant == 0:
        return 0.5
    return float(curve.thresholds[best(curve.f1, curve.thresholds)])


class Choice(NamedTuple):
    """A threshold, the recall on dev that it gives, and whether that is as high as was asked."""

    threshold: float
    recall: float
    reached: bool


def high_precision(curve: Curve, floor: float) -> Choice:
    """The threshold of the highest precision at a recall of at least `floor`, among those that are
    at least as high as that of the best F1: a lower one would give up precision for recall.

    Where precision ties, the higher recall wins. Where none of them reaches the floor, it is the
    threshold of the best F1 (.5 where the class is absent).
    """
    start = best_f1(curve)
    if curve.relevant == 0:
        return Choice(start, math.nan, False)
    higher = curve.thresholds >= start - EQUAL
    reaching = higher & (curve.recall >= floor - EQUAL)
    if not reaching.any():
        return Choice(start, float(curve.recall[higher][0]), False)
    precision = np.where(reaching, curve.precision, -1.0)
    top = precision >= precision.max() - EQUAL
    chosen = best(np.where(top, curve.recall, -1.0), curve.thresholds)
    return Choice(float(curve.thresholds[chosen]), float(curve.recall[chosen]), True)


def missed(choices: Mapping[str, Choice], floor: float) -> list[str]:
    """What is to be said of classes whose recall stays below the floor; nothing of none."""
    absent = [name for name, one in choices.items() if math.isnan(one.recall)]
    below = [f"{n} ({one.recall:.2f})" for n, one in choices.items() if not one.reached]
    below = [text for text in below if "nan" not in text]
    said = [f"{', '.join(absent)} not in dev: threshold .5"] if absent else []
    if not below:
        return said
    return [
        *said,
        f"the recall of {', '.join(below)} stays below task.recall_floor={floor:g} on dev at every "
        "threshold from that of the best F1 upwards: the threshold of the best F1 is kept",
    ]


def presets(curves: Mapping[str, Curve], floor: float) -> dict[str, Any]:
    """What is tuned for "f1" and "high-precision": thresholds, and what is to be said of them."""
    precise = {name: high_precision(one, floor) for name, one in curves.items()}
    return {
        "f1": {"thresholds": {name: best_f1(one) for name, one in curves.items()}},
        "high-precision": {
            "thresholds": {name: one.threshold for name, one in precise.items()},
            "reached": {name: one.reached for name, one in precise.items()},
            "notices": missed(precise, floor),
        },
    }
