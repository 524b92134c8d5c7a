"""What is to be predicted: files, folders, lists, a corpus, or arrays, as recordings with names.

A recording's name is where its outputs go below the out folder: its path below the folder that was
named, without the ending.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bab.audio import streaming
from bab.audio.streaming import Stream
from bab.config.corpora import open_corpus
from bab.config.resolve import corpus_config
from bab.core import registry
from bab.core.errors import AudioError, BabError, ConfigError
from bab.core.names import fitted
from bab.core.types import Permissions
from bab.data.content import content_id

_Place = tuple[str, float, float | None]


@dataclass(frozen=True, slots=True)
class Recording:
    """A stretch of a file, or an array. end: seconds; None = the end of the file. began: local date
    and time, or time, at the file's beginning (ISO 8601), where that is known."""

    name: str
    path: str = ""
    start: float = 0.0
    end: float | None = None
    array: NDArray[np.float32] | None = None  # mono
    rate: int = 0  # of the array, Hz
    began: str = ""

    def open(self) -> Stream | None:
        """Look at the file's header; None of an array.

        Raises:
            AudioError: it can't be read, or needs ffmpeg where that isn't installed.
        """
        return None if self.array is not None else streaming.open_stream(self.path)

    def blocks(self, stream: Stream | None, rate: int, skip: int) -> Iterator[NDArray[np.float32]]:
        """Its audio from a sample on, in blocks f32[S] at `rate`."""
        if stream is not None:
            return streaming.blocks(stream, rate, self.start, self.end, skip)
        assert self.array is not None
        if rate == self.rate:
            return iter([self.array[skip:]])
        import soxr

        return iter([soxr.resample(self.array, self.rate, rate, quality="HQ")[skip:]])

    def digest(self) -> str:
        """What it holds, as a short name.

        Raises:
            AudioError: the file can't be read.
        """
        if self.array is not None:
            state = hashlib.blake2b(self.array.tobytes(), digest_size=16)
            return state.hexdigest()
        return content_id(self.path)


class Named(NamedTuple):
    """The name that a recording has in an out folder."""

    name: str
    path: str
    start: float
    end: float | None
    digest: str

    def moved(self, recording: Recording) -> bool:
        """Whether a recording of the same file name is this one, elsewhere (it is read), or in the
        same file with other ends: a corpus tells the end, a folder doesn't."""
        if (self.name, self.path) == (recording.name, recording.path):
            return True
        try:
            same = (self.start, self.end) == (recording.start, recording.end)
            return same and recording.digest() == self.digest
        except AudioError:
            return False


class _How(NamedTuple):
    """How corpora are opened: texts of `--set corpus.KEY=VALUE`. opened: which were."""

    offline: bool
    sets: Sequence[str]
    opened: list[str]


def recordings(
    inputs: Sequence[str | Path],
    offline: bool = False,
    sets: Sequence[str] = (),
    known: Sequence[Named] = (),
) -> tuple[list[Recording], dict[str, str]]:
    """The recordings that paths, folders, lists (`@files.txt`) and corpora (`rttm:ROOT`) name, each
    once, in order; and what looks like audio but was left out -> why.

    sets: options of the corpora, `corpus.KEY=VALUE`. known: names that were given before, which
    stay, whatever else is named now.

    Raises:
        BabError: nothing was named, a folder, list or corpus can't be read, or there are options
            of corpora and no corpus.
    """
    named: list[Recording] = []
    left: dict[str, str] = {}
    how = _How(offline, sets, [])
    for one in inputs:
        named += _named(str(one), how, left)
    if sets and not how.opened:
        raise ConfigError(f"--set {sets[0]}: of a corpus, and none is named (rttm:FOLDER)")
    for recording in [r for r in named if _shown(r.path) != r.path]:
        left[_shown(recording.path)] = "its name isn't UTF-8: rename the file or folder"
        named.remove(recording)
    unique = list({(r.path, r.start, r.end): r for r in named}.values())
    if not unique and not left:
        raise BabError("no audio file was named")
    return _apart(unique, known), left


def of_array(values: ArrayLike, sampling_rate: int | None, name: str = "array") -> Recording:
    """A recording from numbers in memory: f[S], or f[channels, S], whose mean is taken.

    Raises:
        ValueError: no sampling rate, integers (PCM: divide by its full scale), nothing, or values
            that aren't finite.
    """
    if sampling_rate is None or sampling_rate <= 0:
        raise ValueError("sampling_rate is required with arrays: their samples per second (Hz)")
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"audio of type {array.dtype}: give floats in [-1, 1] (of 16-bit PCM: x / 32768)"
        )
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"audio of shape {array.shape}: expected [samples] or [channels, samples]")
    if array.ndim == 2:
        if array.shape[0] > array.shape[1]:
            raise ValueError(f"audio of shape {array.shape}: channels come first")
        array = array.mean(axis=0)
    mono = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise ValueError("audio with values that aren't finite")
    return Recording(name, array=mono, rate=int(sampling_rate))


def _named(text: str, how: _How, left: dict[str, str]) -> Iterator[Recording]:
    path = Path(text).expanduser()
    if text.startswith("@") and not path.exists():
        yield from _listed(Path(text[1:]).expanduser(), how, left)
    elif path.is_dir():
        yield from _below(path, left)
    elif not path.exists() and _a_corpus(text):
        yield from _of_corpus(text, how)
    else:
        yield Recording(path.stem, str(path.absolute()))


def _a_corpus(text: str) -> bool:
    """Whether a text that is no path is meant as a corpus; `rtm:FOLDER` is, misspelt."""
    name, colon, root = text.partition(":")
    if registry.known("datasets", name):
        return True
    near = bool(get_close_matches(name, registry.names("datasets")))
    return bool(colon) and near and Path(root).expanduser().exists()


