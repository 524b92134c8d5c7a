"""A run's folder: where it is, and who holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from bab.core.atomic import sweep
from bab.core.errors import BusyError
from bab.core.names import file_name

LOCK = ".lock"  # a run's folder has one from its first moment, and keeps it


def place(runs: str, what: str, corpus: str, encoder: str, identifier: str) -> Path:
    """runs/<what>/<corpus>/<encoder>/<id>, in names that every file system takes."""
    return Path(runs).joinpath(*map(file_name, (what, corpus, encoder, identifier)))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, so that two processes never write into it. The lock goes with the process, so
    a killed one leaves none behind.

    Raises:
        BusyError: another process does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock: FileLock | SoftFileLock = FileLock(folder / LOCK, blocking=False)
    try:
        try:
            lock.acquire()
        except OSError as error:  # some network file systems hold no locks: a file that is there
            if isinstance(error, Timeout):  # does, and says who made it
                raise
            lock = SoftFileLock(folder / f"{LOCK}-held", blocking=False)
            lock.acquire()
    except Timeout:
        raise BusyError(f"another bab process is at work in {folder}: wait for it") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked(folder: Path, main: bool, beside: Iterable[Path] = ()) -> Iterator[None]:
    """Hold the run's folder; what writers that were killed have left is swept.

    main: of several processes of one run, only the first holds it. beside: folders that are
    written to as well, but are not the run's alone: what lies below them isn't swept, nor what
    another process may be writing there.

    Raises:
        BusyError: another process does.
    """
    if not main:
        yield
        return
    swept = [(folder, "**/.tmp-*", True), *((one, ".tmp-*", False) for one in beside)]
    with held(folder):
        try:
            for one in swept:
                sweep(*one)
            yield
        finally:
            for one in swept:
                sweep(*one)
