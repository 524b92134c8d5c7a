"""One fold of a run: fit the labels, train, tune on dev, predict test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bab.core import checkpoint, model
from bab.core.build import Parts, content_memo, feature_folder
from bab.core.cache import FeatureSource, Store
from bab.core.errors import InterruptedRunError
from bab.core.inference import infer
from bab.core.interfaces import Objective
from bab.core.loader import Collator, Order, Share, Source, WaveSource
from bab.core.model import LayerMix, Model
from bab.core.records import Batch, Clip, Labels, Output, Prediction, RunInfo
from bab.core.schema import RunConfig
from bab.core.seeds import derive
from bab.core.splits import Fold
from bab.core.trainer import Job, Trainer
from bab.core.views import Examples, regions

_INFER_SECONDS = 64.0  # of audio per pass at inference: enough to keep a device busy, 2 GB at base


@dataclass(slots=True)
class Context:
    """What all folds of a run share."""

    config: RunConfig
    parts: Parts
    accelerator: Any
    watchers: Any
    info: RunInfo
    stop: Callable[[], bool]
    features: FeatureSource | None  # None in fine-tuning

    def progress(self, stage: str, unit: str = "s") -> Callable[[float, float], None]:
        """Tells the observers how far a stage has come."""

        def tell(done: float, total: float) -> None:
            self.watchers.bab_progress(
                run=self.info, stage=stage, done=done, total=total, unit=unit
            )

        return tell

    def examples(self, clips: Sequence[Clip]) -> Examples:
        encoder = self.parts.encoder
        return Examples(regions(clips), self.parts.view, encoder.grid, encoder.max_seconds)

    def source(self) -> Source:
        return self.features or WaveSource(self.parts.encoder.sample_rate)


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
    parameters: dict[str, float] = field(default_factory=dict)


def feature_source(
    config: RunConfig, parts: Parts, device: torch.device, clips: Sequence[Clip]
) -> FeatureSource:
    """The feature store of a frozen encoder, with all windows of the run planned."""
    parts.encoder.requires_grad_(False).to(device)
    budget = int(config.cache.budget_gb * 1e9)
    layers = LayerMix(parts.encoder.depth, config.layers).wanted
    source = FeatureSource(
        parts.encoder,
        layers,
        Store(feature_folder(config), budget),
        content_memo(),
        device,
        getattr(torch, config.cache.dtype),
        batch=1 if device.type == "cpu" else 16,
    )
    encoder = parts.encoder
    planned = Examples(regions(clips), parts.view, encoder.grid, encoder.max_seconds)
    source.plan(planned.windows)
    return source


def fill_features(context: Context) -> None:
    """Compute the features that are missing, each process its share.

    Raises:
        InterruptedRunError: stopped by the user; what was computed is kept.
    """
    if context.features is None:
        return
    accelerator = context.accelerator
    context.features.fill(
        accelerator.process_index,
        accelerator.num_processes,
        context.progress("features"),
        context.stop,
    )
    accelerator.wait_for_everyone()
    if context.stop():
        raise InterruptedRunError(
            "stopped while computing features; what was computed is kept, the same command goes on"
        )


def run_fold(context: Context, fold: Fold, index: int, folder: Path) -> FoldResult:
    """Train on fold.train, choose and tune on fold.dev, predict fold.test.

    folder: of this fold's checkpoints and model.
    """
    task, config = context.parts.task, context.config
    labels = task.fit(fold.train)
    scorer, objective = _modules(context, labels, index)
    dev = context.examples(fold.dev)

    def evaluate(step: int) -> tuple[dict[str, float], float]:
        outputs = _outputs(context, scorer, dev, "dev")
        tuned = task.tune(outputs, context.parts.encoder.grid, labels)
        found = _decode(context, outputs, labels, tuned[task.presets[0]])
        metrics = task.score(fold.dev, {p.id: p for p in found})
        return metrics, metrics[task.primary] * (1 if task.higher_is_better else -1)

    state = Trainer(
        Job(
            scorer,
            objective,
            _batches(context, fold, labels, index),
            evaluate,
            config.train,
            derive(config.seed, "fold", index),
            folder / "checkpoints",
            context.accelerator,
            context.watchers,
            context.info,
            context.stop,
        )
    ).fit()
    tuned = task.tune(_outputs(context, scorer, dev, "dev"), context.parts.encoder.grid, labels)
    outputs = _outputs(context, scorer, context.examples(fold.test), "test")
    predictions = {
        preset: _decode(context, outputs, labels, tuned[preset]) for preset in task.presets
    }
    if context.accelerator.is_main_process:
        _save(context, scorer, labels, tuned, folder)
    return FoldResult(
        labels,
        tuned,
        predictions,
        state.best_metrics,
        state.best_step,
        state.step,
        state.seconds,
        _parameters(context, scorer),
    )


def _modules(context: Context, labels: Labels, index: int) -> tuple[Model, Objective]:
    """Model and objective with weights drawn from the run's seed."""
    parts, config = context.parts, context.config
    classes = sum(len(names) for names in labels.values())
    torch.manual_seed(derive(config.seed, "weights", index))
    head = parts.head(parts.encoder.dim, classes, parts.head.Options(**config.head.options))
    objective = parts.objective(
        classes, classes, parts.objective.Options(**config.objective.options)
    )
    encoder = None
    if config.mode == "finetune":
        encoder = parts.encoder
        model.freeze(encoder, config.freeze)
    return Model(encoder, LayerMix(parts.encoder.depth, config.layers), head), objective


