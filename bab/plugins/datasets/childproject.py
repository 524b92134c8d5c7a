"""Corpus `childproject`: a data set of ChildProject, with one of its annotation sets.

    FOLDER/
      metadata/children.csv           child_id, and what is known of each child
      metadata/recordings.csv         recording_filename, child_id, ...; optional column `split`
      metadata/annotations.csv        set, recording_filename, range_onset, range_offset, ...
      annotations/SET/converted/*.csv segment_onset, segment_offset, speaker_type; addressee
      recordings/raw/                 audio, or recordings/converted/PROFILE/
      train.txt dev.txt test.txt      optional: a recording_filename on each line

Times are milliseconds since the start of the recording. In converted annotations ChildProject has
added `time_seek` already (`AnnotationManager.import_annotations`), and `range_onset` and
`range_offset` never need it, so it is not added here.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from bab.core import interfaces
from bab.core.errors import CorpusError, did_you_mean
from bab.core.records import Clip, Segment
from bab.plugins.datasets._recordings import (
    AUDIO_SUFFIXES,
    SPLIT_NAMES,
    SPLITS,
    Divided,
    Span,
    cut_to_file,
    duration_of,
    merge,
    read_split_lists,
    uncollected,
)
from bab.plugins.datasets._tables import Row, read_columns, read_table

KIND = {"CHI": "KCHI", "OCH": "OCH", "MAL": "MAL", "FEM": "FEM"}  # speaker_type -> label
EMPTY = frozenset({"", "NA", "N/A", "nan", "NaN", "NULL"})  # how the tables write "unknown"

# Columns that may divide results into subgroups. Free text and dates stay where they are.
CHILD_COLUMNS = ("child_sex", "language", "monoling", "normative")
RECORDING_COLUMNS = ("recording_device_type", "noisy_setting", "location_id")

SEGMENT_COLUMNS = ("segment_onset", "segment_offset", "speaker_type")
Turn = tuple[float, float, str]  # start, end in seconds, speaker_type


class ChildProject(interfaces.Corpus):
    """Day-long recordings of children, annotated in ChildProject's converted format."""

    class Options(interfaces.Options):
        """Options of the `childproject` corpus."""

        set: str = Field("", description="annotation set to use; needed where there are several")
        profile: str = Field(
            "", description="use recordings/converted/PROFILE instead of recordings/raw"
        )
        clips: Literal["recordings", "utterances"] = Field(
            "recordings",
            description="recordings: whole, with their segments; utterances: each segment whose "
            "addressee is annotated is a clip of its own",
        )

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"segments"})
    unit: ClassVar[str] = "child"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "childproject"
    source: ClassVar[str] = "ChildProject's dataset structure (childproject.readthedocs.io)"

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(Path(root).resolve(), options)
        if options.clips == "utterances":
            self.provides = frozenset({"addressee", "voice"})  # type: ignore[misc]
        with uncollected():
            self._divided = self._read()
        self.splits_given = self._divided.given

    def _read(self) -> Divided:
        children = self._children()
        recordings = self._recordings(children)
        ranges = self._ranges(recordings)
        paths = self._paths(recordings, ranges)
        lists = read_split_lists(self.root, clip_id) or self._split_column(recordings)
        self._check_lists(lists, recordings, ranges, paths)
        dropped: Counter[str] = Counter()
        clips: list[Clip] = []
        for name in sorted(paths):
            if lists is None or any(clip_id(name) in names for names in lists.values()):
                turns = self._turns(ranges[name], dropped)
                row = recordings[name]
                labels = _labels(children[row["child_id"]], row)
                clips.append(self._clip(name, paths[name], row, ranges[name], turns, labels))
        if self.options.clips == "utterances":
            return self._utterances(clips, ranges, lists)
        if dropped:
            tally = ", ".join(f"{kind or 'empty'} ({n})" for kind, n in sorted(dropped.items()))
            self.notices.append(f"Segments left out, by speaker_type: {tally}.")
        return Divided(clips, lists, self.root, self.notices)

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)

    def _children(self) -> dict[str, Row]:
        """child_id -> row, less the discarded ones."""
        path = self.root / "metadata" / "children.csv"
        found: dict[str, Row] = {}
        for number, row in read_table(path, ("child_id",)):
            child = row["child_id"]
            if child in EMPTY or child in found:
                raise CorpusError(f"{path}:{number}: child_id '{child}' is empty or there already.")
            found[child] = row
        return found

    def _recordings(self, children: dict[str, Row]) -> dict[str, Row]:
        """recording_filename -> row, less what is discarded, itself or with its child."""
        path = self.root / "metadata" / "recordings.csv"
        found: dict[str, Row] = {}
        ids: dict[str, str] = {}
        discarded = 0
        for number, row in read_table(path, ("recording_filename", "child_id")):
            name, child = row["recording_filename"], row["child_id"]
            if name in EMPTY:
                raise CorpusError(f"{path}:{number}: recording_filename is empty.")
            if child not in children:
                raise CorpusError(f"{path}:{number}: child_id '{child}' is not in children.csv.")
            other = ids.setdefault(clip_id(name), name)
            if other != name or name in found:
                raise CorpusError(f"{path}:{number}: '{name}' can't be told from '{other}'.")
            if _is_one(row.get("discard")) or _is_one(children[child].get("discard")):
                discarded += 1
            else:
                found[name] = row
        if discarded:
            self.notices.append(f"{discarded} recordings marked 'discard' were left out.")
        return found

    def _ranges(self, recordings: dict[str, Row]) -> dict[str, list[tuple[Path, Span]]]:
        """recording_filename -> (converted file, annotated span in seconds), of the chosen set."""
        path = self.root / "metadata" / "annotations.csv"
        columns = (
            "set",
            "recording_filename",
            "range_onset",
            "range_offset",
            "annotation_filename",
        )
        rows = list(read_table(path, columns))
        chosen = self._choose_set(path, sorted({row["set"] for _, row in rows}))
        found: dict[str, list[tuple[Path, Span]]] = {}
        failed = 0
        for number, row in rows:
            if row["set"] != chosen or row["recording_filename"] not in recordings:
                continue
            if row["annotation_filename"] in EMPTY:  # ChildProject could not import it
                failed += 1
                continue
            limits = (row["range_onset"], row["range_offset"])
            span = _span(path, number, *limits, ("range_onset", "range_offset"))
            file = self.root / "annotations" / chosen / "converted" / row["annotation_filename"]
            found.setdefault(row["recording_filename"], []).append((file, span))
        if failed:
            self.notices.append(f"{failed} annotations of set '{chosen}' were never converted.")
        if not found:
            raise CorpusError(f"{path}: set '{chosen}' annotates none of the recordings in use.")
        return found

    def _choose_set(self, path: Path, sets: list[str]) -> str:
        wanted = self.options.set
        if wanted and wanted not in sets:
            raise CorpusError(f"{path}: no annotation set '{wanted}': {did_you_mean(wanted, sets)}")
        if wanted or len(sets) == 1:
            return str(wanted or sets[0])
        raise CorpusError(
            f"{path}: there are {len(sets)} annotation sets ({', '.join(sets) or 'none'}). "
            "Say which one holds the truth: --set corpus.set=NAME"
        )

    def _paths(
        self, recordings: dict[str, Row], ranges: dict[str, list[tuple[Path, Span]]]
    ) -> dict[str, Path]:
        """recording_filename -> audio file, of the annotated recordings whose audio is there."""
        folder = self.root / "recordings" / "raw"
        converted: dict[str, str] = {}
        if self.options.profile:
            folder = self.root / "recordings" / "converted" / self.options.profile
            if not folder.is_dir():
                raise CorpusError(f"{folder}: no such folder. Check --set corpus.profile=NAME")
            table = folder / "recordings.csv"
            if table.exists():
                for _, row in read_table(table, ("original_filename", "converted_filename")):
                    converted[row["original_filename"]] = row["converted_filename"]
        found = {name: folder / converted.get(name, name) for name in ranges}
        missing = sorted(name for name, path in found.items() if not path.is_file())
        if len(missing) == len(found):
            raise CorpusError(
                f"{found[missing[0]]}: no such audio file, nor any other of the annotated "
                "recordings. In a DataLad data set fetch them first: datalad get recordings"
            )
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            self.notices.append(f"{len(missing)} recordings without audio were left out: {shown}")
        unannotated = len(recordings.keys() - ranges.keys())
        if unannotated:
            self.notices.append(f"{unannotated} recordings without annotation were left out.")
        return {name: path for name, path in found.items() if path.is_file()}

    def _split_column(self, recordings: dict[str, Row]) -> dict[str, dict[str, str]] | None:
        """The column `split` of recordings.csv, if there is one; empty cells are in no split."""
        path = self.root / "metadata" / "recordings.csv"
        lists: dict[str, dict[str, str]] = {}
        for name, row in recordings.items():
            value = row.get("split", "")
            if value in EMPTY:
                continue
            split = SPLIT_NAMES.get(value.lower())
            if split is None:
                hint = did_you_mean(value, SPLIT_NAMES)
                raise CorpusError(f"{path}: '{name}' has split '{value}': {hint}")
            lists.setdefault(split, {})[clip_id(name)] = f"{path} ({name})"
        return {split: lists[split] for split in SPLITS if split in lists} or None

    def _check_lists(
        self,
        lists: dict[str, dict[str, str]] | None,
        recordings: dict[str, Row],
        ranges: dict[str, list[tuple[Path, Span]]],
        paths: dict[str, Path],
    ) -> None:
        """Refuse a list that names what can't be used, saying why it can't."""
        reasons = (
            (recordings, "is not in recordings.csv, or is marked 'discard'"),
            (ranges, "has no annotation in this set"),
            (paths, "has no audio here"),
        )
        for table, reason in reasons:
            there = set(map(clip_id, table))
            for uri, place in (
                (u, p) for names in (lists or {}).values() for u, p in names.items()
            ):
                if uri not in there:
                    raise CorpusError(f"{place}: '{uri}' {reason}. Take it off the list.")

    def _turns(self, ranges: list[tuple[Path, Span]], dropped: Counter[str]) -> list[Turn]:
        """Segments of one recording, cut to the annotated ranges of their file, each once."""
        found: set[Turn] = set()
        for start, end, (kind,) in _rows(ranges, ()):
            if kind in KIND:
                found.add((start, end, KIND[kind]))
            else:
                dropped[kind] += 1
        return sorted(turn for turn in found if turn[0] < turn[1])

    def _utterances(
        self,
        recordings: Sequence[Clip],
        ranges: dict[str, list[tuple[Path, Span]]],
        lists: dict[str, dict[str, str]] | None,
    ) -> Divided:
        """A clip for each segment with an addressee, in the split of its recording."""
        annotated = {clip_id(name): spans for name, spans in ranges.items()}
        found: list[Clip] = []
        given: dict[str, list[str]] = {split: [] for split in lists or ()}
        missing = 0
        for recording in recordings:
            own, without = _spoken_to(recording, annotated[recording.id])
            found += own
            missing += without
            for split, names in (lists or {}).items():
                if recording.id in names:
                    given[split] += [clip.id for clip in own]
        if missing:
            self.notices.append(f"{missing} segments without an addressee were left out.")
        if not found:
            raise CorpusError(f"{self.root}: no segment has an addressee; is this the right set?")
        return Divided(found, given or None, self.root, self.notices)

    def _clip(
        self,
        name: str,
        path: Path,
        row: Row,
        ranges: Sequence[tuple[Path, Span]],
        turns: list[Turn],
        labels: dict[str, str],
    ) -> Clip:
        spans = [span for _, span in ranges]
        end = duration_of(path, max(stop for _, stop in spans), self.notices)
        segments, late = cut_to_file([Segment(*turn) for turn in turns], end)
        if late:
            self.notices.append(f"{name}: {late} segments cut at the file's end ({end:.2f} s).")
        scored = merge(spans, end)
        if not scored:
            raise CorpusError(f"{path}: its annotated ranges lie after its end ({end:.2f} s).")
        return Clip(
            id=clip_id(name),
            path=str(path),
            start=0.0,
            end=end,
            group=row["child_id"],
            labels=labels,
            segments=segments,
            scored=scored,
        )


