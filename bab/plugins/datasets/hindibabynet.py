"""Corpus `hindibabynet`: day-long home recordings without annotation, for pretraining.

FOLDER/
  RawAudioData/CHILD/DATE/EPOCH.WAV   the child's folder may end in a date of birth
  manifest.csv                        optional: which recordings to use (option `manifest`)
  train.txt dev.txt test.txt          optional: a recording on each line, CHILD/DATE/EPOCH.WAV
"""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions
from bab.kit import AUDIO_SUFFIXES, Divided, given_splits, read_table, uri_of, walk, whole_file

RAW = "RawAudioData"
Recordings = dict[str, tuple[Path, str, str]]  # id -> (file, child, date)


class HindiBabyNet(bab.Corpus):
    """Long unlabelled home recordings, grouped by the folder of the child."""

    class Options(bab.Options):
        """Options of the `hindibabynet` corpus."""

        manifest: str = Field(
            "",
            description="CSV with the columns wav_path and recording_id: use these recordings only",
        )

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset()
    unit: ClassVar[str] = "child"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "hindibabynet"
    source: ClassVar[str] = "layout and manifest of arunps12/HindiBabyNet-Wav2Vec2-SSL"

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        raw = self.root / RAW
        self._raw = raw if raw.is_dir() else self.root
        recordings = self._listed() if options.manifest else self._walked()
        clips = [
            whole_file(clip_id, path, child, {"date": date}, self.notices)
            for clip_id, (path, child, date) in recordings.items()
        ]
        by_path = {_clip_id(_parts(path)): clip_id for clip_id, (path, _, _) in recordings.items()}
        lists = given_splits(self.root, clips, lambda line: _listed_id(line, by_path))
        self._divided = Divided(clips, lists, self.root, self.notices, permissions)
        self.splits_given = self._divided.given

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)

    def _walked(self) -> Recordings:
        """id -> (file, child, date) of every audio file two folders below the raw data."""
        recordings: Recordings = {}
        elsewhere = []
        for path in walk(self._raw):
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            if len(path.relative_to(self._raw).parts) != 3:
                elsewhere.append(path)
                continue
            self._add(recordings, _clip_id(_parts(path)), path, str(path))
        if elsewhere:
            self.notices.append(
                f"{len(elsewhere)} audio files that are not CHILD/DATE/FILE were left out, the "
                f"first is {elsewhere[0]}"
            )
        if not recordings:
            raise CorpusError(
                f"{self._raw}: no audio at CHILD/DATE/FILE ({', '.join(AUDIO_SUFFIXES)}). Name the "
                f"folder that holds {RAW}."
            )
        return recordings

    def _listed(self) -> Recordings:
        """id -> (file, child, date) of what the manifest lists; the id is its recording_id.

        The child is the folder: the manifest's participant_id carries the date in the published
        code, so that one child would be many and stand in several splits.
        """
        manifest = self.root / Path(self.options.manifest).expanduser()
        recordings: Recordings = {}
        for number, row in read_table(manifest, ("wav_path", "recording_id")):
            place = f"{manifest}:{number}"
            if not row["recording_id"]:
                raise CorpusError(f"{place}: recording_id is empty.")
            self._add(recordings, row["recording_id"], self._locate(row["wav_path"], place), place)
        if not recordings:
            raise CorpusError(f"{manifest}: no recording is listed.")
        return recordings

    def _locate(self, written: str, place: str) -> Path:
        """The file of a manifest's row: manifests made on another machine hold its folders."""
        names = PureWindowsPath(written).parts  # splits at \ and at /
        if len(names) < 3:
            raise CorpusError(f"{place}: wav_path '{written}' is not .../CHILD/DATE/FILE.")
        choices = (self.root / written, self._raw.joinpath(*names[-3:]))
        for path in choices:
            if path.is_file():
                return path.resolve()
        raise CorpusError(f"{place}: neither {choices[0]} nor {choices[1]} is there.")

    @staticmethod
    def _add(recordings: Recordings, clip_id: str, path: Path, place: str) -> None:
        if clip_id in recordings:
            raise CorpusError(
                f"{place}: '{clip_id}' is {recordings[clip_id][0]} already. Rename one."
            )
        child, date, _ = _parts(path)
        recordings[clip_id] = (path, child, date)


def _parts(path: Path) -> tuple[str, str, str]:
    """(child, date, file) from a path's end."""
    return path.parts[-3], path.parts[-2], path.parts[-1]


def _clip_id(parts: tuple[str, str, str]) -> str:
    """CHILD_DATE_EPOCH, without spaces: ids name files."""
    child, date, file = parts
    return "_".join(f"{child} {date} {uri_of(file)}".split())


def _listed_id(line: str, by_path: dict[str, str]) -> str:
    """The clip that a line of a split list names: by its id, or by the end of its path."""
    names = PureWindowsPath(line).parts
    if len(names) >= 3:
        made = _clip_id((names[-3], names[-2], names[-1]))
        return by_path.get(made, made)
    return uri_of(line)
