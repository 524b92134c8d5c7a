"""What the corpora of long recordings share: finding audio, split lists, spans, and splits."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bab.audio.reading import SUFFIXES as KNOWN_SUFFIXES
from bab.audio.reading import info as audio_info
from bab.core.errors import AudioError, CorpusError, LeakageError, did_you_mean
from bab.core.types import Clip, Permissions, Segment
from bab.data.splits import by_group as split_by_group
from bab.data.splits import check_disjoint, ungrouped
from bab.kit.faults import Faults

AUDIO_SUFFIXES = tuple(sorted(KNOWN_SUFFIXES))
SPLITS = ("train", "dev", "test")
SPLIT_NAMES = {"train": "train", "dev": "dev", "val": "dev", "validation": "dev", "test": "test"}
Span = tuple[float, float]  # start, end, seconds
LATE = 0.05  # seconds that a segment may end after its file before anyone is told: rounding


def walk(root: Path) -> Iterator[Path]:
    """Every file under `root`, through linked folders too, each folder once, hidden ones never;
    nor pipes and devices, which could be waited for without end."""
    if not root.is_dir():
        raise CorpusError(f"{root}: no such folder.")
    visited: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        visited.add(os.path.realpath(folder))
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and os.path.realpath(f"{folder}/{name}") not in visited
        )
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and (path.is_file() or not path.exists()):
                yield path


def under(files: list[Path], root: Path, folder: str) -> list[Path]:
    """The files under a folder of the corpus; all of them where none is named."""
    if not folder:
        return files
    top = root / folder
    if not top.is_dir():
        raise CorpusError(f"{top}: no such folder.")
    return [path for path in files if path.is_relative_to(top)]


def uri_of(name: str) -> str:
    """A recording's name without folders and audio extension: "raw/a.b.WAV" -> "a.b".

    White space becomes "_": the columns of an RTTM are separated by it.
    """
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = base.rpartition(".")
    return _joined(stem if dot + suffix.lower() in AUDIO_SUFFIXES else base)


def _joined(name: str) -> str:
    return "_".join(name.split())


def audio_by_uri(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Audio files by stem; more than one for a stem is the caller's to refuse, if it is used."""
    by_uri: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in AUDIO_SUFFIXES:
            by_uri.setdefault(_joined(path.stem), []).append(path)
    return by_uri


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a text file.

    Raises:
        CorpusError: where it isn't UTF-8 text or can't be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from enumerate(file, 1)
    except OSError as error:
        raise CorpusError(f"{path}: can't be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: can't be read as UTF-8 text ({error}).") from error


@contextmanager
def uncollected() -> Iterator[None]:
    """Hold the garbage collector while a manifest is read.

    Turns and segments are millions of small objects without a cycle; walking them again and again
    as they grow takes longer than making them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_split_lists(
    root: Path, name: Callable[[str], str] = uri_of, faults: Faults | None = None
) -> dict[str, dict[str, str]] | None:
    """Split lists at the root or under lists/: `{train,dev,test}.{txt,lst}`, one name a line.

    `val` and `validation` mean dev. Blank lines and lines that start with # are skipped.

    Args:
        name: from a line to a clip's id.
        faults: told of what would be raised, if it is the caller who refuses them.

    Returns:
        split -> {uri: "file:line" where it is listed}, or None where there is no list.

    Raises:
        CorpusError: two lists for one split, an empty list, a name listed twice.
        LeakageError: a recording in two lists.
    """
    paths: dict[str, Path] = {}
    for folder in (root, root / "lists"):
        for path in sorted(folder.glob("*")):
            split = SPLIT_NAMES.get(path.stem.lower())
            if split is None or path.suffix.lower() not in (".txt", ".lst"):
                continue
            if split in paths:
                raise CorpusError(f"{paths[split]} and {path} both list '{split}': keep one.")
            paths[split] = path
    told = Faults() if faults is None else faults
    lists = {split: _read_list(paths[split], name, told) for split in SPLITS if split in paths}
    owner: dict[str, tuple[str, str]] = {}
    for split, names in lists.items():
        for uri, place in names.items():
            other, there = owner.setdefault(uri, (split, place))
            if other != split:
                told.add(
                    LeakageError(
                        f"recording '{uri}' stands in two splits: {there} ({other}) and "
                        f"{place} ({split}). Keep it in one."
                    )
                )
    if faults is None:
        told.refuse()
    return lists or None


def _read_list(path: Path, name: Callable[[str], str], faults: Faults) -> dict[str, str]:
    names: dict[str, str] = {}
    for number, line in lines(path):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        uri = name(entry)
        if uri in names:
            faults.say(path, number, f"'{uri}' is listed already, at {names[uri]}. Keep one line")
            continue
        names[uri] = f"{path}:{number}"
    if not names:
        told = f"{path}: the list is empty. Name a recording a line, or remove it."
        faults.add(CorpusError(told))
    return names


def merge(spans: Iterable[Span], end: float) -> tuple[Span, ...]:
    """Spans sorted, cut to [0, end], joined where they touch or overlap; empty ones dropped."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        start, stop = max(start, 0.0), min(stop, end)
        if stop <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def duration_of(path: Path, otherwise: float, notices: list[str]) -> float:
    """Seconds of an audio file, from its header.

    A file that can't be read is still listed, as long as its annotations say (`otherwise`), with a
    notice: whoever reads it gets the error, and `bab data check` finds all such files in one go.
    """
    try:
        return float(audio_info(path).duration)
    except AudioError as error:
        notices.append(f"Unreadable: {error}")
        return otherwise


