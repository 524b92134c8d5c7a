"""A manifest: CSV, TSV, JSON lines or Parquet, found under its usual names and read row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bab import CorpusError, check_parquet
from bab.kit import Faults, lines

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def find_manifest(root: Path) -> Path:
    """The manifest itself.

    Raises:
        CorpusError: a folder with none or several, or a file of another kind.
    """
    if root.is_file():
        if root.suffix.lower() not in SUFFIXES:
            raise CorpusError(f"{root}: a manifest's name ends in {', '.join(SUFFIXES)}.")
        return root
    there = [root / f"manifest{s}" for s in SUFFIXES if (root / f"manifest{s}").is_file()]
    if len(there) > 1:
        raise CorpusError(f"{there[0]} and {there[1]}: two manifests. Name the file itself.")
    if there:
        return there[0]
    others = sorted(p.name for s in SUFFIXES for p in root.glob(f"*{s}"))
    hint = f"Name the file itself: {', '.join(others[:5])}." if others else "Add it."
    raise CorpusError(f"{root}: no manifest.csv, .tsv, .jsonl or .parquet there. {hint}")


def read_rows(path: Path, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells): the header first, then every row that isn't blank. Numbers and truth
    values of JSON and Parquet become text; null and absent keys an empty cell. The first row of a
    Parquet table counts as line 2, as below a CSV's header.

    faults: told, with file and line, of a row of another width, or a line that isn't JSON.

    Raises:
        CorpusError: no columns, two of one name, or text that doesn't parse.
        BabError: a Parquet table without the library that reads it.
    """
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        rows = _json_rows(path, faults)
    else:
        rows = _parquet_rows(path) if suffix == ".parquet" else _text_rows(path)
    _, header = first = next(rows, (1, []))
    twice = [name for i, name in enumerate(header) if name in header[:i]]
    if not header or twice:
        faults.refuse()
        wrong = f"two columns are called '{twice[0]}'" if twice else "the manifest is empty"
        raise CorpusError(f"{path}:1: {wrong}.")
    yield first
    for number, cells in rows:
        if len(cells) != len(header):
            told = f"{len(cells)} cells under {len(header)} columns. A cell that holds the "
            faults.say(path, number, told + "separator must stand in quotes.")
            continue
        yield number, cells


def _text_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    tab = path.suffix.lower() == ".tsv"
    # A tab-separated table is quoted only where a cell begins with a quote, as in CSV.
    reader = csv.reader((line for _, line in lines(path)), delimiter="\t" if tab else ",")
    try:
        header = next(reader, [])
        yield 1, [name.strip() for name in header]
        for cells in reader:
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise CorpusError(f"{path}:{reader.line_num}: {error}.") from error


def _json_rows(path: Path, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Two passes: keys may differ from row to row, and the header needs them all."""
    header: dict[str, None] = {}
    for _, row in _objects(path, faults):
        header.update(dict.fromkeys(row))
    yield 1, list(header)
    for number, row in _objects(path, Faults()):  # told of already
        with faults.caught():
            yield number, [cell(path, number, key, row.get(key)) for key in header]


def _parquet_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    with checked_parquet(path) as table:
        header = list(table.schema_arrow.names)
        yield 1, header
        number = 2
        for batch in table.iter_batches():
            texts = [
                _texts(path, number, name, batch.column(i).to_pylist())
                for i, name in enumerate(header)
            ]
            for cells in zip(*texts, strict=True):
                yield number, list(cells)
                number += 1


@contextmanager
def checked_parquet(path: Path) -> Iterator[Any]:
    """A Parquet table, whose checksums hold.

    Raises:
        CorpusError: it can't be read, or one of them doesn't hold.
        BabError: without the library that reads it.
    """
    check_parquet(path, "make it again")
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as table:
            yield table
    except (ArrowException, OSError, ValueError) as error:
        raise CorpusError(f"{path}: can't be read as a Parquet table: {error}.") from error


def _texts(path: Path, number: int, key: str, values: list[Any]) -> list[str]:
    """A column's cells as text; `number` is the line of the first."""
    if all(type(value) is str for value in values):
        return values
    return [cell(path, i, key, value) for i, value in enumerate(values, start=number)]


def _objects(path: Path, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.say(path, number, f"not JSON: {error}.")
            continue
        if not isinstance(row, dict):
            faults.say(path, number, f"not a JSON object: {line.strip():.60}")
            continue
        yield number, row


def cell(path: Path, number: int, key: str, value: Any) -> str:
    """A value of JSON or Parquet as text.

    Raises:
        CorpusError: neither text nor number.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise CorpusError(f"{path}:{number}: '{key}' must be text or a number, not {value!r:.60}")
