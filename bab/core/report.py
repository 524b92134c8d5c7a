"""A run's folds -> its record: scores, intervals, cost, and what everything was made with."""

from __future__ import annotations

import hashlib
import math
import platform
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from bab.core.atomic import write_text
from bab.core.build import Data
from bab.core.ensemble import members_of
from bab.core.fold import Context, FoldResult, make_examples, references
from bab.core.interfaces import Encoder, Task
from bab.core.intervals import percentiles, resampled, resampled_items
from bab.core.loader import WaveSource
from bab.core.records import Clip, Prediction, Record, Trial
from bab.core.views import regions

_LIBRARIES = (
    "bab", "torch", "torchaudio", "transformers", "accelerate", "numpy", "soundfile", "soxr",
    "scikit-learn", "pyannote.metrics",
)  # fmt: skip
# Of an encoder that several runs of a cell share, measured once.
_SPEEDS: WeakKeyDictionary[Encoder, float] = WeakKeyDictionary()
_MAX_SUBGROUPS = 20  # values of a label above which it is no grouping (an id, a free text)
_MAX_WORDS = 5  # in its shortest value, above which a label is a text (a transcript in phones)

# The seed of all resampling: the runs of a table draw the same groups, so that they can be compared
# resample by resample, whatever their own seeds.
_DRAWS = 0

References = Sequence[Clip | Trial]


class Scorecard:
    """The scores of one set of predictions: of all references, of any part, and their intervals."""

    def __init__(
        self, task: Task, references: References, predictions: Sequence[Prediction]
    ) -> None:
        self.task = task
        self.predictions = {p.id: p for p in predictions}
        self.statistics: dict[str, dict[str, float]] = {}
        self.similarity: dict[Trial, float] = {}
        if task.level == "pair":
            trials = [r for r in references if isinstance(r, Trial)]
            scores = task.compare(trials, self.predictions).tolist()
            self.similarity = dict(zip(trials, scores, strict=True))
        elif task.additive:
            clips = [r for r in references if isinstance(r, Clip)]
            self.statistics = {c.id: task.statistics(c, self.predictions.get(c.id)) for c in clips}

    def of(self, references: References) -> dict[str, float]:
        """The metrics of some references."""
        if self.task.level == "pair":
            return self._rate([self._rows(references)])
        if not self.task.additive:
            return self.task.score(references, self.predictions)
        return self.task.metrics(self._total(references))

    def resampled(
        self, groups: Mapping[str, References], samples: int
    ) -> list[Mapping[str, float]]:
        """The metrics of each resample of the groups; none where there is only one group."""
        if not samples or len(groups) < 2:
            return []
        if self.task.level == "pair":
            rows = {name: [self._rows(members)] for name, members in groups.items()}
            return resampled_items(rows, self._rate, samples, _DRAWS)
        if not self.task.additive:
            return resampled_items(groups, self.of, samples, _DRAWS)
        totals = {name: self._total(members) for name, members in groups.items()}
        return resampled(totals, self.task.resample, samples, _DRAWS)

    def _rows(self, references: References) -> NDArray[np.float64]:
        """f64[N, 2]: 1 where a trial is of one speaker, and its score."""
        trials = [r for r in references if isinstance(r, Trial)]
        return np.array([(t.same, self.similarity[t]) for t in trials], dtype=np.float64)

    def _rate(self, rows: Sequence[NDArray[np.float64]]) -> dict[str, float]:
        """The metrics of the trials of some groups."""
        joined = np.concatenate(rows)
        return self.task.rate(joined[:, 0] == 1, joined[:, 1])

    def _total(self, references: References) -> dict[str, float]:
        summed: dict[str, float] = defaultdict(float)
        for one in references:
            assert isinstance(one, Clip)
            for key, value in self.statistics[one.id].items():
                summed[key] += value
        return dict(summed)


