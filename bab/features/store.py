"""A folder of feature blocks with a budget, which holds over all processes that share the folder.

What the blocks take is in one account, `.used`, changed under a lock, in which a block is also
written: nobody's block is missed. What the account can't know (blocks that somebody deleted) makes
it say too much, and then the blocks themselves are counted before anything is thrown out.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError
from torch import Tensor

from bab.core.atomic import sweep_beside, write_text
from bab.core.sealed import DamagedError
from bab.features import blocks

_USED = ".used"
_PATIENCE = 60.0  # seconds for which the account is waited for; a block takes less than one


class Store:
    """A folder of blocks with a budget in bytes; the blocks used least recently go first."""

    def __init__(self, root: Path, budget: int) -> None:
        self.root = root
        self.budget = budget
        self.own: set[Path] = set()
        self.problem = ""  # why nothing more is kept, where that is not for want of budget
        self.damaged: set[str] = set()  # keys of blocks that didn't hold what was written
        self._there: set[str] = set()
        self._told = 0
        self._reader = blocks.Reader()
        self._full = False
        self._swept = False
        self._turn = threading.Lock()

    def path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.safetensors"

    def claim(self, key: str) -> bool:
        """True where the block is there; it is marked as used, so that others go before it."""
        path = self.path(key)
        try:
            os.utime(path)
        except OSError:
            return False
        self.own.add(path)
        return True

    def read(self, key: str, index: int, crop: tuple[int, int] | None) -> Tensor | None:
        """[L, T, D] of one window of a block, or of the frames `crop` of it, by reading only its
        rows; None where the block isn't there. One that is damaged isn't there any more."""
        try:
            rows = self._reader.again(key, index, crop)
            if rows is None:
                rows = self._reader.read(self.path(key), key, index, crop)
            return rows.transpose(0, 1)
        except DamagedError:
            with contextlib.suppress(OSError):
                self.path(key).unlink()
            self.damaged.add(key)
            self._reader.forget(key)
            return None
        except OSError:  # too many open files, a network disk that stumbles: the block may be good
            return None

    def has(self, key: str) -> bool:
        """Whether a block was there, sound or not, when this was first asked and found so: a look
        at a network disk for each example would cost more than the example."""
        if key not in self._there and self.claim(key):
            self._there.add(key)
        return key in self._there

    def sound(self, key: str, index: int, crop: tuple[int, int] | None) -> blocks.Rows | None:
        """Where the rows of a window are that was read before, so that it is known to be sound."""
        return self._reader.sound(key, index, crop)

    def repairs(self) -> list[str]:
        """What is to be said of damaged blocks since this was last asked."""
        count, self._told = len(self.damaged) - self._told, len(self.damaged)
        if not count:
            return []
        return [
            f"{count} damaged block{'s' * (count > 1)} of cached features in {self.root}: made "
            "anew (the disk or the memory may be failing)"
        ]

    def put(self, key: str, states: Sequence[Tensor]) -> bool:
        """Keep a block if the budget has room, or can make room among blocks not in use here.
        states: [L, T, D] of each window."""
        size = sum(t.numel() * t.element_size() for t in states)
        if self._full:
            return False
        path = self.path(key)
        try:
            with self._locked():
                if not self._room(size):
                    return False
                before = path.stat().st_size if path.exists() else 0
                blocks.write(path, key, states)
                self._note(self._used() + path.stat().st_size - before)
        except (OSError, SafetensorError) as error:
            # A full disk or a folder that can't be written costs speed, not the run.
            self.problem = f"features can't be kept in {self.root} ({error}): computed as needed"
            self._full = True
            return False
        self.own.add(path)
        return True

    def room_for(self, sizes: Sequence[int]) -> list[bool]:
        """Can a block of each size, in bytes, be kept, at the cost of blocks that nobody here uses?
        Asked before they are computed; `put` asks again, as others may be faster."""
        if self._full:
            return [False] * len(sizes)
        try:
            with self._locked():
                return [self._room(size) for size in sizes]
        except OSError:  # `put` says what is wrong
            return [True] * len(sizes)

    def _room(self, size: int) -> bool:
        if self._full or size > self.budget:
            return False
        if self._used() + size <= self.budget:
            return True
        # The account may say too much: look before anything is thrown out.
        there = sorted(self._blocks())
        used = sum(s for _, s, _ in there)
        for _, bytes_, path in there:
            if used + size <= self.budget:
                break
            if path not in self.own:
                path.unlink(missing_ok=True)
                used -= bytes_
        self._note(used)
        self._full = used + size > self.budget
        return not self._full

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the account. Raises OSError: it can't be had (Timeout is one)."""
        self.root.mkdir(parents=True, exist_ok=True)
        # The file's lock is looked at every 50 ms: threads of this process don't wait for that.
        with self._turn, FileLock(self.root / ".lock", timeout=_PATIENCE):
            if not self._swept:
                sweep_beside(self.root / _USED)
                self._swept = True
            yield

    def _used(self) -> int:
        """Bytes of all blocks, as the account has it; counted, where there is none."""
        try:
            return int((self.root / _USED).read_text("ascii"))
        except (OSError, ValueError):
            used = sum(s for _, s, _ in self._blocks())
            self._note(used)
            return used

    def _note(self, used: int) -> None:
        write_text(self.root / _USED, str(used))

    def _blocks(self) -> Iterable[tuple[float, int, Path]]:
        """(last use, bytes, path) of each block; temporary files a killed process left are removed
        once they are a day old."""
        for path in self.root.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.suffix == ".safetensors":
                    yield stat.st_mtime, stat.st_size, path
                elif time.time() - stat.st_mtime > 86400:
                    path.unlink(missing_ok=True)
