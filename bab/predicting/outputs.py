"""What a prediction leaves on disk: annotation files, tables, probabilities, and how it was made.

Everything is written per recording, whole, as soon as that recording is done; tables of all are
written again now and then, and at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bab.core.annotations import Annotation, Format, Mark
from bab.core.atomic import atomic_path
from bab.core.errors import BabError, counted
from bab.core.types import Clip, Output, Prediction, Segment
from bab.predicting.kept import Kept, Results
from bab.predicting.recordings import Recording
from bab.predicting.walking import Stretches
from bab.results.cells import CsvWriter
from bab.results.clock import moment_of, start_of
from bab.running.saved import Saved

# No child or adult speaks so long without a pause: noise, a hum or music was taken for a voice.
LONG_SEGMENT = 30.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Kept):
    """What a model says of a recording. written: the annotation formats, pictures and tables that
    were written of it; began: as a `Recording`'s."""

    prediction: Prediction
    notices: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    began: str = ""

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Self:
        inner = values.pop("prediction")
        segments = tuple(Segment(**segment) for segment in inner.pop("segments"))
        vector = tuple(inner.pop("vector"))
        prediction = Prediction(segments=segments, vector=vector, **inner)
        lines, kinds = tuple(values.pop("notices")), tuple(values.pop("written"))
        return cls(prediction=prediction, notices=lines, written=kinds, **values)


# ------------------------------------------------------------------------------- decoding


def decoded(
    saved: Saved, recording: Recording, spool: Stretches, seconds: float, tuned: Mapping[str, Any]
) -> Prediction:
    """What a recording's rows say, read stretch by stretch."""
    clip = Clip(recording.name, recording.path, recording.start, recording.start + seconds, "")
    task, grid = saved.task, saved.encoder.grid
    if task.one_target:
        rows = np.concatenate(list(spool.read()))
        output = Output(clip, _mean(rows))
        return task.decode(output, grid, saved.labels, tuned)
    parts: list[Prediction] = []
    pending, first = np.zeros((0, 0), np.float32), 0
    for rows in spool.read():
        pending = rows if not len(pending) else np.concatenate([pending, rows])
        count = task.cut(Output(clip, pending, first), grid, saved.labels, tuned)
        if 0 < count < len(pending):
            part = Output(clip, pending[:count], first)
            parts.append(task.decode(part, grid, saved.labels, tuned))
            pending, first = pending[count:].copy(), first + count
    if len(pending):
        parts.append(task.decode(Output(clip, pending, first), grid, saved.labels, tuned))
    return _joined(recording.name, parts)


def heard(saved: Saved, rows: Stretches, told: float) -> float:
    """A recording's seconds: as its header says, or as its rows do where that was a bad guess."""
    grid, count, end = saved.encoder.grid, 0, 0.0
    for stretch in rows.read():
        count += len(stretch)
        end = max(end, float(stretch[-1, 0] + stretch[-1, 1]) / grid.sample_rate)
    if not saved.task.one_target:
        end = grid.samples(count) / grid.sample_rate
    near = max(0.1, 2 * grid.seconds_per_frame)
    return told if abs(end - told) <= near else round(end, 3)


def _times(rows: NDArray[np.floating], rate: int) -> NDArray[np.float64]:
    """Start and end of windows, seconds."""
    begin = rows[:, 0].astype(np.float64)
    return np.stack([begin, begin + rows[:, 1]], axis=1) / rate


