"""Writes that are either whole or not there: a temporary sibling, then one rename.

A reader, or a run that was killed and started again, never sees half a file.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

StrPath = str | os.PathLike[str]


def _sibling(path: Path) -> Path:
    """A hidden name beside `path` that no other process uses; same file system, so renames work.

    The suffix is kept, because some writers choose their format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{path.name[-100:]}")


def _sync(path: Path) -> None:
    """Ask the system to put a file or a folder's entries on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folder
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems can't sync a folder
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


@contextmanager
def atomic_path(path: StrPath) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends without an error.

    The parent folder is made where it is missing. On an error nothing is left behind, and what
    stood at `path` stays.
    """
    target = Path(path)
    temporary = _sibling(target)
    # What the umask allows: safetensors writes for the owner's eyes only, and models are shared.
    temporary.touch()
    mode = temporary.stat().st_mode & 0o777
    temporary.unlink()
    try:
        yield temporary
        temporary.chmod(mode)
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """Give an empty temporary folder to fill; it becomes `path` when the block ends well.

    A folder that stood at `path` is moved aside first, put back if the renaming fails, and deleted
    last. A process killed between the two renames leaves the old one under a `.tmp-` name.
    """
    target = Path(path)
    temporary = _sibling(target)
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _sync(file)
        _sync(temporary)
        _swap(temporary, target)
        _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    """Put `new` where `target` is. A folder can't be renamed onto one that has files."""
    if not target.exists():
        new.rename(target)
        return
    old = _sibling(target)
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        with suppress(OSError):
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: StrPath, data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: StrPath, text: str) -> None:
    """Write `text` to `path` as UTF-8 with Unix line ends, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: StrPath, value: Any, *, sorted: bool = False, indent: int | None = 2) -> None:
    """Write `value` as JSON, atomically. NaN and infinity, which JSON lacks, become null.

    Keys keep their order unless `sorted`. Raises TypeError for what JSON can't hold.
    """
    text = json.dumps(
        finite(value), indent=indent, sort_keys=sorted, ensure_ascii=False, allow_nan=False
    )
    write_text(path, text + "\n")


def finite(value: Any) -> Any:
    """`value` with every non-finite float replaced by None, and tuples as lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
