"""Tables of a corpus: CSV and TSV, read by column name, mistakes named by file and line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path

from bab.core.errors import CorpusError
from bab.kit.faults import Faults

Row = dict[str, str]


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """(line number, row by column name) of a CSV file that must have `columns`; cells stripped.

    Raises:
        CorpusError: an absent or unreadable file, a missing column; short or overlong rows, all
            of them, after the others.
    """
    rows = _rows(path, columns)
    _, header = next(rows)
    for number, cells in rows:
        yield number, dict(zip(header, map(str.strip, cells), strict=True))


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line number, the cells of two or more `columns`, as written): for long tables."""
    rows = _rows(path, columns)
    _, header = next(rows)
    pick = itemgetter(*map(header.index, columns))
    for number, cells in rows:
        yield number, pick(cells)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells): the header first, then every row that isn't blank.

    Raises:
        CorpusError: an absent or unreadable file, a missing column; short or overlong rows, all
            of them, after the others.
    """
    faults = Faults()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in columns if name not in header]
            if missing:
                raise CorpusError(
                    f"{path}: no column '{missing[0]}'. Its columns: {', '.join(header) or 'none'}"
                )
            yield 1, header
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) == len(header):
                    yield reader.line_num, cells
                else:
                    told = f"{len(cells)} cells under {len(header)} columns."
                    faults.say(path, reader.line_num, told)
            faults.refuse()
    except FileNotFoundError:
        hint = " In a DataLad data set, fetch it first: datalad get" if path.is_symlink() else ""
        raise CorpusError(f"{path}: no such file.{hint}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: can't be read as a table ({error}).") from error
