"""A run's folds -> its record: scores, intervals, cost, and what everything was made with."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from statistics import fmean

import torch

from bab.core.interfaces import Encoder, Task
from bab.core.record import Record, now, versions
from bab.core.types import Clip
from bab.data.batches import WaveSource
from bab.data.windows import regions
from bab.machine.arithmetic import arithmetic
from bab.machine.measure import named, peaks
from bab.running.context import Context, FoldResult
from bab.running.data import Data
from bab.running.doubts import notices as doubtful
from bab.running.folder import plugins
from bab.running.groups import Groups, kept, scored
from bab.running.scores import References, Scorecard

_MAX_SUBGROUPS = 20  # values of a label above which it is no grouping (an id, a free text)
_MAX_WORDS = 5  # in its shortest value, above which a label is a text (a transcript in phones)


def make_record(
    context: Context,
    folds: Sequence[FoldResult],
    seconds: float,
    speed: float,
    notices: Sequence[str] = (),
) -> Record:
    """The record of a finished run. Scores pool the test clips of all folds.

    seconds: that the run took; speed: see `encoder_speed`; notices: what is to be said of this run
    beyond what its parts say.
    """
    config, parts, data = context.config, context.parts, context.data
    task, encoder = parts.task, parts.encoder
    clips = [clip for fold in data.folds for clip in fold.test]
    tested = context.references(clips, "test")
    cards = {
        preset: Scorecard(task, tested, [p for f in folds for p in f.predictions[preset]])
        for preset in task.presets
    }
    headline = cards[task.presets[0]]
    groups = Groups(task, tested, clips)
    scores = {preset: scored(card, groups) for preset, card in cards.items()}
    first = scores[task.presets[0]]
    return Record(
        id=context.info.id,
        status="done",
        task=config.task.name,
        task_version=task.version,
        corpus=config.corpus_name,
        corpus_version=parts.corpus.version,
        corpus_digest=data.digest,
        encoder=parts.called,
        encoder_fingerprint=encoder.fingerprint,
        head=config.head.name,
        objective="" if config.mode == "evaluate" else config.objective.name,
        mode=config.mode,
        seed=config.seed,
        protocol=config.rounds,
        split="test",
        metrics=first.metrics,
        intervals=first.intervals,
        units=dict(task.units),
        primary=task.primary,
        higher_is_better=task.higher_is_better,
        jackknife=kept(groups, parts.corpus.unit, task.primary, first),
        presets={preset: one.shown() for preset, one in scores.items()},
        groups={
            name: headline.of(part) for name, part in singly(task, tested, groups.members).items()
        },
        subgroups=subgroups(headline, tested),
        confusion=headline.confusion(tested),
        dev=_dev(folds),
        tuned=folds[0].tuned if len(folds) == 1 else {str(i): f.tuned for i, f in enumerate(folds)},
        labels={key: list(names) for key, names in folds[0].labels.items()},
        data={**_data(data, folds), **context.doubts},
        cost=_cost(context, folds, seconds, speed),
        versions={**versions(), **{f"{k} plugin": v for k, v in plugins(parts).items()}},
        device=named(context.accelerator.device, context.accelerator.num_processes),
        config=config.model_dump(mode="json"),
        leakage=bool(data.leakage),
        notices=[
            *filter(None, [data.leakage]),
            *doubtful(context.doubts),
            *parts.corpus.notices,
            *notices,
            *tuning_notices(folds),
            *_of_start(context),
            *context.watchers.problems,
            *filter(None, [task.notice]),
        ],
        created=now(),
    )


def tuning_notices(folds: Sequence[FoldResult]) -> list[str]:
    """What a task said of its tuning: the `notices` of what it tuned, by preset."""
    said: dict[str, list[int]] = defaultdict(list)
    for number, fold in enumerate(folds, start=1):
        for preset, values in fold.tuned.items():
            for text in values.get("notices", ()):
                said[f"{preset}: {text}"].append(number)
    if len(folds) == 1:
        return list(said)
    return [f"{text} (fold {', '.join(map(str, which))})" for text, which in said.items()]


def _of_start(context: Context) -> list[str]:
    """What is to be said of the model that a run began from, or evaluated."""
    start = context.parts.start
    if start is None:
        return []
    said = [str(line) for line in start.spec.get("notices", ())]
    if context.config.mode == "evaluate":
        chosen = "chosen on dev" if context.config.tune == "dev" else "the model's own"
        said.append(
            f"{start.name} was evaluated as it is; what was tuned is {chosen}. What it was trained "
            "on isn't known here: see that it never met these recordings."
        )
    return said


def _dev(folds: Sequence[FoldResult]) -> dict[str, float]:
    """The best dev scores, averaged over the folds."""
    names = set.intersection(*(set(f.dev) for f in folds))
    return {name: fmean(f.dev[name] for f in folds) for name in folds[0].dev if name in names}


def singly(
    task: Task, tested: References, groups: Mapping[str, References]
) -> dict[str, References]:
    """What gets a score of its own in the record: recordings of frame tasks, groups of others."""
    if task.whole_clips:
        return dict(groups)
    return {clip.id: [clip] for clip in tested if isinstance(clip, Clip)}


def subgroups(card: Scorecard, tested: References) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by each label of the clips that splits them into a few kinds (age, gender, ...)."""
    kinds: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
    for clip in tested:
        if isinstance(clip, Clip):
            for key, value in clip.labels.items():
                kinds[key][value].append(clip)
    return {
        key: {value: card.of(members) for value, members in sorted(values.items())}
        for key, values in kinds.items()
        if 1 < len(values) <= _MAX_SUBGROUPS
        and min(len(value.split()) for value in values) <= _MAX_WORDS
    }


