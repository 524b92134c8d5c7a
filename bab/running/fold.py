"""One fold of a run: fit the labels, train, tune on dev, predict test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from bab.checking.encoders import not_finite
from bab.checking.faults import described
from bab.checking.heads import check_fitted, check_linear, watch_head
from bab.checking.losses import watch_objective
from bab.checking.tasks import check_labels, check_metrics, check_predictions, check_tuned
from bab.core import checkpoint
from bab.core.checkpoint import State
from bab.core.components import freeze
from bab.core.errors import ConfigError, CorpusError
from bab.core.interfaces import Encoder, Head, Objective
from bab.core.seeds import derive
from bab.core.trainer import Trainer, Training
from bab.core.types import Clip, Labels, Output, Prediction
from bab.data.batches import Collator, remembered
from bab.data.splits import Fold
from bab.machine.processes import same_checkpoint
from bab.running import model
from bab.running.assembly import assemble, open_encoder
from bab.running.batches import make_batches, targets_of, trainable
from bab.running.context import Context, FoldResult
from bab.running.ensemble import fused_objective
from bab.running.inference import infer
from bab.running.model import Model
from bab.running.saved import load_saved
from bab.running.start import inherit


def run_fold(context: Context, fold: Fold, index: int, folder: Path) -> FoldResult:
    """Train on fold.train, choose and tune on fold.dev, predict fold.test.

    folder: of this fold's checkpoints and model.
    """
    task = context.parts.task
    if context.config.mode == "evaluate":
        return _evaluated(context, fold)
    if context.parts.head.closed_form:
        labels, untrained = check_labels(task, task.fit(fold.train)), dict[str, int]()
        scorer, _ = _modules(context, labels, index)
        state = _solve(context, scorer, [*fold.train, *fold.dev], labels)
        tuned = _tune(context, [], labels)
    else:
        training, labels, untrained = make_training(context, fold, index, folder)
        assert isinstance(training.model, Model)
        scorer, state = training.model, Trainer(training).fit()
        known = context.answers.tuned(context.info, state.best_step)
        tuned = known if known is not None else _tuned(context, scorer, fold, labels)
    said = context.answers.tested(context.info, state.best_step)
    outputs = said if said is not None else answered(context, scorer, fold, "test")
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


def _evaluated(context: Context, fold: Fold) -> FoldResult:
    """Train nothing: score the model as it is, with its own thresholds or, if asked, with dev's."""
    task, start = context.parts.task, context.parts.start
    assert start is not None
    scorer = start.model.to(context.trainer.device)
    tuned = {preset: dict(start.tuned.get(preset, {})) for preset in task.presets}
    if context.config.tune == "dev":
        tuned = _tuned(context, scorer, fold, start.labels)
    outputs = answered(context, scorer, fold, "test")
    predictions = {
        preset: _decode(context, outputs, start.labels, tuned[preset]) for preset in task.presets
    }
    cost = _parameters(context, scorer)
    return FoldResult(start.labels, tuned, predictions, {}, 0, 0, 0.0, {}, cost)


def fit_on_all(context: Context, clips: Sequence[Clip], folder: Path) -> None:
    """After the folds: one model solved from all clips, saved in `folder`, for use on new audio.

    Only for closed-form heads: a trained one has no clips left to choose its checkpoint on.
    """
    task = context.parts.task
    labels = task.fit(clips)
    scorer, _ = _modules(context, labels, 0)
    _solve(context, scorer, clips, labels)
    if context.accelerator.is_main_process:
        tuned = _tune(context, [], labels)
        _save(context, scorer, labels, tuned, folder)


def make_training(
    context: Context, fold: Fold, index: int, folder: Path
) -> tuple[Training, Labels, dict[str, int]]:
    """What is to be trained in a fold, the labels it learns, and why examples were left
    out of training -> how many. The features of the fold need not be there yet.

    folder: of this fold's checkpoints and model.
    """
    parts, config = context.parts, context.config
    labels = parts.task.fit(fold.train)
    scorer, objective = _modules(context, labels, index)
    watch_objective(objective)
    if parts.task.one_target:
        look = targets_of(context, labels)
        objective.observe(torch.stack([look(clip, 1) for clip in fold.train]))
    train = context.examples(fold.train)
    chosen, untrained = trainable(context, objective, labels, train, parts.pooled)
    training = Training(
        scorer,
        objective,
        make_batches(context, _collator(context, labels), train, chosen, index),
        Evaluation(context, scorer, fold, labels),
        config.train,
        derive(config.seed, "fold", index),
        folder / "checkpoints",
        context.trainer,
        context.watchers,
        context.info,
        context.life.stop,
        doubt=lambda batches: not_finite(scorer.encoder, described(parts.encoder), batches),
    )
    same_checkpoint(training.folder, context.accelerator)
    return training, labels, untrained


