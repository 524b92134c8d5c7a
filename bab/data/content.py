"""What is in a file, as a short name: caches depend on content, never on a path.

The name of a file seen before is remembered, so that a run over a large corpus doesn't read all of
it again only to find that nothing changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from bab.audio import seen
from bab.audio.seen import SETTLED_NS
from bab.columns.ask import ids, paths_of
from bab.columns.clips import Clips
from bab.core.caches import cache_root
from bab.core.errors import AudioError
from bab.core.types import Clip, Trial
from bab.data.splits import Fold

StrPath = str | os.PathLike[str]
_DIGEST = 16  # bytes: 128 bits
_TELL = 0.1  # seconds between two words of progress
_PIECE = 1 << 13  # ids that are written at once
_ENTRY = re.compile(r"((\d+) (\d+) ([0-9a-f]{32}))(?: ([0-9a-f]{8}))?\n")


def content_memo() -> Path:
    """Where content ids of files seen before are kept."""
    return cache_root() / "content"


def content_id(path: StrPath, memo: Path | None = None) -> str:
    """32 hex digits: BLAKE2b-128 of a file's bytes.

    Args:
        path: the file.
        memo: folder of ids of files seen before, by absolute path, size and time of change;
            None = `content_memo()`. It may be deleted, shared by processes, or damaged.

    Raises:
        AudioError: the file can't be read.
    """
    file = Path(path).absolute()
    entry = _entry(file, content_memo() if memo is None else memo)
    try:
        state = file.stat()
        known = _recall(entry, state)
        if known is not None:
            return known
        with file.open("rb") as handle:
            hashed = hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=_DIGEST))
        after = file.stat()
    except OSError as error:
        raise AudioError(
            f"{path}: can't be read ({error.strerror}); check its path and permissions"
        ) from None
    digest = hashed.hexdigest()
    unchanged = (after.st_size, after.st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    if unchanged and time.time_ns() - state.st_mtime_ns > SETTLED_NS:
        told = f"{state.st_size} {state.st_mtime_ns} {digest}"
        _remember(entry, f"{told} {_sum(told)}\n")
    return digest


def contents(clips: Sequence[Clip], progress: Callable[[float, float], None]) -> dict[str, str]:
    """Path -> what it holds, for each file of some clips. progress: told files done, files in all.

    Raises:
        AudioError: a file can't be read.
    """
    paths = paths_of(clips)
    content = {}
    told = time.monotonic()
    try:
        for done, path in enumerate(paths, start=1):
            content[path] = _content(path)
            if done == len(paths) or time.monotonic() - told > _TELL:
                told = time.monotonic()
                progress(done, len(paths))
    finally:
        seen.save()
    return content


def _content(path: str) -> str:
    """What a file holds, as far as it isn't known."""
    with suppress(OSError):
        state = os.stat(path)  # noqa: PTH116 - a path object costs more than the call
        size, modified = state.st_size, state.st_mtime_ns
        if known := seen.recall(path, size, modified)[1]:
            return known
        digest = content_id(path)
        if os.stat(path).st_mtime_ns == modified:  # noqa: PTH116
            seen.note(path, size, modified, content=digest)
        return digest
    return content_id(path)  # which says what is wrong


class Twice(NamedTuple):
    """Two files of the same bytes, and the splits that they are in."""

    path: str
    split: str
    other: str
    other_split: str

    def __str__(self) -> str:
        return (
            f"{self.path} ({self.split}) and {self.other} ({self.other_split}) hold the same audio"
        )


def same_audio(parts: Mapping[str, Sequence[Clip]], content: Mapping[str, str]) -> Iterator[Twice]:
    """Files of one split that hold what a file of another name holds in another split.

    content: path -> what it holds, as `contents` gives it.
    """
    paths: dict[str, set[str]] = {}
    for path, digest in content.items():
        paths.setdefault(digest, set()).add(path)
    double = {path for same in paths.values() if len(same) > 1 for path in same}
    home: dict[str, tuple[str, str]] = {}
    told: set[str] = set()
    for split, clips in parts.items() if double else ():
        for path in (path for path in paths_of(clips) if path in double):
            there, first = home.setdefault(content[path], (split, path))
            if there != split and first != path and path not in told:
                told.add(path)
                yield Twice(first, there, path, split)


