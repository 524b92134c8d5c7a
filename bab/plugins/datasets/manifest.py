"""Corpus `manifest`: one table of anybody's recordings, a row for each clip.

    path,start,end,split,group,speaker,text,cry
    audio/a.wav,0.0,2.5,train,child1,child1,,hungry

CSV, TSV, JSON lines or Parquet (as `bab prepare` writes). `path` counts from the manifest's folder;
every other column is optional. The root is the file itself, or a folder that holds manifest.csv,
.tsv, .jsonl or .parquet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions, did_you_mean
from bab.kit import SPLIT_NAMES, Faults, Headers, Parted, SharedLabels, uncollected
from bab.plugins.datasets.shared.rows import find_manifest, read_rows

NAMES = {**SPLIT_NAMES, "valid": "dev", "": ""}
_ROUNDED = 0.05  # seconds by which start, end and duration may disagree: they are rounded
Role = Literal["id", "path", "start", "end", "duration", "split", "group", "speaker", "text"]
ROLES: tuple[Role, ...] = get_args(Role)
Split = Literal["train", "dev", "test", ""]


class Manifest(bab.Corpus):
    """Clips as a table lists them."""

    class Options(bab.Options):
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

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        self.path = find_manifest(self.root)
        self._headers = Headers(self.notices)
        self._paths: dict[str, str] = {}
        with uncollected():
            parts = self._read()
        self._headers.tell()
        self._parts = Parted(parts, self.path, self.notices, permissions)
        self.splits_given, self.listed = self._parts.given, self._parts.listed

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._parts.clips(split)

    def _read(self) -> dict[str, list[Clip]]:
        rows = read_rows(self.path, faults := Faults())
        number, header = next(rows)
        columns = self._columns(header)
        names = self._labels(header, columns)
        places = {role: header.index(column) for role, column in columns.items()}
        labelled = [header.index(name) for name in names]
        shared, ids = SharedLabels(), set[str]()
        parts: dict[str, list[Clip]] = {}
        roles: set[str] = {"speaker", "text"} & places.keys()
        provided = set(roles)
        for number, cells in rows:
            row = {role: cells[place].strip() for role, place in places.items()}
            labels = shared.of(names, tuple(cells[place].strip() for place in labelled))
            try:
                clip = self._clip(number, row, labels)
                split = self._split(number, row.get("split", ""))
            except CorpusError as error:
                faults.add(error)
                continue
            if clip.id in ids:
                told = f"'{clip.id}' stands twice. Give each row another path, start and end, or a "
                faults.say(self.path, number, told + "column 'id'.")
            ids.add(clip.id)
            for role in roles & provided if None in (clip.speaker, clip.text) else ():
                if getattr(clip, role) is None:
                    provided.discard(role)
                    self.notices.append(f"{self.path}:{number}: no {role}, so none is provided.")
            provided.update(labels)
            parts.setdefault(split, []).append(clip)
        faults.refuse()
        self.provides = frozenset(provided)  # type: ignore[misc]
        if "group" not in places:
            self.unit = "speaker" if "speaker" in provided else "recording"  # type: ignore[misc]
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
                f"{end:g} s. Correct the row, or leave one of the columns out"
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
