"""Tables with a header, read by column name, mistakes named by file and line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from bab import BabError, did_you_mean
from bab.plugins.formats.shared.files import text_of


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row by column name) of a CSV file that must have `columns`.

    Raises:
        BabError: an unreadable file, a missing column, a row that is too short or too long.
    """
    reader = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in columns:
            if name not in header:
                hint = did_you_mean(name, header)
                raise BabError(f"{path}:1: no column '{name}' in the header ({hint})")
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise BabError(
                    f"{path}:{reader.line_num}: {len(cells)} cells under {len(header)} columns"
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise BabError(f"{path}:{reader.line_num}: can't be read as a table ({error})") from error
