"""One pretraining run: crops, masks, a self-supervised loss, and an encoder that others can load.

A run's folder is named by a hash of all that its weights depend on, as in `bab.core.runner`: a
finished run is found and not repeated, an unfinished one goes on from its newest checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bab.core import build, registry
from bab.core.atomic import write_json
from bab.core.corpora import open_corpora
from bab.core.crops import BySeconds, Crops, PretrainCollator, cut, some
from bab.core.errors import ConfigError, InterruptedRunError
from bab.core.interfaces import Corpus, Encoder, Objective, Scorer
from bab.core.loader import Share
from bab.core.maketargets import Tell
from bab.core.material import Material, gather, refuse_twice
from bab.core.memory import keep_memory
from bab.core.model import freeze
from bab.core.permissions import allowing
from bab.core.pretrain_schema import PretrainConfig
from bab.core.pretrain_targets import targets_for
from bab.core.pretrain_watch import PROBES, Watch, collapsed, dev_losses
from bab.core.records import Batch, Encoded, RunInfo, Waves
from bab.core.report import versions
from bab.core.runner import locked, stopper
from bab.core.seeds import derive
from bab.core.targets import TargetStore
from bab.core.trainer import Job, Trainer

RESULT = "pretrain.json"
_DEV_BATCH = 64.0  # seconds of audio in one forward pass of a dev loss
MODEL = "model"


class Pretraining(Scorer):
    """What a pretraining objective is handed: the encoder, and nothing on top of it."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def encode(self, batch: Batch) -> Encoded:
        """The last state of the masked batch, and the local features."""
        assert isinstance(batch.inputs, Waves) and self.encoder is not None
        encoded: Encoded = self.encoder(batch.inputs, batch.mask, layers="last")
        return encoded


def pretrain(config: PretrainConfig, force: bool = False) -> tuple[dict[str, Any], Path]:
    """Do one pretraining run, or find it done.

    Returns:
        What `pretrain.json` holds, and the run's folder; the encoder is in its `model` folder.

    Raises:
        BabError: a user's mistake, with its remedy; what was computed so far is kept.
    """
    with stopper() as stop:
        skips = bool(config.encoder.options.get("layerdrop"))  # layers without a gradient
        accelerator = build.accelerator(config.device, config.train.precision, skips)
        if accelerator.device.type == "cpu":
            keep_memory()
        main = bool(accelerator.is_main_process)
        watchers = registry.observers(config.observers if main else [])
        with allowing(offline=config.offline):
            corpora = [build.build_corpus(config.corpus), *open_corpora(config.also)]
        refuse_twice(corpora)
        encoder = build.build_encoder(config.encoder, config.offline, config.trust_code)
        freeze(encoder, config.freeze)
        labelled = _check_objective(config).targets
        tell = _before(watchers, config, stop)
        with accelerator.main_process_first():
            material = gather(config, corpora, tell)
        targets = None
        if labelled:
            heard = [*material.train, *material.dev]
            targets = targets_for(config, heard, material.digest, tell)
        objective, continued = _objective(config, encoder, targets)
        identifier = _identifier(config, encoder, targets, material.digest)
        folder = _folder(config, corpora, encoder, identifier)
        accelerator.wait_for_everyone()
        if not force and (folder / RESULT).exists():
            return json.loads((folder / RESULT).read_text(encoding="utf-8")), folder
        info = _info(config, encoder, identifier, folder)
        with locked(folder, main):
            if force and main:
                for name in ("checkpoints", PROBES):
                    shutil.rmtree(folder / name, ignore_errors=True)
                (folder / RESULT).unlink(missing_ok=True)
            accelerator.wait_for_everyone()
            run = Running(
                config, encoder, objective, targets, material, accelerator, watchers, info
            )
            watchers.bab_run_start(run=info)
            try:
                for line in run.opening(corpora, continued):
                    watchers.bab_notice(run=info, message=line)
                result = run.train(folder, stop)
            except BaseException as error:
                told = f"{type(error).__name__}: {error}"
                watchers.bab_run_end(run=info, record=None, error=told)
                raise
            watchers.bab_run_end(run=info, record=None, error="")
            return result, folder


