"""One fold of a run: fit the labels, train, tune on dev, predict test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bab.core import checkpoint, ensemble, model
from bab.core.batches import make_batches, trainable
from bab.core.build import Parts, build_encoder, content_memo, feature_folder
from bab.core.cache import FeatureSource, Store
from bab.core.checkpoint import State
from bab.core.ensemble import Ensemble, EnsembleSource
from bab.core.errors import ConfigError, CorpusError, InterruptedRunError
from bab.core.inference import infer, per_pass
from bab.core.interfaces import Encoder, Objective
from bab.core.loader import Collator, Source, WaveSource, remembered
from bab.core.model import LayerMix, Model
from bab.core.records import Clip, Labels, Output, Prediction, RunInfo, Trial
from bab.core.schema import RunConfig
from bab.core.seeds import derive
from bab.core.splits import Fold
from bab.core.trainer import Evaluate, Job, Trainer
from bab.core.views import Examples, regions


@dataclass(slots=True)
class Context:
    """What all folds of a run share."""

    config: RunConfig
    parts: Parts
    accelerator: Any
    watchers: Any
    info: RunInfo
    stop: Callable[[], bool]
    trials: Mapping[str, Sequence[Trial]]  # by split; pair tasks only
    features: FeatureSource | EnsembleSource | None  # None in fine-tuning
    # Examples made before, by the identity of their clips (kept, so that it stays theirs).
    known: dict[int, tuple[Sequence[Clip], Examples]] = field(default_factory=dict)

    def progress(self, stage: str) -> Callable[[float, float], None]:
        """Tells the observers how far a stage has come."""

        def tell(done: float, total: float) -> None:
            if stage == "test" and self.stop():
                raise InterruptedRunError(
                    "stopped while predicting test; the trained model is kept, the same command "
                    "goes on from there"
                )
            self.watchers.bab_progress(run=self.info, stage=stage, done=done, total=total, unit="s")

        return tell

    def examples(self, clips: Sequence[Clip]) -> Examples:
        """The examples of some clips, made once for all that share `known`."""
        if id(clips) not in self.known:
            self.known[id(clips)] = (clips, make_examples(self.parts, clips))
        return self.known[id(clips)][1]

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
    untrained: dict[str, int]  # why examples were left out of training -> how many
    parameters: dict[str, float] = field(default_factory=dict)


def make_examples(parts: Parts, clips: Sequence[Clip]) -> Examples:
    """The examples of some clips, as the task's level and view have them."""
    encoder, whole = parts.encoder, parts.task.level != "frame"
    return Examples(regions(clips), parts.view, encoder.grid, encoder.max_seconds, whole)


def pools(config: RunConfig, parts: Parts) -> bool:
    """Does the head get one mean frame per clip? As the view says, or because a linear head gives
    the same from means as from frames, and means are all that has to be kept of frozen features."""
    if parts.view.pool == "mean" or isinstance(parts.encoder, Ensemble):
        return True
    whole = parts.view.train_seconds is None
    return config.mode == "probe" and parts.head.linear and whole and parts.task.level == "clip"


def feature_source(
    config: RunConfig, parts: Parts, accelerator: Any, clips: Sequence[Clip]
) -> FeatureSource | EnsembleSource:
    """The feature store of a frozen encoder, with all windows of the run planned."""
    device = accelerator.device
    parts.encoder.requires_grad_(False).to(device)
    budget, writers = int(config.cache.budget_gb * 1e9), accelerator.num_processes
    store = Store(feature_folder(config), budget, writers)

    def frozen(encoder: Encoder) -> FeatureSource:
        return FeatureSource(
            encoder,
            LayerMix(encoder.depth, config.layers).wanted,
            store,
            content_memo(),
            device,
            getattr(torch, config.cache.dtype),
            batch=1 if device.type == "cpu" else 16,
            pool=pools(config, parts),
        )

    if isinstance(parts.encoder, Ensemble):
        joined = EnsembleSource([frozen(m) for m in parts.encoder.members], parts.view)
        joined.plan(clips)
        return joined
    source = frozen(parts.encoder)
    source.plan(make_examples(parts, clips).windows)
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
    if context.features.store.problem:
        context.watchers.bab_notice(run=context.info, message=context.features.store.problem)
    if context.stop():
        raise InterruptedRunError(
            "stopped while computing features; what was computed is kept, the same command goes on"
        )


