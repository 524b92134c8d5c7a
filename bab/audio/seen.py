"""What is known of audio files that were looked at before: header, soundness, content.

Opening 100,000 files costs half a minute of CPU at every start. What was found is kept, for the
files of each folder in one small file of `cache_root()/files`, and holds while a file's size and
time of change are the same. Only what was found sound is kept: a bad file is looked at again, and
so is one that changed within the last seconds, which may change again within one tick of a coarse
clock. The cache may be deleted, shared by processes (the last one's word stands) or damaged: what
its checksum doesn't fit is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bab.core.caches import cache_root

_VERSION = 1  # of what is kept, and of how files are looked at: another one knows nothing
SETTLED_NS = 2_000_000_000  # the coarsest clock's tick: 2 s, on FAT
Facts = list[Any]  # size, time of change (ns), looked at and found sound, content id, header


@dataclass(slots=True)
class _Folder:
    """The files of one folder, by name. entry: where they are kept."""

    entry: Path
    known: dict[str, Facts]
    new: bool = False


# By what decides where the cache is, and by folder.
_folders: dict[tuple[tuple[str | None, ...], str], _Folder] = {}
_lock = threading.Lock()


def recall(path: str, size: int, modified: int) -> tuple[bool, str, Facts | None]:
    """(looked at and found sound, content id or "", header or None) of a file as it is now."""
    where, name = os.path.split(path)
    facts = _folder(where).known.get(name)
    if facts is None or facts[0] != size or facts[1] != modified:
        return False, "", None
    return facts[2], facts[3], facts[4]


def note(
    path: str,
    size: int,
    modified: int,
    sound: bool = False,
    content: str = "",
    header: Sequence[Any] | None = None,
) -> None:
    """Add to what is known of a file; `save` keeps it."""
    if time.time_ns() - modified <= SETTLED_NS:
        return
    where, name = os.path.split(path)
    folder = _folder(where)
    before = recall(path, size, modified)
    facts = [size, modified, sound or before[0], content or before[1], header or before[2]]
    folder.known[name] = facts
    folder.new = True


def save() -> None:
    """Write what is new, and let all of it go from memory."""
    with _lock:
        held = list(_folders.values())
        _folders.clear()
    for folder in held:
        if folder.new:
            _write(folder.entry, _read(folder.entry) | folder.known)


def _folder(where: str) -> _Folder:
    asked = os.environ.get
    cache = (asked("BAB_CACHE"), asked("XDG_CACHE_HOME"), asked("HOME"))
    folder = _folders.get((cache, where))
    if folder is None:
        with _lock:
            entry = _entry(where)
            folder = _folders.setdefault((cache, where), _Folder(entry, _read(entry)))
    return folder


def _entry(where: str) -> Path:
    key = hashlib.blake2b(os.fsencode(os.path.abspath(where)), digest_size=16).hexdigest()  # noqa: PTH100 - resolve() would follow links
    return cache_root() / "files" / key[:2] / f"{key[2:]}.json"


def _read(entry: Path) -> dict[str, Facts]:
    """What an entry holds; nothing, where it isn't there, whole and of this version."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        digest, _, text = entry.read_bytes().partition(b"\n")
        if digest.decode() == _digest(text):
            held: dict[str, Facts] = json.loads(text)["files"]
            return held
    return {}


def _write(entry: Path, known: dict[str, Facts]) -> None:
    """In one rename. Not synced to disk: a lost or torn entry is only made again."""
    text = json.dumps({"files": known}, separators=(",", ":")).encode()
    temporary = entry.with_name(f".{entry.name}-{secrets.token_hex(4)}")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(_digest(text).encode() + b"\n" + text)
        temporary.replace(entry)
    except (OSError, ValueError):  # a full or read-only cache folder costs time, never a run
        with suppress(OSError):
            temporary.unlink()


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16, salt=b"bab files %03d" % _VERSION).hexdigest()