@dataclass(slots=True)
class Running:
    """A run whose parts are built."""

    config: PretrainConfig
    encoder: Encoder
    objective: Objective
    targets: TargetStore | None
    material: Material
    accelerator: Any
    watchers: Any
    info: RunInfo
    collate: PretrainCollator = field(init=False)

    def opening(self, corpora: Sequence[Corpus], continued: bool) -> Iterator[str]:
        """What was understood, line by line, before anything slow begins."""
        config, encoder = self.config, self.encoder
        million = sum(p.numel() for p in encoder.parameters()) / 1e6
        yield f"encoder {encoder.resolved} ({million:.1f} million parameters)"
        own = "taken from the checkpoint" if continued else "new"
        weights = sum(p.numel() for p in self.objective.parameters()) / 1e6
        yield f"objective {config.objective.name} ({weights:.1f} million weights of its own, {own})"
        hours = [
            sum(c.duration for c in s) / 3600 for s in (self.material.train, self.material.dev)
        ]
        names = " + ".join(corpus.name for corpus in corpora)
        yield f"corpus {names}: {hours[0]:.2f} h to train on, {hours[1]:.2f} h of dev"
        yield f"device {self.accelerator.device}, seed {config.seed}"
        yield f"folder {self.info.folder}"
        for corpus in corpora:
            yield from corpus.notices
        if self.material.skipped:
            names = ", ".join(self.material.skipped)
            yield f"{len(self.material.skipped)} unreadable file(s) left out: {names}"

    def train(self, folder: Path, stop: Callable[[], bool]) -> dict[str, Any]:
        """Train, export, and write down what happened."""
        config, grid = self.config, self.encoder.grid
        began = time.time()
        crops = Crops(self.material.train, config.audio, grid)
        if crops.short:
            self.notice(f"{crops.short} clip(s) shorter than audio.minimum are left out")
        scorer = Pretraining(self.encoder)
        if self.accelerator.is_main_process:
            self.watchers.join(Watch(self, folder))
        state = Trainer(
            Job(
                scorer,
                self.objective,
                self.batches(crops),
                self.evaluation(scorer),
                config.train,
                config.seed,
                folder / "checkpoints",
                self.accelerator,
                self.watchers,
                self.info,
                stop,
                config.keep,
            )
        ).fit()
        for why in self.collate.failed.values():
            self.notice(f"heard in part: {why}")
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
            "device": str(self.accelerator.device),
            "config": config.model_dump(mode="json"),
        }
        if self.accelerator.is_main_process:
            self.export(folder / MODEL)
            write_json(folder / RESULT, result)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        self.accelerator.wait_for_everyone()
        return result

    def notice(self, message: str) -> None:
        self.watchers.bab_notice(run=self.info, message=message)

    def export(self, folder: Path) -> None:
        """The encoder as others load it, with what the objective needs to go on."""
        self.encoder.export(folder, self.objective.extras(), self.config.export_dtype)

    def batches(self, crops: Crops) -> Callable[[int], list[Batch]]:
        """step -> this process's micro-batches."""
        config = self.config
        share = Share(
            self.accelerator.process_index,
            self.accelerator.num_processes,
            config.train.accumulation,
        )
        order = BySeconds(
            [crops.seconds(place) for place in range(len(crops.places))],
            config.train.seconds,
            config.train.batch,
            derive(config.seed, "order"),
            share.world * share.accumulation,
        )
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
            found = dev_losses(scorer, self.objective, batches, self.accelerator)
            # Where all codes are one, nothing is left to be told apart: that loss is worth nothing.
            lost = collapsed(found, config.objective.options.get("groups", 0))
            return found, -math.inf if lost else -found["loss"]

        return evaluate


def _check_objective(config: PretrainConfig) -> type[Objective]:
    cls: type[Objective] = registry.load("objectives", config.objective.name)
    if not cls.pretrains:
        raise ConfigError(
            f"objective '{config.objective.name}' learns from labels: `bab run` uses it. "
            "`bab pretrain` takes contrastive or masked"
        )
    return cls


def _objective(
    config: PretrainConfig, encoder: Encoder, targets: TargetStore | None
) -> tuple[Objective, bool]:
    """The objective with its weights, and whether they come from the encoder's checkpoint."""
    cls = registry.load("objectives", config.objective.name)
    options = cls.Options(**config.objective.options)
    torch.manual_seed(derive(config.seed, "weights"))
    objective: Objective = cls(encoder.dim, [targets.clusters] if targets else [], options)
    objective.attach(encoder)
    return objective, objective.load_pretrained(encoder.extras())


def _before(watchers: Any, config: PretrainConfig, stop: Callable[[], bool]) -> Tell:
    """Progress of what happens before the run's id, and so its folder, is known."""
    known = {"quiet": config.quiet}
    info = RunInfo("", "", "pretrain", config.corpus.name, config.encoder.spec, 0, known)

    def tell(stage: str, done: float, total: float, unit: str = "files") -> None:
        if stop():
            raise InterruptedRunError(f"stopped while {stage}; nothing was begun")
        watchers.bab_progress(run=info, stage=stage, done=done, total=total, unit=unit)

    return tell


def _identifier(
    config: PretrainConfig, encoder: Encoder, targets: TargetStore | None, digest: str
) -> str:
    more = hashlib.blake2b(digest_size=16)  # a checkpoint's quantiser and projections
    for name, value in sorted(encoder.extras().items()):
        more.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    labels = targets.fingerprint if targets else ""
    facts = [config.identity(), encoder.fingerprint, more.hexdigest(), labels, digest]
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=6).hexdigest()


def _folder(
    config: PretrainConfig, corpora: Sequence[Corpus], encoder: Encoder, identifier: str
) -> Path:
    """runs/pretrain/<corpora>/<encoder>/<id>."""
    first = "sample" if config.corpus.root is None else corpora[0].root.stem
    name = "+".join([f"{config.corpus.name}-{first}", *(c.name for c in corpora[1:])])
    return build.place(config.runs, "pretrain", name, encoder.resolved, identifier)


def _info(config: PretrainConfig, encoder: Encoder, identifier: str, folder: Path) -> RunInfo:
    return RunInfo(
        identifier,
        str(folder),
        "pretrain",
        config.corpus.name,
        encoder.resolved,
        config.train.steps,
        config.model_dump(mode="json"),
        "loss",
    )
