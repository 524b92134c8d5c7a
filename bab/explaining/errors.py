"""The worst errors of a run: where what it wrote of its test split differs most from the corpus.

Of frame tasks, stretches of ten seconds by their wrong seconds (false alarms and misses of all
classes); of clips, by their loss, -log of the probability of the right class; of texts, by errors
per hundred words (or phones) of the reference.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bab.audio import streaming
from bab.config.corpora import open_corpus
from bab.config.run import RunConfig
from bab.core.atomic import write_text
from bab.core.components import build_task
from bab.core.errors import AudioError, BabError, NotApplicableError
from bab.core.grid import Grid
from bab.core.interfaces import Task
from bab.core.names import file_name
from bab.core.types import Clip, Labels, Permissions, Prediction, Segment
from bab.data.annotations import open_format
from bab.data.windows import Cutter, regions
from bab.explaining.pictures import figure, spectrogram
from bab.results.cells import CsvWriter, plain
from bab.results.record import load
from bab.results.timeline import COLOURS

STRETCH = 10.0  # seconds of a frame task
_LONGEST = 30.0  # seconds of a picture
_LIKELIEST = 1e-12  # smallest probability whose logarithm is taken
_RATE = 16000
_COLUMNS = ("rank", "clip", "path", "start", "end", "error", "unit", "reference", "prediction")


@dataclass(frozen=True, slots=True)
class Wrong:
    """One error. start, end: seconds in the file; error: how bad, in `unit`."""

    clip: Clip
    start: float
    end: float
    error: float
    unit: str
    reference: str
    said: str
    heard: tuple[Segment, ...] = ()  # what a frame task predicted


def worst_errors(folder: str | Path, count: int) -> list[Wrong]:
    """The worst of a finished run, the worst first.

    Raises:
        BabError: no record or predictions there, or a corpus that has moved.
        NotApplicableError: a task whose clips are only compared.
    """
    from pydantic import ValidationError

    folder = Path(folder)
    record = load(folder)
    if record.status != "done":
        raise BabError(f"run {record.id} has no predictions ({record.status}): {record.reason}")
    try:
        config = RunConfig.model_validate_json(json.dumps(record.config))
    except ValidationError:
        raise BabError(
            f"the record of run {record.id} is another version's: repeat the run with --force"
        ) from None
    task = build_task(config.task.name, config.task.options)
    if task.pairs:
        raise NotApplicableError(f"task '{record.task}' compares clips: scores are in trials.tsv")
    corpus = open_corpus(config.test_corpus or config.corpus, Permissions(config.offline, True))
    task.suit(corpus.provides)
    preset = task.presets[0]
    place = folder / "predictions" / preset
    if not place.is_dir():
        raise BabError(f"{place}: the run's predictions aren't there: run again with --force")
    given = config.protocol == "given" and record.split in corpus.splits()
    clips = list(corpus.clips(record.split if given else None))
    labels: Labels = {key: tuple(names) for key, names in record.labels.items()}
    find = {"frame": _stretches, "clip": _clips, "sequence": _texts}[task.level]
    wrong = sorted(find(task, clips, place, labels), key=lambda one: (-one.error, one.clip.id))
    if not wrong:
        raise BabError(f"{place} holds no prediction of the clips of {corpus.root}")
    return wrong[:count]


def _stretches(task: Task, clips: Sequence[Clip], place: Path, labels: Labels) -> Iterator[Wrong]:
    said = _segments(place)
    for clip in clips if said is not None else ():
        heard = tuple((said or {}).get(clip.id, ()))
        for region in regions([clip]):
            cutter = Cutter(region)
            start = region.start
            while start < region.end - 0.01:
                end = min(start + STRETCH, region.end)
                part = cutter.cut(start, end)
                sums = task.statistics(part, Prediction(clip.id, segments=heard))
                seconds = sum(v for key, v in sums.items() if key.endswith(("/fp", "/fn")))
                inside = tuple(s for s in heard if s.end > start and s.start < end)
                texts = (_spoken(part.segments, start, end), _spoken(inside, start, end))
                yield Wrong(clip, start, end, seconds, "wrong seconds", *texts, inside)
                start = end


def _segments(place: Path) -> dict[str, list[Segment]] | None:
    """Each recording's, by its whole name: from the table of all, or from what RTTM files, whose
    own names may be cut, say inside. None where there is neither."""
    said: dict[str, list[Segment]] = {}
    for path in sorted(place.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if not {"uid", "start_time_s", "duration_s", "label"} <= set(table.fieldnames or ()):
                continue
            for row in table:
                start, length = float(row["start_time_s"]), float(row["duration_s"])
                segment = Segment(start, round(start + length, 3), plain(row["label"]))
                said.setdefault(plain(row["uid"]), []).append(segment)
        return said
    form, files = open_format("rttm"), sorted(place.glob("*.rttm"))
    for one in (one for path in files for one in form.read(path)):
        marks = [Segment(m.start, m.end, m.label) for m in one.marks]
        said.setdefault(one.uri, []).extend(marks)
    return said if files else None


def _spoken(segments: Sequence[Segment], start: float, end: float) -> str:
    return " ".join(f"{s.label}[{max(s.start, start):.2f}-{min(s.end, end):.2f}]" for s in segments)


def _clips(task: Task, clips: Sequence[Clip], place: Path, labels: Labels) -> Iterator[Wrong]:
    said = _rows(place / "predictions.csv")
    grid = Grid(_RATE, 0, 1)
    for clip in clips:
        row = said.get(clip.id)
        if row is None or task.refuses(clip):
            continue
        losses, right, guess = 0.0, [], []
        targets = task.targets(clip, grid, 1, labels).tolist()
        for (kind, names), target in zip(labels.items(), targets, strict=True):
            name = names[target]
            losses -= math.log(max(_LIKELIEST, _probability(row, kind, name)))
            right.append(name)
            guess.append(f"{row[kind]} ({_probability(row, kind, row[kind]):.2f})")
        yield Wrong(
            clip, clip.start, clip.end, losses, "loss (nats)", " ".join(right), " ".join(guess)
        )


def _probability(row: dict[str, str], kind: str, name: str) -> float:
    """Of a class: the column `KIND=CLASS`."""
    try:
        return float(row[f"{kind}={name}"])
    except (KeyError, ValueError):
        raise BabError(f"predictions.csv has no probability of {kind}={name}") from None


def _texts(task: Task, clips: Sequence[Clip], place: Path, labels: Labels) -> Iterator[Wrong]:
    said: dict[str, dict[str, str]] = {}
    for path in sorted(place.glob("*.csv")):
        said |= _rows(path)
    for clip in clips:
        row = said.get(clip.id)
        if row is None or task.refuses(clip):
            continue
        text = row.get("hypothesis", "")
        metrics = task.metrics(task.statistics(clip, Prediction(clip.id, text=text)))
        if task.primary in metrics:
            rate = float(metrics[task.primary])
            unit = f"{task.primary} %"
            reference = clip.text or ""
            yield Wrong(clip, clip.start, clip.end, rate, unit, reference, text)


def _rows(path: Path) -> dict[str, dict[str, str]]:
    """A table's rows by id.

    Raises:
        BabError: it isn't there.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{k: plain(v or "") for k, v in row.items()} for row in csv.DictReader(file)]
            return {row["id"]: row for row in rows if row.get("id")}
    except OSError as error:
        raise BabError(f"{path}: {error.strerror}: run again with --force") from None


