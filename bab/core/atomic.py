"""Writes that are either whole or not there: a temporary sibling, then one rename.

A reader, or a run that was killed and started again, never sees half a file.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bab.core.errors import DiskFullError

StrPath = str | os.PathLike[str]
# How Python, Rust, C++ and numpy say it.
_FULL = r"No space left on device|File too large|Disk quota exceeded|\d+ requested and \d+ written"


def _sibling(path: Path) -> Path:
    """A hidden name beside `path` that no other process uses; same file system, so renames work.

    Its suffix is no file's that anybody collects.
    """
    return path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{path.name[-60:]}.tmp")


def sweep(folder: Path, names: str = "**/.tmp-*", alone: bool = True) -> None:
    """Remove what killed writers left. alone: nobody else writes there; else what a process of this
    machine may be writing stays."""
    for path in list(folder.glob(names)):
        if alone or not _at_work(path):
            _remove(path)


def sweep_beside(path: Path) -> None:
    """Remove what killed writers of `path` left."""
    sweep(path.parent, f".tmp-*-{glob.escape(path.name[-60:])}.tmp", alone=False)


def _at_work(temporary: Path) -> bool:
    import psutil

    pid = temporary.name.split("-")[1]
    return pid.isdecimal() and int(pid) != os.getpid() and psutil.pid_exists(int(pid))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _writing(target: Path, temporary: Path, size: int = 0) -> Iterator[None]:
    """Nothing temporary is left, whatever happens. Want of space is told with the file and how much
    it is: libraries raise it in classes of their own, and few name the file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except Exception as error:
        if not (told := re.search(_FULL, str(error))):
            raise
        there = sum(p.stat().st_size for p in (temporary, *temporary.rglob("*")) if p.is_file())
        disk = next(parent for parent in target.absolute().parents if parent.exists())
        free = shutil.disk_usage(disk).free + there
        asked = f"{'' if size else 'more than '}{math.ceil(max(size, there) / 1e4) / 100:,.2f} MB"
        raise DiskFullError(
            f"{target}: can't be written ({told[0]}): it takes {asked}, {free / 1e6:,.2f} MB are "
            "free. Make room, and give the same command again"
        ) from None
    finally:
        _remove(temporary)


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
def atomic_path(path: StrPath, size: int = 0) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends without an error.

    It ends in `.tmp`: tell a library that goes by suffixes the format. A parent that is missing is
    made. On an error nothing is left behind, and what stood at `path` stays. size: bytes that will
    be written, where that is known.

    Raises:
        DiskFullError: there isn't enough space.
    """
    target = Path(path)
    temporary = _sibling(target)
    with _writing(target, temporary, size):
        # What the umask allows: safetensors writes for the owner's eyes only; models are shared.
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)


@contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """Give an empty temporary folder to fill; it becomes `path` when the block ends well.

    A folder that stood at `path` is moved aside first, put back if the renaming fails, and deleted
    last. A process killed between the two renames leaves the old one under a `.tmp-` name.
    """
    target = Path(path)
    temporary = _sibling(target)
    with _writing(target, temporary):
        temporary.mkdir()
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _sync(file)
        _sync(temporary)
        _swap(temporary, target)
        _sync(target.parent)


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
    with atomic_path(path, len(data)) as temporary:
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
