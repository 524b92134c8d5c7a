"""Corpus `rttm`: recordings, RTTM annotations, and optionally UEM files, split lists, groups.tsv.

FOLDER/
  wav/home01.ogg          audio, in a folder of any name, or none: found by its stem
  rttm/home01.rttm        one for each recording, or combined ones; or .eaf: corpus.format=eaf
  uem/home01.uem          optional: what was annotated; absent = all of it
  train.txt dev.txt test.txt   optional: a recording's name on each line
  groups.tsv              optional: whose voice is where (docs/corpora.md)
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions
from bab.kit import (
    Divided,
    Faults,
    Span,
    audio_by_uri,
    read_split_lists,
    uncollected,
    under,
    walk,
)
from bab.plugins.datasets.shared.annotated import RTTM, FormatOptions, how_found, read_annotated
from bab.plugins.datasets.shared.rttm import (
    Annotations,
    Turn,
    fit_file,
    lists_by_file,
    read_rttm,
    read_uem,
)
from bab.plugins.datasets.shared.voices import Groups, Kind, label_map, read_groups


class Rttm(bab.Corpus):
    """Long recordings with a voice-type annotation in RTTM."""

    class Options(FormatOptions):
        """Options of the `rttm` corpus."""

        labels: dict[str, Kind] = Field(
            default_factory=dict,
            description="what a label means: KCHI, OCH, MAL, FEM, or NA to leave it out",
        )
        audio: str = Field("", description="folder of the audio in the corpus; empty = anywhere")
        rttm: str = Field("", description="folder of the annotations; empty = anywhere")

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"segments"})
    unit: ClassVar[str] = "recording"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "rttm"
    source: ClassVar[str] = "layout of pyannote.database and segma; RTTM and UEM as NIST defines"

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        with uncollected():
            self._divided = self._read()
        self.splits_given = self._divided.given

    def _read(self) -> Divided:
        options, self._kind = self.options, self.options.format.upper()
        files = list(walk(self.root))
        recordings = audio_by_uri(under(files, self.root, options.audio))
        self._faults = faults = Faults()
        uems = read_uem(files, faults)
        here = under(files, self.root, options.rttm)
        if options.format == RTTM:
            annotated = read_rttm(here, faults)
        else:
            annotated = read_annotated(here, options.format, uems, self.notices)
        lists = read_split_lists(self.root, faults=faults) or lists_by_file(annotated)
        wanted = self._wanted(recordings, annotated, uems, lists)
        groups = self._groups(wanted)
        counts = Counter(turn[2] for uri in wanted for turn in annotated.turns.get(uri, ()))
        meaning = label_map(counts, options.labels, self.root, self.notices)
        clips = [
            self._clip(uri, path, annotated.turns.pop(uri, []), uems.get(uri), groups, meaning)
            for uri, path in wanted.items()
        ]
        faults.refuse()
        if uems:
            whole = [uri for uri in wanted if uri not in uems]
            self._count("without a UEM are scored whole", whole)
        clips = annotated.dated(clips)
        return Divided(clips, lists, self.root, self.notices, self.permissions)

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
                with self._faults.caught():
                    self._check_listed(uri, place, recordings, known, annotated)
            uris = set(listed)
            self._count("in no split list were left out", (recordings.keys() & known) - uris)
        else:
            uris = recordings.keys() & known
            self._count(f"without {self._kind} were left out", recordings.keys() - known)
        self._count(
            "annotated but without audio were left out", annotated.source.keys() - recordings.keys()
        )
        self._faults.refuse()
        if not uris:
            raise CorpusError(
                f"{self.root}: no recording has both audio and {self._kind} "
                f"({len(recordings)} audio files, {len(annotated.turns)} annotated recordings). "
                f"{how_found(walk(self.root), self.options.format)}"
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
            f"{place}: no {self._kind} for '{uri}' under {self.root / self.options.rttm}. Add it "
            f"(an empty {uri}.rttm says that nobody speaks), or take it off the list."
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
        end, kept, scored = fit_file(uri, path, turns, uem, meaning, self.notices, self._faults)
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
