"""Format `rttm`: NIST's Rich Transcription Time Marked files, several recordings in one or not.

SPEAKER home01 1 12.340 1.500 <NA> <NA> KCHI <NA> <NA>
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import bab
from bab import Annotation, BabError, Mark
from bab.plugins.formats.shared.files import lines, milliseconds, stretch

_NA = "<NA>"
# Other objects that an RTTM may hold (NIST, Rich Transcription evaluation plan, 2009).
_OTHERS = frozenset(
    {"SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT"}
    | {"IP", "SU", "CB", "A/P", "SPKR-INFO"}
)


class Rttm(bab.Format):
    """RTTM: the recording, start and duration in seconds, and the label in the name's column."""

    suffixes: ClassVar[tuple[str, ...]] = (".rttm",)
    keeps: ClassVar[frozenset[str]] = frozenset({"several", "values.confidence"})
    source: ClassVar[str] = "NIST, Rich Transcription evaluation plan, 2009"

    def read(self, path: Path) -> list[Annotation]:
        marks: dict[str, list[Mark]] = {}
        other = empty = 0
        for number, line in lines(path):
            fields = line.split()
            by_tabs = line.strip().split("\t")
            if len(by_tabs) >= 8:  # as ACLEW has it, with a text in the sixth column
                fields = by_tabs
            if not fields or line.startswith((";", "#")):
                continue
            if fields[0] in _OTHERS:
                other += 1
                continue
            uri, mark = _mark(fields, f"{path}:{number}", line)
            here = marks.setdefault(uri, [])
            if mark.start < mark.end:
                here.append(mark)
            else:
                empty += 1
        if other:
            self.notices.append(f"{other} lines that are not SPEAKER lines were left out")
        if empty:
            self.notices.append(f"{empty} turns of no length were left out")
        return [Annotation(uri, tuple(m)) for uri, m in (marks or {path.stem: []}).items()]

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        rows = []
        for one in bab.fit_annotations(self, annotations, path):
            uri = _field(one.uri)
            for mark in one.marks:
                start, end = milliseconds(mark.start), milliseconds(mark.end)
                label = _field(mark.label or mark.speaker)
                sure = _field(mark.values.get("confidence", ""))
                rows.append(
                    f"SPEAKER {uri} 1 {start / 1000:.3f} {(end - start) / 1000:.3f} "
                    f"{_NA} {_NA} {label} {sure} {_NA}\n"
                )
        bab.write_text(path, "".join(rows))


def _mark(fields: list[str], place: str, line: str) -> tuple[str, Mark]:
    if fields[0] != "SPEAKER":
        raise BabError(f"{place}: not a line of an RTTM: {line.strip()[:80]!r}")
    if not 8 <= len(fields) <= 10:
        raise BabError(
            f"{place}: {len(fields)} columns, not the 10 of an RTTM (names may hold no spaces): "
            f"{line.strip()[:80]!r}"
        )
    start, end = stretch(fields[3], fields[4], place)
    text, subtype, sure = fields[5], fields[6], fields[8] if len(fields) > 8 else _NA
    values = {"subtype": subtype, "confidence": sure}
    values = {key: value for key, value in values.items() if value != _NA}
    text = "" if text == _NA else text
    return fields[1], Mark(start, end, fields[7], text=text, values=values)


def _field(text: str) -> str:
    """A column can't hold white space, and isn't empty."""
    return re.sub(r"\s+", "_", text.strip()) or _NA
