"""A task's folds, answered by trees on traits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab.auditing import trees
from bab.auditing.trees import Floats, Indices, Trees, Weight
from bab.core.grid import Grid
from bab.core.interfaces import Task
from bab.core.seeds import derive
from bab.core.types import Clip, Labels, Output, Prediction
from bab.running.data import Data
from bab.running.scores import Scorecard

FEW = 8  # classes of which each one's median is said
_GRID = Grid(16000, 0, 1)  # one frame for the whole clip
_WEIGHTS: tuple[Weight, ...] = ("balanced", None)


@dataclass
class Answers:
    """predictions: of all folds' test clips; of each fold the trees, the class weight that did
    best on dev, and what was tuned there."""

    predictions: list[Prediction] = field(default_factory=list)
    fitted: list[Trees] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    tuned: list[dict[str, Any]] = field(default_factory=list)
    columns: Sequence[int] = ()


class Question:
    """A task on the folds of its data. x: f64[N, traits] of `data.clips`.

    labels, y: by fold, what the task learns from train, and i64[N, kinds] of all clips.
    """

    def __init__(self, task: Task, data: Data, x: Floats) -> None:
        self.task, self.folds, self.x = task, data.folds, x
        self.place = {clip.id: i for i, clip in enumerate(data.clips)}
        self.tested: list[Clip] = [clip for fold in data.folds for clip in fold.test]
        self.labels: list[Labels] = [task.fit(fold.train) for fold in data.folds]
        self.y: list[Indices] = []
        for labels in self.labels:
            if self.y and labels == self.labels[0]:  # as nearly always: worked out once
                self.y.append(self.y[0])
                continue
            rows = [task.targets(clip, _GRID, 1, labels).numpy() for clip in data.clips]
            self.y.append(np.array(rows, dtype=np.int64))

    def trees(self, columns: Sequence[int], step: Callable[[], None]) -> Answers:
        """Boosted trees on some traits; the class weight is the better one on dev, as a run's
        checkpoint is."""
        answers = Answers(columns=columns)
        for number, fold in enumerate(self.folds):
            tried = []
            for weight in _WEIGHTS:
                model = self._fit(number, columns, trees.boosted(weight))
                logits = model.logits(self._rows(fold.dev, columns))
                tuned = self._tuned(number, fold.dev, logits)
                value = self._dev(fold.dev, self._decoded(number, fold.dev, logits, tuned))
                tried.append((value, model, weight, tuned))
                step()
            _, model, weight, tuned = max(tried, key=lambda one: one[0])
            answers.fitted.append(model)
            answers.weights.append(weight)
            answers.tuned.append(tuned)
            logits = model.logits(self._rows(fold.test, columns))
            answers.predictions += self._decoded(number, fold.test, logits, tuned)
        return answers

    def shuffled(
        self,
        columns: Sequence[int],
        weights: Sequence[Weight],
        seed: int,
        step: Callable[[], None],
    ) -> Answers:
        """The same trees, each fold's training labels shuffled among its clips."""
        answers = Answers(columns=columns, weights=list(weights))
        for number, weight in enumerate(weights):
            order = np.random.default_rng(derive("shuffled", seed, number))
            self._answer(answers, number, self._fit(number, columns, trees.boosted(weight), order))
            step()
        return answers

    def alone(self, column: int, weights: Sequence[Weight]) -> Answers:
        """One small tree on one trait."""
        answers = Answers(columns=[column], weights=list(weights))
        for number, weight in enumerate(weights):
            self._answer(answers, number, self._fit(number, [column], trees.single(weight)))
        return answers

    def majority(self) -> Answers:
        """What is most frequent in training."""
        answers = Answers(weights=[None] * len(self.folds))
        for number, fold in enumerate(self.folds):
            y = self.y[number][self._at(fold.train)]
            row = trees.majority(y, [len(names) for names in self.labels[number].values()])
            tuned = self._tuned(number, fold.dev, np.tile(row, (len(fold.dev), 1)))
            logits = np.tile(row, (len(fold.test), 1))
            answers.predictions += self._decoded(number, fold.test, logits, tuned)
        return answers

    def without(
        self, answers: Answers, column: int, generator: np.random.Generator
    ) -> list[Prediction]:
        """The answers again, a trait shuffled among all tested clips (of one fold, which may hold
        one recording alone, it would stay what it is)."""
        every = self._at(self.tested)
        moved = self.x.copy()
        moved[every, column] = self.x[generator.permutation(every), column]
        predictions: list[Prediction] = []
        for number, fold in enumerate(self.folds):
            rows = moved[self._at(fold.test)][:, list(answers.columns)]
            logits = answers.fitted[number].logits(rows)
            predictions += self._decoded(number, fold.test, logits, answers.tuned[number])
        return predictions

    def score(self, predictions: Sequence[Prediction]) -> float:
        """The headline metric of the test clips of all folds."""
        metrics = Scorecard(self.task, self.tested, predictions).of(self.tested)
        return metrics.get(self.task.primary, math.nan)

    def _answer(self, answers: Answers, number: int, model: Trees) -> None:
        fold = self.folds[number]
        dev = model.logits(self._rows(fold.dev, answers.columns))
        tuned = self._tuned(number, fold.dev, dev)
        logits = model.logits(self._rows(fold.test, answers.columns))
        answers.predictions += self._decoded(number, fold.test, logits, tuned)

    def _fit(
        self,
        number: int,
        columns: Sequence[int],
        make: Callable[[Indices], Any],
        order: np.random.Generator | None = None,
    ) -> Trees:
        """Trees fitted on a fold's training clips. order: shuffles their labels."""
        rows = self._at(self.folds[number].train)
        y = self.y[number][rows]
        if order is not None:
            y = order.permutation(y)
        return Trees(self.labels[number], make).fit(self.x[rows][:, list(columns)], y)

    def _at(self, clips: Sequence[Clip]) -> NDArray[np.int64]:
        return np.array([self.place[clip.id] for clip in clips], dtype=np.int64)

    def _rows(self, clips: Sequence[Clip], columns: Sequence[int]) -> Floats:
        """f64[N, columns]: some traits of clips."""
        return np.asarray(self.x[self._at(clips)][:, list(columns)])

    def _tuned(self, number: int, clips: Sequence[Clip], logits: Floats) -> dict[str, Any]:
        """The first preset's thresholds and the like, from dev alone."""
        outputs = [Output(c, row) for c, row in zip(clips, logits, strict=True)]
        tuned = self.task.tune(outputs, _GRID, self.labels[number])
        return dict(tuned[self.task.presets[0]])

    def _decoded(
        self, number: int, clips: Sequence[Clip], logits: Floats, tuned: dict[str, Any]
    ) -> list[Prediction]:
        labels = self.labels[number]
        return [
            self.task.decode(Output(clip, row), _GRID, labels, tuned)
            for clip, row in zip(clips, logits, strict=True)
        ]

    def _dev(self, clips: Sequence[Clip], predictions: Sequence[Prediction]) -> float:
        """What weights are chosen by, more = better."""
        metrics = Scorecard(self.task, clips, predictions).of(clips)
        value = metrics.get(self.task.select or self.task.primary, math.nan)
        sign = 1.0 if self.task.higher_is_better else -1.0
        return sign * value if math.isfinite(value) else -math.inf
