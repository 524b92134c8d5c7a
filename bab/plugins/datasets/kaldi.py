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

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from bab.core import interfaces
from bab.core.errors import CorpusError
from bab.core.records import Clip, Trial
from bab.plugins.datasets._recordings import SPLITS, uncollected
from bab.plugins.datasets._utterances import (
    Headers,
    Parted,
    SharedLabels,
    gender,
    made_trials,
    pairs,
    read_trials,
    table,
)

# Maps of utterances and speakers that say nothing about who speaks or how.
NOT_LABELS = {
    *("utt2spk", "spk2utt", "utt2dur", "utt2num_frames", "utt2num_samples", "utt2uniq"),
    *("utt2max_frames", "utt2warp", "spk2warp"),
}
FOLDERS = {"train": ("train",), "dev": ("dev", "valid", "val"), "test": ("test", "eval")}
PHONES = ("text-phone", "phones", "text_phone")
_POSITION = re.compile(r"_[BIES]$")  # where in its word a phone stands, as Kaldi marks it

Span = tuple[str, str, float, float]  # utterance, path, start, end (seconds)
Split = Literal["train", "dev", "test"]


class Kaldi(interfaces.Corpus):
    """Utterances of Kaldi data directories."""

    class Options(interfaces.Options):
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

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(Path(root).resolve(), options)
        self._headers = Headers(self.notices)
        self._folders = _folders(self.root, options.folders)
        self._trials: dict[str, list[Trial]] = {}
        with uncollected():
            parts = {
                split: _Directory(folder, self.root, self._headers, self.notices).clips()
                for split, folder in self._folders.items()
            }
        self._headers.tell()
        _refuse_twice(parts, self._folders)
        self._parts = Parted(parts, self.root, self.notices)
        self.splits_given = self._parts.given
        found = _provided([clip for part in parts.values() for clip in part])
        self.provides = found  # type: ignore[misc]
        if "speaker" not in found:
            self.unit = "recording"  # type: ignore[misc]

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> list[Clip]:
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


