"""One run: build, train, tune on dev, score on test, write the record.

A run's folder is named by a hash of all that its result depends on: a finished run is found and
not repeated, an unfinished one goes on from its newest checkpoint.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from bab.core import build, registry, results
from bab.core.build import Data, Parts
from bab.core.common import Common
from bab.core.errors import BusyError, InterruptedRunError
from bab.core.fold import Context, fill_features, fit_on_all, run_fold
from bab.core.memory import keep_memory
from bab.core.records import Record, RunInfo
from bab.core.report import make_record, write_trials
from bab.core.schema import RunConfig

RECORD = "record.json"


def run(
    config: RunConfig,
    force: bool = False,
    watching: Sequence[object] = (),
    common: Common | None = None,
    fresh: Collection[Path] = (),
) -> tuple[Record, Path]:
    """Do one run, or find it done.

    Args:
        config: fully resolved (bab.core.config).
        force: throw an earlier result of this very run away and repeat it.
        watching: observers of the caller's own (objects with hooks), beside those named.
        common: what an earlier run of the same cell made, and later ones may use.
        fresh: folders that hold nothing of an earlier result, whatever `force` says.

    Returns:
        The record and the run's folder.

    Raises:
        BabError: a user's mistake, with its remedy; what was computed so far is kept.
    """
    began = time.perf_counter()
    common = common or Common()
    with stopper() as stop:
        accelerator = accelerator_for(config)
        main = bool(accelerator.is_main_process)
        watchers = registry.observers(config.observers if main else [])
        for one in watching if main else ():
            watchers.join(one)
        context, found, folder = open_run(config, accelerator, watchers, stop, common)
        force = force and folder not in fresh
        done = None if force else finished(folder)
        accelerator.wait_for_everyone()
        if done is not None:
            return done, folder
        with locked(folder, main):
            if force and main:
                clear(folder)
            accelerator.wait_for_everyone()
            return _watched(context, found, folder, began, common), folder


def accelerator_for(config: RunConfig) -> Any:
    """Accelerate's handle for a run; on a CPU, the process keeps its memory from now on."""
    # Fine-tuning leaves weights without a gradient in some steps: a mask embedding without a
    # mask, layers above the one that is used.
    accelerator = build.accelerator(
        config.device, config.train.precision, config.mode == "finetune"
    )
    if accelerator.device.type == "cpu":
        keep_memory()
    return accelerator


def open_run(
    config: RunConfig,
    accelerator: Any,
    watchers: Any,
    stop: Callable[[], bool],
    common: Common,
) -> tuple[Context, Data, Path]:
    """A run's components, its data and its folder, which need not be there; nothing is written."""
    parts = common.parts(config)
    with accelerator.main_process_first():
        found = common.data(config, parts, _before(watchers, config, stop))
    build.check_trials(parts, found)
    identifier = build.run_id(config, parts, found.digest)
    folder = build.run_folder(config, parts, identifier)
    info = _info(config, parts, identifier, folder)
    context = Context(config, parts, accelerator, watchers, info, stop, found.trials, None)
    return context, found, folder


def fold_context(context: Context, found: Data, index: int, folder: Path) -> tuple[Context, Path]:
    """The context of one of a run's folds, and where its checkpoints and model are."""
    info = replace(context.info, fold=index, folds=len(found.folds))
    place = folder if len(found.folds) == 1 else folder / "folds" / str(index)
    return replace(context, info=info, known={}), place


def _watched(context: Context, found: Data, folder: Path, began: float, common: Common) -> Record:
    """Run between the events of start and end; whatever happens, the observers hear of it."""
    watchers, info = context.watchers, context.info
    watchers.bab_run_start(run=info)
    try:
        for line in _resolved(context, found):
            watchers.bab_notice(run=info, message=line)
        record = _run(context, found, folder, began, common)
    except BaseException as error:
        watchers.bab_run_end(run=info, record=None, error=f"{type(error).__name__}: {error}")
        raise
    watchers.bab_run_end(run=info, record=record, error="")
    return record


