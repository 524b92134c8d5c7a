"""Format `audacity`: a label track as Audacity exports it: start, end and label between tabs.

12.340000	13.840000	KCHI
14.000000	14.500000	FA1: come here
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import bab
from bab import Annotation, BabError, Mark
from bab.plugins.formats.shared.files import lines, one_line, seconds
from bab.plugins.formats.shared.names import said_by


class Audacity(bab.Format):
    """An Audacity label track. Each label is a voice type or speaker, with `: text` after it."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    keeps: ClassVar[frozenset[str]] = frozenset({"speaker", "text"})
    source: ClassVar[str] = "Audacity's manual, Importing and Exporting Labels"

    def read(self, path: Path) -> list[Annotation]:
        marks, points = [], 0
        for number, line in lines(path):
            if not line.strip() or line.startswith("\\"):  # frequencies of the label above
                continue
            cells = line.split("\t", 2)
            if len(cells) < 2:
                raise BabError(
                    f"{path}:{number}: not a line of an Audacity label track (start, end and "
                    f"label, between tabs): {line[:80]!r}"
                )
            start, end = seconds(cells[0], cells[1], f"{path}:{number}")
            if start < end:
                marks.append(_mark(start, end, cells[2] if len(cells) > 2 else ""))
            else:
                points += 1
        if points:
            self.notices.append(f"{points} points, which have no length, were left out")
        return [Annotation(path.stem, tuple(marks))]

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        (one,) = bab.fit_annotations(self, annotations, path)
        rows, told = [], 0
        for mark in one.marks:
            name, known = _name(mark)
            told += known
            text = one_line(f"{name}: {mark.text}" if mark.text else name)
            rows.append(f"{mark.start:.6f}\t{mark.end:.6f}\t{text}\n")
        if told < len(one.marks):
            self.notices.append(
                f"Audacity has one name for a label: {len(one.marks) - told} speakers were left out"
            )
        bab.write_text(path, "".join(rows))


def _name(mark: Mark) -> tuple[str, bool]:
    """What stands for a mark, and whether label and speaker are both read from it again."""
    if mark.speaker and said_by(mark.speaker) in ((mark.label, mark.speaker), ("", mark.speaker)):
        return mark.speaker, True
    return mark.label or mark.speaker or "NA", mark.speaker in ("", mark.label) or not mark.label


def _mark(start: float, end: float, text: str) -> Mark:
    head, colon, rest = text.partition(": ")
    if colon and head and not re.search(r"\s", head):
        return Mark(start, end, *said_by(head), rest)
    return Mark(start, end, *said_by(text)) if text.strip() else Mark(start, end, "NA")