def make_record(
    context: Context,
    data: Data,
    folds: Sequence[FoldResult],
    seconds: float,
    notices: Sequence[str] = (),
) -> Record:
    """The record of a finished run. Scores pool the test clips of all folds. notices: what is to
    be said of this run beyond what its parts say."""
    config, parts = context.config, context.parts
    task, encoder = parts.task, parts.encoder
    clips = [clip for fold in data.folds for clip in fold.test]
    tested = references(context, clips, "test")
    cards = {
        preset: Scorecard(task, tested, [p for f in folds for p in f.predictions[preset]])
        for preset in task.presets
    }
    headline = cards[task.presets[0]]
    groups = _grouped(tested, clips)
    rows = {preset: card.resampled(groups, config.bootstrap) for preset, card in cards.items()}
    scores: dict[str, dict[str, Any]] = {
        preset: {"metrics": card.of(tested), "intervals": percentiles(rows[preset])}
        for preset, card in cards.items()
    }
    return Record(
        id=context.info.id,
        status="done",
        task=config.task.name,
        task_version=task.version,
        corpus=config.corpus_name,
        corpus_version=parts.corpus.version,
        corpus_digest=data.digest,
        encoder=encoder.resolved,
        encoder_fingerprint=encoder.fingerprint,
        head=config.head.name,
        objective=config.objective.name,
        mode=config.mode,
        seed=config.seed,
        protocol=config.rounds,
        split="test",
        metrics=scores[task.presets[0]]["metrics"],
        intervals=scores[task.presets[0]]["intervals"],
        units=dict(task.units),
        primary=task.primary,
        higher_is_better=task.higher_is_better,
        bootstrap={
            "samples": config.bootstrap,
            "unit": parts.corpus.unit,
            "units": len(groups),
        },
        resamples=_resamples(rows[task.presets[0]], task.primary, groups),
        presets=scores,
        groups={name: headline.of(part) for name, part in _shown(task, tested, groups).items()},
        subgroups=_subgroups(headline, tested),
        dev=_dev(folds),
        tuned=folds[0].tuned if len(folds) == 1 else {str(i): f.tuned for i, f in enumerate(folds)},
        labels={key: list(names) for key, names in folds[0].labels.items()},
        data=_data(data, folds),
        cost=_cost(context, data, folds, seconds),
        versions=versions(),
        device=_device(context),
        config=config.model_dump(mode="json"),
        leakage=bool(data.leakage),
        notices=[
            *filter(None, [data.leakage]),
            *parts.corpus.notices,
            *notices,
            *context.watchers.problems,
            *filter(None, [task.notice]),
        ],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def write_trials(
    task: Task, trials: Sequence[Trial], predictions: Sequence[Prediction], path: Path
) -> None:
    """Each trial with its score, so that any tool can compute the error rates again."""
    scores = task.compare(trials, {p.id: p for p in predictions}).tolist()
    rows = [
        f"{int(t.same)}\t{t.enrol}\t{t.test}\t{score!r}\n"
        for t, score in zip(trials, scores, strict=True)
    ]
    write_text(path, "".join(["same\tenrol\ttest\tscore\n", *rows]))


def _resamples(
    rows: Sequence[Mapping[str, float]], primary: str, groups: Mapping[str, References]
) -> dict[str, Any]:
    """The headline metric in each resample, and a hash of the groups that were drawn from."""
    if not rows:
        return {}
    names = hashlib.blake2b(repr(sorted(groups)).encode(), digest_size=6).hexdigest()
    values = [float(f"{row.get(primary, math.nan):.7g}") for row in rows]
    return {"groups": names, "metric": primary, "values": values}


def _dev(folds: Sequence[FoldResult]) -> dict[str, float]:
    """The best dev scores, averaged over the folds."""
    names = set.intersection(*(set(f.dev) for f in folds))
    return {name: fmean(f.dev[name] for f in folds) for name in folds[0].dev if name in names}


def _grouped(tested: References, clips: Sequence[Clip]) -> dict[str, list[Clip | Trial]]:
    """References by group; a trial belongs to the group of its enrolment."""
    group = {clip.id: clip.group for clip in clips}
    found: dict[str, list[Clip | Trial]] = defaultdict(list)
    for one in tested:
        found[group[one.id if isinstance(one, Clip) else one.enrol]].append(one)
    return dict(found)


def _shown(
    task: Task, tested: References, groups: Mapping[str, References]
) -> dict[str, References]:
    """What gets a score of its own in the record: recordings of frame tasks, groups of others."""
    if task.level != "frame":
        return dict(groups)
    return {clip.id: [clip] for clip in tested if isinstance(clip, Clip)}


def _subgroups(card: Scorecard, tested: References) -> dict[str, dict[str, dict[str, float]]]:
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
    context: Context, data: Data, folds: Sequence[FoldResult], seconds: float
) -> dict[str, float]:
    cost = dict(folds[0].parameters)
    cost["seconds"] = round(seconds, 2)
    cost["train_seconds"] = round(sum(f.train_seconds for f in folds), 2)
    cost["encoder_audio_per_second"] = round(_speed(context, data), 1)
    # Linux counts kilobytes, macOS bytes (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    cost["peak_memory_gb"] = round(peak / 1e9, 3)
    if context.accelerator.device.type == "cuda":
        cost["peak_gpu_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
    return cost


@torch.no_grad()
def _speed(context: Context, data: Data) -> float:
    """Seconds of audio that the encoder takes in per second, on a few of this run's windows."""
    encoder = context.parts.encoder
    if encoder not in _SPEEDS:
        _SPEEDS[encoder] = _measured(context, data)
    return _SPEEDS[encoder]


def _measured(context: Context, data: Data) -> float:
    members = members_of(context.parts.encoder)
    speeds = [_speed_of(member, context, data) for member in members]
    return 1 / sum(1 / speed for speed in speeds) if all(speeds) else 0.0


def _speed_of(encoder: Encoder, context: Context, data: Data) -> float:
    parts, device = replace(context.parts, encoder=encoder.eval()), context.accelerator.device
    found = (make_examples(parts, [clip]).windows for clip in data.clips)
    windows = list(islice(chain.from_iterable(found), 4))
    if not windows:
        return 0.0
    waves = [WaveSource(encoder.sample_rate).read([w]).to(device) for w in windows]
    encoder(waves[0])
    best = 0.0
    for window, wave in zip(windows, waves, strict=True):
        began = time.perf_counter()
        encoder(wave).lengths.cpu()
        best = max(best, window.clip.duration / (time.perf_counter() - began))
    return best


def _device(context: Context) -> str:
    device = context.accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    count = context.accelerator.num_processes
    return f"{device.type} ({name})" + (f" x {count} processes" if count > 1 else "")


def versions() -> dict[str, str]:
    """Python's and the libraries' versions, by name."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # e.g. bab from a source folder, not installed
            found[name] = "not installed"
    return found
