"""Corpus `commonvoice`: one language of a Common Voice release, 17 and newer or older.

FOLDER/                 e.g. cv-corpus-17.0-2024-03-15/ca
  train.tsv dev.tsv test.tsv validated.tsv    read by column name
  clip_durations.tsv    optional: clip, duration[ms]
  clips/                common_voice_ca_17367684.mp3
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

import bab
from bab import Clip, CorpusError, LeakageError, Permissions, split_by_group
from bab.kit import SPLITS, Headers, Parted, uncollected
from bab.plugins.datasets.shared.commonvoice import COLUMNS, Labels, read_durations, read_rows

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}  # of the seconds of validated.tsv


class CommonVoice(bab.Corpus):
    """Read sentences by volunteers, with accent, age and gender where they gave them."""

    class Options(bab.Options):
        """Options of the `commonvoice` corpus."""

        use: Literal["given", "validated"] = Field(
            "given",
            description="given: train, dev and test.tsv; validated: all of validated.tsv, split by "
            "speaker (80/10/10 % of the seconds)",
        )
        suffix: str = Field(
            "", description="extension of the audio where it was converted, e.g. .wav"
        )

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"speaker", "text", *COLUMNS})
    unit: ClassVar[str] = "speaker"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "commonvoice"
    source: ClassVar[str] = "Ardila et al., LREC 2020; commonvoice.mozilla.org"

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        self._known = {"speaker"}  # what every clip, or a label of some clip, has
        with uncollected():
            parts = self._validated() if options.use == "validated" else self._given()
            self._parts = Parted(parts, self.root, self.notices, permissions, checked=True)
            self.splits_given = self._parts.given
        self.provides = frozenset(self._known | {"text"})  # type: ignore[misc]

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> Sequence[Clip]:
        return self._parts.clips(split)

    def _given(self) -> dict[str, list[Clip]]:
        paths = {split: self.root / f"{split}.tsv" for split in SPLITS}
        there = {split: path for split, path in paths.items() if path.is_file()}
        if not there:
            raise CorpusError(f"{self.root}: no train.tsv, dev.tsv or test.tsv. {self._hint()}")
        parts = dict(zip(there, self._clips(list(there.values())), strict=True))
        speakers: dict[str, str] = {}
        for split, clips in parts.items():
            for speaker in {clip.group for clip in clips}:
                if speakers.setdefault(speaker, split) != split and not self.permissions.leakage:
                    raise LeakageError(
                        f"speaker '{speaker}' stands in {there[speakers[speaker]]} and in "
                        f"{there[split]}. Keep each client_id in one, or take --set "
                        "corpus.use=validated, which splits by speaker."
                    )
        return parts

    def _validated(self) -> dict[str, list[Clip]]:
        """All of validated.tsv, whole speakers at a time: one stand-in each, as long as all that
        they read, is dealt to the splits."""
        path = self.root / "validated.tsv"
        if not path.is_file():
            raise CorpusError(f"{path}: no such file. {self._hint()}")
        (clips,) = self._clips([path])
        seconds: dict[str, float] = {}
        for clip in clips:
            seconds[clip.group] = seconds.get(clip.group, 0.0) + clip.end
        stand_ins = [Clip(name, name, 0.0, total, name) for name, total in seconds.items()]
        try:
            made = split_by_group(stand_ins, SHARES)
        except CorpusError as error:
            raise CorpusError(f"{path}: {error}") from error
        where = {speaker.id: split for split, part in made.items() for speaker in part}
        parts: dict[str, list[Clip]] = {split: [] for split in SHARES}
        for clip in clips:
            parts[where[clip.group]].append(clip)
        sizes = ", ".join(f"{len(part)} {split}" for split, part in parts.items())
        self.notices.append(f"validated.tsv was split by speaker into {sizes} clips.")
        return parts

    def _hint(self) -> str:
        below = sorted(path.parent.name for path in self.root.glob("*/validated.tsv"))
        if below:
            return f"Name a language's folder: {', '.join(below[:8])}."
        return "Name the folder of one language, which holds the .tsv files and clips/."

    def _clips(self, paths: Sequence[Path]) -> list[list[Clip]]:
        """The clips of some tables. Their durations are the release's own, so that no audio is
        opened; a clip without one is measured by its header."""
        durations = read_durations(self.root / "clip_durations.tsv")
        headers = Headers(self.notices)
        clients: dict[str, str] = {}
        shared: dict[tuple[str, ...], Labels] = {}
        top, suffix, measured = f"{self.root}/clips/", self.options.suffix, 0
        tables: list[list[Clip]] = []
        for path in paths:
            clips = []
            for client, name, text, labels in read_rows(path, shared):
                stem, dot, old = name.rpartition(".")
                stem, old = (stem, f".{old}") if dot else (name, ".mp3")
                file = f"{top}{stem}{suffix or old}"
                end = durations.pop(stem, None)
                if end is None:
                    end = headers.seconds(file)
                    measured += 1
                speaker = clients.setdefault(client, client) or None
                clips.append(Clip(stem, file, 0.0, end, speaker or stem, speaker, (), labels, text))
            tables.append(clips)
        headers.tell()
        self._known.update(*shared.values())
        if "" in clients:
            self._known.discard("speaker")
        if measured:
            self.notices.append(f"{measured} clips without a duration: taken from their headers.")
            # Each duration is taken once, so a clip that is listed twice lacks one.
            _refuse_twice(tables, paths)
        return tables


def _refuse_twice(tables: Sequence[Sequence[Clip]], paths: Sequence[Path]) -> None:
    """A clip that is listed twice.

    Raises:
        CorpusError, LeakageError: in one table, or in two.
    """
    owner: dict[str, Path] = {}
    for clips, path in zip(tables, paths, strict=True):
        for clip in clips:
            other = owner.setdefault(clip.id, path)
            if other != path:
                raise LeakageError(f"clip '{clip.id}' stands in {other} and in {path}. Keep one.")
        if len({clip.id for clip in clips}) != len(clips):
            raise CorpusError(f"{path}: a clip is listed twice. Keep one of its rows.")
