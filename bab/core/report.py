"""A run's folds -> its record: scores, intervals, cost, and what everything was made with."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from bab.core.build import Data
from bab.core.fold import Context, FoldResult
from bab.core.interfaces import Task
from bab.core.intervals import bootstrap
from bab.core.loader import WaveSource
from bab.core.records import Clip, Prediction, Record
from bab.core.views import Examples, regions

_LIBRARIES = (
    "bab", "torch", "torchaudio", "transformers", "accelerate", "numpy", "soundfile", "soxr",
    "scikit-learn", "pyannote.metrics",
)  # fmt: skip
_MAX_SUBGROUPS = 20  # values of a label above which it is no grouping (an id, a free text)

Statistics = dict[str, dict[str, float]]


def make_record(
    context: Context, data: Data, folds: Sequence[FoldResult], seconds: float
) -> Record:
    """The record of a finished run. Scores pool the statistics of all folds' test clips."""
    config, parts = context.config, context.parts
    task, encoder = parts.task, parts.encoder
    tested = [clip for fold in data.folds for clip in fold.test]
    scores = {
        preset: _statistics(task, tested, [p for f in folds for p in f.predictions[preset]])
        for preset in task.presets
    }
    headline = scores[task.presets[0]]
    metrics, intervals = _scored(context, tested, headline)
    return Record(
        id=context.info.id,
        status="done",
        task=config.task.name,
        task_version=task.version,
        corpus=config.corpus.name,
        corpus_version=parts.corpus.version,
        corpus_digest=data.digest,
        encoder=encoder.resolved,
        encoder_fingerprint=encoder.fingerprint,
        head=config.head.name,
        objective=config.objective.name,
        mode=config.mode,
        seed=config.seed,
        protocol=config.protocol if config.protocol == "given" else f"kfold-{config.folds}",
        split="test",
        metrics=metrics,
        intervals=intervals,
        units=dict(task.units),
        primary=task.primary,
        higher_is_better=task.higher_is_better,
        bootstrap={
            "samples": config.bootstrap,
            "unit": parts.corpus.unit,
            "units": len({c.group for c in tested}),
        },
        presets={
            preset: dict(
                zip(("metrics", "intervals"), _scored(context, tested, found), strict=True)
            )
            for preset, found in scores.items()
        },
        groups={name: task.metrics(totals) for name, totals in headline.items()},
        subgroups=_subgroups(task, tested, headline),
        dev=folds[0].dev if len(folds) == 1 else {},
        tuned=folds[0].tuned if len(folds) == 1 else {str(i): f.tuned for i, f in enumerate(folds)},
        labels={key: list(names) for key, names in folds[0].labels.items()},
        data=_data(data),
        cost=_cost(context, data, folds, seconds),
        versions=_versions(),
        device=_device(context),
        config=config.model_dump(mode="json"),
        notices=[*parts.corpus.notices, *context.watchers.problems, *filter(None, [task.notice])],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _statistics(
    task: Task, tested: Sequence[Clip], predictions: Sequence[Prediction]
) -> Statistics:
    """Each test clip's additive statistics, by its id."""
    by_id = {p.id: p for p in predictions}
    return {clip.id: task.statistics(clip, by_id.get(clip.id)) for clip in tested}


def total(statistics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The sum of statistics over clips."""
    summed: dict[str, float] = defaultdict(float)
    for one in statistics.values():
        for key, value in one.items():
            summed[key] += value
    return dict(summed)


def _scored(
    context: Context, tested: Sequence[Clip], statistics: Statistics
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics over all test clips, and their intervals by resampling groups."""
    task, config = context.parts.task, context.config
    groups: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for clip in tested:
        groups[clip.group][clip.id] = statistics[clip.id]
    by_group = {name: total(members) for name, members in groups.items()}
    intervals = {}
    if config.bootstrap and len(by_group) > 1:
        intervals = bootstrap(by_group, task.metrics, config.bootstrap, config.seed)
    return task.metrics(total(statistics)), intervals


def _subgroups(
    task: Task, tested: Sequence[Clip], statistics: Statistics
) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by each label of the clips that splits them into a few kinds (age, gender, ...)."""
    kinds: dict[str, dict[str, Statistics]] = defaultdict(lambda: defaultdict(dict))
    for clip in tested:
        for key, value in clip.labels.items():
            kinds[key][value][clip.id] = statistics[clip.id]
    return {
        key: {value: task.metrics(total(members)) for value, members in sorted(values.items())}
        for key, values in kinds.items()
        if 1 < len(values) <= _MAX_SUBGROUPS
    }


def _data(data: Data) -> dict[str, object]:
    sizes: dict[str, object] = {"skipped": data.skipped}
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
    parts, device = context.parts, context.accelerator.device
    encoder = parts.encoder.eval()
    first = regions(data.clips)[:1]
    windows = Examples(first, parts.view, encoder.grid, encoder.max_seconds).windows[:4]
    waves = [WaveSource(encoder.sample_rate).inputs([w]).to(device) for w in windows]
    encoder(waves[0])
    best = 0.0
    for window, wave in zip(windows, waves, strict=True):
        began = time.perf_counter()
        encoder(wave).lengths.cpu()
        best = max(best, window.duration / (time.perf_counter() - began))
    return best


def _device(context: Context) -> str:
    device = context.accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    count = context.accelerator.num_processes
    return f"{device.type} ({name})" + (f" x {count} processes" if count > 1 else "")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # e.g. bab from a source folder, not installed
            found[name] = "not installed"
    return found