def _rows(
    ranges: Sequence[tuple[Path, Span]], columns: Sequence[str]
) -> Iterator[tuple[float, float, tuple[str, ...]]]:
    """(start, end, speaker_type and `columns`) of segments, cut to what their file annotates."""
    files: dict[Path, list[Span]] = {}
    for path, span in ranges:
        files.setdefault(path, []).append(span)
    for path, spans in files.items():
        covered = merge(spans, math.inf)
        ends = [end for _, end in covered]
        for number, (onset, offset, *cells) in read_columns(path, (*SEGMENT_COLUMNS, *columns)):
            start, end = _span(path, number, onset, offset, SEGMENT_COLUMNS)
            for first, last in covered[bisect_right(ends, start) :]:
                if first >= end:
                    break
                yield max(start, first), min(end, last), tuple(cells)


def _spoken_to(recording: Clip, ranges: Sequence[tuple[Path, Span]]) -> tuple[list[Clip], int]:
    """A recording's utterances that have an addressee, and how many segments have none.

    Labels: addressee, as annotated (T C A O P U, several by commas), and voice (NA: unknown)."""
    found: dict[str, Clip] = {}
    missing = 0
    for start, end, (kind, addressee) in sorted(_rows(ranges, ("addressee",))):
        if addressee.strip() in EMPTY:
            missing += 1
            continue
        end = min(end, recording.end)
        voice = KIND.get(kind, "NA")
        name = f"{recording.id}-{round(start * 1000)}-{round(end * 1000)}-{voice}"
        if end > start and name not in found:
            labels = {**recording.labels, "addressee": addressee.strip(), "voice": voice}
            found[name] = replace(
                recording, id=name, start=start, end=end, labels=labels, segments=(), scored=None
            )
    return list(found.values()), missing


