"""Corpus `librispeech`: LibriSpeech, and corpora laid out as it is.

FOLDER/ (or FOLDER/LibriSpeech/)
  train-clean-100/103/1240/103-1240-0000.flac    subset, speaker, chapter
  train-clean-100/103/1240/103-1240.trans.txt    utterance and what is said, a line each
  SPEAKERS.TXT                                    speaker | sex | subset | minutes | name
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions, Trial, did_you_mean
from bab.kit import (
    AUDIO_SUFFIXES,
    SPLITS,
    Headers,
    Parted,
    SharedLabels,
    gender,
    lines,
    made_trials,
    pairs,
    uncollected,
)


class LibriSpeech(bab.Corpus):
    """Read English, with transcripts, by speaker and chapter."""

    class Options(bab.Options):
        """Options of the `librispeech` corpus."""

        train: tuple[str, ...] = Field((), description="subsets to train on; none = all train-*")
        dev: tuple[str, ...] = Field((), description="subsets to tune on; none = all dev-*")
        test: tuple[str, ...] = Field((), description="subsets to test on; none = all test-*")
        make_trials: int = Field(
            2000, ge=0, description="verification trials to make of a split; 0 = none"
        )

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"speaker", "text", "gender", "subset"})
    unit: ClassVar[str] = "speaker"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "librispeech"
    source: ClassVar[str] = "Panayotov et al., ICASSP 2015; openslr.org/12"

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        if not self.root.is_dir():
            raise CorpusError(f"{self.root}: no such folder.")
        inner = self.root / "LibriSpeech"
        self._top = inner if inner.is_dir() else self.root
        self._headers = Headers(self.notices)
        self._sexes = read_speakers(self._top / "SPEAKERS.TXT")
        self._shared = SharedLabels()
        with uncollected():
            parts = {
                split: [clip for name in names for clip in self._subset(name)]
                for split, names in self._subsets().items()
            }
        self._headers.tell()
        self._parts = Parted(parts, self.root, self.notices, permissions)
        self.splits_given = self._parts.given
        self._trials: dict[str, list[Trial]] = {}
        names = {name for clip in self._parts.clips(None) for name in clip.labels}
        self.provides = frozenset(names | {"speaker", "text"})  # type: ignore[misc]

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> Sequence[Clip]:
        return self._parts.clips(split)

    def trials(self, split: str) -> list[Trial]:
        """Made trials (`made_trials`): LibriSpeech has no list. Two chapters before one."""
        if split not in self._trials and self.options.make_trials:
            clips = self._parts.clips(split)
            self._trials[split] = made_trials(
                clips, self.options.make_trials, _chapter, f"trials {split}"
            )
            self.notices.append(f"{split}: {len(self._trials[split])} trials were made.")
        return list(self._trials.get(split, ()))

    def _subsets(self) -> dict[str, list[str]]:
        """Split -> subsets, those named in the options or all that begin with the split's name."""
        there = sorted(path.name for path in self._top.iterdir() if path.is_dir())
        subsets: dict[str, list[str]] = {}
        for split in SPLITS:
            named = list(getattr(self.options, split))
            for name in named:
                if name not in there:
                    raise CorpusError(
                        f"{self._top}: no subset '{name}' ({did_you_mean(name, there)})."
                    )
            subsets[split] = named or [n for n in there if n == split or n.startswith(f"{split}-")]
        if not any(subsets.values()):
            raise CorpusError(
                f"{self._top}: no subset named train-*, dev-* or test-*. It holds: "
                f"{', '.join(there[:8]) or 'no folder'}. Name the folder above the subsets."
            )
        return subsets

    def _subset(self, subset: str) -> list[Clip]:
        clips: list[Clip] = []
        for speaker in sorted(path for path in (self._top / subset).iterdir() if path.is_dir()):
            for chapter in sorted(path for path in speaker.iterdir() if path.is_dir()):
                clips += self._utterances(subset, speaker.name, chapter)
        return clips

    def _utterances(self, subset: str, speaker: str, chapter: Path) -> list[Clip]:
        """A chapter's clips, in the order of its transcript."""
        audio = {
            path.stem: str(path)
            for path in sorted(chapter.iterdir())
            if path.suffix.lower() in AUDIO_SUFFIXES
        }
        transcript = chapter / f"{speaker}-{chapter.name}.trans.txt"
        if not transcript.is_file():
            raise CorpusError(f"{transcript}: no such file, but {len(audio)} recordings beside it.")
        labels = self._shared.of(("gender", "subset"), (self._sexes.get(speaker, ""), subset))
        clips = []
        for number, utterance, text in pairs(transcript):
            path = audio.get(utterance)
            if path is None:
                raise CorpusError(
                    f"{transcript}:{number}: no {utterance}.flac beside it. Unpack the corpus "
                    "again, or take the line out."
                )
            end = self._headers.seconds(path)
            clips.append(
                Clip(utterance, path, 0.0, end, speaker, speaker, labels=labels, text=text)
            )
        return clips


def read_speakers(path: Path) -> dict[str, str]:
    """Speaker -> gender, from SPEAKERS.TXT; nothing where there is no such file.

    Raises:
        CorpusError: naming file and line: fewer than two columns.
    """
    genders: dict[str, str] = {}
    if not path.is_file():
        return genders
    for number, line in lines(path):
        if not line.strip() or line.startswith(";"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 2:
            raise CorpusError(f"{path}:{number}: not 'ID | SEX | ...': {line.strip()!r}")
        genders[cells[0]] = gender(cells[1])
    return genders


def _chapter(clip: Clip) -> str:
    return clip.path.rsplit("/", 1)[0]
