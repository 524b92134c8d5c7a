"""A pretraining run whose parts are built: its batches, its dev losses, what it leaves."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bab.checking.encoders import encode, not_finite
from bab.checking.losses import watch_objective
from bab.config.pretrain import PretrainConfig
from bab.core.atomic import write_json
from bab.core.errors import ConfigError, counted, sized
from bab.core.interfaces import Corpus, Encoder, Objective, Scorer
from bab.core.record import RunInfo, versions
from bab.core.seeds import derive
from bab.core.trainer import Trainer, Training
from bab.core.types import Batch, Encoded, Waves
from bab.data.heard import heard_by, write_heard
from bab.data.sampling import Share, cut, some
from bab.machine.measure import named, overlooked, peaks
from bab.machine.processes import same_checkpoint
from bab.pretraining.crops import Crops, PretrainCollator, order_of
from bab.pretraining.data import Material
from bab.pretraining.watch import Watch, collapsed, dev_losses
from bab.starting.lifecycle import Lifecycle
from bab.targets.store import TargetStore

RESULT = "pretrain.json"
MODEL = "model"
_BUSY = 100.0  # seconds of audio in a micro-batch
_DEV_BATCH = 64.0  # seconds of audio in one forward pass of a dev loss


class Pretraining(Scorer):
    """What a pretraining objective is handed: the encoder, and nothing on top of it."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def encode(self, batch: Batch) -> Encoded:
        """The last state of the masked batch, and the local features."""
        assert isinstance(batch.inputs, Waves) and self.encoder is not None
        return encode(self.encoder, batch.inputs, batch.mask, "last")


