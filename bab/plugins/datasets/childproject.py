"""Corpus `childproject`: a data set of ChildProject, with one of its annotation sets.

    FOLDER/
      metadata/children.csv           child_id, and what is known of each child
      metadata/recordings.csv         recording_filename, child_id, ...; date_iso, start_time; split
      metadata/annotations.csv        set, recording_filename, range_onset, range_offset, ...
      annotations/SET/converted/*.csv segment_onset, segment_offset, speaker_type; addressee
      recordings/raw/                 audio, or recordings/converted/PROFILE/
      train.txt dev.txt test.txt      optional: a recording_filename on each line

Times are milliseconds since the start of the recording. In converted annotations ChildProject has
added `time_seek` already (`AnnotationManager.import_annotations`), and `range_onset` and
`range_offset` never need it, so it is not added here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions, Segment
from bab.kit import (
    Divided,
    Faults,
    Row,
    Span,
    cut_to_file,
    duration_of,
    merge,
    read_split_lists,
    uncollected,
)
from bab.plugins.datasets.shared.childproject import (
    Ranges,
    audio_files,
    began_at,
    check_lists,
    clip_id,
    labels_of,
    read_children,
    read_ranges,
    read_recordings,
    split_column,
)
from bab.plugins.datasets.shared.converted import Turn, read_turns, refuse_seconds, spoken_to


class ChildProject(bab.Corpus):
    """Day-long recordings of children, annotated in ChildProject's converted format."""

    class Options(bab.Options):
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

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        if options.clips == "utterances":
            self.provides = frozenset({"addressee", "voice"})  # type: ignore[misc]
        with uncollected():
            self._divided = self._read()
        self.splits_given = self._divided.given

    def _read(self) -> Divided:
        children = read_children(self.root)
        recordings = read_recordings(self.root, children, self.notices)
        ranges = read_ranges(self.root, self.options.set, recordings, self.notices)
        paths = self._paths(recordings, ranges)
        lists = read_split_lists(self.root, clip_id) or split_column(self.root, recordings)
        check_lists(lists, recordings, ranges, paths)
        dropped: Counter[str] = Counter()
        clips: list[Clip] = []
        faults = Faults()
        for name in sorted(paths):
            if lists is not None and not any(clip_id(name) in names for names in lists.values()):
                continue
            row = recordings[name]
            labels = labels_of(children[row["child_id"]], row)
            with faults.caught():
                turns = read_turns(ranges[name], dropped)
                clips.append(self._clip(name, paths[name], row, ranges[name], turns, labels))
        faults.refuse()
        refuse_seconds(self.root, clips)
        if self.options.clips == "utterances":
            return self._utterances(clips, ranges, lists)
        if dropped:
            tally = ", ".join(f"{kind or 'empty'} ({n})" for kind, n in sorted(dropped.items()))
            self.notices.append(f"Segments left out, by speaker_type: {tally}.")
        return Divided(clips, lists, self.root, self.notices, self.permissions)

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)

    def _paths(self, recordings: dict[str, Row], ranges: Ranges) -> dict[str, Path]:
        """recording_filename -> audio file, of the annotated recordings whose audio is there."""
        files = audio_files(self.root, self.options.profile, ranges)
        missing = sorted(name for name, path in files.items() if not path.is_file())
        if len(missing) == len(files):
            raise CorpusError(
                f"{files[missing[0]]}: no such audio file, nor any other of the annotated "
                "recordings. In a DataLad data set fetch them first: datalad get recordings"
            )
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            self.notices.append(f"{len(missing)} recordings without audio were left out: {shown}")
        unannotated = len(recordings.keys() - ranges.keys())
        if unannotated:
            self.notices.append(f"{unannotated} recordings without annotation were left out.")
        return {name: path for name, path in files.items() if path.is_file()}

    def _utterances(
        self,
        recordings: Sequence[Clip],
        ranges: Ranges,
        lists: dict[str, dict[str, str]] | None,
    ) -> Divided:
        """A clip for each segment with an addressee, in the split of its recording."""
        annotated = {clip_id(name): spans for name, spans in ranges.items()}
        utterances: list[Clip] = []
        given: dict[str, list[str]] = {split: [] for split in lists or ()}
        missing = 0
        for recording in recordings:
            own, without = spoken_to(recording, annotated[recording.id])
            utterances += own
            missing += without
            for split, names in (lists or {}).items():
                if recording.id in names:
                    given[split] += [clip.id for clip in own]
        if missing:
            self.notices.append(f"{missing} segments without an addressee were left out.")
        if not utterances:
            raise CorpusError(f"{self.root}: no segment has an addressee; is this the right set?")
        return Divided(utterances, given or None, self.root, self.notices, self.permissions)

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
            began=began_at(row),
        )