def clip_id(recording_filename: str) -> str:
    """A recording's id: its file name without extension; folders and spaces become underscores,
    because RTTM columns hold no spaces and ids name files."""
    stem, dot, suffix = recording_filename.strip().rpartition(".")
    name = stem if dot + suffix.lower() in AUDIO_SUFFIXES else recording_filename.strip()
    return re.sub(r"[\s/\\]+", "_", name)


def _span(path: Path, number: int, onset: str, offset: str, columns: Sequence[str]) -> Span:
    """Two cells in milliseconds -> seconds. columns: their names, for the message."""
    try:
        start, end = float(onset) / 1000, float(offset) / 1000
    except ValueError:
        raise CorpusError(
            f"{path}:{number}: {columns[0]} and {columns[1]} must be milliseconds: "
            f"'{onset}', '{offset}'"
        ) from None
    if not 0 <= start <= end < math.inf:
        raise CorpusError(
            f"{path}:{number}: {columns[0]} {onset} to {columns[1]} {offset} is no span of time."
        )
    return start, end


def _labels(child: Row, recording: Row) -> dict[str, str]:
    """What results may be divided by; the age in months is from the two tables' dates."""
    labels = {name: child[name] for name in CHILD_COLUMNS if child.get(name, "") not in EMPTY}
    labels |= {
        name: recording[name] for name in RECORDING_COLUMNS if recording.get(name, "") not in EMPTY
    }
    try:
        born = date.fromisoformat(child.get("child_dob", ""))
        then = date.fromisoformat(recording.get("date_iso", ""))
    except ValueError:
        return labels
    return labels | {"age_months": str(int((then - born).days / 30.4375))}


def _is_one(cell: str | None) -> bool:
    """Whether `discard` is set: ChildProject reads it as a number, and anything else as 0."""
    try:
        return float(cell or 0) == 1
    except ValueError:
        return False