@dataclass(slots=True)
class Running:
    """A run whose parts are built."""

    config: PretrainConfig
    encoder: Encoder
    objective: Objective
    targets: TargetStore | None
    material: Material
    life: Lifecycle
    info: RunInfo
    folder: Path
    collate: PretrainCollator = field(init=False)

    def opening(self, corpora: Sequence[Corpus], continued: bool) -> Iterator[str]:
        """What was understood, line by line, before anything slow begins."""
        config, encoder = self.config, self.encoder
        size = sized(sum(p.numel() for p in encoder.parameters()), "parameter")
        yield f"encoder {encoder.resolved} ({size})"
        own = "taken from the checkpoint" if continued else "new"
        weights = sized(sum(p.numel() for p in self.objective.parameters()), "weight")
        yield f"objective {config.objective.name} ({weights} of its own, {own})"
        hours = [
            sum(c.duration for c in s) / 3600 for s in (self.material.train, self.material.dev)
        ]
        names = " + ".join(corpus.name for corpus in corpora)
        yield f"corpus {names}: {hours[0]:.2f} h to train on, {hours[1]:.2f} h of dev"
        yield f"device {self.life.accelerator.device}, seed {config.seed}"
        yield f"folder {self.info.folder}"
        yield from filter(None, [overlooked(self.life.accelerator.device), self._small()])
        for corpus in corpora:
            yield from corpus.notices
        if self.material.skipped:
            names = ", ".join(self.material.skipped)
            yield f"{counted(len(self.material.skipped), 'unreadable file')} left out: {names}"

    def train(self) -> dict[str, Any]:
        """Train, export, and write down what happened."""
        config, grid, folder = self.config, self.encoder.grid, self.folder
        began = time.time()
        crops = Crops(self.material.train, config.audio, grid)
        if crops.short:
            self.notice(f"{counted(crops.short, 'clip')} shorter than audio.minimum left out")
        scorer = Pretraining(self.encoder)
        beside = self.life.accelerator.device.type != "cpu"
        watch = Watch(config, folder, self.life.watchers, self.export, self.groups, beside)
        if self.life.main:
            self.life.watchers.join(watch)
        watch_objective(self.objective)
        same_checkpoint(folder / "checkpoints", self.life.accelerator)
        trainer = Trainer(
            Training(
                scorer,
                self.objective,
                self.batches(crops),
                self.evaluation(scorer),
                config.train,
                config.seed,
                folder / "checkpoints",
                self.life.accelerator,
                self.life.watchers,
                self.info,
                self.life.stop,
                config.keep,
                lambda parts: not_finite(self.encoder, "", parts),
            )
        )
        try:
            state = trainer.fit()
            watch.told(self.info, wait=True)
        finally:
            watch.leave()
        for why in self.collate.failed.values():
            self.notice(f"used in part: {why}")
        result = {
            "format": 1,
            "id": self.info.id,
            "encoder": self.encoder.resolved,
            "objective": config.objective.name,
            "corpora": [config.corpus.name, *config.also],
            "corpus_digest": self.material.digest,
            "steps": state.step,
            "dev": state.best_metrics,
            "audio_hours": state.audio_seconds / 3600,
            "train_seconds": state.seconds,
            "wall_seconds": time.time() - began,
            "clips": {"train": len(self.material.train), "dev": len(self.material.dev)},
            "short": crops.short,
            "skipped": self.material.skipped | self.collate.failed,
            "targets": self.targets.fingerprint if self.targets else "",
            "versions": versions(),
            "device": named(self.life.accelerator.device, self.life.accelerator.num_processes),
            "cost": peaks(self.life.accelerator.device),
            "config": config.model_dump(mode="json"),
        }
        if self.life.main:
            self.export(folder / MODEL)
            write_json(folder / RESULT, result)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        self.life.accelerator.wait_for_everyone()
        return result

    def accumulation(self) -> int:
        """Micro-batches of a step: as many as `train.micro_seconds` takes, where that is more."""
        train, crop = self.config.train, self.config.audio.crop
        given: int = train.accumulation
        if train.micro_seconds is None:
            return given
        share: float = self._step_seconds() / self.life.accelerator.num_processes
        if not share:
            raise ConfigError(
                "train.micro_seconds: how long a step is isn't known: give train.seconds, or "
                f"audio.crop (it is {crop})"
            )
        return max(given, math.ceil(share / train.micro_seconds - 1e-6))

    def _step_seconds(self) -> float:
        """The most audio of a step, over all processes; 0 where clips of any length make it."""
        train, crop = self.config.train, self.config.audio.crop
        given: float | None = train.seconds
        return given or (train.batch * crop if crop else 0.0)

    def _small(self) -> str:
        """A word where a GPU would mostly wait for its next kernel to be launched."""
        handle = self.life.accelerator
        parts = handle.num_processes * self.accumulation()
        seconds = self._step_seconds() / parts
        if handle.device.type != "cuda" or not seconds or seconds >= _BUSY:
            return ""
        return (
            f"a micro-batch holds {seconds:.0f} s of audio: a GPU needs about {_BUSY:.0f} to be "
            "busy. Raise train.batch (or train.seconds), or lower train.accumulation"
        )

    @property
    def groups(self) -> int:
        """Of the objective's quantiser; 0 where it has none."""
        groups = getattr(self.objective, "groups", 0)
        return groups if isinstance(groups, int) else 0

    def notice(self, message: str) -> None:
        self.life.watchers.bab_notice(run=self.info, message=message)

    def export(self, folder: Path) -> None:
        """The encoder as others load it, with what the objective needs to go on, and the digests of
        what it heard, here and before."""
        self.encoder.export(folder, self.objective.extras(), self.config.export_dtype)
        write_heard(folder, self.material.heard | heard_by(self.encoder.resolved))

    def batches(self, crops: Crops) -> Callable[[int], list[Batch]]:
        """step -> this process's micro-batches."""
        config = self.config
        share = Share(
            self.life.accelerator.process_index,
            self.life.accelerator.num_processes,
            self.accumulation(),
        )
        parts, seed = share.world * share.accumulation, derive(config.seed, "order")
        order = order_of(crops, config.train, parts, seed)
        collate = self.collate = PretrainCollator(
            crops, config.mask, self.targets, config.seed, config.skip_bad
        )

        def make(step: int) -> list[Batch]:
            epoch, places = order.at(step)
            return [collate(part, epoch, step) for part in share.cut(places)]

        return make

    def evaluation(self, scorer: Scorer) -> Callable[[int], tuple[dict[str, float], float]] | None:
        """step -> dev losses, always on the same crops and masks; None without any dev audio."""
        config = self.config
        crops = Crops(self.material.dev, config.audio, self.encoder.grid)
        if not crops.places:
            self.notice("no dev clip is long enough: no dev loss is measured")
            return None
        seed = derive(config.seed, "dev")
        collate = PretrainCollator(crops, config.mask, self.targets, seed, config.skip_bad)
        lengths = [crops.seconds(place) for place in range(len(crops.places))]
        plan = cut(some(lengths, config.dev_seconds), lengths, _DEV_BATCH, len(lengths))

        def evaluate(step: int) -> tuple[dict[str, float], float]:
            batches = [replace(collate(places, 0, i), step=step) for i, places in enumerate(plan)]
            losses = dev_losses(scorer, self.objective, batches, self.life.accelerator)
            # Where all codes are one, nothing is left to be told apart: that loss is worth nothing.
            lost = collapsed(losses, self.groups)
            return losses, -math.inf if lost else -losses["loss"]

        return evaluate
