"""The training of a cell's runs in one sweep, before each run is made: see bab.core.sweep.

What a run is and leaves does not depend on it: a run that was trained here finds its last
checkpoint, and has only to be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from bab.core import registry
from bab.core.checkpoint import latest
from bab.core.common import Common
from bab.core.errors import BusyError
from bab.core.fold import Context, fill_features, make_job
from bab.core.runner import (
    accelerator_for,
    clear,
    finished,
    fold_context,
    locked,
    open_run,
    stopper,
)
from bab.core.schema import RunConfig
from bab.core.sweep import Sweep, unfit
from bab.core.trainer import Job


def objection(config: RunConfig) -> str:
    """Why runs like this one can't be trained together, as far as their configuration tells; ""
    where `unfit` has the last word."""
    head = registry.load("heads", config.head.name)
    if config.mode != "probe" or head.closed_form or not head.linear:
        return "only linear heads on frozen features are trained together"
    if registry.load("tasks", config.task.name).level != "clip":
        return "only heads of whole clips are trained together"
    if config.train.patience is not None or config.train.precision != "fp32":
        return "runs that stop early or compute in half precision are trained one by one"
    return ""


def train(
    configs: Sequence[RunConfig], common: Common, force: bool, watcher: object
) -> tuple[str, set[Path]]:
    """Train those of a cell's runs that are not finished, as far as that can be done together.

    Args:
        configs: runs that differ in seed and learning rate alone.
        force: train finished runs anew; their folders are cleared.
        watcher: an observer that is told how far it is.

    Returns:
        Why they have to be trained one by one, or ""; and the folders that were cleared.

    Raises:
        InterruptedRunError: Ctrl-C or SIGTERM; what was reached is saved.
        BabError: as the runs themselves would raise.
    """
    with stopper() as stop, ExitStack() as held:
        accelerator = accelerator_for(configs[0])
        watchers = registry.Watchers()
        watchers.join(watcher)
        runs: list[tuple[Context, Path]] = []
        for config in configs:
            context, data, folder = open_run(config, accelerator, watchers, stop, common)
            if any(folder == other for _, other in runs) or (not force and finished(folder)):
                continue
            with suppress(BusyError):  # left to whoever is at it
                held.enter_context(locked(folder, True))
                runs.append((context, folder))
        if len(runs) < 2:
            return "", set()
        if force:
            for _, folder in runs:
                clear(folder)
        features = common.features(configs[0], runs[0][0].parts, accelerator, data.clips)
        for context, _ in runs:
            context.features = features
        fill_features(runs[0][0])
        for index, fold in enumerate(data.folds):
            jobs, known = [], fold_context(runs[0][0], data, index, runs[0][1])[0].known
            for context, folder in runs:
                own, place = fold_context(context, data, index, folder)
                own.known = known  # the examples of a fold are the same for all
                jobs.append(make_job(own, fold, index, place)[0])
            if reason := unfit(jobs):
                return reason, {folder for _, folder in runs} if force else set()
            for group in _level(jobs):
                Sweep(group).fit()
        return "", {folder for _, folder in runs} if force else set()


def _level(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that stand at the same step, where two or more do and have steps left to take."""
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        groups.setdefault(_step(job), []).append(job)
    ended = jobs[0].config.steps
    return [group for step, group in groups.items() if len(group) > 1 and step < ended]


def _step(job: Job) -> int:
    """The step of a job's newest checkpoint, as its name says."""
    newest = latest(job.folder)
    return 0 if newest is None else int(newest.stem.partition("-")[2])
