"""A long manifest, column by column. What looks unusual in any way is left to be read row by row,
which says what is wrong, so that nothing is ever said or understood otherwise here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab import CorpusError
from bab.kit import Clips, Repeated, SharedLabels
from bab.plugins.datasets.shared.layout import ROUNDED, Layout, Listed, Role, stem
from bab.plugins.datasets.shared.rows import cell, checked_parquet

LONG = 4_000_000  # bytes: below it, rows are as fast, and pyarrow isn't loaded
_BLOCK = 1 << 24  # bytes that are read at once
_FIELD = 131_072  # characters of a cell that Python's csv takes
_NEWLINE, _QUOTE = 10, 34


class _UnusualError(Exception):
    """Something that rows have to be asked about."""


def by_columns(layout: Layout) -> tuple[Listed, Clips] | None:
    """What a manifest lists; None where it is short, unusual, or pyarrow isn't there."""
    suffix = layout.path.suffix.lower()
    if suffix == ".jsonl" or layout.path.stat().st_size < LONG:
        return None
    try:
        import pyarrow as pa
    except ImportError:
        return None
    listed, shared = Listed(), SharedLabels()
    try:
        batches = _parquet(layout) if suffix == ".parquet" else _text(layout)
        for first, regular, batch in batches:
            _Batch(layout, first, regular, batch).into(listed, shared)
        clips = listed.builder.clips()
        numbers = clips.numbers("clip")
        if numbers is None or len(numbers) != len(np.unique(numbers)):
            return None
        return listed, clips
    except (pa.ArrowException, _UnusualError, CorpusError, OSError, ValueError):
        return None


def _parquet(layout: Layout) -> Iterator[tuple[int, bool, Any]]:
    """(line of the first row, True, record batch)"""
    number = 2
    with checked_parquet(layout.path) as table:
        wanted = [*layout.columns.values(), *layout.labels]
        for batch in table.iter_batches(columns=list(dict.fromkeys(wanted))):
            if len(batch):
                yield number, True, batch
            number += len(batch)


def _text(layout: Layout) -> Iterator[tuple[int, bool, Any]]:
    """(line of the first row, whether each row is a line, record batch)"""
    import pyarrow as pa
    from pyarrow import csv

    delimiter = "\t" if layout.path.suffix.lower() == ".tsv" else ","
    wanted = list(dict.fromkeys([*layout.columns.values(), *layout.labels]))
    kinds = dict.fromkeys(wanted, pa.string())
    number, regular = 2, True
    for block, quoted, longest in _blocks(layout.path, ord(delimiter)):
        if longest > _FIELD:
            raise _UnusualError
        read = csv.read_csv(
            pa.BufferReader(block),
            csv.ReadOptions(
                use_threads=False, block_size=len(block) + 1, column_names=list(layout.header)
            ),
            csv.ParseOptions(delimiter=delimiter, newlines_in_values=quoted),
            csv.ConvertOptions(column_types=kinds, include_columns=wanted),
        )
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        regular = regular and lines == len(read)
        if len(read):
            yield number, regular, read.combine_chunks().to_batches()[0]
        number += lines


def _blocks(path: Path, delimiter: int) -> Iterator[tuple[bytes, bool, int]]:
    """(whole lines below the header, whether cells are quoted, the longest line's bytes)

    Raises:
        _UnusualError: quotes within a cell, another end of line, or a NUL.
    """
    with path.open("rb") as file:
        head = file.readline().removeprefix(b"\xef\xbb\xbf")
        if any(mark in head.rstrip(b"\r\n") for mark in (b'"', b"\r", b"\0")):
            raise _UnusualError
        rest = b""
        while more := file.read(_BLOCK):
            text = rest + more
            if text.endswith(b"\r"):
                text += file.read(1)
            text = text.replace(b"\r\n", b"\n")
            if b"\r" in text or b"\0" in text:
                raise _UnusualError
            cut = _cut(text)
            block, rest = text[:cut], text[cut:]
            if block:
                yield block, _quoted(block, delimiter), _longest(block)
        if rest:
            yield rest, _quoted(rest, delimiter), _longest(rest)


