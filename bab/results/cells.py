"""CSV that a spreadsheet may open: no text in it is a formula, and none breaks a line.

A text that begins as a formula would (`=`, `+`, `-`, `@`, a tab or a carriage return; OWASP, "CSV
Injection") gets an apostrophe before it, and so does one that begins with such an apostrophe.
`plain` takes it away again. Numbers stay numbers, also negative ones in a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?inf")
_QUOTED = re.compile(r'[",\r\n]')


class Stream(Protocol):
    def write(self, text: str, /) -> object: ...


class CsvWriter:
    """As `csv.writer` with Unix line ends, for text that anybody may have written."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def writerow(self, cells: Iterable[object]) -> None:
        """Write a line. None is an empty cell."""
        line = ",".join(_cell(one) for one in cells)
        self._stream.write(f"{line}\n" if line else '""\n')

    def writerows(self, rows: Iterable[Iterable[object]]) -> None:
        for row in rows:
            self.writerow(row)


def _cell(value: object) -> str:
    if not isinstance(value, str):
        return "" if value is None else str(value)
    if _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        value = f"'{value}"
    doubled = value.replace('"', '""')
    return f'"{doubled}"' if _QUOTED.search(value) else value


def plain(cell: str) -> str:
    """A cell as it was before `CsvWriter` made it safe."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
