"""ChildProject's index of annotations, `metadata/annotations.csv`, kept as its package validates it
(ChildProject 0.4.6, `AnnotationManager.INDEX_COLUMNS` and `read`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import tempfile
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

import bab
from bab import Annotation, AudioError
from bab.plugins.formats.shared.files import milliseconds
from bab.plugins.formats.shared.tables import read_table

_COLUMNS = (
    "set", "recording_filename", "time_seek", "range_onset", "range_offset", "raw_filename",
    "format", "annotation_filename", "imported_at", "package_version",
)  # fmt: skip
_NEEDED = ("set", "recording_filename", "range_onset", "range_offset", "annotation_filename")
_RAW = ("recordings", "raw")
Row = dict[str, str]


class Place(NamedTuple):
    """Where a table is: PROJECT/annotations/SET/converted/NAME."""

    project: Path
    set: str
    name: str


def place_of(path: Path) -> Place | None:
    """Where a table lies in a data set of ChildProject; None where it is in none."""
    path = path.resolve()
    for converted in path.parents:
        above = [p for p in converted.parents if p.name == "annotations"]
        if converted.name == "converted" and above and above[0] != converted.parent:
            annotations = above[0]
            if (annotations.parent / "metadata" / "recordings.csv").is_file():
                of = converted.parent.relative_to(annotations).as_posix()
                return Place(annotations.parent, of, path.relative_to(converted).as_posix())
    return None


def enter(place: Place, one: Annotation) -> str:
    """Put a table into the index of its data set, or renew its row; what stood in the way, or "".

    Raises:
        BabError: one of the two lists can't be read.
    """
    recordings = place.project / "metadata" / "recordings.csv"
    rows = [row for _, row in read_table(recordings, ("recording_filename",))]
    row = _recording(place, rows, one)
    if row is None:
        return f"not in the index: 1 left out; {recordings} has no recording of that name"
    listed = row.get("duration", "")
    raw = place.project.joinpath(*_RAW)
    told = milliseconds(one.duration) if one.duration else 0
    if listed.isdecimal():
        end = min(told or int(listed), int(listed))
    else:
        end = told or milliseconds(_heard(raw / row["recording_filename"]))
    if not end:
        return (
            "not in the index: 1 left out; nobody says how long the recording is: give "
            f"{recordings} a column `duration` (ms), or put the audio into {raw}"
        )
    index = place.project / "metadata" / "annotations.csv"
    # Several processes may write tables of one data set.
    digest = hashlib.blake2b(str(index).encode(), digest_size=8).hexdigest()
    with FileLock(Path(tempfile.gettempdir()) / f"bab-{digest}.lock"):
        return _write(index, place, row["recording_filename"], end)


def _recording(place: Place, rows: list[Row], one: Annotation) -> Row | None:
    """The recording that a table is of: by its audio's place, or else by the table's name."""
    raw = place.project.joinpath(*_RAW)
    media = Path(one.media) if one.media else None
    inner = ""
    if media is not None and media.resolve().is_relative_to(raw.resolve()):
        inner = media.resolve().relative_to(raw.resolve()).as_posix()
    for row in rows:
        if row["recording_filename"] == inner:
            return row
    name = place.name.rpartition(".")[0]
    same = [row for row in rows if _bare(row["recording_filename"]) == name]
    return same[0] if len(same) == 1 else None


def _heard(audio: Path) -> float:
    """Seconds of a recording that lies in the data set; 0 of one that doesn't, or can't be read."""
    try:
        return float(bab.audio_info(audio).duration)
    except AudioError:
        return 0.0


def _bare(name: str) -> str:
    return name.rpartition(".")[0] or name


def _write(index: Path, place: Place, recording: str, end: int) -> str:
    """The index with a row for this table in place of an older one."""
    rows: list[Row] = []
    if index.is_file():
        rows = [row for _, row in read_table(index, _NEEDED)]
    mine = (place.set, place.name)
    others = [row for row in rows if (row["set"], row["annotation_filename"]) != mine]
    for row in others:
        same = (row["set"], row["recording_filename"]) == (place.set, recording)
        if same and float(row["range_onset"] or 0) < end:
            return "not in the index: 1 left out; its set has another of the same recording"
    new = {
        "set": place.set,
        "recording_filename": recording,
        "time_seek": "0",
        "range_onset": "0",
        "range_offset": str(end),
        "raw_filename": place.name,
        "format": "NA",
        "annotation_filename": place.name,
        "imported_at": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
    }
    columns = dict.fromkeys([*(rows[0] if rows else _COLUMNS), *new])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="NA", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*others, new])
    bab.write_text(index, text.getvalue())
    return ""