def _cut(text: bytes) -> int:
    """Where the last whole row ends: at an end of line that no quotes surround."""
    code = np.frombuffer(text, np.uint8)
    lines = np.flatnonzero(code == _NEWLINE)
    quotes = np.flatnonzero(code == _QUOTE)
    whole = lines[np.searchsorted(quotes, lines) % 2 == 0]
    return int(whole[-1]) + 1 if len(whole) else 0


def _longest(text: bytes) -> int:
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == _NEWLINE)
    return int(np.diff(np.concatenate([[0], ends, [len(text)]])).max())


def _quoted(text: bytes, delimiter: int) -> bool:
    """Whether there are quotes, each around a whole cell, or doubled within one.

    Raises:
        _UnusualError: other quotes.
    """
    code = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(code == _QUOTE)
    if not len(quotes):
        return False
    around = np.concatenate([[_NEWLINE], code, [_NEWLINE]])
    before, after = around[quotes[::2]], around[quotes[1::2] + 2]
    edges = (delimiter, _NEWLINE, _QUOTE)
    if len(quotes) % 2 or not (np.isin(before, edges).all() and np.isin(after, edges).all()):
        raise _UnusualError
    return True


class _Batch:
    """Some rows of a manifest, as Arrow's columns."""

    def __init__(self, layout: Layout, first: int, regular: bool, batch: Any) -> None:
        """first: the line of the first row; regular: the others follow, a line each."""
        self.layout, self.first, self.regular, self.batch = layout, first, regular, batch
        self._texts: dict[str, Any] = {}

    def text(self, column: str) -> Any:
        """A column's cells as text, stripped; what isn't there is empty."""
        import pyarrow as pa
        from pyarrow import compute

        if column not in self._texts:
            cells = self.batch.column(column)
            if pa.types.is_dictionary(cells.type):
                cells = cells.dictionary_decode()
            if not pa.types.is_string(cells.type):
                coded = cells.dictionary_encode()
                path, values = self.layout.path, coded.dictionary.to_pylist()
                told = pa.array([cell(path, self.first, column, v) for v in values], pa.string())
                cells = told.take(coded.indices)
            self._texts[column] = compute.utf8_trim_whitespace(compute.fill_null(cells, ""))
        return self._texts[column]

    def role(self, role: Role) -> Any:
        """The cells of a role, or None."""
        column = self.layout.columns.get(role)
        return None if column is None else self.text(column)

    def into(self, listed: Listed, shared: SharedLabels) -> None:
        """Add the rows to what is listed."""
        from pyarrow import compute

        names = _repeated(self.role("path"))
        if "" in names.values:
            raise _UnusualError
        paths = Repeated([self.layout.place(name) for name in names.values], names.codes)
        starts, ends, timed = self._times(paths)
        who, text, group = self.role("speaker"), self.role("text"), self.role("group")
        otherwise = self.role("path") if who is None else _or(who, self.role("path"))
        groups = otherwise if group is None else _or(group, otherwise)
        self._lacking(listed)
        splits = self._splits(listed)
        listed.builder.add(
            self._ids(names, starts, ends, timed),
            paths,
            starts,
            ends,
            _repeated(groups),
            None if who is None else _maybe(who),
            self._labels(listed, shared),
            None
            if text is None or not compute.any(compute.not_equal(text, "")).as_py()
            else _maybe(text),
        )
        listed.codes.append(splits)

    def _seconds(self, role: Role) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """f64[n], 0 where nothing is written; bool[n], where something is."""
        import pyarrow as pa
        from pyarrow import compute

        column = self.layout.columns.get(role)
        if column is None:
            return np.zeros(len(self.batch)), np.zeros(len(self.batch), bool)
        cells = self.batch.column(column)
        if pa.types.is_floating(cells.type) or pa.types.is_integer(cells.type):
            there, filled = compute.is_valid(cells), compute.fill_null(cells, 0)
        else:
            cells = self.text(column)
            there = compute.not_equal(cells, "")
            filled = compute.if_else(there, cells, "0")
        values = compute.cast(filled, pa.float64()).to_numpy()
        if not (np.isfinite(values) & (values >= 0)).all():
            raise _UnusualError
        return values / self.layout.unit, there.to_numpy(zero_copy_only=False)

    def _times(
        self, paths: Repeated
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """starts, ends, f64[n]; bool[n]: whether start or end is written."""
        starts, starting = self._seconds("start")
        lengths, lasting = self._seconds("duration")
        written, ending = self._seconds("end")
        ends = np.where(ending, written, starts + lengths)
        both = ending & lasting
        told = ending | lasting
        if (told & (ends <= starts)).any() or (
            np.abs(starts + lengths - ends)[both] > ROUNDED
        ).any():
            raise _UnusualError
        if not told.all():
            untold = np.flatnonzero(~told)
            codes = dict.fromkeys(paths.codes[untold].tolist())
            measured = {code: self.layout.headers.seconds(paths.values[code]) for code in codes}
            ends[untold] = [measured[code] for code in paths.codes[untold].tolist()]
        return starts, ends, starting | ending

    def _ids(
        self,
        names: Repeated,
        starts: NDArray[np.float64],
        ends: NDArray[np.float64],
        timed: NDArray[np.bool_],
    ) -> list[str]:
        stems = [stem(name) for name in names.values]
        rows = zip(names.codes.tolist(), starts.tolist(), ends.tolist(), strict=True)
        if timed.all():
            made = [f"{stems[code]}_{start:.3f}-{end:.3f}" for code, start, end in rows]
        else:
            made = [
                f"{stems[code]}_{start:.3f}-{end:.3f}" if times else stems[code]
                for (code, start, end), times in zip(rows, timed.tolist(), strict=True)
            ]
        given = self.role("id")
        return (
            made
            if given is None
            else [one or other for one, other in zip(_listed(given), made, strict=True)]
        )

    def _lacking(self, listed: Listed) -> None:
        for role in ("speaker", "text"):
            cells = self.role(role)
            if cells is None or role in listed.lacking:
                continue
            there = _there(cells)
            if not there.all():
                if not self.regular:
                    raise _UnusualError
                listed.lacking[role] = self.first + int(np.argmin(there))

    def _splits(self, listed: Listed) -> NDArray[np.int8]:
        cells = self.role("split")
        if cells is None:
            return np.full(len(self.batch), listed.code(self.layout.split(0, "")), np.int8)
        written = _repeated(cells)
        codes = [listed.code(self.layout.split(0, value)) for value in written.values]
        return np.array(codes, np.int8)[written.codes]

    def _labels(self, listed: Listed, shared: SharedLabels) -> Repeated:
        """Each set of labels that occurs, once."""
        which = np.zeros(len(self.batch), np.int64)
        columns = [_repeated(self.text(name)) for name in self.layout.labels]
        for column in columns:
            which = np.unique(which * len(column.values) + column.codes, return_inverse=True)[1]
        _, firsts, codes = np.unique(which, return_index=True, return_inverse=True)
        sets: list[Mapping[str, str]] = []
        for row in firsts.tolist():
            values = tuple(column.values[column.codes[row]] for column in columns)
            sets.append(shared.of(self.layout.labels, values))
            listed.labels.update(sets[-1])
        return Repeated(sets, codes.astype(np.int32))


def _or(cells: Any, otherwise: Any) -> Any:
    """The cells; where they are empty, the others."""
    from pyarrow import compute

    return compute.if_else(compute.equal(cells, ""), otherwise, cells)


def _there(cells: Any) -> NDArray[np.bool_]:
    from pyarrow import compute

    there: NDArray[np.bool_] = compute.not_equal(cells, "").to_numpy(zero_copy_only=False)
    return there


def _listed(cells: Any) -> list[Any]:
    values: list[Any] = cells.to_numpy(zero_copy_only=False).tolist()
    return values


def _repeated(cells: Any) -> Repeated:
    coded = cells.dictionary_encode()
    return Repeated(_listed(coded.dictionary), coded.indices.to_numpy().astype(np.int32))


def _maybe(cells: Any) -> Repeated:
    """As `_repeated`, with None for what is empty."""
    told = _repeated(cells)
    return Repeated([value or None for value in told.values], told.codes)
