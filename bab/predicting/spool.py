"""What a model has said of a recording so far, on disk: where a stopped prediction goes on.

Rows lie in stretches, each in a file that appears whole: `rows-000000120000.npy` begins with row
120,000. A stretch is written every few minutes of audio; of what is done sooner, nothing is.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bab.core.atomic import write_bytes
from bab.core.sealed import DamagedError
from bab.data.sealed import seal, unsealed
from bab.predicting.walking import Rows

_SECONDS = 600.0  # of audio in a stretch, unless it is larger than this:
_BYTES = 32 * 2**20
_WAIT = 10.0  # seconds of work after which a shorter stretch is written


class Spool:
    """The stretches of one recording."""

    def __init__(self, folder: Path) -> None:
        """folder: of this recording, model, options and walk alone."""
        self.folder = folder
        self.done = 0  # rows, of which so many are on disk:
        self.on_disk = 0
        self._waiting: list[NDArray[np.floating]] = []
        self._size = 0  # bytes
        self._seconds = 0.0  # of audio on disk
        self._written = time.monotonic()
        for path in self._files():
            rows = _rows(path)
            if rows is None or _first(path) != self.done:
                path.unlink(missing_ok=True)  # damaged, or after a gap: made again
                continue
            self.done += len(rows)
        self.on_disk = self.done

    def add(self, rows: Rows) -> None:
        """Keep rows; they are on disk after a while, or when `flush` is called."""
        self._waiting.append(rows.values)
        self.done += len(rows.values)
        self._size += rows.values.nbytes
        much = rows.seconds - self._seconds >= _SECONDS
        if much or self._size >= _BYTES or time.monotonic() - self._written >= _WAIT:
            self.flush()
            self._seconds = rows.seconds

    def flush(self) -> None:
        """Write what waits."""
        self._written = time.monotonic()
        if not self._waiting:
            return
        values = np.concatenate(self._waiting)
        held = io.BytesIO()
        np.save(held, values, allow_pickle=False)
        write_bytes(self.folder / f"rows-{self.on_disk:012d}.npy", seal(held.getvalue()))
        self.on_disk += len(values)
        self._waiting, self._size = [], 0

    def read(self) -> Iterator[NDArray[np.floating]]:
        """The stretches in order, one in memory at a time."""
        for path in self._files():
            rows = _rows(path)
            if rows is None:  # it was sound when this began
                raise DamagedError(f"{path} is damaged: the same command makes it again")
            yield rows
        if self._waiting:
            yield np.concatenate(self._waiting)

    def _files(self) -> Sequence[Path]:
        return sorted(self.folder.glob("rows-*.npy"))


@contextmanager
def spooling(spools: Sequence[Spool]) -> Iterator[None]:
    """What comes is kept, whatever stops it."""
    try:
        yield
    except BaseException:
        for spool in spools:
            spool.flush()
        raise


def _first(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _rows(path: Path) -> NDArray[np.floating] | None:
    """A stretch; None where it is damaged."""
    try:
        data = unsealed(path.read_bytes())
        if data is None:
            return None
        rows: NDArray[np.floating] = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.ndim == 2 and rows.dtype in (np.float32, np.float64) else None