def run_fold(context: Context, fold: Fold, index: int, folder: Path) -> FoldResult:
    """Train on fold.train, choose and tune on fold.dev, predict fold.test.

    folder: of this fold's checkpoints and model.
    """
    task = context.parts.task
    if context.parts.head.closed_form:
        labels, untrained = task.fit(fold.train), dict[str, int]()
        scorer, _ = _modules(context, labels, index)
        state = _solve(context, scorer, [*fold.train, *fold.dev], labels)
        tuned = task.tune([], context.parts.encoder.grid, labels)
    else:
        job, labels, untrained = make_job(context, fold, index, folder)
        assert isinstance(job.model, Model)
        scorer, state = job.model, Trainer(job).fit()
        outputs = _outputs(
            context, scorer, context.examples(_heard(context, fold.dev, "dev")), "dev"
        )
        tuned = task.tune(outputs, context.parts.encoder.grid, labels)
    tested = context.examples(_heard(context, fold.test, "test"))
    outputs = _outputs(context, scorer, tested, "test")
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
        untrained,
        _parameters(context, scorer),
    )


def fit_on_all(context: Context, clips: Sequence[Clip], folder: Path) -> None:
    """After the folds: one model solved from all clips, saved in `folder`, for use on new audio.

    Only for closed-form heads: a trained one has no clips left to choose its checkpoint on.
    """
    task = context.parts.task
    labels = task.fit(clips)
    scorer, _ = _modules(context, labels, 0)
    _solve(context, scorer, clips, labels)
    if context.accelerator.is_main_process:
        tuned = task.tune([], context.parts.encoder.grid, labels)
        _save(context, scorer, labels, tuned, folder)


def references(context: Context, clips: Sequence[Clip], split: str) -> Sequence[Clip | Trial]:
    """What a split is scored against: its clips, or its trials."""
    return context.trials[split] if context.parts.task.level == "pair" else clips


def _heard(context: Context, clips: Sequence[Clip], split: str) -> Sequence[Clip]:
    """The clips of a split that anything is asked about: of a pair task, those in its trials."""
    if context.parts.task.level != "pair":
        return clips
    named = {side for trial in context.trials[split] for side in (trial.enrol, trial.test)}
    return [clip for clip in clips if clip.id in named]


def make_job(
    context: Context, fold: Fold, index: int, folder: Path
) -> tuple[Job, Labels, dict[str, int]]:
    """What is to be trained in a fold: the job, the labels it learns, and why examples were left
    out of training -> how many. The features of the fold need not be there yet.

    folder: of this fold's checkpoints and model.
    """
    parts, config = context.parts, context.config
    labels = parts.task.fit(fold.train)
    scorer, objective = _modules(context, labels, index)
    if parts.task.level in ("clip", "pair"):
        grid = parts.encoder.grid
        objective.observe(torch.stack([parts.task.targets(c, grid, 1, labels) for c in fold.train]))
    train = context.examples(fold.train)
    chosen, untrained = trainable(context, objective, labels, train, pools(config, parts))
    job = Job(
        scorer,
        objective,
        make_batches(context, _collator(context, labels), train, chosen, index),
        _evaluator(context, scorer, fold, labels),
        config.train,
        derive(config.seed, "fold", index),
        folder / "checkpoints",
        context.accelerator,
        context.watchers,
        context.info,
        context.stop,
    )
    return job, labels, untrained


