"""Corpus `commonvoice`: one language of a Common Voice release, 17 and newer or older.

FOLDER/                 e.g. cv-corpus-17.0-2024-03-15/ca
  train.tsv dev.tsv test.tsv validated.tsv    read by column name
  clip_durations.tsv    optional: clip, duration[ms]
  clips/                common_voice_ca_17367684.mp3
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from bab.core import interfaces, splits
from bab.core.errors import CorpusError, LeakageError, did_you_mean
from bab.core.permissions import now
from bab.core.records import Clip
from bab.plugins.datasets._recordings import SPLITS, lines, uncollected
from bab.plugins.datasets._utterances import Headers, Parted, gender

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}  # of the seconds of validated.tsv
# Label -> the columns that hold it, newest release first; a release has at most one of them.
COLUMNS = {
    "accent": ("accents", "accent"),
    "age": ("age",),
    "gender": ("gender",),
    "variant": ("variant",),
    "locale": ("locale",),
}

Labels = dict[str, str]
Row = tuple[str, str, str, Labels]  # client, file name, sentence, labels


class CommonVoice(interfaces.Corpus):
    """Read sentences by volunteers, with accent, age and gender where they gave them."""

    class Options(interfaces.Options):
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

    def __init__(self, root: Path, options: Any) -> None:
        super().__init__(Path(root).resolve(), options)
        self._found = {"speaker"}  # what every clip, or a label of some clip, has
        with uncollected():
            parts = self._validated() if options.use == "validated" else self._given()
            self._parts = Parted(parts, self.root, self.notices, lambda parts: None)
            self.splits_given = self._parts.given
        self.provides = frozenset(self._found | {"text"})  # type: ignore[misc]

    def splits(self) -> tuple[str, ...]:
        return self._parts.names

    def clips(self, split: str | None = None) -> list[Clip]:
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
                if speakers.setdefault(speaker, split) != split and not now().leakage:
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
            made = splits.by_group(stand_ins, SHARES)
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
        found: list[list[Clip]] = []
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
            found.append(clips)
        headers.tell()
        self._found.update(*shared.values())
        if "" in clients:
            self._found.discard("speaker")
        if measured:
            self.notices.append(f"{measured} clips without a duration: taken from their headers.")
            # Each duration is taken once, so a clip that is listed twice lacks one.
            _refuse_twice(found, paths)
        return found


def read_rows(path: Path, shared: dict[tuple[str, ...], Labels]) -> Iterator[Row]:
    """The rows of one of the release's tables, which are not quoted as CSV is.

    shared: cells -> labels, added to: rows that say the same share one object.

    Raises:
        CorpusError: naming the file and the line: a missing column, a short or overlong row.
    """
    rows = lines(path)
    header = next(rows, (1, ""))[1].rstrip("\r\n").split("\t")
    for column in ("client_id", "path", "sentence"):
        if column not in header:
            raise CorpusError(f"{path}:1: no column '{column}' ({did_you_mean(column, header)}).")
    width = len(header)
    # A column that this release lacks is read from an empty cell after the last one.
    found = [[header.index(c) for c in names if c in header] for names in COLUMNS.values()]
    labelled = itemgetter(*(places[0] if places else width for places in found))
    told = itemgetter(*map(header.index, ("client_id", "path", "sentence")))
    for number, line in rows:
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) != width:
            if not line.strip():
                continue
            raise CorpusError(f"{path}:{number}: {len(cells)} cells under {width} columns.")
        client, name, text = told(cells)
        if not name:
            raise CorpusError(f"{path}:{number}: the cell 'path' is empty.")
        cells.append("")
        written = labelled(cells)
        labels = shared.get(written)
        if labels is None:
            kept = dict(zip(COLUMNS, map(str.strip, written), strict=True))
            kept["gender"] = gender(kept["gender"])
            labels = shared[written] = {key: value for key, value in kept.items() if value}
        yield client, name, text.strip(), labels


def read_durations(path: Path) -> dict[str, float]:
    """Clip's name without extension -> seconds; nothing where there is no such file.

    Raises:
        CorpusError: naming the file and the line: a missing column or a bad number.
    """
    found: dict[str, float] = {}
    if not path.is_file():
        return found
    rows = lines(path)
    header = next(rows, (1, ""))[1].strip().split("\t")
    if header != ["clip", "duration[ms]"]:
        raise CorpusError(
            f"{path}:1: the columns must be 'clip' and 'duration[ms]', separated by a tab; they "
            f"are: {', '.join(header)}. Mend it, or remove it: headers are read instead."
        )
    known: dict[str, float] = {}  # as written -> seconds: equal ones are one object
    for number, line in rows:
        name, _, milliseconds = line.rstrip().partition("\t")
        seconds = known.get(milliseconds)
        if seconds is None:
            if not milliseconds.isdecimal():
                raise CorpusError(f"{path}:{number}: not a duration in ms: {line.strip()!r}")
            seconds = known[milliseconds] = int(milliseconds) / 1000
        if seconds:  # 0 = it wasn't measured
            found[name.rpartition(".")[0] or name] = seconds
    return found


def _refuse_twice(found: Sequence[Sequence[Clip]], paths: Sequence[Path]) -> None:
    """A clip that is listed twice.

    Raises:
        CorpusError, LeakageError: in one table, or in two.
    """
    if len({clip.id for clips in found for clip in clips}) == sum(map(len, found)):
        return
    owner: dict[str, Path] = {}
    for clips, path in zip(found, paths, strict=True):
        for clip in clips:
            other = owner.setdefault(clip.id, path)
            if other != path:
                raise LeakageError(f"clip '{clip.id}' stands in {other} and in {path}. Keep one.")
        if len({clip.id for clip in clips}) != len(clips):
            raise CorpusError(f"{path}: a clip is listed twice. Keep one of its rows.")
