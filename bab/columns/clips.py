"""Clips in columns, which look like a list of Clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from bab.columns.texts import Coded, CodedBuilder, Rows, Texts, TextsBuilder
from bab.core.types import Clip

_PIECE = 1 << 13  # clips that are made at once


@dataclass(slots=True)
class Table:
    """The columns, N rows each. Segments, annotated spans, voices and clocks aren't held here."""

    ids: Texts
    paths: Coded
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    groups: Coded
    speakers: Coded
    labels: Coded
    texts: Coded
    _numbers: dict[str, NDArray[np.int32]] = field(default_factory=dict)

    def numbers(self, kind: str) -> NDArray[np.int32] | None:
        """i32[N]: which "recording", "clip", "group" or "speaker" a row is of, -1 = none; None: of
        another kind, such as "voice", of which no row has any. Rows of equal names have equal
        numbers."""
        of = {"recording": self.paths, "clip": self.ids, "group": self.groups}
        column: Any = {**of, "speaker": self.speakers}.get(kind)
        if column is not None and kind not in self._numbers:
            self._numbers[kind] = column.numbers()
        return None if column is None else self._numbers[kind]

    def clips(self, rows: Rows) -> Iterator[Clip]:
        """Some rows as Clips."""
        columns = (self.groups, self.speakers)
        group, speaker = (column.at(rows) for column in columns)
        start, end = self.starts[rows].tolist(), self.ends[rows].tolist()
        labels, text = self.labels.at(rows), self.texts.at(rows)
        names = (self.ids.at(rows), self.paths.at(rows), start, end, group, speaker)
        return map(Clip, *names, repeat(()), labels, text)


class Clips(Sequence[Clip]):
    """Many clips in columns: a Clip is made where one is looked at, anew each time.

    It compares equal to a list of the same Clips. `ClipsBuilder` makes it.
    """

    __slots__ = ("_rows", "table")

    def __init__(self, table: Table, rows: NDArray[np.int32] | None = None) -> None:
        """rows: which of the table, in order; None = all."""
        self.table, self._rows = table, rows

    def __len__(self) -> int:
        return len(self.table.starts) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Clip: ...
    @overload
    def __getitem__(self, place: slice) -> Clips: ...
    def __getitem__(self, place: int | slice) -> Clip | Clips:
        if isinstance(place, slice):
            return self.take(np.arange(len(self), dtype=np.int32)[place])
        at = range(len(self))[place]
        return next(self.table.clips(self._piece(at, at + 1)))

    def __iter__(self) -> Iterator[Clip]:
        for rows in self.pieces():
            yield from self.table.clips(rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        pairs = zip(self, other, strict=False)
        return len(self) == len(other) and all(one == two for one, two in pairs)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} clips in columns>"

    def _piece(self, first: int, last: int) -> Rows:
        return slice(first, last) if self._rows is None else self._rows[first:last]

    @property
    def rows(self) -> NDArray[np.int32]:
        """i32[len]: which rows of the table these clips are."""
        if self._rows is None:
            return np.arange(len(self), dtype=np.int32)
        return self._rows

    def take(self, places: NDArray[Any]) -> Clips:
        """The clips at some places, or where a mask is true, in that order."""
        if places.dtype == bool:
            places = np.flatnonzero(places)
        rows = places if self._rows is None else self._rows[places]
        return Clips(self.table, rows.astype(np.int32))

    def pieces(self) -> Iterator[Rows]:
        """The rows, a few thousand at a time."""
        for first in range(0, len(self), _PIECE):
            yield self._piece(first, min(first + _PIECE, len(self)))

    @property
    def starts(self) -> NDArray[np.float64]:
        """f64[len], seconds."""
        return self.table.starts if self._rows is None else self.table.starts[self._rows]

    @property
    def ends(self) -> NDArray[np.float64]:
        """f64[len], seconds."""
        return self.table.ends if self._rows is None else self.table.ends[self._rows]

    def numbers(self, kind: str) -> NDArray[np.int32] | None:
        """`Table.numbers` of these clips."""
        numbers = self.table.numbers(kind)
        return numbers if numbers is None or self._rows is None else numbers[self._rows]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A column by what occurs in it: row i has `values[codes[i]]`; codes i32[n]."""

    values: Sequence[Any]
    codes: NDArray[np.int32]


Column = Sequence[Any] | Repeated


class ClipsBuilder:
    """Clips of a long table, filled piece by piece (some thousand rows at a time)."""

    def __init__(self) -> None:
        self._ids = TextsBuilder()
        self._starts: list[NDArray[np.float64]] = [np.zeros(0)]
        self._ends: list[NDArray[np.float64]] = [np.zeros(0)]
        names = ("paths", "groups", "speakers", "labels", "texts")
        self._coded = {name: CodedBuilder() for name in names}

    def add(
        self,
        ids: Sequence[str],
        paths: Column,
        starts: Any,
        ends: Any,
        groups: Column,
        speakers: Column | None = None,
        labels: Column | None = None,
        texts: Column | None = None,
    ) -> None:
        """The next rows, a column each, of one length: what `Clip` says of its fields.

        starts, ends: seconds; speakers, texts: None for whom there is none; labels: mappings, of
        which equal ones become one object. Each column but ids and times may be `Repeated`.

        Raises:
            ValueError: columns of different lengths.
            TypeError: something that is no text, where one is expected.
        """
        count = len(ids)
        if any(type(name) is not str for name in ids):
            raise TypeError("ids are texts")
        self._ids.add(ids)
        for times, kept in ((starts, self._starts), (ends, self._ends)):
            if len(times) != count:
                raise ValueError(f"{len(times)} times for {count} ids")
            kept.append(np.array(times, np.float64))
        for name, column in (("paths", paths), ("groups", groups)):
            self._add(name, column, count, (str,))
        for name, maybe in (("speakers", speakers), ("texts", texts)):
            self._add(name, maybe, count, (str, type(None)))
        none = Repeated([{}], np.zeros(count, np.int32))
        self._add("labels", none if labels is None else labels, count, (dict,))

    def _add(self, name: str, column: Column | None, count: int, types: tuple[type, ...]) -> None:
        if column is None:
            column = Repeated([None], np.zeros(count, np.int32))
        values: Any = column
        codes = None
        if isinstance(column, Repeated):
            values, codes = column.values, column.codes
        if len(values if codes is None else codes) != count:
            raise ValueError(f"{name}: {len(values if codes is None else codes)} for {count} ids")
        if wrong := {type(value) for value in values}.difference(types):
            raise TypeError(f"{name}: {wrong.pop().__name__}")
        if name == "labels":
            values = [tuple(value.items()) for value in values]
            if any(type(text) is not str for pairs in values for pair in pairs for text in pair):
                raise TypeError("labels are texts by name")
        self._coded[name].add(values, codes)

    def clips(self) -> Clips:
        """All rows, in the order in which they came. The builder is then spent."""
        starts, ends = np.concatenate(self._starts), np.concatenate(self._ends)
        done = {name: self._coded.pop(name).done() for name in tuple(self._coded)}
        pairs = done["labels"].values
        assert isinstance(pairs, list)
        whole: list[Mapping[str, str]] = [dict(pair) for pair in pairs[:-1]]
        done["labels"] = Coded(done["labels"].codes, whole, once=True)
        columns: dict[str, Any] = {**done, "starts": starts, "ends": ends}
        return Clips(Table(self._ids.done(), **columns))