def cut_to_file(segments: Sequence[Segment], end: float) -> tuple[tuple[Segment, ...], int]:
    """Segments cut to the file's end, and how many ended later than rounding explains."""
    if not segments or max(segment.end for segment in segments) <= end:
        return tuple(segments), 0
    late = sum(segment.end > end + LATE for segment in segments)
    kept = (Segment(s.start, min(s.end, end), s.label) for s in segments if s.start < end)
    return tuple(segment for segment in kept if segment.end > segment.start), late


def how_split(clips: Sequence[Clip]) -> str:
    """By what clips are told apart where bab splits them."""
    if ungrouped(clips):
        return "clip by clip"
    return "by group and voice"


class Divided:
    """Clips and their splits: the given ones, else a split by group, made when first asked for."""

    def __init__(
        self,
        clips: Sequence[Clip],
        given: Mapping[str, Iterable[str]] | None,
        root: Path,
        notices: list[str],
        permissions: Permissions,
    ) -> None:
        """given: split -> clip ids, or None. notices: told where a split had to be made."""
        self.all = list(clips)
        self.root = root
        self.notices = notices
        self.names = SPLITS if given is None else tuple(given)
        self.given = given is not None
        self._given = given
        self._leakage = permissions.leakage
        self._parts: Mapping[str, Sequence[Clip]] | None = None

    def clips(self, split: str | None) -> list[Clip]:
        """A split's clips, or all of them.

        Raises:
            CorpusError: an unknown split, or too few groups to make one.
            LeakageError: a group or voice in two of the given splits, unless that is allowed.
        """
        if split is None:
            return list(self.all)
        if split not in self.names:
            hint = did_you_mean(split, self.names)
            raise CorpusError(
                f"{self.root}: no split '{split}' ({hint}). Add a list named {split}.txt."
            )
        if self._parts is None:
            self._parts = self._divide()
        return list(self._parts[split])

    def _divide(self) -> Mapping[str, Sequence[Clip]]:
        if self._given is None:
            try:
                made = split_by_group(self.all)
            except CorpusError as error:
                raise CorpusError(f"{self.root}: no split lists, and {error}") from error
            sizes = ", ".join(f"{len(part)} {name}" for name, part in made.items())
            self.notices.append(f"No split lists: split {how_split(self.all)} into {sizes} clips.")
            return made
        where = {uri: split for split, names in self._given.items() for uri in names}
        parts: dict[str, list[Clip]] = {split: [] for split in self._given}
        for clip in self.all:
            if clip.id in where:
                parts[where[clip.id]].append(clip)
        if not self._leakage:
            check_disjoint(parts)
        return parts
