"""Corpus `voxceleb`: VoxCeleb 1 and 2, for speaker verification and identification.

FOLDER/ (or FOLDER/dev/ and FOLDER/test/)
  wav/id10270/x6uYqmx31kE/00001.wav     speaker, video, utterance
  veri_test.txt      trials: 1|0 and two files
  iden_split.txt     optional: 1 (train), 2 (dev) or 3 (test), and a file
  vox1_meta.csv      optional: gender and nationality of the speakers
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from bab.core import interfaces
from bab.core.errors import CorpusError
from bab.core.records import Clip, Trial
from bab.plugins.datasets._recordings import AUDIO_SUFFIXES, lines, uncollected
from bab.plugins.datasets._utterances import (
    Headers,
    Parted,
    SharedLabels,
    gender,
    made_trials,
    read_trials,
)

# The names under which the list of VoxCeleb1's test speakers is published (the last: cleaned).
LISTS = ("veri_test.txt", "voxceleb1_test_v2.txt", "veri_test2.txt")
TOPS = ("wav", "aac", ".")
AAC = (".m4a", ".aac")
IDEN = {"1": "train", "2": "dev", "3": "test"}


class VoxCeleb(interfaces.Corpus):
    """Utterances of interviews, by speaker and video."""

    class Options(interfaces.Options):
        """Options of the `voxceleb` corpus."""

        protocol: Literal["verification", "identification"] = Field(
            "verification",
            description="verification: speakers in one split each; identification: iden_split.txt",
        )
        trials: str = Field(
            "", description="the trial list in the corpus; empty = veri_test.txt or its kin"
        )
        make_trials: int = Field(
            2000, ge=0, description="trials to make of a split without a list (dev); 0 = none"
        )

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"speaker", "gender", "nationality"})
    unit: ClassVar[str] = "speaker"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "voxceleb"
    source: ClassVar[str] = "Nagrani et al., Interspeech 2017; Chung et al., Interspeech 2018"

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(Path(root).resolve(), options)
        self._list = self._trial_list()
        self._made: dict[str, list[Trial]] = {}
        with uncollected():
            files = find_files(self.root, self.notices)
            if options.protocol == "identification":
                parts = self._identification(files)
            else:
                parts = self._verification(files)
        self._parts = Parted(parts, self.root, self.notices)
        self.splits_given = self._parts.given
        clips = self._parts.clips(None)
        found = {name for clip in clips for name in clip.labels}
        if options.protocol == "verification":
            found.add("speaker")
        else:
            videos = clips[0].group != clips[0].id
            self.unit = "video" if videos else "utterance"  # type: ignore[misc]
        self.provides = frozenset(found)  # type: ignore[misc]

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._parts.clips(split)

    def trials(self, split: str) -> list[Trial]:
        """Of test: the trial list. Of other splits: made ones (`made_trials`), two videos before
        one. None in identification, where speakers stand in every split."""
        if self.options.protocol == "identification":
            return []
        if split not in self._made:
            clips = self._parts.clips(split)
            if split == "test" and self._list is not None:
                ids = {clip.id for clip in clips}
                self._made[split] = read_trials(
                    self._list, lambda name: clip_id(name) if clip_id(name) in ids else None
                )
            else:
                count = self.options.make_trials
                self._made[split] = made_trials(clips, count, _video, f"trials {split}")
                if count:
                    self.notices.append(
                        f"{split}: no trial list; {len(self._made[split])} trials were made."
                    )
        return list(self._made[split])

    def _trial_list(self) -> Path | None:
        named = self.options.trials
        if named:
            path: Path = self.root / named
            if not path.is_file():
                raise CorpusError(f"{path}: no such file (option trials).")
            return path
        there = [self.root / name for name in LISTS if (self.root / name).is_file()]
        if len(there) > 1:
            self.notices.append(
                f"Trials are {there[0].name}'s, not {' or '.join(p.name for p in there[1:])}'s: "
                "--set corpus.trials=NAME takes another."
            )
        return there[0] if there else None

    def _verification(self, files: dict[str, tuple[str, str]]) -> dict[str, list[Clip]]:
        """Test: the speakers of the trial list and of test/. Train: the rest."""
        listed = {name.split("/")[0] for name, (_, top) in files.items() if top == "test"}
        if self._list is not None:
            # Names are resolved when the trials are read; here the speakers matter.
            trials = read_trials(self._list, clip_id)
            listed |= {side.split("/")[0] for t in trials for side in (t.enrol, t.test)}
        parts: dict[str, list[Clip]] = {"train": [], "test": []}
        if not listed:
            parts = {"": []}
        for clip in self._clips(files, identification=False):
            known = "test" if clip.group in listed else "train"
            parts[known if listed else ""].append(clip)
        if not parts.get("train", True):
            self.notices.append(
                "Every speaker is in the trial list, so that nobody is left to train on."
            )
        return parts

    def _identification(self, files: dict[str, tuple[str, str]]) -> dict[str, list[Clip]]:
        """The published split. Speakers stand in all three, as a label; what stays together is
        the video, or the utterance where the list divides a video."""
        path = self.root / "iden_split.txt"
        if not path.is_file():
            raise CorpusError(f"{path}: no such file; protocol=identification needs it.")
        where: dict[str, str] = {}
        for number, line in lines(path):
            fields = line.split()
            if len(fields) != 2 or fields[0] not in IDEN:
                raise CorpusError(f"{path}:{number}: not '1|2|3 FILE': {line.strip()!r}")
            name = clip_id(fields[1])
            if name not in files:
                raise CorpusError(f"{path}:{number}: no audio for '{fields[1]}'.")
            where[name] = IDEN[fields[0]]
        videos: dict[str, str] = {}
        divided = {
            name.rpartition("/")[0]
            for name, split in where.items()
            if videos.setdefault(name.rpartition("/")[0], split) != split
        }
        if divided:
            self.notices.append(
                f"{path.name} divides {len(divided)} videos between splits: utterances are the "
                "groups, not videos."
            )
        parts: dict[str, list[Clip]] = {"train": [], "dev": [], "test": []}
        listed = {name: file for name, file in files.items() if name in where}
        for clip in self._clips(listed, identification=True, by_video=not divided):
            parts[where[clip.id]].append(clip)
        return parts

    def _clips(
        self, files: dict[str, tuple[str, str]], identification: bool, by_video: bool = True
    ) -> list[Clip]:
        headers, shared = Headers(self.notices), SharedLabels()
        about = read_meta(self.root)
        clips = []
        for name, (path, _) in files.items():
            speaker, _, rest = name.partition("/")
            sex, nation = about.get(speaker, ("", ""))
            end = headers.seconds(path)
            if identification:
                keys = ("gender", "nationality", "speaker_id")
                labels = shared.of(keys, (sex, nation, speaker))
                group = f"{speaker}/{rest.partition('/')[0]}" if by_video else name
                clips.append(Clip(name, path, 0.0, end, group, labels=labels))
            else:
                labels = shared.of(("gender", "nationality"), (sex, nation))
                clips.append(Clip(name, path, 0.0, end, speaker, speaker, labels=labels))
        headers.tell()
        return clips


def clip_id(name: str) -> str:
    """ "wav/id10270/x6uYqmx31kE/00001.wav" -> "id10270/x6uYqmx31kE/00001"."""
    return "/".join(name.rsplit(".", 1)[0].split("/")[-3:])


def find_files(root: Path, notices: list[str]) -> dict[str, tuple[str, str]]:
    """Clip's id -> (absolute path, "dev", "test" or ""), sorted. A list that says .wav is content
    with the same file as .flac, .ogg, .opus or .mp3.

    Raises:
        CorpusError: nothing found, a clip that is there twice, or AAC only (VoxCeleb2 as it
            comes), which libsndfile doesn't read.
    """
    found: dict[str, tuple[str, str]] = {}
    aac: dict[str, str] = {}
    for part in ("", "dev", "test"):
        tops = [root / part / top for top in TOPS if (root / part / top).is_dir()]
        for speaker in sorted(p for top in tops for p in top.iterdir() if _is_speaker(p)):
            for path in _files(speaker):
                name = clip_id(path)
                if path.endswith(AAC):
                    aac[name] = path
                elif (
                    path.endswith(AUDIO_SUFFIXES)
                    and found.setdefault(name, (path, part))[0] != path
                ):
                    raise CorpusError(f"{found[name][0]} and {path}: one utterance. Keep one.")
    unread = [path for name, path in aac.items() if name not in found]
    if unread:
        message = (
            f"{unread[0]}: AAC can't be read. Convert it to wav or flac beside the m4a files: "
            "ffmpeg -i 00001.m4a -ac 1 -ar 16000 00001.flac for each."
        )
        if not found:
            raise CorpusError(message)
        notices.append(f"{len(unread)} files were left out. {message}")
    if not found:
        raise CorpusError(
            f"{root}: no audio at wav/SPEAKER/VIDEO/UTTERANCE.wav, nor under dev/ or test/."
        )
    return found


def _is_speaker(path: Path) -> bool:
    return path.name.startswith("id") and path.name[2:].isdigit() and path.is_dir()


def _files(speaker: Path) -> list[str]:
    """Files at SPEAKER/VIDEO/, sorted."""
    found = []
    for video in os.scandir(speaker):
        if video.is_dir():
            found += [entry.path for entry in os.scandir(video.path)]
    return sorted(found)


def read_meta(root: Path) -> dict[str, tuple[str, str]]:
    """Speaker -> (gender, nationality), from vox1_meta.csv and vox2_meta.csv where they are.

    vox1_meta.csv is separated by tabs, vox2_meta.csv by commas with spaces.
    """
    found: dict[str, tuple[str, str]] = {}
    for name in ("vox1_meta.csv", "vox2_meta.csv"):
        path = root / name
        header: list[str] = []
        for number, line in lines(path) if path.is_file() else ():
            cells = [cell.strip() for cell in line.replace("\t", ",").split(",")]
            if not header:
                header = [cell.lower() for cell in cells]
                if "gender" not in header:
                    raise CorpusError(f"{path}:{number}: no column 'Gender': {line.strip()!r}")
                continue
            row = dict(zip(header, cells, strict=False))
            if cells[0]:
                found[cells[0]] = (gender(row.get("gender", "")), row.get("nationality", ""))
    return found


def _video(clip: Clip) -> str:
    return clip.id.rpartition("/")[0]
