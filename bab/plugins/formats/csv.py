"""Format `csv`: a table with a line for each mark, as segma and `bab predict` write it.

uid,start_time_s,duration_s,label
home01,12.340,1.500,KCHI
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import bab
from bab import Annotation, BabError, Mark
from bab.plugins.formats.shared.files import milliseconds, stretch
from bab.plugins.formats.shared.tables import read_table

COLUMNS = ("uid", "start_time_s", "duration_s", "label")
FURTHER = ("speaker", "text")


class Csv(bab.Format):
    """A table of marks: recording, start and duration in seconds, label; other columns are values.

    The columns `speaker` and `text`, and one for each value, are written where a mark has one.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    keeps: ClassVar[frozenset[str]] = frozenset({"several", "speaker", "text", "values"})
    source: ClassVar[str] = "segma's table of segments"

    def read(self, path: Path) -> list[Annotation]:
        marks: dict[str, list[Mark]] = {}
        empty = 0
        for number, cells in read_table(path, COLUMNS):
            row = {name: bab.plain_cell(cell) for name, cell in cells.items()}
            place = f"{path}:{number}"
            uri, start, length, label = (row.pop(name) for name in COLUMNS)
            if not uri:
                raise BabError(f"{place}: uid is empty: name the recording")
            begin, end = stretch(start, length, place)
            speaker, text = (row.pop(name, "") for name in FURTHER)
            values = {key: value for key, value in row.items() if value}
            here = marks.setdefault(uri, [])
            if begin < end:
                here.append(Mark(begin, end, label, speaker, text, values))
            else:
                empty += 1
        if empty:
            self.notices.append(f"{empty} lines of no duration were left out")
        return [Annotation(uri, tuple(m)) for uri, m in (marks or {path.stem: []}).items()]

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        fitted = bab.fit_annotations(self, annotations, path)
        marks = [(one.uri, mark) for one in fitted for mark in one.marks]
        keys = sorted({key for _, mark in marks for key in mark.values})
        taken = {*COLUMNS, *FURTHER} & set(keys)
        if taken:
            raise BabError(f"{path}: a value can't be called {sorted(taken)}: rename it")
        further = [name for name in FURTHER if any(getattr(mark, name) for _, mark in marks)]
        table = io.StringIO()
        writer = bab.CsvWriter(table)
        writer.writerow((*COLUMNS, *further, *keys))
        for uri, mark in marks:
            start, end = milliseconds(mark.start), milliseconds(mark.end)
            cells = [uri, f"{start / 1000:.3f}", f"{(end - start) / 1000:.3f}", mark.label]
            cells += [getattr(mark, name) for name in further]
            writer.writerow((*cells, *(mark.values.get(key, "") for key in keys)))
        bab.write_text(path, table.getvalue())
