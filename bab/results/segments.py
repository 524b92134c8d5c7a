"""The segments of many recordings as one table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bab.core.atomic import atomic_path
from bab.core.types import Prediction
from bab.results.cells import CsvWriter


def write_segments(predictions: Iterable[Prediction], path: Path) -> None:
    """`uid,start_time_s,duration_s,label`, a line for each segment, in seconds to the millisecond.

    The file is whole or not there. One prediction is held at a time, where the format `csv`, which
    writes the same columns, holds them all: for thousands of daylong recordings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = CsvWriter(file)
        writer.writerow(("uid", "start_time_s", "duration_s", "label"))
        for one in predictions:
            for s in one.segments:
                writer.writerow((one.id, f"{s.start:.3f}", f"{s.end - s.start:.3f}", s.label))
