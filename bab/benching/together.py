"""The training of a cell's runs in one sweep, before each run is made: see bab.benching.sweep.

What a run is and leaves does not depend on it: a run that was trained here finds its last
checkpoint, and has only to be scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bab.benching.frames import FrameSweep, Several
from bab.benching.sweep import Sweep, unfit
from bab.config.run import RunConfig
from bab.core import registry
from bab.core.checkpoint import State, newest, restore_best
from bab.core.components import build_task
from bab.core.errors import BusyError
from bab.core.trainer import Bundle, Training
from bab.features.source import FeatureSource, FrozenSource
from bab.running.context import Context
from bab.running.fold import answered, make_training
from bab.running.folder import clear, finished
from bab.running.model import Model
from bab.running.runner import life_of, open_run
from bab.running.session import Session
from bab.starting.folders import locked

_KEPT_BYTES = 512 * 2**20  # of what all runs say of test


def objection(config: RunConfig) -> str:
    """Why runs like this one can't be trained together, as far as their configuration tells; ""
    where `unfit` has the last word."""
    head = registry.load("heads", config.head.name)
    task = build_task(config.task.name, config.task.options)
    if config.mode != "probe" or head.closed_form or (task.one_output and not head.linear):
        return "only linear heads on frozen features are trained together"
    if config.train.patience is not None or config.train.precision != "fp32":
        return "runs that stop early or compute in half precision are trained one by one"
    return ""


def train(
    configs: Sequence[RunConfig], session: Session, force: bool, watcher: object
) -> tuple[str, set[Path]]:
    """Train those of a cell's runs that are not finished, as far as that can be done together.

    Args:
        configs: runs that differ in seed and learning rate alone.
        session: is left with what the runs have in common.
        force: train finished runs anew; their folders are cleared.
        watcher: an observer that is told how far it is.

    Returns:
        Why they have to be trained one by one, or ""; and the folders that were cleared.

    Raises:
        InterruptedRunError: Ctrl-C or SIGTERM; what was reached is saved.
        BabError: as the runs themselves would raise.
    """
    with life_of(configs[0], [], [watcher]) as life, ExitStack() as held:
        runs: list[Context] = []
        for config in configs:
            run = open_run(config, life, session)
            known = any(run.folder == other.folder for other in runs)
            if known or (not force and finished(run.folder)):
                continue
            with suppress(BusyError):  # left to whoever is at it
                held.enter_context(locked(run.folder, True))
                runs.append(run)
        if len(runs) < 2:
            return "", set()
        cleared = {run.folder for run in runs} if force else set()
        for folder in cleared:
            clear(folder)
        return _train(runs, session), cleared


def _train(runs: Sequence[Context], session: Session) -> str:
    """Train all folds of some runs, whose folders are held; why that can't be, or ""."""
    first = runs[0]
    clips, accelerator = first.data.clips, first.accelerator
    features = session.features(first.config, first.parts, accelerator, clips)
    for run in runs:
        run.features = features
    for index, fold in enumerate(first.data.folds):
        known = first.fold(index)[0].known
        trainings, owners = [], {}
        for run in runs:
            own, place = run.fold(index)
            own.known = known  # the examples of a fold are the same for all
            trainings.append(make_training(own, fold, index, place)[0])
            owners[id(trainings[-1])] = own
        if reason := unfit(trainings, first.parts.encoder.dim):
            return reason
        first.fill()
        kind = Sweep if first.parts.pooled else FrameSweep
        for group in _level(trainings):
            with _read_by_frame(features):
                states = kind(group).fit()
            if kind is FrameSweep:
                _test([owners[id(one)] for one in group], group, states, index)
    return ""


def _test(
    runs: Sequence[Context],
    trainings: Sequence[Training],
    states: Sequence[State | None],
    index: int,
) -> None:
    """What the best weights of each run say of a fold's test, for which the features are read once;
    nothing where that is too much to keep."""
    ended = [
        (run, training, state)
        for run, training, state in zip(runs, trainings, states, strict=True)
        if state is not None and state.best_step >= 0
    ]
    if not ended:
        return
    first = ended[0][0]
    fold = first.data.folds[index]
    examples = first.examples(first.asked(fold.test, "test"))
    models = []
    for _, training, state in ended:
        bundle = Bundle(training.model, training.objective)
        if state.best_step != state.step:
            restore_best(training.folder, bundle, state.best_step, training.run)
        assert isinstance(training.model, Model)
        models.append(training.model)
    several = Several(models)
    frames = sum(examples.frames(item) for item in examples.items)
    if frames * several.classes * len(models) * 8 > _KEPT_BYTES:
        return
    outputs = answered(first, several, fold, "test")
    for place, (run, _, state) in enumerate(ended):
        run.answers.test(run.info, state.best_step, list(several.of(place, outputs)))


@contextmanager
def _read_by_frame(features: FrozenSource) -> Iterator[None]:
    """Meanwhile, frames lie in memory as `FrameSweep` goes through them."""
    if not isinstance(features, FeatureSource):
        yield
        return
    features.by_frame = True
    try:
        yield
    finally:
        features.by_frame = False


def _level(trainings: Sequence[Training]) -> list[list[Training]]:
    """Those that stand at the same step, where two or more do and have steps left to take."""
    groups: dict[int, list[Training]] = {}
    for training in trainings:
        groups.setdefault(_step(training), []).append(training)
    ended = trainings[0].config.steps
    return [group for step, group in groups.items() if len(group) > 1 and step < ended]


def _step(training: Training) -> int:
    """The step of the newest checkpoint that is sound, as its name says."""
    path, _ = newest(training.folder, training.run)
    return 0 if path is None else int(path.stem.partition("-")[2])