class _Directory:
    """One data directory."""

    def __init__(self, folder: Path, root: Path, headers: Headers, notices: list[str]) -> None:
        self.folder, self.root = folder, root
        self._headers, self._notices = headers, notices
        self._durations = {**table(folder / "reco2dur"), **table(folder / "utt2dur")}

    def clips(self) -> list[Clip]:
        """Utterances in the order of `segments` or `wav.scp`; those that lack a speaker or text
        where others have one are left out, as Kaldi's fix_data_dir.sh does, and counted."""
        speakers = table(self.folder / "utt2spk")
        texts = table(self.folder / "text")
        names, by_speaker, by_utterance = self._labels(speakers.keys() | texts.keys())
        shared = SharedLabels()
        clips, lacking = [], 0
        for utterance, path, start, end in self._spans():
            speaker = speakers.get(utterance)
            text = texts.get(utterance)
            if (speakers and speaker is None) or (texts and text is None):
                lacking += 1
                continue
            values = [known.get(speaker or "", "") for known in by_speaker]
            values += [known.get(utterance, "") for known in by_utterance]
            labels = shared.of(names, tuple(values))
            group = speaker or path
            clips.append(Clip(utterance, path, start, end, group, speaker, (), labels, text))
        if lacking:
            self._notices.append(
                f"{self.folder}: {lacking} utterances without speaker or text were left out."
            )
        if not clips:
            raise CorpusError(
                f"{self.folder}: no utterance of wav.scp (or segments) stands in utt2spk and text."
            )
        return clips

    def _spans(self) -> Iterator[Span]:
        files = self._files()
        path = self.folder / "segments"
        if not path.is_file():
            for name, file in files.items():
                yield name, file, 0.0, self._seconds(name, file)
            return
        for number, utterance, rest in pairs(path):
            fields = rest.split()
            try:
                recording, start, end = fields[0], float(fields[1]), float(fields[2])
            except (IndexError, ValueError):
                raise CorpusError(
                    f"{path}:{number}: not a segment (UTTERANCE RECORDING START END, seconds): "
                    f"'{utterance} {rest}'"
                ) from None
            if recording not in files:
                raise CorpusError(
                    f"{path}:{number}: recording '{recording}' isn't in {self.folder / 'wav.scp'}."
                )
            file = files[recording]
            if end == -1:  # Kaldi's word for the recording's end
                end = self._seconds(recording, file)
            if not 0 <= start < end < math.inf:
                raise CorpusError(f"{path}:{number}: not a span of time: {fields[1]} to {end}")
            yield utterance, file, start, end

    def _seconds(self, name: str, file: str) -> float:
        """From utt2dur or reco2dur, without opening the file; else from its header."""
        known = self._durations.get(name)
        try:
            return self._headers.seconds(file) if known is None else float(known)
        except ValueError:
            raise CorpusError(f"{self.folder}: the duration of '{name}' is '{known}'.") from None

    def _files(self) -> dict[str, str]:
        """Recording -> absolute path, from wav.scp.

        Relative paths count from the corpus's folder or from the data directory (or what lies
        between them), whichever has the first file; the folder a recipe ran in isn't known.
        """
        path = self.folder / "wav.scp"
        files: dict[str, str] = {}
        base: Path | None = None
        for number, name, file in pairs(path):
            if file.endswith("|") or file.startswith("|"):
                raise CorpusError(
                    f"{path}:{number}: '{file}' is a command. bab runs no commands that it finds "
                    "in data: convert the audio once, and write the files' paths."
                )
            if not file:
                raise CorpusError(f"{path}:{number}: '{name}' has no path.")
            if re.search(r"\.ark:\d+$", file):
                raise CorpusError(
                    f"{path}:{number}: '{file}' lies in a Kaldi archive. Copy the archive to files "
                    "(wav-copy scp:wav.scp), and write their paths."
                )
            if base is None:
                base = self._base(file)
            files[name] = str(base / file)
        return files

    def _base(self, file: str) -> Path:
        above = [self.folder, *self.folder.parents]
        tried = [self.root, *reversed(above[: above.index(self.root)])]
        return next((folder for folder in tried if (folder / file).exists()), self.root)

    def _labels(
        self, utterances: set[str]
    ) -> tuple[list[str], list[Mapping[str, str]], list[Mapping[str, str]]]:
        """Names, and the maps that hold them: by speaker first, then by utterance."""
        names: dict[str, list[str]] = {"spk2": [], "utt2": []}
        maps: dict[str, list[Mapping[str, str]]] = {"spk2": [], "utt2": []}
        for path in sorted(self.folder.iterdir()):
            kind, name = path.name[:4], path.name[4:]
            if kind not in names or path.name in NOT_LABELS or not name.isidentifier():
                continue
            found = table(path)
            names[kind].append(name)
            maps[kind].append(
                {key: gender(value) for key, value in found.items()} if name == "gender" else found
            )
        phones = self._phones(utterances)
        if phones:
            names["utt2"].append("phones")
            maps["utt2"].append(phones)
        twice = set(names["spk2"]) & set(names["utt2"])
        if twice:
            name = min(twice)
            raise CorpusError(f"{self.folder}: both spk2{name} and utt2{name} are there. Keep one.")
        return names["spk2"] + names["utt2"], maps["spk2"], maps["utt2"]

    def _phones(self, utterances: set[str]) -> dict[str, str]:
        """Utterance -> phones between spaces, without marks of their position in the word."""
        beside = [self.folder, self.root / "resource"]
        path = next((d / n for d in beside for n in PHONES if (d / n).is_file()), None)
        if path is None:
            return {}
        words: dict[str, list[tuple[int, str]]] = {}
        for number, key, rest in pairs(path):
            utterance, dot, word = key.rpartition(".")
            if key in utterances or not (dot and word.isdigit()):
                utterance, word = key, "0"
            said = " ".join(_POSITION.sub("", phone) for phone in rest.split())
            if not said:
                raise CorpusError(f"{path}:{number}: '{key}' has no phone.")
            words.setdefault(utterance, []).append((int(word), said))
        return {utt: " ".join(said for _, said in sorted(found)) for utt, found in words.items()}


def _folders(root: Path, named: Mapping[Split, str]) -> dict[str, Path]:
    """Split -> its data directory; the key "" stands for one directory without splits.

    Raises:
        CorpusError: a named directory that isn't there, or none at all.
    """
    found: dict[str, Path] = {}
    for split in SPLITS:
        names = (named[split],) if split in named else FOLDERS[split]  # type: ignore[index]
        tried = [top / name for name in names for top in (root, root / "data")]
        here = [folder for folder in tried if (folder / "wav.scp").is_file()]
        if here:
            found[split] = here[0]
        elif split in named:
            raise CorpusError(f"{tried[0]}: no wav.scp there (folders.{split}).")
    if found:
        return found
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
    found = {name for clip in clips for name in clip.labels}
    if all(clip.speaker is not None for clip in clips):
        found.add("speaker")
    if all(clip.text is not None for clip in clips):
        found.add("text")
    return frozenset(found)