@dataclass(frozen=True)
class Evaluation:
    """Scores a model, as it is when this is called, on a fold's dev clips."""

    context: Context
    scorer: Model
    fold: Fold
    labels: Labels

    def __call__(self, step: int) -> tuple[dict[str, float], float]:
        """The metrics, and the one that decides: higher is better."""
        return self.judged(self.outputs(self.scorer), step)

    def outputs(self, scorer: Model) -> list[Output]:
        """What a model says of dev. scorer: this one, or what answers for several."""
        return answered(self.context, scorer, self.fold, "dev")

    def judged(self, outputs: Sequence[Output], step: int) -> tuple[dict[str, float], float]:
        """What a model's outputs of dev are worth, after tuning on them.

        Raises:
            CorpusError: dev can't decide.
        """
        context, task = self.context, self.context.parts.task
        tuned = _tune(context, outputs, self.labels)
        predictions = _decode(context, outputs, self.labels, tuned[task.presets[0]])
        references = context.references(self.fold.dev, "dev")
        metrics = dict(check_metrics(task, task.score(references, {p.id: p for p in predictions})))
        deciding = task.select or task.primary
        if deciding not in metrics:
            raise CorpusError(
                f"the dev split gives no {deciding}, so no checkpoint can be chosen: it needs "
                "clips that hold what the task looks for"
            )
        value = metrics[deciding] * (1 if task.higher_is_better else -1)
        context.answers.tune(context.info, step, value, tuned)
        return metrics, value


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
    before = {name: value.clone() for name, value in scorer.head.state_dict().items()}
    scorer.head.fit(x, torch.cat([b.targets[:, 0] for b in batches]))
    check_fitted(scorer.head, before, x[:64, None])
    scorer.to(context.trainer.device)
    return State(seconds=time.perf_counter() - began)


def _modules(context: Context, labels: Labels, index: int) -> tuple[Model, Objective]:
    """Model and objective with weights drawn from the run's seed."""
    parts, config = context.parts, context.config
    sizes = [len(names) for names in labels.values()]
    head_options = parts.head.Options(**config.head.options)
    options = parts.objective.Options(**config.objective.options)
    objectives: list[Objective] = []

    def head(dim: int) -> Head:
        torch.manual_seed(derive(config.seed, "weights", index))
        made = parts.head(dim, sum(sizes), head_options)
        watch_head(made, parts.task.level)
        if parts.pooled and parts.head.linear and config.view.pool == "frames":
            check_linear(made, dim)
        objectives.append(parts.objective(made.outputs, sizes, options))
        return made

    encoder, members, fusion = _trained(context, index), parts.members, config.encoder.fusion
    scorer = assemble(encoder, members, fusion, config.layers, head, sizes, parts.pooled)
    if parts.start is not None:
        line = inherit(scorer, parts.start, config, labels)
        context.watchers.bab_notice(run=context.info, message=line)
    return scorer, fused_objective(objectives)


def _trained(context: Context, index: int) -> Encoder | None:
    """The encoder that a fold trains; None where it stays frozen."""
    config = context.config
    if config.mode != "finetune":
        return None
    # Every fold trains an encoder of its own, from the weights that were named: the encoder of
    # another fold has met the recordings that this one tests.
    encoder = context.parts.encoder
    if index > 0 and config.model is not None:
        encoder = load_saved(config.model, config.offline, config.trust_code).encoder
    elif index > 0:
        encoder, _ = open_encoder(config.encoder, config.offline, config.trust_code)
    freeze(encoder, config.freeze)
    return encoder


def _collator(context: Context, labels: Labels) -> Collator:
    look = targets_of(context, labels)
    task, view = context.parts.task, context.parts.view
    # Frames that are the same each time have the same targets each time.
    still = context.config.mode == "probe" and view.train_seconds is None
    look = remembered(look) if task.one_target or still else look
    return Collator(context.source(), context.parts.encoder.grid, look)


def answered(
    context: Context, scorer: Model, fold: Fold, split: Literal["dev", "test"]
) -> list[Output]:
    """What a model says of each region of a split, in order, computed by all processes together."""
    clips = fold.dev if split == "dev" else fold.test
    examples = context.examples(context.asked(clips, split))
    accelerator, trainer = context.accelerator, context.trainer
    precision = context.config.train.precision if trainer is accelerator else "fp32"
    scorer.eval()
    own = list(
        infer(
            scorer,
            examples,
            context.source(),
            trainer.device,
            precision,
            context.parts.task.pairs,
            (accelerator.process_index, accelerator.num_processes),
            context.progress(split),
        )
    )
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        own = gather_object(own)
    return sorted(own, key=lambda o: (o.clip.id, o.clip.start))


def _tuned(context: Context, scorer: Model, fold: Fold, labels: Labels) -> dict[str, Any]:
    return _tune(context, answered(context, scorer, fold, "dev"), labels)


def _tune(context: Context, outputs: Sequence[Output], labels: Labels) -> dict[str, Any]:
    task = context.parts.task
    return check_tuned(task, task.tune(outputs, context.parts.encoder.grid, labels))


def _decode(
    context: Context, outputs: Sequence[Output], labels: Labels, tuned: dict[str, Any]
) -> list[Prediction]:
    """One prediction per clip; those of a recording's annotated spans are put together."""
    task, grid = context.parts.task, context.parts.encoder.grid
    predictions = [task.decode(output, grid, labels, tuned) for output in outputs]
    return merge(check_predictions(task, outputs, predictions))


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
        "pool": parts.pooled,
        "labels": {key: list(names) for key, names in labels.items()},
        "tuned": tuned,
        "run": context.info.id,
        "notice": parts.task.notice,
    }
    if config.model is not None:
        spec["start"] = config.model
    model.save(folder / "model", checkpoint.trainable(scorer), spec)


def _parameters(context: Context, scorer: Model) -> dict[str, float]:
    return {
        "encoder_parameters": float(sum(p.numel() for p in context.parts.encoder.parameters())),
        "trained_parameters": float(sum(p.numel() for p in scorer.parameters() if p.requires_grad)),
    }