def _mean(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """The mean of the windows' outputs, each by the frames that it speaks for."""
    weights = rows[:, 2:3].astype(np.float64)
    mean = (rows[:, 3:].astype(np.float64) * weights).sum(axis=0) / weights.sum()
    return np.asarray(mean, np.float32)


def _joined(name: str, parts: Sequence[Prediction]) -> Prediction:
    """One prediction of the pieces of a recording; of a file of a few samples no segment is left
    whose length is nothing when it is written."""
    segments = tuple(s for part in parts for s in part.segments if round(s.end - s.start, 3) > 0)
    if len(parts) == 1:
        return replace(parts[0], id=name, segments=segments)
    texts = [part.text for part in parts if part.text]
    text = " ".join(texts) if any(part.text is not None for part in parts) else None
    return Prediction(name, segments, text=text)


def noticed(prediction: Prediction) -> Iterator[str]:
    """What a person should look at."""
    long = [s for s in prediction.segments if s.end - s.start > LONG_SEGMENT]
    if long:
        longest = max(long, key=lambda s: s.end - s.start)
        yield (
            f"{prediction.id}: {counted(len(long), 'segment')} over {LONG_SEGMENT:g} s, the "
            f"longest {longest.label} for {longest.end - longest.start:.0f} s at "
            f"{longest.start:.0f} s: nobody speaks so long without a pause; listen whether it is "
            "noise, a hum or music"
        )


# ------------------------------------------------------------------------------- files


def annotation_of(done: Done) -> Annotation:
    """A result as an annotation of its recording, by its whole name."""
    marks = tuple(Mark(s.start, s.end, s.label) for s in done.prediction.segments)
    began = moment_of(done.began) if done.began else start_of(done.name)
    return Annotation(done.name, marks, duration=done.seconds, began=began, media=done.path)


def _fitting(done: Done, form: Format) -> Annotation:
    """A result as a format takes it, by the last part of its name. What is no finding (length,
    start, the audio's name) is there where it has a place, so that no notice speaks of it."""
    whole, takes = annotation_of(done), form.keeps | form.beside
    return Annotation(
        done.name.rsplit("/", 1)[-1],
        whole.marks,
        duration=whole.duration if "duration" in takes else None,
        began=whole.began if "began" in takes else None,
        media=whole.media if "media" in takes else "",
    )


def annotation_path(out: Path, name: str, form: Format) -> Path:
    """Where a recording's annotations are in a format."""
    return out / f"{name}{form.suffixes[0]}"


def refuse_foreign(
    results: Results[Done], names: Iterable[str], formats: Mapping[str, Format], out: Path
) -> None:
    """Raises BabError: an annotation file that no prediction has written would be replaced."""
    ours = {its.name for its in results.names()}  # also of one stopped between file and record
    for name in names:
        for form in formats.values():
            path = annotation_path(out, name, form)
            if path.exists() and name not in ours and not results.place(name).exists():
                raise BabError(
                    f"{path} is there, and no prediction in {out} has written it: name another "
                    "--out, so that nobody's annotations are replaced"
                )


def write_annotations(
    done: Done, formats: Mapping[str, Format], out: Path
) -> tuple[list[Path], set[str]]:
    """`<name>.<suffix>` in each format, but for those that were written of this result and are
    there: what was written, and what a format couldn't hold."""
    lost: set[str] = set()
    paths: list[Path] = []
    for name, form in formats.items():
        path = annotation_path(out, done.name, form)
        if path.exists() and name in done.written:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        form.write([_fitting(done, form)], path)
        lost |= set(form.notices)
        form.notices.clear()
        paths.append(path)
    return paths, lost


def probabilities_path(out: Path, name: str, kind: str) -> Path:
    """Where a recording's probabilities are."""
    return out / f"{name}.probabilities.{kind}"


def write_probabilities(saved: Saved, spool: Stretches, target: Path, seconds: float) -> None:
    """Times and probabilities of every frame, or of every window: `.npy` (f64: in single precision
    times are off by 2 ms after nine hours; two columns of time, then a column for each class) or
    `.parquet`.

    Of text tasks they are those of each label, the blank first.
    """
    tables = _timed(saved, spool, seconds)
    with atomic_path(target) as temporary:
        if target.suffix == ".npy":
            _write_npy(tables, spool.done, temporary)
        else:
            names = [name for group in saved.labels.values() for name in group]
            _write_parquet(tables, names, temporary)


def _timed(saved: Saved, spool: Stretches, seconds: float) -> Iterator[NDArray[np.float64]]:
    """Start, end and probabilities, a stretch at a time."""
    grid, first = saved.encoder.grid, 0
    for rows in spool.read():
        if saved.task.one_target:
            times = _times(rows, grid.sample_rate)
            values = rows[:, 3:].astype(np.float32)
        else:
            # Only the very last frame reaches to the end of the recording.
            count = len(rows) + (first + len(rows) < spool.done)
            edges = grid.edges(count, seconds, first)[: len(rows) + 1]
            times, values = np.stack([edges[:-1], edges[1:]], axis=1), rows
        yield np.concatenate([times, _shares(saved, values)], axis=1, dtype=np.float64)
        first += len(rows)


def _write_npy(tables: Iterable[NDArray[np.float64]], rows: int, path: Path) -> None:
    """One array f64[rows, columns], written piece by piece."""
    with path.open("wb") as file:
        for number, table in enumerate(tables):
            if number == 0:
                shape = (rows, table.shape[1])
                about = {"descr": "<f8", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, about)
            file.write(table.astype("<f8").tobytes())


def _write_parquet(tables: Iterable[NDArray[np.float64]], names: Sequence[str], path: Path) -> None:
    """A group of rows for each piece; times in double precision."""
    import pyarrow
    from pyarrow import parquet

    with ExitStack() as stack:
        writer = None
        for table in tables:
            width = table.shape[1] - 2
            values = names if len(names) == width else [f"value{i}" for i in range(width)]
            columns = {"start": table[:, 0], "end": table[:, 1]}
            columns |= {n: table[:, i].astype(np.float32) for i, n in enumerate(values, start=2)}
            piece = pyarrow.table(columns)
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(path, piece.schema))
            writer.write_table(piece)


def _shares(saved: Saved, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits as probabilities: of several classes at once by the logistic function, of one of them
    by the softmax of each group of labels; embeddings as they are."""
    if saved.task.pairs:
        return values
    if not saved.task.whole_clips:
        return np.asarray(1 / (1 + np.exp(-values.astype(np.float64))), np.float32)
    parts, begin = [], 0
    for names in saved.labels.values():
        group = values[:, begin : begin + len(names)].astype(np.float64)
        begin += len(names)
        powers = np.exp(group - group.max(axis=1, keepdims=True))
        parts.append(powers / powers.sum(axis=1, keepdims=True))
    return np.concatenate(parts, axis=1).astype(np.float32)


def write_windows(saved: Saved, spool: Stretches, path: Path) -> None:
    """Clip tasks: `start,end` in seconds and the probability of each class, a line per window."""
    names = [f"{kind}={name}" for kind, group in saved.labels.items() for name in group]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = CsvWriter(file)
        writer.writerow(["start", "end", *names])
        for rows in spool.read():
            times = _times(rows, saved.encoder.sample_rate)
            shares = _shares(saved, rows[:, 3:].astype(np.float32))
            for span, row in zip(times, shares, strict=True):
                cells = (*(f"{time:.3f}" for time in span), *(f"{share:.4f}" for share in row))
                writer.writerow(cells)