def _evaluator(context: Context, scorer: Model, fold: Fold, labels: Labels) -> Evaluate:
    """Scores the model, as it is when called, on dev."""
    task = context.parts.task
    dev = context.examples(_heard(context, fold.dev, "dev"))

    def evaluate(step: int) -> tuple[dict[str, float], float]:
        outputs = _outputs(context, scorer, dev, "dev")
        tuned = task.tune(outputs, context.parts.encoder.grid, labels)
        found = _decode(context, outputs, labels, tuned[task.presets[0]])
        metrics = task.score(references(context, fold.dev, "dev"), {p.id: p for p in found})
        deciding = task.select or task.primary
        if deciding not in metrics:
            raise CorpusError(
                f"the dev split gives no {deciding}, so no checkpoint can be chosen: it needs "
                "clips that hold what the task looks for"
            )
        return metrics, metrics[deciding] * (1 if task.higher_is_better else -1)

    return evaluate


def _solve(context: Context, scorer: Model, clips: Sequence[Clip], labels: Labels) -> State:
    """A head in closed form, from all training clips at once; nothing is left for dev to decide,
    so its clips are trained on too.

    Raises:
        ConfigError: several kinds of label at once.
    """
    if len(labels) != 1:
        raise ConfigError(
            f"head '{context.config.head.name}' is solved for one kind of label, not for "
            f"{' and '.join(labels)} at once: make a run for each"
        )
    began = time.perf_counter()
    collate = _collator(context, labels)
    items = context.examples(clips).items
    batches = [collate(items[i : i + 64], 0) for i in range(0, len(items), 64)]
    with torch.no_grad():
        x = torch.cat([scorer.mix(b.inputs.states)[:, 0] for b in batches])  # type: ignore[union-attr]
    scorer.head.fit(x, torch.cat([b.targets[:, 0] for b in batches]))
    scorer.to(context.accelerator.device)
    return State(seconds=time.perf_counter() - began)


def _modules(context: Context, labels: Labels, index: int) -> tuple[Model, Objective]:
    """Model and objective with weights drawn from the run's seed."""
    parts, config = context.parts, context.config
    sizes = [len(names) for names in labels.values()]
    head_options = parts.head.Options(**config.head.options)
    options = parts.objective.Options(**config.objective.options)
    heads, objectives, dims = [], [], ensemble.head_dims(parts.encoder)
    for dim in dims:
        torch.manual_seed(derive(config.seed, "weights", index))
        heads.append(parts.head(dim, sum(sizes), head_options))
        objectives.append(parts.objective(heads[-1].outputs, sizes, options))
    head = ensemble.fused_head(heads, dims, sizes)
    encoder = None
    if config.mode == "finetune":
        # Every fold trains an encoder of its own, from the weights that were named: the encoder of
        # another fold has met the recordings that this one tests.
        encoder = parts.encoder
        if index > 0:
            encoder = build_encoder(config.encoder, config.offline, config.trust_code)
        model.freeze(encoder, config.freeze)
    mix = ensemble.mix_of(parts.encoder, config.layers)
    scorer = Model(encoder, mix, head, pools(config, parts))
    return scorer, ensemble.fused_objective(objectives)


def _collator(context: Context, labels: Labels) -> Collator:
    task, grid = context.parts.task, context.parts.encoder.grid

    def targets(clip: Clip, frames: int) -> Tensor:
        return task.targets(clip, grid, frames, labels)

    whole = task.level in ("clip", "pair")
    return Collator(context.source(), grid, remembered(targets) if whole else targets)


def _outputs(context: Context, scorer: Model, examples: Examples, stage: str) -> list[Output]:
    """What the model says of each region, in order, computed by all processes together."""
    accelerator = context.accelerator
    scorer.eval()
    own = list(
        infer(
            scorer,
            examples,
            context.source(),
            accelerator.device,
            per_pass(examples),
            context.features is None,
            context.parts.task.level == "pair",
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
            p = replace(p, segments=segments)
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
        "pool": pools(config, parts),
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