def _data(data: Data, results: Sequence[FoldResult]) -> dict[str, object]:
    sizes: dict[str, object] = {"skipped": data.skipped, "left_out": data.refused}
    # Of the training clips of all folds: how many were left out of training, and why.
    untrained = sum((Counter(result.untrained) for result in results), Counter())
    if untrained:
        sizes["untrained"] = dict(untrained.most_common())
    if len(data.folds) == 1:
        fold = data.folds[0]
        for name in ("train", "dev", "test"):
            clips = getattr(fold, name)
            spans = [s.duration for s in regions(clips)]
            sizes[name] = {"clips": len(clips), "hours": round(sum(spans) / 3600, 4)}
    else:
        hours = sum(s.duration for s in regions(data.clips)) / 3600
        sizes["folds"] = len(data.folds)
        sizes["all"] = {"clips": len(data.clips), "hours": round(hours, 4)}
    return sizes


def _cost(
    context: Context, folds: Sequence[FoldResult], seconds: float, speed: float
) -> dict[str, float]:
    cost = dict(folds[0].parameters)
    cost["seconds"] = round(seconds, 2)
    cost["train_seconds"] = round(sum(f.train_seconds for f in folds), 2)
    cost["encoder_audio_per_second"] = round(speed, 1)
    return cost | peaks(context.accelerator.device)


@torch.no_grad()
def encoder_speed(context: Context) -> float:
    """Seconds of audio that the encoder takes in per second, on a few of this run's windows; of an
    ensemble, one member after the other."""
    speeds = [_speed_of(member, context) for member in context.parts.members]
    return 1 / sum(1 / speed for speed in speeds) if all(speeds) else 0.0


def _speed_of(encoder: Encoder, context: Context) -> float:
    encoder, device = encoder.eval(), context.accelerator.device
    listed = (context.parts.examples([c], encoder).windows for c in context.data.clips)
    windows = list(islice(chain.from_iterable(listed), 4))
    if not windows:
        return 0.0
    waves = [WaveSource(encoder.sample_rate).read([w]).to(device) for w in windows]
    precision = context.config.train.precision
    with arithmetic(device, precision):
        encoder(waves[0])
    best = 0.0
    for window, wave in zip(windows, waves, strict=True):
        began = time.perf_counter()
        with arithmetic(device, precision):
            encoder(wave).layers[-1][:1, :1].cpu()  # a GPU has then done its work
        best = max(best, window.clip.duration / (time.perf_counter() - began))
    return best