def _batches(
    context: Context, fold: Fold, labels: Labels, index: int
) -> Callable[[int], list[Batch]]:
    """step -> this process's micro-batches."""
    config, parts = context.config, context.parts
    train = context.examples(fold.train)
    grid = parts.encoder.grid
    lengths = [round(w.duration * grid.sample_rate) for w in train.windows]
    order = Order(lengths, config.train.batch, derive(config.seed, "order", index))
    share = Share(
        context.accelerator.process_index,
        context.accelerator.num_processes,
        config.train.accumulation,
    )
    collate = Collator(
        context.source(), grid, lambda clip, frames: parts.task.targets(clip, grid, frames, labels)
    )
    moving = config.mode == "finetune" and parts.view.crop

    def batches(step: int) -> list[Batch]:
        found = []
        for indices in share.cut(order.at(step)):
            if moving:
                seed = (config.seed, "crop", order.epoch(step))
                windows = [train.crop(i, seed) for i in indices]
            else:
                windows = [train.windows[i] for i in indices]
            found.append(collate(windows, step))
        return found

    return batches


def _outputs(context: Context, scorer: Model, examples: Examples, stage: str) -> list[Output]:
    """What the model says of each region, in order, computed by all processes together."""
    accelerator = context.accelerator
    longest = max((w.duration for w in examples.windows), default=1.0)
    scorer.eval()
    own = list(
        infer(
            scorer,
            examples,
            context.source(),
            accelerator.device,
            max(1, int(_INFER_SECONDS / longest)),
            (accelerator.process_index, accelerator.num_processes),
            context.progress(stage),
        )
    )
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        own = gather_object(own)
    return sorted(own, key=lambda o: (o.clip.id, o.clip.start))


def _decode(
    context: Context, outputs: Sequence[Output], labels: Labels, tuned: dict[str, Any]
) -> list[Prediction]:
    """One prediction per clip; those of a recording's annotated spans are put together."""
    task, grid = context.parts.task, context.parts.encoder.grid
    return merge([task.decode(output, grid, labels, tuned) for output in outputs])


def merge(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Predictions of the same clip become one, with the segments of all."""
    merged: dict[str, Prediction] = {}
    for p in predictions:
        before = merged.get(p.id)
        if before is not None:
            segments = tuple(sorted([*before.segments, *p.segments], key=lambda s: s.start))
            p = Prediction(p.id, segments, p.labels, p.scores, p.text)
        merged[p.id] = p
    return list(merged.values())


def _save(
    context: Context, scorer: Model, labels: Labels, tuned: dict[str, Any], folder: Path
) -> None:
    config, parts = context.config, context.parts
    spec = {
        "encoder": config.encoder.model_dump(mode="json"),
        "resolved": parts.encoder.resolved,
        "fingerprint": parts.encoder.fingerprint,
        "task": config.task.model_dump(mode="json"),
        "task_version": parts.task.version,
        "head": config.head.model_dump(mode="json"),
        "layers": config.layers,
        "view": config.view.model_dump(mode="json"),
        "labels": {key: list(names) for key, names in labels.items()},
        "tuned": tuned,
        "run": context.info.id,
        "notice": parts.task.notice,
    }
    model.save(folder / "model", checkpoint.trainable(scorer), spec)


def _parameters(context: Context, scorer: Model) -> dict[str, float]:
    return {
        "encoder_parameters": float(sum(p.numel() for p in context.parts.encoder.parameters())),
        "trained_parameters": float(sum(p.numel() for p in scorer.parameters() if p.requires_grad)),
    }