def _run(context: Context, found: Data, folder: Path, began: float, common: Common) -> Record:
    config, parts = context.config, context.parts
    if config.mode == "probe":
        context.features = common.features(config, parts, context.accelerator, found.clips)
        fill_features(context)
    folds = []
    for index, fold in enumerate(found.folds):
        own, place = fold_context(context, found, index, folder)
        folds.append(run_fold(own, fold, index, place))
    notices = []
    if len(folds) > 1 and parts.head.closed_form:
        fit_on_all(context, found.clips, folder)
        notices.append(
            f"The model kept was fitted on all {len(found.clips)} clips after the folds; the "
            f"figures are those of the {len(folds)} folds' models, each on clips it never met."
        )
    record = make_record(context, found, folds, time.perf_counter() - began, notices)
    if context.accelerator.is_main_process:
        for preset in parts.task.presets:
            predictions = [p for fold in folds for p in fold.predictions[preset]]
            place = folder / "predictions" / preset
            parts.task.write(predictions, place)
            if parts.task.level == "pair":
                write_trials(parts.task, found.trials["test"], predictions, place / "trials.tsv")
        results.save(record, folder)
        for checkpoints in folder.rglob("checkpoints"):
            shutil.rmtree(checkpoints, ignore_errors=True)
    context.accelerator.wait_for_everyone()
    return record


def _resolved(context: Context, found: Data) -> Iterator[str]:
    """What was understood, line by line, before anything slow begins."""
    config, parts = context.config, context.parts
    million = sum(p.numel() for p in parts.encoder.parameters()) / 1e6
    yield f"encoder {parts.encoder.resolved} ({million:.1f} million parameters), {config.mode}"
    corpora = [c for c in (config.corpus, config.test_corpus) if c is not None]
    where = " → ".join("the shipped sample" if c.root is None else str(c.root) for c in corpora)
    hours = sum(c.duration for c in found.clips) / 3600
    yield f"task {config.task.name} on {config.corpus_name} ({where}): {hours:.2f} h of audio"
    yield f"head {config.head.name}, device {context.accelerator.device}, seed {config.seed}"
    yield f"folder {context.info.folder}"
    yield from parts.corpus.notices
    if found.skipped:
        yield f"{len(found.skipped)} unreadable file(s) left out: {', '.join(found.skipped)}"
    for reason, count in list(found.refused.items())[:10]:
        yield f"{count} clip(s) left out: {reason}"
    yield from filter(None, [found.leakage, parts.task.notice])


def _before(
    watchers: Any, config: RunConfig, stop: Callable[[], bool]
) -> Callable[[str, float, float], None]:
    """Progress of what happens before the run's id, and so its folder, is known."""
    spec, known = config.encoder.spec, {"quiet": config.quiet}
    info = RunInfo("", "", config.task.name, config.corpus_name, spec, 0, known)

    def tell(stage: str, done: float, total: float) -> None:
        if stop():
            raise InterruptedRunError(f"stopped while {stage}; nothing was begun")
        watchers.bab_progress(run=info, stage=stage, done=done, total=total, unit="files")

    return tell


def _info(config: RunConfig, parts: Parts, identifier: str, folder: Path) -> RunInfo:
    return RunInfo(
        identifier,
        str(folder),
        config.task.name,
        config.corpus_name,
        parts.encoder.resolved,
        config.train.steps,
        config.model_dump(mode="json"),
        parts.task.primary,
    )


def finished(folder: Path) -> Record | None:
    """The record of a run that is done."""
    if not (folder / RECORD).exists():
        return None
    record = results.load(folder / RECORD)
    return record if record.status == "done" else None


def clear(folder: Path) -> None:
    """Throw a run's files away; the record goes first, so that no half of it looks finished."""
    (folder / RECORD).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name == ".lock":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def locked(folder: Path, main: bool) -> Iterator[None]:
    """Hold the run's folder, so that two processes never write into it. The lock goes with the
    process, so a killed one leaves none behind."""
    if not main:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another bab process is at work in {folder}: wait for it") from None
        yield


@contextmanager
def stopper() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for a stop at the next safe place; a second Ctrl-C stops at once."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread (a notebook's worker): signals are not ours
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped at once; the last checkpoint stands") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
