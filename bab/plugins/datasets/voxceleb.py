"""Corpus `voxceleb`: VoxCeleb 1 and 2, for speaker verification and identification.

FOLDER/ (or FOLDER/dev/ and FOLDER/test/)
  wav/id10270/x6uYqmx31kE/00001.wav     speaker, video, utterance
  veri_test.txt      trials: 1|0 and two files
  iden_split.txt     optional: 1 (train), 2 (dev) or 3 (test), and a file
  vox1_meta.csv      optional: gender and nationality of the speakers
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions, Trial
from bab.kit import (
    Headers,
    Parted,
    SharedLabels,
    made_trials,
    read_trials,
    uncollected,
)
from bab.plugins.datasets.shared.voxceleb import clip_id, find_files, read_meta, read_splits

# The names under which the list of VoxCeleb1's test speakers is published (the last: cleaned).
LISTS = ("veri_test.txt", "voxceleb1_test_v2.txt", "veri_test2.txt")


class VoxCeleb(bab.Corpus):
    """Utterances of interviews, by speaker and video."""

    class Options(bab.Options):
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

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        self._list = self._trial_list()
        self._made: dict[str, list[Trial]] = {}
        with uncollected():
            files = find_files(self.root, self.notices)
            if options.protocol == "identification":
                parts = self._identification(files)
            else:
                parts = self._verification(files)
        self._parts = Parted(parts, self.root, self.notices, permissions)
        self.splits_given = self._parts.given
        clips = self._parts.clips(None)
        names = {name for clip in clips for name in clip.labels}
        if options.protocol == "verification":
            names.add("speaker")
        else:
            videos = clips[0].group != clips[0].id
            self.unit = "video" if videos else "utterance"  # type: ignore[misc]
        self.provides = frozenset(names)  # type: ignore[misc]

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> Sequence[Clip]:
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
        where = read_splits(path, files)
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


def _video(clip: Clip) -> str:
    return clip.id.rpartition("/")[0]
