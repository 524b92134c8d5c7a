"""What the folds of a run share, and what each leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bab.config.run import RunConfig
from bab.core.errors import InterruptedRunError
from bab.core.observers import Watchers
from bab.core.record import RunInfo
from bab.core.types import Clip, Labels, Prediction, Trial
from bab.data.batches import Source, WaveSource
from bab.data.windows import Examples
from bab.features.source import FrozenSource
from bab.machine.processes import Alone
from bab.running.answers import Answers
from bab.running.data import Data
from bab.running.doubts import doubts
from bab.running.parts import Parts
from bab.starting.lifecycle import Lifecycle


@dataclass
class Context:
    """What all folds of a run share. `info` is of one fold where `fold` made it."""

    config: RunConfig
    parts: Parts
    data: Data
    life: Lifecycle
    info: RunInfo
    folder: Path
    features: FrozenSource | None = None  # None in fine-tuning
    # Examples made before, by the identity of their clips (kept, so that it stays theirs).
    known: dict[int, tuple[Sequence[Clip], Examples]] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)

    @cached_property
    def doubts(self) -> dict[str, Any]:
        """What can't be trusted, or known, of the audio (see `bab.running.doubts`)."""
        made = self.config.protocol != "given" or not self.parts.corpus.splits_given
        return doubts(self.config, self.parts.members, self.data, made)

    @property
    def accelerator(self) -> Any:
        """Accelerate's handle on device and processes."""
        return self.life.accelerator

    @property
    def trainer(self) -> Any:
        """The handle that heads train on: one frame per clip is a CPU's work, not a GPU's."""
        own = self.accelerator
        pooled = self.features is not None and self.parts.pooled
        return Alone() if pooled and own.num_processes == 1 and own.device.type != "cpu" else own

    @property
    def watchers(self) -> Watchers:
        """Who is told of the run's events."""
        return self.life.watchers

    def fold(self, index: int) -> tuple[Context, Path]:
        """The context of one of the run's folds, and where its checkpoints and model are."""
        count = len(self.data.folds)
        info = replace(self.info, fold=index, folds=count)
        place = self.folder if count == 1 else self.folder / "folds" / str(index)
        return replace(self, info=info, known={}), place

    def progress(self, stage: str) -> Callable[[float, float], None]:
        """Tells the observers how far a stage has come."""

        def tell(done: float, total: float) -> None:
            if stage == "test" and self.life.stop():
                raise InterruptedRunError(
                    "stopped while predicting test; the trained model is kept, the same command "
                    "goes on from there"
                )
            self.watchers.bab_progress(run=self.info, stage=stage, done=done, total=total, unit="s")

        return tell

    def examples(self, clips: Sequence[Clip]) -> Examples:
        """The examples of some clips, made once for all that share `known`."""
        if id(clips) not in self.known:
            self.known[id(clips)] = (clips, self.parts.examples(clips))
        return self.known[id(clips)][1]

    def source(self) -> Source:
        """Where the inputs of examples come from."""
        return self.features or WaveSource(self.parts.encoder.sample_rate)

    def references(self, clips: Sequence[Clip], split: str) -> Sequence[Clip | Trial]:
        """What a split is scored against: its clips, or its trials."""
        return self.data.trials[split] if self.parts.task.pairs else clips

    def asked(self, clips: Sequence[Clip], split: str) -> Sequence[Clip]:
        """The clips of a split that need an output: of a pair task, those in its trials."""
        if not self.parts.task.pairs:
            return clips
        named = {side for trial in self.data.trials[split] for side in (trial.enrol, trial.test)}
        return [clip for clip in clips if clip.id in named]

    def fill(self, share: tuple[int, int] | None = None) -> None:
        """Compute the features that are missing, each process its share.

        share: its number, from 0, and how many there are; None = of this run's processes.

        Raises:
            InterruptedRunError: stopped by the user; what was computed is kept.
        """
        if self.features is None:
            return
        accelerator = self.accelerator
        rank, world = share or (accelerator.process_index, accelerator.num_processes)
        self.features.fill(rank, world, self.progress("features"), self.life.stop)
        self.accelerator.wait_for_everyone()
        if self.features.store.problem:
            self.watchers.bab_notice(run=self.info, message=self.features.store.problem)
        if self.life.stop():
            raise InterruptedRunError(
                "stopped while computing features; what was computed is kept, the same command "
                "goes on"
            )

    def repaired(self) -> list[str]:
        """What is to be said of cached features that were damaged; it is told, too."""
        said = [] if self.features is None else self.features.store.repairs()
        for line in said:
            self.watchers.bab_notice(run=self.info, message=line)
        return said


@dataclass(slots=True)
class FoldResult:
    """What a fold leaves for the record."""

    labels: Labels
    tuned: dict[str, Any]
    predictions: dict[str, list[Prediction]]  # by preset, one per test clip
    dev: dict[str, float]
    best_step: int
    steps: int
    train_seconds: float
    untrained: dict[str, int]  # why examples were left out of training -> how many
    parameters: dict[str, float] = field(default_factory=dict)
