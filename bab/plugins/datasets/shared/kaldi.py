"""One Kaldi data directory: wav.scp, segments, and what its maps say of utterances and speakers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bab import Clip, CorpusError
from bab.kit import Faults, Headers, SharedLabels, gender, pairs, table

# Maps of utterances and speakers that say nothing about who speaks or how.
NOT_LABELS = {
    *("utt2spk", "spk2utt", "utt2dur", "utt2num_frames", "utt2num_samples", "utt2uniq"),
    *("utt2max_frames", "utt2warp", "spk2warp"),
}
PHONES = ("text-phone", "phones", "text_phone")
_POSITION = re.compile(r"_[BIES]$")  # where in its word a phone stands, as Kaldi marks it

Span = tuple[str, str, float, float]  # utterance, path, start, end (seconds)


class Directory:
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
        files, faults = self._files(), Faults()
        path = self.folder / "segments"
        if not path.is_file():
            for name, file in files.items():
                try:
                    yield name, file, 0.0, self._seconds(name, file)
                except CorpusError as error:
                    faults.add(error)
        for number, utterance, rest in pairs(path, faults) if path.is_file() else ():
            try:
                yield (utterance, *self._span(f"{path}:{number}", utterance, rest, files))
            except CorpusError as error:
                faults.add(error)
        faults.refuse()

    def _span(
        self, where: str, utterance: str, rest: str, files: Mapping[str, str]
    ) -> tuple[str, float, float]:
        """File, start and end of a line of `segments`."""
        fields = rest.split()
        try:
            recording, start, end = fields[0], float(fields[1]), float(fields[2])
        except (IndexError, ValueError):
            raise CorpusError(
                f"{where}: not a segment (UTTERANCE RECORDING START END, seconds): "
                f"'{utterance} {rest}'"
            ) from None
        if recording not in files:
            raise CorpusError(
                f"{where}: recording '{recording}' isn't in {self.folder / 'wav.scp'}."
            )
        file = files[recording]
        if end == -1:  # Kaldi's word for the recording's end
            end = self._seconds(recording, file)
        if not 0 <= start < end < math.inf:
            raise CorpusError(f"{where}: not a span of time: {fields[1]} to {end}")
        return file, start, end

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
        base, faults = None, Faults()
        for number, name, file in pairs(path, faults):
            if told := _no_file(name, file):
                faults.say(path, number, told)
                continue
            if base is None:
                base = self._base(file)
            files[name] = str(base / file)
        faults.refuse()
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
            values = table(path)
            names[kind].append(name)
            maps[kind].append(
                {key: gender(value) for key, value in values.items()}
                if name == "gender"
                else values
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
        faults = Faults()
        for number, key, rest in pairs(path, faults):
            utterance, dot, word = key.rpartition(".")
            if key in utterances or not (dot and word.isdigit()):
                utterance, word = key, "0"
            said = " ".join(_POSITION.sub("", phone) for phone in rest.split())
            if not said:
                faults.say(path, number, f"'{key}' has no phone.")
            words.setdefault(utterance, []).append((int(word), said))
        faults.refuse()
        return {utt: " ".join(said for _, said in sorted(parts)) for utt, parts in words.items()}


def _no_file(name: str, file: str) -> str:
    """Why what stands in wav.scp is no file; "" where it may be one."""
    if file.endswith("|") or file.startswith("|"):
        return (
            f"'{file}' is a command. bab runs no commands that it finds in data: convert the audio "
            "once, and write the files' paths."
        )
    if not file:
        return f"'{name}' has no path."
    if re.search(r"\.ark:\d+$", file):
        return (
            f"'{file}' lies in a Kaldi archive. Copy the archive to files (wav-copy scp:wav.scp), "
            "and write their paths."
        )
    return ""
