"""Corpus `manifest`: one table of anybody's recordings, a row for each clip.

    path,start,end,split,group,speaker,text,cry
    audio/a.wav,0.0,2.5,train,child1,child1,,hungry

CSV, TSV, JSON lines or Parquet (as `bab prepare` writes). `path` counts from the manifest's folder;
every other column is optional. The root is the file itself, or a folder that holds manifest.csv,
.tsv, .jsonl or .parquet.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from bab.core import interfaces
from bab.core.errors import BabError, CorpusError, did_you_mean
from bab.core.records import Clip
from bab.plugins.datasets._recordings import SPLIT_NAMES, lines, uncollected
from bab.plugins.datasets._utterances import Headers, Parted, SharedLabels

NAMES = {**SPLIT_NAMES, "valid": "dev", "": ""}
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_ROUNDED = 0.05  # seconds by which start, end and duration may disagree: they are rounded
Role = Literal["id", "path", "start", "end", "duration", "split", "group", "speaker", "text"]
ROLES: tuple[Role, ...] = get_args(Role)
Split = Literal["train", "dev", "test", ""]


class Manifest(interfaces.Corpus):
    """Clips as a table lists them."""

    class Options(interfaces.Options):
        """Options of the `manifest` corpus."""

        columns: dict[Role, str] = Field(
            default_factory=dict,
            description="the table's column for id, path, start, end, duration, split, group, "
            "speaker or text, where it has another name",
        )
        labels: tuple[str, ...] | None = Field(
            None, description="columns that are labels; none given = every other column"
        )
        splits: dict[str, Split] = Field(
            default_factory=dict,
            description="what values of the split column mean: train, dev, test, or '' for none",
        )
        times: Literal["s", "ms"] = Field("s", description="unit of start, end and duration")

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"speaker", "text"})
    unit: ClassVar[str] = "group"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "manifest"
    source: ClassVar[str] = "bab's own"

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(Path(root).resolve(), options)
        self.path = _find(self.root)
        self._headers = Headers(self.notices)
        self._paths: dict[str, str] = {}
        with uncollected():
            parts = self._read()
        self._headers.tell()
        self._parts = Parted(parts, self.path, self.notices)
        self.splits_given, self.listed = self._parts.given, self._parts.listed

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._parts.clips(split)

    def _read(self) -> dict[str, list[Clip]]:
        rows = read_rows(self.path)
        number, header = next(rows)
        columns = self._columns(header)
        names = self._labels(header, columns)
        places = {role: header.index(column) for role, column in columns.items()}
        labelled = [header.index(name) for name in names]
        shared, ids = SharedLabels(), set[str]()
        parts: dict[str, list[Clip]] = {}
        roles: set[str] = {"speaker", "text"} & places.keys()
        found = set(roles)
        for number, cells in rows:
            row = {role: cells[place].strip() for role, place in places.items()}
            labels = shared.of(names, tuple(cells[place].strip() for place in labelled))
            clip = self._clip(number, row, labels)
            if clip.id in ids:
                raise CorpusError(
                    f"{self.path}:{number}: '{clip.id}' stands twice. Give each row another path, "
                    "start and end, or a column 'id'."
                )
            ids.add(clip.id)
            for role in roles & found if None in (clip.speaker, clip.text) else ():
                if getattr(clip, role) is None:
                    found.discard(role)
                    self.notices.append(f"{self.path}:{number}: no {role}, so none is provided.")
            found.update(labels)
            parts.setdefault(self._split(number, row.get("split", "")), []).append(clip)
        self.provides = frozenset(found)  # type: ignore[misc]
        if "group" not in places:
            self.unit = "speaker" if "speaker" in found else "recording"  # type: ignore[misc]
        return parts

    def _columns(self, header: Sequence[str]) -> dict[Role, str]:
        """Role -> column, of the columns that the table has."""
        named = self.options.columns
        for role, column in named.items():
            if column not in header:
                raise CorpusError(
                    f"{self.path}: no column '{column}' for {role} "
                    f"({did_you_mean(column, header)}). The columns are: {', '.join(header)}"
                )
        if len(header) == 1 and (marks := [m for m in (";", "\t") if m in header[0]]):
            raise CorpusError(
                f"{self.path}: one column, '{header[0]}'. It looks as if {marks[0]!r} stood "
                "between the columns: a CSV has commas, a .tsv tabs"
            )
        if "path" not in named and "path" not in header:
            raise CorpusError(
                f"{self.path}: no column 'path'. The columns are: {', '.join(header)}. Say which "
                "one holds the audio files: --set corpus.columns.path=NAME"
            )
        used = set(named.values())
        own: dict[Role, str] = {role: role for role in ROLES if role in header and role not in used}
        return {**own, **named}

    def _labels(self, header: Sequence[str], columns: Mapping[Role, str]) -> list[str]:
        if self.options.labels is None:
            used = set(columns.values())
            return [name for name in header if name and name not in used]
        for name in self.options.labels:
            if name not in header:
                raise CorpusError(
                    f"{self.path}: no column '{name}' for a label ({did_you_mean(name, header)})."
                )
        return list(self.options.labels)

    def _clip(self, number: int, row: Mapping[Role, str], labels: Mapping[str, str]) -> Clip:
        name = row["path"]
        if not name:
            raise CorpusError(f"{self.path}:{number}: the path is empty.")
        path = self._paths.get(name)
        if path is None:  # joined once for all segments of a recording
            path = self._paths[name] = str(self.path.parent / name)
        start = self._seconds(number, row, "start", 0.0)
        length = self._seconds(number, row, "duration", 0.0)
        end = self._seconds(number, row, "end", start + length)
        if not (row.get("end") or row.get("duration")):
            end = self._headers.seconds(path)
        elif end <= start:
            raise CorpusError(
                f"{self.path}:{number}: the end, {end:g} s, is not after the start, {start:g} s. "
                "If these are milliseconds: --set corpus.times=ms"
            )
        if row.get("end") and row.get("duration") and abs(start + length - end) > _ROUNDED:
            raise CorpusError(
                f"{self.path}:{number}: start {start:g} s and duration {length:g} s do not end at "
                f"{end:g} s. Mend the row, or leave one of the columns out"
            )
        speaker = row.get("speaker") or None
        clip = row.get("id") or name.rpartition(".")[0] or name
        if not row.get("id") and (row.get("start") or row.get("end")):
            clip = f"{clip}_{start:.3f}-{end:.3f}"
        group = row.get("group") or speaker or name
        return Clip(clip, path, start, end, group, speaker, (), labels, row.get("text") or None)

    def _seconds(self, number: int, row: Mapping[Role, str], role: Role, default: float) -> float:
        written = row.get(role)
        if not written:
            return default
        try:
            value = float(written)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise CorpusError(f"{self.path}:{number}: {role} is '{written}', not a time.")
        return value / 1000 if self.options.times == "ms" else value

    def _split(self, number: int, written: str) -> str:
        given = self.options.splits
        if written in given:
            return str(given[written])
        split = NAMES.get(written.lower())
        if split is None:
            raise CorpusError(
                f"{self.path}:{number}: '{written}' is no split. Say what it means: --set "
                f"corpus.splits.{written}=train (dev, test, or '' for none)"
            )
        return split


def _find(root: Path) -> Path:
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


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells): the header first, then every row that isn't blank. Numbers and truth
    values of JSON and Parquet become text; null and absent keys an empty cell. The first row of a
    Parquet table counts as line 2, as below a CSV's header.

    Raises:
        CorpusError: naming file and line: a row of another width, or text that doesn't parse.
        BabError: a Parquet table without the library that reads it.
    """
    readers = {".jsonl": _json_rows, ".parquet": _parquet_rows}
    rows = readers.get(path.suffix.lower(), _text_rows)(path)
    _, header = first = next(rows, (1, []))
    twice = [name for i, name in enumerate(header) if name in header[:i]]
    if not header or twice:
        wrong = f"two columns are called '{twice[0]}'" if twice else "the manifest is empty"
        raise CorpusError(f"{path}:1: {wrong}.")
    yield first
    for number, cells in rows:
        if len(cells) != len(header):
            raise CorpusError(
                f"{path}:{number}: {len(cells)} cells under {len(header)} columns. A cell that "
                "holds the separator must stand in quotes."
            )
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


