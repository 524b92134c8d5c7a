"""What the columns of a manifest mean, and what a row of it says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bab import CorpusError
from bab.kit import SPLIT_NAMES, Clips, ClipsBuilder, Faults, Headers, SharedLabels

NAMES = {**SPLIT_NAMES, "valid": "dev", "": ""}
ROUNDED = 0.05  # seconds by which start, end and duration may disagree: they are rounded
Role = Literal["id", "path", "start", "end", "duration", "split", "group", "speaker", "text"]
ROLES: tuple[Role, ...] = get_args(Role)
Split = Literal["train", "dev", "test", ""]
_PIECE = 1 << 13  # rows that are held as Python's objects
_KEPT = 1 << 16  # paths that are remembered


@dataclass(slots=True)
class Layout:
    """A manifest: role -> its column, the columns that are labels, and the unit of its times."""

    path: Path
    header: Sequence[str]
    columns: Mapping[Role, str]
    labels: Sequence[str]
    splits: Mapping[str, Split]
    unit: float  # of times: seconds are so many of them
    headers: Headers
    _paths: dict[str, str] = field(default_factory=dict)

    def split(self, number: int, written: str) -> str:
        """Raises CorpusError: a value that means none."""
        if written in self.splits:
            return str(self.splits[written])
        split = NAMES.get(written.lower())
        if split is None:
            raise CorpusError(
                f"{self.path}:{number}: '{written}' is no split. Say what it means: --set "
                f"corpus.splits.{written}=train (dev, test, or '' for none)"
            )
        return split

    def seconds(self, number: int, row: Mapping[Role, str], role: Role, default: float) -> float:
        """Raises CorpusError: a cell that is no time."""
        written = row.get(role)
        if not written:
            return default
        try:
            value = float(written)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise CorpusError(f"{self.path}:{number}: {role} is '{written}', not a time.")
        return value / self.unit

    def span(self, number: int, row: Mapping[Role, str], path: str) -> tuple[float, float]:
        """Raises CorpusError: times that can't be."""
        start = self.seconds(number, row, "start", 0.0)
        length = self.seconds(number, row, "duration", 0.0)
        end = self.seconds(number, row, "end", start + length)
        if not (row.get("end") or row.get("duration")):
            end = self.headers.seconds(path)
        elif end <= start:
            raise CorpusError(
                f"{self.path}:{number}: the end, {end:g} s, is not after the start, {start:g} s. "
                "If these are milliseconds: --set corpus.times=ms"
            )
        if row.get("end") and row.get("duration") and abs(start + length - end) > ROUNDED:
            raise CorpusError(
                f"{self.path}:{number}: start {start:g} s and duration {length:g} s do not end at "
                f"{end:g} s. Correct the row, or leave one of the columns out"
            )
        return start, end

    def place(self, name: str) -> str:
        """Where a file of this name is."""
        path = self._paths.get(name)
        if path is None:  # joined once for all segments of a recording
            if len(self._paths) > _KEPT:
                self._paths.clear()
            path = self._paths[name] = str(self.path.parent / name)
        return path


def stem(name: str) -> str:
    """The id of a clip that is all of a file."""
    return name.rpartition(".")[0] or name


@dataclass(slots=True)
class Listed:
    """What was read: the clips, which of `splits` each is in, the labels that some clip has, and by
    role (speaker, text) the line of the first clip that lacks it."""

    builder: ClipsBuilder = field(default_factory=ClipsBuilder)
    codes: list[NDArray[np.int8]] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    lacking: dict[Role, int] = field(default_factory=dict)

    def code(self, split: str) -> int:
        """The number of a split."""
        if split not in self.splits:
            self.splits.append(split)
        return self.splits.index(split)

    def parts(self, clips: Clips) -> dict[str, Clips]:
        """The clips of each split."""
        codes = np.concatenate([np.zeros(0, np.int8), *self.codes])
        if len(self.splits) == 1:
            return {self.splits[0]: clips}
        return {split: clips.take(codes == i) for i, split in enumerate(self.splits)}


def by_rows(layout: Layout, rows: Iterator[tuple[int, list[str]]], faults: Faults) -> Listed:
    """A manifest row by row. faults: told of all that is wrong with rows.

    Raises:
        CorpusError: a file that can't be read.
    """
    listed, shared, ids = Listed(), SharedLabels(), set[str]()
    places = {role: layout.header.index(column) for role, column in layout.columns.items()}
    labelled = [layout.header.index(name) for name in layout.labels]
    pending: list[tuple[object, ...]] = []
    for number, cells in rows:
        row = {role: cells[place].strip() for role, place in places.items()}
        labels = shared.of(layout.labels, tuple(cells[place].strip() for place in labelled))
        try:
            facts, split = _clip(layout, number, row), layout.split(number, row.get("split", ""))
        except CorpusError as error:
            faults.add(error)
            continue
        clip, speaker, text = facts[0], facts[5], facts[6]
        if clip in ids:
            told = f"'{clip}' stands twice. Give each row another path, start and end, or a "
            faults.say(layout.path, number, told + "column 'id'.")
        ids.add(clip)
        for role, value in (("speaker", speaker), ("text", text)):
            if value is None and role in places:
                listed.lacking.setdefault(role, number)
        listed.labels.update(labels)
        pending.append((*facts, labels, listed.code(split)))
        if len(pending) == _PIECE:
            _flush(listed, pending)
    _flush(listed, pending)
    return listed


def _flush(listed: Listed, pending: list[tuple[object, ...]]) -> None:
    if pending:
        ids, paths, starts, ends, groups, who, texts, labels, codes = zip(*pending, strict=True)
        listed.builder.add(ids, paths, starts, ends, groups, who, labels, texts)
        listed.codes.append(np.array(codes, np.int8))
        pending.clear()


def _clip(
    layout: Layout, number: int, row: Mapping[Role, str]
) -> tuple[str, str, float, float, str, str | None, str | None]:
    """id, path, start, end, group, speaker, text."""
    name = row["path"]
    if not name:
        raise CorpusError(f"{layout.path}:{number}: the path is empty.")
    path = layout.place(name)
    start, end = layout.span(number, row, path)
    speaker = row.get("speaker") or None
    clip = row.get("id") or stem(name)
    if not row.get("id") and (row.get("start") or row.get("end")):
        clip = f"{clip}_{start:.3f}-{end:.3f}"
    group = row.get("group") or speaker or name
    return clip, path, start, end, group, speaker, row.get("text") or None