def _entry(file: Path, memo: Path) -> Path:
    """The memo's file for a path: one each, so that processes never write to a common one."""
    key = hashlib.blake2b(os.fsencode(file), digest_size=_DIGEST).hexdigest()
    return memo / key[:2] / key[2:]


def _recall(entry: Path, state: os.stat_result) -> str | None:
    """The remembered id, where the entry is whole and the file is as it was."""
    try:
        match = _ENTRY.fullmatch(entry.read_text("ascii"))
    except (OSError, ValueError):
        return None
    if match is None or (int(match[2]), int(match[3])) != (state.st_size, state.st_mtime_ns):
        return None
    return match[4] if match[5] in (None, _sum(match[1])) else None  # earlier versions wrote none


def _sum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _remember(entry: Path, text: str) -> None:
    """Write an entry in one rename. Not synced to disk: a lost or torn one is only made again."""
    temporary = entry.with_name(f".{entry.name}-{secrets.token_hex(4)}")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, "ascii")
        temporary.replace(entry)
    except OSError:  # a full or read-only cache folder costs time, never a run
        with suppress(OSError):
            temporary.unlink()


def corpus_digest(
    clips: Sequence[Clip],
    folds: Sequence[Fold],
    trials: Mapping[str, Sequence[Trial]],
    content: Mapping[str, str],
) -> str:
    """A hash of all that a corpus says and of the audio itself, wherever it lies on disk."""
    state = hashlib.blake2b(digest_size=16)
    if isinstance(clips, Clips):
        for text in _facts(clips, content):
            state.update(text.encode())
    else:
        for c in clips:
            facts = (c.id, content[c.path], c.start, c.end, c.group, c.speaker, c.voices)
            more = (sorted(c.labels.items()), c.text, c.scored)
            state.update(repr((facts, more)).encode())
            for s in c.segments:
                state.update(f"{s.start!r} {s.end!r} {s.label}\n".encode())
    for fold in folds:
        parts = (getattr(fold, name) for name in ("train", "dev", "test"))
        for before, part in zip(("[", ", ", ", "), parts, strict=True):
            state.update(before.encode())
            for text in _named(part):
                state.update(text.encode())
        state.update(b"]")
    for name, listed in trials.items():
        state.update(repr((name, [(t.enrol, t.test, t.same) for t in listed])).encode())
    return state.hexdigest()


def _named(clips: Sequence[Clip]) -> Iterator[str]:
    """The list of their ids as Python writes one, some thousand at a time."""
    names = map(repr, ids(clips))
    before = "["
    while piece := list(islice(names, _PIECE)):
        yield before + ", ".join(piece)
        before = ", "
    yield "[]" if before == "[" else "]"


def _facts(clips: Clips, content: Mapping[str, str]) -> Iterator[str]:
    """What `corpus_digest` takes of clips in columns, to the letter, some thousand at a time. Each
    value that repeats is written once."""
    table = clips.table
    held = table.paths.apply(lambda path: repr(content.get(path)))
    group, speaker, text = (c.apply(repr) for c in (table.groups, table.speakers, table.texts))
    labels = table.labels.apply(lambda label: repr(sorted((label or {}).items())))
    for rows in clips.pieces():
        columns = (
            map(repr, table.ids.at(rows)),
            held.at(rows),
            table.starts[rows].tolist(),
            table.ends[rows].tolist(),
            group.at(rows),
            speaker.at(rows),
            labels.at(rows),
            text.at(rows),
        )
        yield "".join(
            f"(({i}, {c}, {a!r}, {b!r}, {g}, {s}, ()), ({m}, {t}, None))"
            for i, c, a, b, g, s, m, t in zip(*columns, strict=True)
        )
