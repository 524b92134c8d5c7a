"""Predicted segments as files: an RTTM for each recording, and one table of them all."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from bab import CorpusError, Prediction, write_text


def write_rttms(predictions: Sequence[Prediction], folder: Path) -> None:
    """`<recording>.rttm` each, empty where nothing was found.

    Raises:
        CorpusError: where two recordings' names become the same file name.
    """
    owners: dict[str, str] = {}
    for prediction in predictions:
        stem = re.sub(r"[^\w.\-]+", "_", prediction.id).lstrip(".") or "_"
        if owners.setdefault(stem.casefold(), prediction.id) != prediction.id:
            raise CorpusError(
                f"recordings {owners[stem.casefold()]!r} and {prediction.id!r} would both be "
                f"written to {stem}.rttm: rename one of them"
            )
        write_text(folder / f"{stem}.rttm", _rttm(prediction))


def write_table(predictions: Sequence[Prediction], path: Path) -> None:
    """`uid,start_time_s,duration_s,label`, a line for each segment."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("uid", "start_time_s", "duration_s", "label"))
    for prediction in predictions:
        for s in prediction.segments:
            writer.writerow((prediction.id, f"{s.start:.3f}", f"{s.end - s.start:.3f}", s.label))
    write_text(path, table.getvalue())


def _rttm(prediction: Prediction) -> str:
    """The lines of one recording; an RTTM field can't hold white space."""
    uri = re.sub(r"\s+", "_", prediction.id)
    return "".join(
        f"SPEAKER {uri} 1 {s.start:.3f} {s.end - s.start:.3f} <NA> <NA> {s.label} <NA> <NA>\n"
        for s in prediction.segments
    )
