"""Corpus `rttm`: recordings, RTTM annotations, and optionally UEM files, split lists, groups.tsv.

FOLDER/
  wav/home01.ogg          audio, in a folder of any name, or none: found by its stem
  rttm/home01.rttm        one for each recording, or combined ones
  uem/home01.uem          optional: what was annotated; absent = all of it
  train.txt dev.txt test.txt   optional: a recording's name on each line
  groups.tsv              optional: who is heard where (see `_voices.read_groups`)
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from sys import intern
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from bab.core import interfaces
from bab.core.errors import CorpusError, LeakageError
from bab.core.records import Clip, Segment
from bab.plugins.datasets._recordings import (
    SPLIT_NAMES,
    SPLITS,
    Divided,
    Span,
    audio_by_uri,
    cut_to_file,
    duration_of,
    lines,
    merge,
    read_split_lists,
    uncollected,
    uri_of,
    walk,
)
from bab.plugins.datasets._voices import Groups, Kind, label_map, read_groups

# Other objects that an RTTM may hold (NIST, Rich Transcription evaluation plan, 2009): skipped.
OTHER_TYPES = frozenset(
    {"SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT"}
    | {"IP", "SU", "CB", "A/P", "SPKR-INFO"}
)

Turn = tuple[float, float, str]  # start, end, label as written


class Annotations(NamedTuple):
    """Every RTTM of a corpus: uri -> its turns, and uri -> the file that they are from."""

    turns: dict[str, list[Turn]]
    source: dict[str, Path]


class Rttm(interfaces.Corpus):
    """Long recordings with a voice-type annotation in RTTM."""

    class Options(interfaces.Options):
        """Options of the `rttm` corpus."""

        labels: dict[str, Kind] = Field(
            default_factory=dict,
            description="what a label means: KCHI, OCH, MAL, FEM, or NA to leave it out",
        )
        audio: str = Field("", description="folder of the audio in the corpus; empty = anywhere")
        rttm: str = Field("", description="folder of the RTTM in the corpus; empty = anywhere")

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"segments"})
    unit: ClassVar[str] = "recording"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "rttm"
    source: ClassVar[str] = "layout of pyannote.database and segma; RTTM and UEM as NIST defines"

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(Path(root).resolve(), options)
        with uncollected():
            self._divided = self._read()
        self.splits_given = self._divided.given

    def _read(self) -> Divided:
        options = self.options
        files = list(walk(self.root))
        recordings = audio_by_uri(_under(files, self.root, options.audio))
        annotated = read_rttm(_under(files, self.root, options.rttm))
        uems = read_uem(files)
        lists = read_split_lists(self.root) or _lists_by_file(annotated)
        wanted = self._wanted(recordings, annotated, uems, lists)
        groups = self._groups(wanted)
        counts = Counter(turn[2] for uri in wanted for turn in annotated.turns.get(uri, ()))
        meaning = label_map(counts, options.labels, self.root, self.notices)
        clips = [
            self._clip(uri, path, annotated.turns.pop(uri, []), uems.get(uri), groups, meaning)
            for uri, path in wanted.items()
        ]
        if uems:
            self._count(
                "without a UEM are scored whole", [uri for uri in wanted if uri not in uems]
            )
        return Divided(clips, lists, self.root, self.notices)

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)

    def _wanted(
        self,
        recordings: dict[str, list[Path]],
        annotated: Annotations,
        uems: dict[str, list[Span]],
        lists: dict[str, dict[str, str]] | None,
    ) -> dict[str, Path]:
        """uri -> audio file of the recordings to use, sorted: listed, or annotated and there."""
        known = annotated.turns.keys() | uems.keys()  # in a UEM alone = annotated, and silent
        if lists is not None:
            listed = {uri: place for names in lists.values() for uri, place in names.items()}
            for uri, place in listed.items():
                self._check_listed(uri, place, recordings, known, annotated)
            uris = set(listed)
            self._count("in no split list were left out", (recordings.keys() & known) - uris)
        else:
            uris = recordings.keys() & known
            self._count("without RTTM were left out", recordings.keys() - known)
        self._count(
            "annotated but without audio were left out", annotated.source.keys() - recordings.keys()
        )
        if not uris:
            raise CorpusError(
                f"{self.root}: no recording has both audio and RTTM "
                f"({len(recordings)} audio files, {len(annotated.turns)} annotated recordings). "
                "The name in the RTTM's second column must be the audio file's, less its extension."
            )
        for uri in sorted(uris):
            if len(recordings[uri]) > 1:
                paths = " and ".join(map(str, recordings[uri]))
                raise CorpusError(
                    f"{paths}: audio files with the same name. Keep one, or say which folder: "
                    "--set corpus.audio=FOLDER"
                )
        return {uri: recordings[uri][0] for uri in sorted(uris)}

    def _check_listed(
        self,
        uri: str,
        place: str,
        recordings: dict[str, list[Path]],
        known: set[str],
        annotated: Annotations,
    ) -> None:
        if uri not in recordings:
            raise CorpusError(
                f"{place}: no audio for '{uri}' under {self.root / self.options.audio}. "
                "Add it, or take it off the list."
            )
        if uri in known:
            return
        for other, path in annotated.source.items():
            if path.stem == uri:
                raise CorpusError(
                    f"{path}: column 2 names '{other}', but the audio is '{uri}' ({place})."
                )
        raise CorpusError(
            f"{place}: no RTTM for '{uri}' under {self.root / self.options.rttm}. Add it (an "
            f"empty {uri}.rttm says that nobody speaks), or take it off the list."
        )

    def _groups(self, wanted: dict[str, Path]) -> Groups:
        path = self.root / "groups.tsv"
        groups = read_groups(path)
        if path.exists():
            named = groups.voices.keys() | groups.group.keys()
            self._count("are not in groups.tsv", wanted.keys() - named)
            self._count("of groups.tsv are not used", named - wanted.keys())
        return groups

    def _clip(
        self,
        uri: str,
        path: Path,
        turns: list[Turn],
        uem: list[Span] | None,
        groups: Groups,
        meaning: dict[str, str | None],
    ) -> Clip:
        turns.sort()
        said = max([turn[1] for turn in turns] + [stop for _, stop in uem or ()], default=0.0)
        end = duration_of(path, said, self.notices)
        segments = [Segment(a, b, kind) for a, b, label in turns if (kind := meaning[label])]
        kept, late = cut_to_file(segments, end)
        if late:
            self.notices.append(f"{uri}: {late} segments cut at the end of the file ({end:.2f} s).")
        scored = None if uem is None else merge(uem, end)
        if scored == () and end > 0:
            raise CorpusError(f"{uri}: its UEM covers none of the file's {end:.2f} s.")
        return Clip(
            id=uri,
            path=str(path),
            start=0.0,
            end=end,
            group=groups.group.get(uri, uri),
            voices=groups.voices.get(uri, ()),
            segments=kept,
            scored=scored,
        )

    def _count(self, what: str, uris: Any) -> None:
        """A notice about some recordings, if there are any."""
        if uris:
            names = sorted(uris)
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            self.notices.append(f"{len(names)} recordings {what}: {shown}")


def _under(files: list[Path], root: Path, folder: str) -> list[Path]:
    """The files under a folder of the corpus; all of them where none is named."""
    if not folder:
        return files
    top = root / folder
    if not top.is_dir():
        raise CorpusError(f"{top}: no such folder.")
    return [path for path in files if path.is_relative_to(top)]


def _lists_by_file(annotated: Annotations) -> dict[str, dict[str, str]] | None:
    """The split that combined RTTM files named train, dev and test stand for, if there are such."""
    lists: dict[str, dict[str, str]] = {}
    for uri, path in annotated.source.items():
        split = SPLIT_NAMES.get(path.stem.lower())
        if split is None:
            return None
        lists.setdefault(split, {})[uri] = str(path)
    return {split: lists[split] for split in SPLITS if split in lists} or None


def read_rttm(files: list[Path]) -> Annotations:
    """Every SPEAKER line of the RTTM files among `files`. Turns of no length are dropped.

    An RTTM without a line says that nobody speaks in the recording of its name.

    Raises:
        CorpusError: naming file and line: a malformed line, a bad number, a negative time; a
            recording annotated in two files.
        LeakageError: where those two files are named as two splits.
    """
    found = Annotations({}, {})
    for path in files:
        if path.suffix.lower() != ".rttm":
            continue
        here = _read_one_rttm(path)
        for uri in here or {uri_of(path.stem): []}:
            if uri in found.source:
                _annotated_twice(uri, found.source[uri], path)
            found.source[uri] = path
        found.turns.update(here or {uri_of(path.stem): []})
    return found


def _annotated_twice(uri: str, one: Path, two: Path) -> None:
    splits = [SPLIT_NAMES.get(path.stem.lower()) for path in (one, two)]
    if None not in splits and splits[0] != splits[1]:
        raise LeakageError(f"recording '{uri}' stands in two splits: {one} and {two}. Keep one.")
    raise CorpusError(
        f"recording '{uri}' is annotated in {one} and in {two}. Keep one, or say which folder: "
        "--set corpus.rttm=FOLDER"
    )


def _read_one_rttm(path: Path) -> dict[str, list[Turn]]:
    """uri -> turns of one file. The loop is plain: a corpus may have millions of lines."""
    found: dict[str, list[Turn]] = {}
    uris: dict[str, list[Turn]] = {}  # as written, so that each spelling is looked at once
    for number, line in lines(path):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            if fields and fields[0] not in OTHER_TYPES and not line.startswith((";", "#")):
                raise CorpusError(f"{path}:{number}: not a line of an RTTM: {line.strip()!r}")
            continue
        if not 8 <= len(fields) <= 10:
            raise CorpusError(
                f"{path}:{number}: {len(fields)} columns, not the 10 of an RTTM (names may hold no "
                f"spaces): {line.strip()!r}"
            )
        try:
            start, length = float(fields[3]), float(fields[4])
        except ValueError:
            raise CorpusError(
                f"{path}:{number}: start and duration must be numbers: {line.strip()!r}"
            ) from None
        if not (0 <= start < math.inf and 0 <= length < math.inf):
            raise CorpusError(
                f"{path}:{number}: start and duration must be finite and not negative: "
                f"{fields[3]} {fields[4]}"
            )
        name = fields[1]
        turns = uris.get(name)
        if turns is None:
            turns = uris[name] = found.setdefault(uri_of(name), [])
        if length:
            turns.append((start, start + length, intern(fields[7])))
    return found


def read_uem(files: list[Path]) -> dict[str, list[Span]]:
    """uri -> annotated spans, seconds, over all UEM files among `files`.

    Raises:
        CorpusError: naming file and line: a malformed line, a bad number, an end before the start.
    """
    found: dict[str, list[Span]] = {}
    for path in files:
        if path.suffix.lower() != ".uem":
            continue
        for number, line in lines(path):
            fields = line.split()
            if not fields or line.startswith((";", "#")):
                continue
            try:
                uri, _, start, end = fields
                span = (float(start), float(end))
            except ValueError:
                raise CorpusError(
                    f"{path}:{number}: not a line of a UEM (name, channel, start, end): "
                    f"{line.strip()!r}"
                ) from None
            if not 0 <= span[0] < span[1] < math.inf:
                raise CorpusError(f"{path}:{number}: not a span of time: {start} to {end}")
            found.setdefault(uri_of(uri), []).append(span)
    return found
