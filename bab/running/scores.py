"""Scores of predictions: of all references, and of any part of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bab.core.atomic import write_text
from bab.core.interfaces import Task
from bab.core.types import Clip, Prediction, Trial

References = Sequence[Clip | Trial]
_CONFUSION = "confusion\t"
_MATRIX = 20  # rows of a matrix above which a record doesn't hold it


class Scorecard:
    """The scores of one set of predictions: of all references, or of any part."""

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
            rows = self._rows(references)
            return self.task.rate(rows[:, 0] == 1, rows[:, 1])
        if not self.task.additive:
            return self.task.score(references, self.predictions)
        return self.task.metrics(self._total(references))

    def without(
        self, references: References, places: Sequence[Sequence[int]]
    ) -> list[dict[str, float]]:
        """The metrics of all but some of the references, once for each of `places`: which go. No
        clip goes twice, and every clip once."""
        if self.task.pairs:
            rows = self._rows(references)
            rests = [np.delete(rows, place, axis=0) for place in places]
            return [self.task.rate(r[:, 0] == 1, r[:, 1]) if len(r) else {} for r in rests]
        groups = [[references[i] for i in place] for place in places]
        if not self.task.additive:
            rest = (
                [one for own in (*groups[:i], *groups[i + 1 :]) for one in own]
                for i in range(len(groups))
            )
            return [self.of(members) if members else {} for members in rest]
        # Sums of what comes before and behind a group: taking its own from the whole would leave
        # dust where nothing is left.
        totals = [self._total(members) for members in groups]
        names = dict.fromkeys(key for total in totals for key in total)
        keys = [key for key in names if not key.startswith(_CONFUSION)]
        table = np.array([[total.get(key, 0.0) for key in keys] for total in totals])
        nothing = np.zeros_like(table[:1])
        before = np.concatenate([nothing, np.cumsum(table, axis=0)[:-1]])
        behind = np.concatenate([np.cumsum(table[::-1], axis=0)[::-1][1:], nothing])
        sums = (before + behind).tolist()
        return [self.task.metrics(dict(zip(keys, row, strict=True))) for row in sums]

    def confusion(self, references: References) -> dict[str, dict[str, dict[str, float]]]:
        """What was taken for what: matrix -> row (true) -> column (said) -> amount, of tasks whose
        statistics say it."""
        if self.task.pairs or type(self.task).statistics is Task.statistics:
            return {}
        matrices: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
        for one in references:
            assert isinstance(one, Clip)
            known = self.statistics.get(one.id)
            if known is None:  # a task whose metrics don't follow from sums
                known = self.task.statistics(one, self.predictions.get(one.id))
            for key, value in known.items():
                if key.startswith(_CONFUSION):
                    _, name, row, column = key.split("\t", 3)
                    cells = matrices[name][row]
                    cells[column] = cells.get(column, 0.0) + value
        return {
            name: {row: dict(sorted(cells.items())) for row, cells in sorted(rows.items())}
            for name, rows in matrices.items()
            if len(rows) <= _MATRIX
        }

    def _rows(self, references: References) -> NDArray[np.float64]:
        """f64[N, 2]: 1 where a trial is of one speaker, and its score."""
        trials = [r for r in references if isinstance(r, Trial)]
        rows = [(t.same, self.similarity[t]) for t in trials]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

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
