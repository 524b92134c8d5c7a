"""One run: build, train, tune on dev, score on test, write the record.

A run's folder is named by a hash of all that its result depends on: a finished run is found and
not repeated, an unfinished one goes on from its newest checkpoint.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from bab.checking.blame import naming
from bab.config.run import RunConfig
from bab.core.errors import ConfigError, counted, sized
from bab.core.record import Record, RunInfo
from bab.machine.measure import overlooked
from bab.machine.memory import set_up
from bab.results.record import save
from bab.running.batches import refuse_short
from bab.running.context import Context, FoldResult
from bab.running.doubts import notices
from bab.running.fold import fit_on_all, run_fold
from bab.running.folder import clear, finished, run_folder, run_id
from bab.running.report import encoder_speed, make_record
from bab.running.scores import write_trials
from bab.running.session import Session, settled
from bab.starting.lifecycle import Lifecycle, lifecycle


@naming()
def run(
    config: RunConfig,
    force: bool = False,
    watching: Sequence[object] = (),
    session: Session | None = None,
    fresh: Collection[Path] = (),
) -> tuple[Record, Path]:
    """Do one run, or find it done.

    Args:
        config: fully resolved (bab.config.resolve).
        force: throw an earlier result of this very run away and repeat it.
        watching: observers of the caller's own (objects with hooks), beside those named.
        session: what an earlier run of the same cell made, and later ones may use.
        fresh: folders that hold nothing of an earlier result, whatever `force` says.

    Returns:
        The record and the run's folder.

    Raises:
        BabError: a user's mistake, with its remedy; what was computed so far is kept.
    """
    began = time.perf_counter()
    session = session or Session()
    with life_of(config, config.observers, watching) as life:
        context = open_run(config, life, session)
        folder = context.folder
        force = force and folder not in fresh
        done = None if force else finished(folder)
        life.accelerator.wait_for_everyone()
        if done is not None:
            return done, folder

        def clean() -> None:
            if force:
                clear(folder)

        record = life.work(
            context.info,
            folder,
            clean,
            lambda: _opening(context),
            lambda: _run(context, session, began),
        )
        return record, folder


@naming()
def fill(config: RunConfig, number: int, count: int, watching: Sequence[object] = ()) -> float:
    """Compute a share of the features that a probe needs, and nothing else. Where the cache's
    folder is shared, other machines do the other shares meanwhile, and the run finds them all.

    Args:
        number: of the share, from 0; it depends on the corpus and on `count` alone.
        count: of the shares.
        watching: observers of the caller's own.

    Returns:
        The hours of audio of the whole corpus.

    Raises:
        ConfigError: the run trains its encoder, so that it keeps no features.
        InterruptedRunError: stopped; what was computed is kept.
    """
    if config.mode != "probe":
        raise ConfigError(
            f"a share of the features: mode {config.mode} keeps none; mode=probe does"
        )
    session = Session()
    with life_of(config, ("progress",), watching) as life:
        context = open_run(config, life, session)
        data = context.data
        context.features = session.features(
            context.config, context.parts, context.accelerator, data.clips
        )
        context.fill((number, count))
        return sum(clip.duration for clip in data.clips) / 3600


def life_of(
    config: RunConfig, observers: Sequence[str], watching: Sequence[object]
) -> AbstractContextManager[Lifecycle]:
    """The device, the observers and the stop of a run."""
    # Fine-tuning leaves weights without a gradient in some steps: a mask embedding without a
    # mask, layers above the one that is used.
    unused = config.mode == "finetune"
    set_up(config.device, config.train.deterministic)
    return lifecycle(config.device, config.train.precision, unused, observers, watching)


def open_run(config: RunConfig, life: Lifecycle, session: Session) -> Context:
    """A run's components, its data and its folder, which need not be there; nothing is written."""
    parts = session.parts(config)
    config = settled(config, parts)
    tell = life.before(config.task.name, config.corpus_name, config.encoder.spec, config.quiet)
    with life.accelerator.main_process_first():
        data = session.data(config, parts, tell)
    identifier = run_id(config, parts, data.digest)
    folder = run_folder(config, parts, identifier)
    info = RunInfo(
        identifier,
        str(folder),
        config.task.name,
        config.corpus_name,
        parts.called,
        0 if config.mode == "evaluate" else config.train.steps,
        config.model_dump(mode="json"),
        parts.task.primary,
    )
    return Context(config, parts, data, life, info, folder, answers=session.answers)


def _opening(context: Context) -> Iterator[str]:
    """What was understood, line by line, before anything slow begins."""
    config, parts, data = context.config, context.parts, context.data
    size = sized(sum(p.numel() for p in parts.encoder.parameters()), "parameter")
    if parts.start is not None:
        yield f"model {parts.start.name}"
        yield from parts.start.spec.get("notices", ())
    yield f"encoder {parts.encoder.resolved} ({size}), {config.mode}"
    corpora = [c for c in (config.corpus, config.test_corpus) if c is not None]
    where = " → ".join("the shipped sample" if c.root is None else str(c.root) for c in corpora)
    hours = sum(c.duration for c in data.clips) / 3600
    yield f"task {config.task.name} on {config.corpus_name} ({where}): {hours:.2f} h of audio"
    yield f"head {config.head.name}, device {context.accelerator.device}, seed {config.seed}"
    yield f"folder {context.info.folder}"
    yield from filter(None, [overlooked(context.accelerator.device)])
    yield from parts.corpus.notices
    if data.skipped:
        yield f"{counted(len(data.skipped), 'unreadable file')} left out: {', '.join(data.skipped)}"
    for reason, count in list(data.refused.items())[:10]:
        yield f"{counted(count, 'clip')} left out: {reason}"
    yield from filter(None, [data.leakage, *notices(context.doubts), parts.task.notice])


def _run(context: Context, session: Session, began: float) -> Record:
    config, parts, data = context.config, context.parts, context.data
    refuse_short(context)
    if config.mode == "probe" or (config.mode == "evaluate" and config.encoder.fusion):
        context.features = session.features(config, parts, context.accelerator, data.clips)
        context.fill()
    folds = []
    for index, fold in enumerate(data.folds):
        own, place = context.fold(index)
        folds.append(run_fold(own, fold, index, place))
    said = []
    if len(folds) > 1 and parts.head.closed_form:
        fit_on_all(context, data.clips, context.folder)
        said.append(
            f"The model kept was fitted on all {len(data.clips)} clips after the folds; the "
            f"figures are those of the {len(folds)} folds' models, each on clips it never met."
        )
    said += context.repaired()
    speed = session.speed(lambda: encoder_speed(context))
    record = make_record(context, folds, time.perf_counter() - began, speed, said)
    if context.life.main:
        _write(context, folds, record)
    context.accelerator.wait_for_everyone()
    return record


def _write(context: Context, folds: Sequence[FoldResult], record: Record) -> None:
    """The predictions, then the record; what only an unfinished run needs goes."""
    task, folder = context.parts.task, context.folder
    for preset in task.presets:
        predictions = [p for fold in folds for p in fold.predictions[preset]]
        place = folder / "predictions" / preset
        task.write(predictions, place)
        if task.pairs:
            write_trials(task, context.data.trials["test"], predictions, place / "trials.tsv")
    save(record, folder)
    for checkpoints in folder.rglob("checkpoints"):
        shutil.rmtree(checkpoints, ignore_errors=True)
