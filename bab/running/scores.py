"""Scores of predictions: of all references, of any part of them, and of resamples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bab.core.atomic import write_text
from bab.core.interfaces import Task
from bab.core.types import Clip, Prediction, Trial
from bab.results.bootstrap import resampled, resampled_items

# The seed of all resampling: the runs of a table draw the same groups, so that they can be compared
# resample by resample, whatever their own seeds.
_DRAWS = 0
References = Sequence[Clip | Trial]


class Scorecard:
    """The scores of one set of predictions: of all references, of any part, and their intervals."""

    def __init__(
        self, task: Task, references: References, predictions: Sequence[Prediction]
    ) -> None:
        self.task = task
        self.predictions = {p.id: p for p in predictions}
        self.statistics: dict[str, dict[str, float]] = {}
        self.similarity: dict[Trial, float] = {}
        if task.pairs:
            trials = [r for r in references if isinstance(r, Trial)]
            scores = task.compare(trials, self.predictions).tolist()
            self.similarity = dict(zip(trials, scores, strict=True))
        elif task.additive:
            clips = [r for r in references if isinstance(r, Clip)]
            self.statistics = {c.id: task.statistics(c, self.predictions.get(c.id)) for c in clips}

    def of(self, references: References) -> dict[str, float]:
        """The metrics of some references."""
        if self.task.pairs:
            return self._rate([self._rows(references)])
        if not self.task.additive:
            return self.task.score(references, self.predictions)
        return self.task.metrics(self._total(references))

    def resampled(
        self, groups: Mapping[str, References], samples: int
    ) -> list[Mapping[str, float]]:
        """The metrics of each resample of the groups; none where there is only one group."""
        if not samples or len(groups) < 2:
            return []
        if self.task.pairs:
            rows = {name: [self._rows(members)] for name, members in groups.items()}
            return resampled_items(rows, self._rate, samples, _DRAWS)
        if not self.task.additive:
            return resampled_items(groups, self.of, samples, _DRAWS)
        totals = {name: self._total(members) for name, members in groups.items()}
        return resampled(totals, self.task.resample, samples, _DRAWS)

    def _rows(self, references: References) -> NDArray[np.float64]:
        """f64[N, 2]: 1 where a trial is of one speaker, and its score."""
        trials = [r for r in references if isinstance(r, Trial)]
        return np.array([(t.same, self.similarity[t]) for t in trials], dtype=np.float64)

    def _rate(self, rows: Sequence[NDArray[np.float64]]) -> dict[str, float]:
        """The metrics of the trials of some groups."""
        joined = np.concatenate(rows)
        return self.task.rate(joined[:, 0] == 1, joined[:, 1])

    def _total(self, references: References) -> dict[str, float]:
        summed: dict[str, float] = defaultdict(float)
        for one in references:
            assert isinstance(one, Clip)
            for key, value in self.statistics[one.id].items():
                summed[key] += value
        return dict(summed)


def write_trials(
    task: Task, trials: Sequence[Trial], predictions: Sequence[Prediction], path: Path
) -> None:
    """Each trial with its score, so that any tool can compute the error rates again."""
    scores = task.compare(trials, {p.id: p for p in predictions}).tolist()
    rows = [
        f"{int(t.same)}\t{t.enrol}\t{t.test}\t{score!r}\n"
        for t, score in zip(trials, scores, strict=True)
    ]
    write_text(path, "".join(["same\tenrol\ttest\tscore\n", *rows]))
