"""Do records hold? The predictions that a run wrote are scored again, against its corpus as it is
now, and compared with what the record says. Audio isn't read: annotations are, and trials need not
even those.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bab.config.corpora import open_corpus
from bab.config.run import RunConfig
from bab.core.components import build_task
from bab.core.errors import BabError
from bab.core.interfaces import Corpus, Task
from bab.core.record import Record
from bab.core.types import Clip, Permissions, Prediction, Segment
from bab.core.weights import first_line
from bab.results import record as records
from bab.results.cells import plain
from bab.running.groups import Groups, scored
from bab.running.report import singly, subgroups
from bab.running.scores import Scorecard

_NEAR = 1e-6  # of a score of 1; predictions are written to the millisecond, or exactly


_UNSOUND = "it is damaged, or was edited: its checksum doesn't hold"


@dataclass(frozen=True, slots=True)
class Verdict:
    """path: a run's; wrong: what its predictions don't bear out; untold: why that can't be told."""

    path: Path
    wrong: tuple[str, ...] = ()
    untold: str = ""

    @property
    def holds(self) -> bool:
        return not self.wrong and not self.untold


def verify(
    root: Path, tell: Callable[[int, int], None] = lambda done, total: None
) -> list[Verdict]:
    """A verdict on each finished run below a folder, in order of path.

    Raises:
        BabError: no record there.
    """
    paths = [path for path, finished in records.runs(root) if finished]
    if not paths:
        raise BabError(f"{root}: no finished run")
    verdicts = []
    for number, path in enumerate(paths, start=1):
        if (verdict := _verdict(path)) is not None:
            verdicts.append(verdict)
        tell(number, len(paths))
    return verdicts


def _verdict(path: Path) -> Verdict | None:
    """Of one run; None of a sound record that holds no scores."""
    wrong: list[str] = []
    try:
        held, sound = records.look(str(path / records.RECORD))
        wrong += [] if sound else [_UNSOUND]
        if held.status == "done":
            wrong += _wrong(path, held)
        elif sound:
            return None
    except (BabError, OSError) as error:
        return Verdict(path, tuple(wrong), untold=str(error))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = "it, or a prediction, is damaged, or of another version"
        why += f" ({type(error).__name__}: {first_line(error)})"
        return Verdict(path, tuple(wrong), untold=why)
    return Verdict(path, tuple(wrong))


def _wrong(folder: Path, held: Record) -> Iterator[str]:
    config = RunConfig.model_validate_json(json.dumps(held.config))
    task = build_task(config.task.name, config.task.options)
    if task.version != held.task_version:
        raise BabError(f"task '{held.task}' is of version {task.version}, not {held.task_version}")
    yield from _differing(held.metrics, held.presets[task.presets[0]].get("metrics", {}), "presets")
    tested = None if task.pairs else _tested(held, config, task)
    for preset in task.presets:
        place = folder / "predictions" / preset
        said = held.presets.get(preset, {})
        if tested is None:
            yield from _differing(said["metrics"], _of_trials(task, place), preset)
            continue
        predictions = _predictions(task, place, tested)
        card, groups = Scorecard(task, tested, predictions), Groups(task, tested, tested)
        scores = scored(card, groups)
        yield from _unlike(task, predictions, place)
        yield from _differing(said.get("metrics", {}), scores.metrics, preset)
        yield from _differing(_ends(said.get("intervals", {})), _ends(scores.intervals), preset)
        if preset == task.presets[0]:
            again = scores.left_out.get(held.primary, [])
            kept = held.jackknife.get("left_out", [])
            yield from _differing(_numbered(kept), _numbered(again), "jackknife")
            parts = {n: card.of(own) for n, own in singly(task, tested, groups.members).items()}
            yield from _differing(_flat(held.groups), _flat(parts), "groups")
            yield from _differing(
                _flat(held.subgroups), _flat(subgroups(card, tested)), "subgroups"
            )


def _unlike(task: Task, predictions: Sequence[Prediction], place: Path) -> Iterator[str]:
    """RTTM files that don't say what the table beside them does."""
    if task.level != "frame":
        return
    with TemporaryDirectory() as folder:
        task.write(predictions, Path(folder))
        for path in sorted(Path(folder).glob("*.rttm")):
            written = place / path.name
            if not written.is_file():
                yield f"predictions: {written} is gone"
            elif written.read_bytes() != path.read_bytes():
                yield f"predictions: {written} isn't what the table beside it says"


