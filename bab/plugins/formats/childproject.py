"""Format `childproject`: converted annotations of a ChildProject data set, in milliseconds.

annotations/SET/converted/home01.csv    segment_onset,segment_offset,speaker_type,...
annotations/SET/metannots.yml           what the set is; written, or completed, beside the table
metadata/annotations.csv                the data set's index: a row for each table
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field

import bab
from bab import Annotation, BabError, Mark
from bab.plugins.formats.shared.files import milliseconds, one_line, seconds
from bab.plugins.formats.shared.index import enter, place_of
from bab.plugins.formats.shared.names import kind_of
from bab.plugins.formats.shared.tables import read_table

TYPES = {"KCHI": "CHI", "OCH": "OCH", "FEM": "FEM", "MAL": "MAL"}  # our labels -> speaker_type
_LABELS = {theirs: ours for ours, theirs in TYPES.items()}
_TIMES = ("segment_onset", "segment_offset")
_TYPE, _ID, _TEXT, _RAW = "speaker_type", "speaker_id", "transcription", "raw_filename"
# Our values -> their columns; all others are called the same.
_COLUMNS = {"vcm": "vcm_type", "lex": "lex_type", "mwu": "mwu_type", "msc": "msc_type"}
_KEYS = {column: key for key, column in _COLUMNS.items()}
_EMPTY = frozenset({"", "NA", "nan", "NaN"})
# What metannots.yml says the set has -> the columns that it follows from.
_HAS = {
    "has_speaker_type": _TYPE, "has_transcription": _TEXT, "has_addressee": "addressee",
    "has_vcm_type": "vcm_type", "has_words": "words", "has_interactions": "lena_conv_turn_type",
}  # fmt: skip
_METANNOTS = "metannots.yml"
Method = Literal["", "automated", "manual", "mixed", "derivation", "citizen-scientists"]


class ChildProject(bab.Format):
    """A table of ChildProject's: times in ms, speaker_type CHI (key child), OCH, FEM or MAL.

    What else is known stands in ChildProject's columns (speaker_id, transcription, addressee,
    vcm_type ...). Writing makes or completes metannots.yml: above a folder called `converted`,
    otherwise beside the table. In annotations/SET/converted of a data set (one with
    metadata/recordings.csv) it also enters the table in the index, as one of the whole recording.
    """

    class Options(bab.Options):
        """Options of the format `childproject`."""

        method: Method = Field("", description="metannots.yml: how the annotations were made")
        algorithm: str = Field("", description="metannots.yml: name of the algorithm")
        algorithm_version: str = Field("", description="metannots.yml: its version")
        metannots: bool = Field(True, description="write metannots.yml")
        index: bool = Field(True, description="enter the table in metadata/annotations.csv")

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    keeps: ClassVar[frozenset[str]] = frozenset({"speaker", "text", "values"})
    beside: ClassVar[frozenset[str]] = frozenset({"duration", "media"})
    source: ClassVar[str] = "ChildProject 0.4, format of the annotations"

    def read(self, path: Path) -> list[Annotation]:
        marks, empty = [], 0
        for number, row in read_table(path, _TIMES):
            start, end = seconds(row.pop(_TIMES[0]), row.pop(_TIMES[1]), f"{path}:{number}", 1e-3)
            row.pop(_RAW, None)
            known = {key: value for key, value in row.items() if value not in _EMPTY}
            kind = _LABELS.get(known.pop(_TYPE, ""), "")
            speaker = known.pop(_ID, "") or known.get("lena_speaker", "")
            text = known.pop(_TEXT, "")
            values = {_KEYS.get(key, key): value for key, value in known.items()}
            if start < end:
                marks.append(Mark(start, end, kind or speaker or "NA", speaker, text, values))
            else:
                empty += 1
        if empty:
            self.notices.append(f"{empty} segments of no length were left out")
        return [Annotation(path.stem, tuple(marks))]

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        (one,) = bab.fit_annotations(self, annotations, path)
        rows, others = [], Counter[str]()
        for mark in one.marks:
            kind = TYPES.get(kind_of(mark, path), "NA")
            speaker = mark.speaker or (
                mark.label if mark.label not in TYPES and kind != "NA" else ""
            )
            if kind == "NA" and mark.label not in ("", "NA", mark.speaker):
                others[mark.label] += 1
            row = {_COLUMNS.get(key, key): one_line(value) for key, value in mark.values.items()}
            row |= {_ID: speaker, _TEXT: one_line(mark.text), _TYPE: kind}
            row |= {
                _TIMES[0]: str(milliseconds(mark.start)),
                _TIMES[1]: str(milliseconds(mark.end)),
            }
            rows.append(row)
        for label, count in sorted(others.items()):
            self.notices.append(
                f"ChildProject has no speaker_type for {label}: {count} marks are NA"
            )
        columns = _columns(rows)
        _write_table(rows, columns, path)
        if self.options.metannots:
            self._describe(columns, path)
        place = place_of(path) if self.options.index else None
        if place is not None and (said := enter(place, annotations[0])):
            self.notices.append(said)

    def _describe(self, columns: Iterable[str], path: Path) -> None:
        """Make metannots.yml, or add to it what this table has and others of the set had not."""
        folder = path.parent.parent if path.parent.name == "converted" else path.parent
        place = folder / _METANNOTS
        options = self.options
        said = {
            "segmentation": folder.resolve().name,
            "segmentation_type": "permissive",
            "method": options.method,
            "annotation_algorithm_name": options.algorithm,
            "annotation_algorithm_version": options.algorithm_version,
        }
        old = _load(place)
        new = {key: value for key, value in said.items() if value} | old
        new |= {key: "Y" for key, column in _HAS.items() if column in columns}
        if new != old:
            bab.write_text(place, yaml.safe_dump(new, sort_keys=False, allow_unicode=True))


def _columns(rows: Sequence[dict[str, str]]) -> list[str]:
    """The columns that some row fills, after those that every table has."""
    filled = {key for row in rows for key, value in row.items() if value not in _EMPTY}
    first = [*_TIMES, _TYPE]
    order = [*first, *(name for name in (_ID, _TEXT) if name in filled)]
    return [*order, *sorted(filled - set(order) - {_RAW}), _RAW]


def _write_table(rows: Sequence[dict[str, str]], columns: Sequence[str], path: Path) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = (row | {_RAW: path.name}).get
        writer.writerow([cells(name) or "NA" for name in columns])
    bab.write_text(path, table.getvalue())


def _load(place: Path) -> dict[str, Any]:
    if not place.exists():
        return {}
    try:
        old = yaml.safe_load(place.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BabError(f"{place}: can't be read as YAML ({error}): correct or remove it") from error
    if not isinstance(old, dict):
        raise BabError(f"{place}: holds no keys and values: correct or remove it")
    return old