def _json_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Two passes: keys may differ from row to row, and the header needs them all."""
    header: dict[str, None] = {}
    for _, row in _objects(path):
        header.update(dict.fromkeys(row))
    yield 1, list(header)
    for number, row in _objects(path):
        yield number, [_cell(path, number, key, row.get(key)) for key in header]


def _parquet_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BabError(f"{path}: Parquet needs pyarrow: pip install 'bab[prepare]'") from None
    try:
        with parquet.ParquetFile(path) as table:
            header = list(table.schema_arrow.names)
            yield 1, header
            number = 2
            for batch in table.iter_batches():
                columns = (batch.column(i).to_pylist() for i in range(len(header)))
                texts = [_texts(path, number, *pair) for pair in zip(header, columns, strict=True)]
                for cells in zip(*texts, strict=True):
                    yield number, list(cells)
                    number += 1
    except (ArrowException, OSError) as error:
        raise CorpusError(f"{path}: can't be read as a Parquet table: {error}.") from error


def _texts(path: Path, number: int, key: str, values: list[Any]) -> list[str]:
    """A column's cells as text; `number` is the line of the first."""
    if all(type(value) is str for value in values):
        return values
    return [_cell(path, i, key, value) for i, value in enumerate(values, start=number)]


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{path}:{number}: not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise CorpusError(f"{path}:{number}: not a JSON object: {line.strip():.60}")
        yield number, row


def _cell(path: Path, number: int, key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise CorpusError(f"{path}:{number}: '{key}' must be text or a number, not {value!r:.60}")