def _flat(scores: Mapping[str, Any]) -> dict[str, float]:
    """home01 -> f1 -> .5 as "home01, f1" -> .5, however deep."""
    flat: dict[str, float] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}, {key}": one for key, one in _flat(value).items()}
        else:
            flat[name] = value
    return flat


def _numbered(values: Sequence[float]) -> dict[str, float]:
    return {f"group {number}": value for number, value in enumerate(values, start=1)}


def _ends(intervals: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Both ends of each interval, by name."""
    ends: dict[str, float] = {}
    for name, (low, high) in intervals.items():
        ends |= {f"{name}'s interval from": low, f"{name}'s interval to": high}
    return ends


def _differing(said: Mapping[str, float], now: Mapping[str, float], where: str) -> Iterator[str]:
    for name in dict.fromkeys([*said, *now]):
        one, two = said.get(name, math.nan), now.get(name, math.nan)
        same = math.isclose(one, two, rel_tol=_NEAR, abs_tol=_NEAR)
        if not same and not (math.isnan(one) and math.isnan(two)):
            yield f"{where}: {name} is {one:.6g} in the record, its predictions give {two:.6g}"


def _tested(held: Record, config: RunConfig, task: Task) -> list[Clip]:
    """The clips that a run was tested on."""
    named = config.test_corpus or config.corpus
    try:
        corpus: Corpus = open_corpus(named, Permissions(config.offline, True))
    except BabError as error:
        raise BabError(f"its corpus is needed to score it again: {error}") from None
    task.suit(corpus.provides)
    given = config.protocol == "given"
    clips = list(corpus.clips(held.split if given else None))
    skipped = set(held.data.get("skipped") or ())
    tested = [c for c in clips if not task.refuses(c) and c.path not in skipped]
    tested = tested if given else [c for c in tested if corpus.testable(c)]
    wanted = held.data.get("test", {}).get("clips", len(tested))
    if len(tested) != wanted:
        raise BabError(
            f"its corpus {named.name} ({named.root or 'the sample'}) has {len(tested)} clips to "
            f"test on, and had {wanted} when the run was made"
        )
    return tested


def _predictions(task: Task, place: Path, tested: Sequence[Clip]) -> list[Prediction]:
    """What a run wrote of its test clips."""
    rows = _rows(place)
    if task.level == "frame":
        spoken: dict[str, list[Segment]] = {clip.id: [] for clip in tested}
        for row in rows:
            begin = float(row["start_time_s"])
            end = round(begin + float(row["duration_s"]), 3)
            spoken.setdefault(row["uid"], []).append(Segment(begin, end, row["label"]))
        return [Prediction(name, segments=tuple(parts)) for name, parts in spoken.items()]
    known = {row["id"]: row for row in rows}
    if lost := [clip.id for clip in tested if clip.id not in known]:
        raise BabError(f"{place} holds no prediction of '{lost[0]}'")
    if task.level == "sequence":
        return [Prediction(name, text=row["hypothesis"]) for name, row in known.items()]
    made = []
    for name, row in known.items():
        scores = {key: float(cell) for key, cell in row.items() if "=" in key}
        kinds = dict.fromkeys(key.partition("=")[0] for key in scores)
        made.append(Prediction(name, labels={kind: row[kind] for kind in kinds}, scores=scores))
    return made


def _rows(place: Path) -> list[dict[str, str]]:
    tables = sorted(place.glob("*.csv"))
    if not tables:
        raise BabError(f"{place} holds no predictions: run again with --force")
    listed = []
    for path in tables:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                listed += [
                    {key: plain(cell or "") for key, cell in row.items()}
                    for row in csv.DictReader(file, strict=True)
                ]
        except (OSError, ValueError, csv.Error) as error:
            raise BabError(f"{path}: can't be read as a table ({error})") from None
    return listed


def _of_trials(task: Task, place: Path) -> dict[str, float]:
    """The metrics of trials whose scores the run wrote down."""
    path = place / "trials.tsv"
    try:
        with path.open(encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file][1:]
        same, scores = [row[0] == "1" for row in rows], [float(row[3]) for row in rows]
    except (OSError, ValueError, IndexError) as error:
        raise BabError(f"{path}: can't be read as scored trials ({error})") from None
    return task.rate(np.array(same), np.array(scores))