def _below(folder: Path, left: dict[str, str]) -> Iterator[Recording]:
    """A folder's recordings, by path; hidden files and folders are left alone."""
    some = False
    for path in _files(folder, left):
        if streaming.looks_like_audio(path):
            some = True
            if path.is_file():
                inner = path.relative_to(folder).with_suffix("")
                yield Recording(inner.as_posix(), str(path.absolute()))
            else:
                left[_shown(path)] = "is no regular file"
    if not some:
        raise BabError(
            f"{folder} holds no audio file: looked for wav, flac, ogg, opus, mp3, m4a ..."
        )


def _files(folder: Path, left: dict[str, str]) -> list[Path]:
    """What lies below a folder, hidden files and folders aside, by path. Links to folders are
    followed, and each folder is met once: no link leads in a circle."""
    paths: list[Path] = []
    met: set[str] = set()

    def refused(error: OSError) -> None:
        left[_shown(error.filename)] = f"can't be read ({error.strerror}): see its permissions"

    tops = [folder]
    for top in tops:
        for here, folders, files in os.walk(top, onerror=refused):
            known = os.path.realpath(here) in met
            met.add(os.path.realpath(here))
            folders[:] = [] if known else [name for name in folders if not name.startswith(".")]
            tops += [Path(here, name) for name in folders if Path(here, name).is_symlink()]
            if not known:
                paths += [Path(here, name) for name in files if not name.startswith(".")]
    return sorted(paths)


def _shown(path: str | Path) -> str:
    """A path as it can be printed: bytes that are no UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _listed(path: Path, how: _How, left: dict[str, str]) -> Iterator[Recording]:
    """A text file with a path, folder or corpus on each line; `#` begins a comment."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BabError(f"{path}: can't be read as a list of files ({why})") from None
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        beside = path.parent / text
        if text.startswith("@"):
            raise BabError(f"{path}:{number}: a list can't name another list")
        exists = not Path(text).expanduser().exists() and beside.exists()
        yield from _named(str(beside) if exists else text, how, left)


def _of_corpus(spec: str, how: _How) -> Iterator[Recording]:
    """Every clip of a corpus, by its id."""
    how.opened.append(spec)
    corpus = open_corpus(
        corpus_config(spec, how.sets), Permissions(offline=how.offline, leakage=True)
    )
    for clip in corpus.clips():
        began = clip.began.isoformat() if clip.began is not None else ""
        yield Recording(clip.id, clip.path, clip.start, clip.end, began=began)


def _apart(listed: Sequence[Recording], known: Sequence[Named]) -> list[Recording]:
    """The same, two of one name told apart by what stands before it, or by their endings. What has
    a name keeps it, wherever the file lies now, and no other gets it."""
    listed = [replace(r, name=_inside(r.name)) for r in listed]
    names = _given(listed, known)
    # Tables of all recordings are called so, too.
    taken = {"summary", *registry.names("tasks"), *(one.name.casefold() for one in known)}

    def doubtful(r: Recording) -> bool:
        name = r.name.casefold()  # as some file systems compare them
        return _place(r) not in names and (name in taken or times[name] > 1)

    for rename in (_with_parent, _with_ending, _with_digest):
        times = Counter(r.name.casefold() for r in listed if _place(r) not in names)
        listed = [replace(r, name=rename(r)) if doubtful(r) else r for r in listed]
    return [replace(r, name=names.get(_place(r), r.name)) for r in listed]


def _given(listed: Sequence[Recording], known: Sequence[Named]) -> dict[_Place, str]:
    """The names of those that have one: by where they are, or, of what is there no more, by the
    file's own name and what it holds."""
    here = {_place(r) for r in listed}
    names = {place: one.name for one in known if (place := one[1:4]) in here}
    gone: dict[str, list[Named]] = defaultdict(list)
    for one in known:
        if one[1:4] not in here:
            gone[Path(one.path).name].append(one)
    for recording in listed:
        others = gone.get(Path(recording.path).name, [])
        if _place(recording) in names or not others:
            continue
        same = next((one for one in others if one.moved(recording)), None)
        if same is not None:
            names[_place(recording)] = same.name
            others.remove(same)
    return names


def _place(recording: Recording) -> _Place:
    return recording.path, recording.start, recording.end


def _inside(name: str) -> str:
    """A name that is a path below the out folder on any system."""
    parts = [re.sub(r'[<>:"|?*\\\x00-\x1f]', "_", part) for part in name.split("/")]
    return "/".join(fitted(f"_{p}" if p.startswith(".") else p) for p in parts if p) or "_"


def _with_parent(recording: Recording) -> str:
    parent = Path(recording.path).parent.name
    return recording.name if "/" in recording.name or not parent else f"{parent}/{recording.name}"


def _with_ending(recording: Recording) -> str:
    return recording.name + Path(recording.path).suffix


def _with_digest(recording: Recording) -> str:
    where = f"{recording.path} {recording.start} {recording.end}".encode()
    return f"{recording.name}-{hashlib.blake2b(where, digest_size=4).hexdigest()}"


def seconds_of(recording: Recording) -> float:
    """How long it is, as far as can be told quickly; 0 where it can't be read.

    Raises nothing: what is wrong is said when its turn comes.
    """
    if recording.array is not None:
        return len(recording.array) / recording.rate
    try:
        stream = recording.open()
    except AudioError:
        return 0.0
    assert stream is not None
    end = stream.duration if recording.end is None else min(recording.end, stream.duration)
    return max(0.0, end - recording.start)
