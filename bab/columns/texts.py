"""Columns of texts: in one buffer where each row has its own, else each text once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = slice | NDArray[np.int32]  # which rows of a table: slices have a start, a stop and no step
_PIECE = 1 << 16  # rows that are Python objects at once
_ERRORS = "surrogatepass"  # a path may hold bytes that are no UTF-8, as `os.fsdecode` gives them


class Texts:
    """Texts in one buffer: ten million ids of 30 letters take 0.4 GB, as Python's own 0.9 GB."""

    def __init__(self, buffer: bytes | bytearray, ends: NDArray[np.int64]) -> None:
        """buffer: UTF-8; ends: i64[N + 1], text i is bytes [ends[i], ends[i + 1])."""
        self._buffer, self._ends = memoryview(buffer), ends

    def __reduce__(self) -> tuple[Any, ...]:  # what is sent to a process
        return Texts, (bytes(self._buffer), self._ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def at(self, rows: Rows) -> list[str]:
        """The texts of some rows."""
        if not isinstance(rows, slice):
            firsts, lasts = self._ends[rows].tolist(), self._ends[rows + 1].tolist()
            both = zip(firsts, lasts, strict=True)
            return [str(self._buffer[a:b], "utf-8", _ERRORS) for a, b in both]
        ends = self._ends[rows.start : rows.stop + 1]
        whole = bytes(self._buffer[ends[0] : ends[-1]])
        places = (ends - ends[0]).tolist()
        pairs = pairwise(places)
        if whole.isascii():
            text = whole.decode("ascii")
            return [text[a:b] for a, b in pairs]
        return [str(whole[a:b], "utf-8", _ERRORS) for a, b in pairs]

    @property
    def some_empty(self) -> bool:
        """Whether one of them is ""."""
        return bool((self._ends[1:] == self._ends[:-1]).any())

    def numbers(self) -> NDArray[np.int32]:
        """i32[N]: equal texts have equal numbers, others don't."""
        hashes = np.empty(len(self), np.int64)
        for first in range(0, len(self), _PIECE):
            piece = self.at(slice(first, first + _PIECE))
            hashes[first : first + len(piece)] = np.fromiter(map(hash, piece), np.int64, len(piece))
        return self._numbered(hashes)

    def _numbered(self, hashes: NDArray[np.int64]) -> NDArray[np.int32]:
        """By hash; texts that share one are looked at, as they may differ all the same."""
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        new = np.empty(len(order), bool)
        new[:1] = True
        np.not_equal(hashes[order[1:]], hashes[order[:-1]], out=new[1:])
        numbers = np.empty(len(order), np.int32)
        numbers[order] = np.cumsum(new, dtype=np.int32) - 1
        repeated = np.flatnonzero(~new)
        doubtful = order[np.union1d(repeated, repeated - 1)]
        first: dict[int, str] = {}
        apart: dict[str, int] = {}
        free = int(new.sum())
        for at in range(0, len(doubtful), _PIECE):
            rows = doubtful[at : at + _PIECE]
            for row, text in zip(rows.tolist(), self.at(rows), strict=True):
                if first.setdefault(int(numbers[row]), text) != text:
                    numbers[row] = apart.setdefault(text, free + len(apart))
        return numbers


class TextsBuilder:
    """Texts, filled piece by piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lengths: list[NDArray[np.int64]] = []

    def add(self, texts: Sequence[str]) -> None:
        joined = "".join(texts)
        if joined.isascii():
            sizes = map(len, texts)
            self._buffer += joined.encode("ascii")
        else:
            coded = [text.encode("utf-8", _ERRORS) for text in texts]
            sizes = map(len, coded)
            self._buffer += b"".join(coded)
        self._lengths.append(np.fromiter(sizes, np.int64, len(texts)))

    def done(self) -> Texts:
        lengths = np.concatenate([np.zeros(1, np.int64), *self._lengths])
        return Texts(self._buffer, np.cumsum(lengths, out=lengths))


class Coded:
    """Values that repeat: each once, and which of them a row has, or none (None)."""

    def __init__(self, codes: NDArray[np.int32], values: list[Any] | Texts, once: bool) -> None:
        """codes: i32[N], places in `values`, -1 = none. once: no value stands in it twice."""
        self.codes, self.values, self.once = codes, values, once
        if isinstance(values, list):
            values.append(None)  # at -1

    def at(self, rows: Rows) -> list[Any]:
        """The values of some rows."""
        codes = self.codes[rows]
        if isinstance(self.values, list):
            return list(map(self.values.__getitem__, codes.tolist()))
        there = codes >= 0
        if there.all():
            return self.values.at(codes)
        told = iter(self.values.at(codes[there]))
        return [next(told) if has else None for has in there.tolist()]

    def apply(self, change: Callable[[Any], Any]) -> Changed:
        """The column with `change` of every value, and of None."""
        return Changed(self, change)

    @property
    def some_empty(self) -> bool:
        """Whether one of the values is ""."""
        return self.values.some_empty if isinstance(self.values, Texts) else "" in self.values

    def numbers(self) -> NDArray[np.int32]:
        """i32[N]: equal values have equal numbers, others don't; -1 = none."""
        if self.once:
            return self.codes
        assert isinstance(self.values, Texts)
        return np.where(self.codes < 0, np.int32(-1), self.values.numbers()[self.codes])


class Changed:
    """A column of which each value is changed: once, but where values hardly repeat."""

    def __init__(self, column: Coded, change: Callable[[Any], Any]) -> None:
        self._column, self._change = column, change
        values = column.values
        self._made = None if isinstance(values, Texts) else list(map(change, values))

    def at(self, rows: Rows) -> list[Any]:
        """The changed values of some rows."""
        if self._made is None:
            return list(map(self._change, self._column.at(rows)))
        return list(map(self._made.__getitem__, self._column.codes[rows].tolist()))


class CodedBuilder:
    """A column of values that can be hashed, filled piece by piece. Texts that hardly repeat (a
    file for each clip) go to one buffer, as looking for them would cost more than it saves."""

    def __init__(self, many: int = 1 << 19) -> None:
        """many: so many values, of which most stand once, are no longer looked for."""
        self._many = many
        self._known: dict[Any, int] = {None: -1}
        self._values: list[Any] = []
        self._plain: TextsBuilder | None = None
        self._codes: list[NDArray[np.int32]] = []
        self._rows = self._count = 0

    def add(self, values: Sequence[Any], codes: NDArray[np.int32] | None = None) -> None:
        """The values of the next rows; or, with codes, i32[n], the values that occur in them."""
        rows = len(values) if codes is None else len(codes)
        if self._plain is not None:
            made = self._append(self._plain, values)
            self._codes.append(made if codes is None else made[codes])
        else:
            known = self._known
            for value in dict.fromkeys(values):
                if value not in known:
                    known[value] = len(self._values)
                    self._values.append(value)
            made = np.fromiter(map(known.__getitem__, values), np.int32, len(values))
            self._codes.append(made if codes is None else made[codes])
            self._count = len(self._values)
        self._rows += rows
        texts = self._plain is None and self._count > max(self._many, self._rows // 2)
        if texts and all(isinstance(value, str) for value in self._values):
            self._plain = TextsBuilder()
            self._plain.add(self._values)
            self._values, self._known = [], {}

    def _append(self, plain: TextsBuilder, values: Sequence[str | None]) -> NDArray[np.int32]:
        there = [value for value in values if value is not None]
        plain.add(there)
        has = np.fromiter((value is not None for value in values), bool, len(values))
        made = np.where(has, self._count + np.cumsum(has) - 1, -1).astype(np.int32)
        self._count += len(there)
        return made

    def done(self) -> Coded:
        codes = np.concatenate([np.zeros(0, np.int32), *self._codes])
        self._known, self._codes = {}, []
        if self._plain is not None:
            return Coded(codes, self._plain.done(), once=False)
        return Coded(codes, self._values, once=True)
