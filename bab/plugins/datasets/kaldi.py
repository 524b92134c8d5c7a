"""Corpus `kaldi`: Kaldi data directories, as egs/*/data/* and speechocean762 have them.

FOLDER/{train,dev,test}/   or FOLDER/data/{train,dev,test}/, or one directory without splits
  wav.scp       utterance or recording, and the audio's path (no pipes)
  segments      optional: utterance recording start end
  utt2spk       utterance speaker
  spk2gender spk2age spk2X utt2X   optional: labels gender, age, X
  text          optional: utterance and what is said
  text-phone    optional: phones, a line for each utterance, or for each word (utterance.0 W_B IY_E)
  trials        optional: utterance utterance target|nontarget, or 1|0 utterance utterance
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions, Trial
from bab.kit import SPLITS, Headers, Parted, made_trials, read_trials, uncollected
from bab.plugins.datasets.shared.kaldi import Directory

FOLDERS = {"train": ("train",), "dev": ("dev", "valid", "val"), "test": ("test", "eval")}
Split = Literal["train", "dev", "test"]


class Kaldi(bab.Corpus):
    """Utterances of Kaldi data directories."""

    class Options(bab.Options):
        """Options of the `kaldi` corpus."""

        folders: dict[Split, str] = Field(
            default_factory=dict,
            description="directory of a split where it isn't named train, dev or test",
        )
        make_trials: int = Field(
            2000, ge=0, description="trials to make of a split without a list; 0 = none"
        )

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"speaker", "text", "phones", "gender", "age"})
    unit: ClassVar[str] = "speaker"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "kaldi"
    source: ClassVar[str] = "data directories as kaldi-asr.org defines them; speechocean762"

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        self._headers = Headers(self.notices)
        self._folders = _folders(self.root, options.folders)
        self._trials: dict[str, list[Trial]] = {}
        with uncollected():
            parts = {
                split: Directory(folder, self.root, self._headers, self.notices).clips()
                for split, folder in self._folders.items()
            }
        self._headers.tell()
        _refuse_twice(parts, self._folders)
        self._parts = Parted(parts, self.root, self.notices, permissions)
        self.splits_given = self._parts.given
        provided = _provided([clip for part in parts.values() for clip in part])
        self.provides = provided  # type: ignore[misc]
        if "speaker" not in provided:
            self.unit = "recording"  # type: ignore[misc]

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> Sequence[Clip]:
        return self._parts.clips(split)

    def trials(self, split: str) -> list[Trial]:
        """The split's `trials` file; failing that, trials made of its clips (`made_trials`),
        utterances of two recordings before those of one."""
        if split not in self._trials:
            self._trials[split] = self._listed(split) or self._made(split)
        return list(self._trials[split])

    def _listed(self, split: str) -> list[Trial]:
        """Of a directory's own list; where splits were made, what lies wholly within one."""
        ids = {clip.id for clip in self._parts.clips(split)}
        folder = self._folders.get(split)
        if folder is not None and (folder / "trials").is_file():
            return read_trials(folder / "trials", lambda name: name if name in ids else None)
        common = self._folders.get("")
        if common is None or not (common / "trials").is_file():
            return []
        everyone = {clip.id for clip in self._parts.clips(None)}
        trials = read_trials(common / "trials", lambda name: name if name in everyone else None)
        kept = [trial for trial in trials if trial.enrol in ids and trial.test in ids]
        self.notices.append(
            f"{split}: {len(kept)} of the {len(trials)} trials lie within this split."
        )
        return kept

    def _made(self, split: str) -> list[Trial]:
        count = self.options.make_trials
        if not count:
            return []
        clips = self._parts.clips(split)
        made = made_trials(clips, count, lambda clip: clip.path, f"trials {split}")
        self.notices.append(f"{split}: no trial list; {len(made)} trials were made.")
        return made


def _folders(root: Path, named: Mapping[Split, str]) -> dict[str, Path]:
    """Split -> its data directory; the key "" stands for one directory without splits.

    Raises:
        CorpusError: a named directory that isn't there, or none at all.
    """
    folders: dict[str, Path] = {}
    for split in SPLITS:
        names = (named[split],) if split in named else FOLDERS[split]  # type: ignore[index]
        tried = [top / name for name in names for top in (root, root / "data")]
        here = [folder for folder in tried if (folder / "wav.scp").is_file()]
        if here:
            folders[split] = here[0]
        elif split in named:
            raise CorpusError(f"{tried[0]}: no wav.scp there (folders.{split}).")
    if folders:
        return folders
    for folder in (root, root / "data"):
        if (folder / "wav.scp").is_file():
            return {"": folder}
    raise CorpusError(
        f"{root}: no wav.scp, nor one in train/, dev/, test/ or data/. If the splits have other "
        "names, give them: --set corpus.folders.train=NAME"
    )


def _refuse_twice(parts: Mapping[str, list[Clip]], folders: Mapping[str, Path]) -> None:
    owner: dict[str, str] = {}
    for split, clips in parts.items():
        for clip in clips:
            other = owner.setdefault(clip.id, split)
            if other != split:
                raise CorpusError(
                    f"utterance '{clip.id}' stands in {folders[other]} and in {folders[split]}. "
                    "Keep one."
                )


def _provided(clips: list[Clip]) -> frozenset[str]:
    """What every clip has (speaker, text), and labels that some have."""
    provided = {name for clip in clips for name in clip.labels}
    if all(clip.speaker is not None for clip in clips):
        provided.add("speaker")
    if all(clip.text is not None for clip in clips):
        provided.add("text")
    return frozenset(provided)
