"""A task, clips of a corpus, and outputs that are planted: right, wrong, or noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bab.core import registry
from bab.core.grid import Grid
from bab.core.interfaces import Corpus, Task
from bab.core.types import Clip, Labels, Output, Prediction, Trial
from bab.data.windows import regions
from bab.running.fold import merge

GRID = Grid(16000, 320, 400)  # 20 ms, as most speech encoders have it
Kind = Literal["right", "wrong", "noise"]
_SURE = 6.0  # logits of what is meant, less than nothing of the rest


@dataclass
class TaskCase:
    """A task and the clips of a corpus, less those that it refuses."""

    task: Task
    train: list[Clip]
    dev: list[Clip]
    test: list[Clip]
    trials: list[Trial]
    all: list[Clip]

    @classmethod
    def of(cls, task: Task, corpus: Corpus | None = None) -> TaskCase:
        """With a corpus's given splits, or the sample of the task's own.

        Raises:
            AssertionError: the task's corpus ships no sample.
        """
        corpus = corpus or sample_of(task)
        task.suit(corpus.provides)
        missing = sorted(task.needs - corpus.provides)
        assert not missing, f"the corpus does not provide {', '.join(missing)}"
        parts = [
            [clip for clip in corpus.clips(split) if not task.refuses(clip)]
            for split in ("train", "dev", "test")
        ]
        for split, part in zip(("train", "dev", "test"), parts, strict=True):
            assert part, f"the corpus's {split} split holds no clip that the task takes"
        train, dev, test = parts
        trials = list(corpus.trials("test"))
        return cls(task, train, dev, test, trials, list(corpus.clips()))

    @cached_property
    def labels(self) -> Labels:
        return self.task.fit(self.train)

    @cached_property
    def tuned(self) -> Any:
        """The first preset's values, from right outputs of dev."""
        outputs = self.outputs(self.dev, "right")
        return self.task.tune(outputs, GRID, self.labels)[self.task.presets[0]]

    @cached_property
    def speakers(self) -> dict[str, int]:
        """A number for each speaker of the corpus, which needn't be one of train."""
        return {name: i for i, name in enumerate(sorted({str(c.speaker) for c in self.all}))}

    def regions(self, clips: Sequence[Clip]) -> list[Clip]:
        """What a run gives outputs of: annotated spans of a frame task, whole clips else."""
        return list(clips) if self.task.whole_clips else regions(clips)

    def outputs(self, clips: Sequence[Clip], kind: Kind) -> list[Output]:
        """What a model says of each region."""
        draw = np.random.default_rng(3)
        return [Output(clip, self._values(clip, kind, draw)) for clip in self.regions(clips)]

    def predictions(self, kind: Kind) -> list[Prediction]:
        """The test clips' predictions, regions of one clip joined."""
        task, outputs = self.task, self.outputs(self.test, kind)
        return merge([task.decode(one, GRID, self.labels, self.tuned) for one in outputs])

    def scores(self, kind: Kind) -> dict[str, float]:
        """The test split's metrics."""
        references = self.trials if self.task.pairs else self.test
        return self.task.score(references, {p.id: p for p in self.predictions(kind)})

    def _values(self, clip: Clip, kind: Kind, draw: np.random.Generator) -> NDArray[np.float32]:
        right = self._right(clip)
        if kind == "right":
            return right
        if kind == "wrong":
            return self._wrong(clip, right)
        return draw.normal(0.0, 2.0, right.shape).astype(np.float32)

    def _right(self, clip: Clip) -> NDArray[np.float32]:
        """Logits [T, C] or [C], or a vector [E], that say what the task's own targets say."""
        task, frames = self.task, frames_of(clip)
        sizes = [len(names) for names in self.labels.values()]
        if task.pairs:
            return _one_hot([self.speakers[str(clip.speaker)]], [len(self.speakers)])
        target = task.targets(clip, GRID, frames, self.labels)
        if task.in_order:
            path = [0]
            for label in target.tolist():
                path += [label, 0]
            path += [0] * (frames - len(path))
            return np.stack([_SURE * _one_hot([label], sizes[:1]) for label in path])
        if target.dtype == torch.float32:
            return (_SURE * (2 * target.numpy() - 1)).astype(np.float32)
        if target.ndim == 1 and task.one_target:
            return _SURE * _one_hot(target.tolist(), sizes)
        rows = target.reshape(len(target), -1).tolist()
        return np.stack([_SURE * _one_hot(row, sizes) for row in rows])

    def _wrong(self, clip: Clip, right: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.task.pairs:  # one vector for every second clip, whoever speaks
            return _one_hot([sum(clip.id.encode()) % 2], [len(self.speakers)])
        if self.task.in_order:  # nothing but blanks
            return np.tile(_SURE * _one_hot([0], [right.shape[-1]]), (len(right), 1))
        return -right


def sample_of(task: Task) -> Corpus:
    """The shipped sample of a task's corpus, with the options that the task's defaults give it."""
    cls = registry.load("datasets", task.corpus)
    assert cls.sample is not None, (
        f"corpus '{task.corpus}' ships no sample: name one, --corpus NAME:ROOT"
    )
    options = task.defaults.get("probe", {}).get("corpus", {})
    made: Corpus = cls(cls.sample.resolve(), cls.Options(**options))
    return made


def frames_of(clip: Clip) -> int:
    """Frames of a clip on the planted grid."""
    return GRID.frames(round(clip.duration * GRID.sample_rate))


def better(task: Task, one: float, two: float) -> bool:
    """Whether a score is better than another."""
    return one > two if task.higher_is_better else one < two


def _one_hot(indices: Sequence[int], sizes: Sequence[int]) -> NDArray[np.float32]:
    """1 at each index within its own group, -1 elsewhere; -1 as an index is nowhere."""
    groups = []
    for index, size in zip(indices, sizes, strict=True):
        row = np.full(size, -1.0, np.float32)
        if index >= 0:
            row[index] = 1.0
        groups.append(row)
    return np.concatenate(groups)
