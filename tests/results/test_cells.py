"""Text in CSV files: never a formula, never a broken line, and turned back by bab's own reading."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from bab.core.annotations import Annotation, Mark
from bab.data.annotations import open_format
from bab.results.cells import CsvWriter, plain
from bab.results.render import flat

BAD = [
    "=1+1",
    "+x",
    "-x",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "'=x",
    "''-x",
    "=1\r2",
    "-",
    "=",
    "a\rb",
    "-inf x",
    *("-.", "-1.5x", "-1e", "-1e+", "--1", "+1.2.3", "-x1", "-e5", "+in", "-1 2", "-1,5", "-٣x"),
]
GOOD = ["-1.5", "+3", "-1e-3", "1.0", "a=b", "x-y", "'tis", "'", "", "a,b", 'a"b', "a\nb", "-inf"]
GOOD += ["-5", "-5.", "-.5", "+1.25E+10", "+inf", "-0.5e7", "+00", "inf", "1+1"]


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def written(*rows: list[object]) -> str:
    out = io.StringIO()
    CsvWriter(out).writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("text", BAD + GOOD)
def test_a_cell_is_no_formula_and_comes_back(text: str) -> None:
    ((cell, beside),) = read(written([text, "end"]))
    assert beside == "end" and plain(cell) == text
    assert cell == text or (text in BAD and not cell.startswith(("=", "+", "-", "@", "\t", "\r")))
    if text in GOOD:
        assert cell == text


def test_harmless_rows_are_as_the_standard_writer_has_them() -> None:
    rows: list[list[object]] = [["a", 1, -1.5, None, "x,y"], ["", 'say "no"', "two\nlines"], [""]]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    assert written(*rows) == out.getvalue()


def test_numbers_of_a_table_stay_numbers() -> None:
    assert flat([{"name": "=x", "score": -0.5, "why": None}]) == "name,score,why\n'=x,-0.5,\n"


def test_the_csv_format_turns_them_back(tmp_path: Path) -> None:
    marks = tuple(
        Mark(i, i + 0.5, "FEM", text, "@said") for i, text in enumerate(BAD) if text.strip()
    )
    form = open_format("csv", {})
    form.write([Annotation("=home\r1", marks)], tmp_path / "a.csv")
    (one,) = form.read(tmp_path / "a.csv")
    assert one.uri == "=home\r1" and {m.text for m in one.marks} == {"@said"}
    assert [m.speaker for m in one.marks] == [m.speaker for m in marks]
