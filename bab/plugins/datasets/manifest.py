"""Corpus `manifest`: one table of anybody's recordings, a row for each clip.

    path,start,end,split,group,speaker,text,cry
    audio/a.wav,0.0,2.5,train,child1,child1,,hungry

CSV, TSV, JSON lines or Parquet (as `bab prepare` writes). `path` counts from the manifest's folder;
every other column is optional. The root is the file itself, or a folder that holds manifest.csv,
.tsv, .jsonl or .parquet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions, did_you_mean
from bab.kit import Clips, Faults, Headers, Parted, uncollected
from bab.plugins.datasets.shared.columns import by_columns
from bab.plugins.datasets.shared.layout import ROLES, Layout, Role, Split, by_rows
from bab.plugins.datasets.shared.rows import find_manifest, read_rows

# Tables of who speaks when, by a column that tells them: what a format of annotations reads.
_SEGMENTS = {"csv": "start_time_s", "childproject": "segment_onset"}


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
        with uncollected():
            parts = self._read()
        self._headers.tell()
        self._parts = Parted(parts, self.path, self.notices, permissions)
        self.splits_given, self.listed = self._parts.given, self._parts.listed

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> Sequence[Clip]:
        return self._parts.clips(split)

    def _read(self) -> dict[str, Clips]:
        rows = read_rows(self.path, faults := Faults())
        _, header = next(rows)
        columns = self._columns(header)
        names, options = self._labels(header, columns), self.options
        unit = 1000.0 if options.times == "ms" else 1.0
        layout = Layout(self.path, header, columns, names, options.splits, unit, self._headers)
        listed, clips = by_columns(layout) or (by_rows(layout, rows, faults), None)
        if clips is None:
            faults.refuse()
            clips = listed.builder.clips()
        provided: set[str] = {"speaker", "text"} & columns.keys()
        for role, number in sorted(listed.lacking.items(), key=lambda pair: (pair[1], pair[0])):
            provided.discard(role)
            self.notices.append(f"{self.path}:{number}: no {role}, so none is provided.")
        self.provides = frozenset(provided | listed.labels)  # type: ignore[misc]
        if "group" not in columns:
            self.unit = "speaker" if "speaker" in self.provides else "recording"  # type: ignore[misc]
        return listed.parts(clips)

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
            for form, column in _SEGMENTS.items():
                if column in header:
                    raise CorpusError(
                        f"{self.path}: a table of segments, not of clips: where the audio is in "
                        f"the same folder, rttm:{self.path.parent} --set corpus.format={form}"
                    )
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