# ------------------------------------------------------------------------------- writing


def write_errors(
    folder: str | Path,
    out: str | Path,
    count: int,
    formats: Sequence[str],
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """`errors.csv`, and a picture of each; the files that were written. say: gets what could not
    be drawn."""
    wrong, out = worst_errors(folder, count), Path(out)
    text = io.StringIO()
    table = CsvWriter(text)
    table.writerow(_COLUMNS)
    for rank, one in enumerate(wrong, start=1):
        times = (f"{one.start:.3f}", f"{one.end:.3f}")
        facts = (f"{one.error:.3f}", one.unit, one.reference, one.said)
        table.writerow((rank, one.clip.id, one.clip.path, *times, *facts))
    write_text(out / "errors.csv", text.getvalue())
    written = [out / "errors.csv"]
    for rank, one in enumerate(wrong, start=1):
        base = f"error-{rank:02d}-{file_name(one.clip.id)}"
        paths = [out / f"{base}.{form}" for form in dict.fromkeys(formats)]
        try:
            _draw(one, paths)
            written += paths
        except AudioError as error:
            say(f"no picture of {one.clip.id}: {error}")
    return written


def _draw(one: Wrong, paths: Sequence[Path]) -> None:
    """The spectrogram of an error, with what is right and what was said below it."""
    end = min(one.end, one.start + _LONGEST)
    stream = streaming.open_stream(one.clip.path)
    sound = np.concatenate(list(streaming.blocks(stream, _RATE, one.start, end)))
    with figure(10.0, 3.6, *paths) as page:
        above, below = page.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2.4, 1.0]})
        spectrogram(above, sound, _RATE, one.start, "cividis")
        above.set_title(f"{one.clip.id}: {one.error:.2f} {one.unit}", loc="left", fontsize=10)
        below.set_yticks([0, 1], ["said", "right"])
        below.set_ylim(-0.6, 1.6)
        below.set_xlim(one.start, end)
        below.set_xlabel("time in the recording (s)")
        if one.unit == "wrong seconds":
            _bars(below, 1, [s for s in one.clip.segments if s.end > one.start and s.start < end])
            _bars(below, 0, one.heard)
        else:
            for row, told in ((1, one.reference), (0, one.said)):
                below.text(0.01, (row + 0.6) / 2.2, told, transform=below.transAxes, va="center")


def _bars(panel: Any, row: int, segments: Sequence[Segment]) -> None:
    """Segments as bars of their voice's colour, each voice a little lower than the one before."""
    names = sorted({s.label for s in segments})
    height = 0.8 / max(1, len(names))
    first, last = panel.get_xlim()
    for s in segments:
        top = row + 0.4 - names.index(s.label) * height
        colour = COLOURS.get(s.label, "#000000")
        at = top - height / 2
        panel.barh(at, s.end - s.start, height * 0.9, s.start, color=colour)
        shown = max(s.start, first), min(s.end, last)
        if shown[1] - shown[0] > 0.3:
            middle, centred = sum(shown) / 2, {"ha": "center", "va": "center"}
            panel.text(middle, at, s.label, fontsize=7, clip_on=True, **centred)
