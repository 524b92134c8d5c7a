"""One block of the feature cache: the rows of some windows in a safetensors file, each window with
a checksum of its own, so that reading one window reads no other.

    states [rows, L, D]    bounds i64[windows + 1]    sums i64[windows]

The header holds the block's key, and a checksum of bounds, sums and the states' shape and type.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bab.core.sealed import KEY, SUM, DamagedError, checksum, digest, save


def write(path: Path, key: str, states: Sequence[Tensor]) -> None:
    """Write a block, atomically. states: [L, T, D] of each window."""
    rows = [s.transpose(0, 1).contiguous() for s in states]
    bounds = torch.tensor([0, *(len(r) for r in rows)]).cumsum(0)
    sums = torch.tensor([checksum(r) for r in rows])
    joined = torch.cat(rows)
    about = {KEY: key, SUM: _sum(key, bounds, sums, joined.shape, joined.dtype)}
    save(path, {"states": joined, "bounds": bounds, "sums": sums}, about)


@dataclass(frozen=True, slots=True)
class _Header:
    """What is known of a block: each window's rows and checksum, and where in the file they are."""

    bounds: list[int]
    sums: list[int]
    shape: tuple[int, int]  # L, D
    dtype: torch.dtype
    begin: int  # the first byte of the states
    file: str
    size: int  # of the file


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows [begin, end) of a block that is known."""

    _header: _Header
    begin: int
    end: int

    @property
    def dtype(self) -> torch.dtype:
        return self._header.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """T, L, D."""
        return len(self), *self._header.shape

    def __len__(self) -> int:
        return self.end - self.begin

    def empty(self) -> Tensor:
        """[T, L, D], room for them."""
        return torch.empty(self.shape, dtype=self.dtype)

    def read(self, room: Tensor) -> bool:
        """As `into`; False where they can't be read just now, too."""
        try:
            return self.into(room)
        except OSError:
            return False

    def into(self, room: Tensor) -> bool:
        """Read them into [T, L, D] of their type, in one piece in memory; False where the file
        isn't as it was.

        Raises:
            OSError: it can't be read just now.
        """
        header, raw = self._header, memoryview(room.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
        layers, dim = header.shape
        with io.FileIO(header.file) as file:
            if os.fstat(file.fileno()).st_size != header.size:
                return False
            file.seek(header.begin + self.begin * layers * dim * header.dtype.itemsize)
            return file.readinto(raw) == len(raw)


class Reader:
    """Reads windows of blocks. Headers, and each window, are checked when this process first reads
    them: what is read again is no more than its bytes."""

    def __init__(self) -> None:
        self._known: dict[str, _Header] = {}
        self._sound: set[tuple[str, int]] = set()

    def read(self, path: Path, key: str, index: int, crop: tuple[int, int] | None) -> Tensor:
        """[T, L, D] of one window, or of the frames `crop` of it.

        Raises:
            FileNotFoundError: no such block.
            DamagedError: it doesn't hold what was written under this key.
            OSError: it can't be read just now.
        """
        try:
            with safe_open(path, framework="pt") as block:
                states = block.get_slice("states")
                header = self._known.get(key) or self._header(block, states, path, key)
                begin, end = header.bounds[index], header.bounds[index + 1]
                if (key, index) not in self._sound:
                    total = checksum(states[begin:end])
                    if total != header.sums[index]:  # made anew by another process meanwhile?
                        header = self._header(block, states, path, key)
                    if total != header.sums[index]:
                        raise DamagedError(f"{path}: the checksum of window {index} doesn't hold")
                    self._sound.add((key, index))
                if crop is not None:
                    begin, end = begin + crop[0], begin + crop[1]
                rows: Tensor = states[begin:end]
                return rows
        except (SafetensorError, IndexError, ValueError) as error:
            raise DamagedError(f"{path}: {error}") from None

    def again(self, key: str, index: int, crop: tuple[int, int] | None) -> Tensor | None:
        """The same of a window of a block that is known: its bytes, without what opening a
        safetensors file costs besides. None where `read` has to look.

        Raises:
            OSError: it can't be read just now.
        """
        header = self._known.get(key)
        if header is None:
            return None
        if (rows := self.sound(key, index, crop)) is not None:
            made = rows.empty()
            return made if rows.into(made) else None
        whole = Rows(header, header.bounds[index], header.bounds[index + 1])
        made = whole.empty()
        if not whole.into(made) or checksum(made) != header.sums[index]:
            return None
        self._sound.add((key, index))
        return made if crop is None else made[slice(*crop)]

    def sound(self, key: str, index: int, crop: tuple[int, int] | None) -> Rows | None:
        """Where the same is, of a window that was found sound before."""
        header = self._known.get(key)
        if header is None or (key, index) not in self._sound:
            return None
        begin, end = header.bounds[index], header.bounds[index + 1]
        if crop is not None:
            begin, end = begin + crop[0], min(end, begin + crop[1])
        return Rows(header, begin, end)

    def forget(self, key: str) -> None:
        """The block is gone, or made anew."""
        self._known.pop(key, None)
        # A copy first: other threads read, and so add to it, meanwhile.
        self._sound = {known for known in tuple(self._sound) if known[0] != key}

    def _header(self, block: Any, states: Any, path: Path, key: str) -> _Header:
        about = block.metadata() or {}
        bounds, sums = block.get_tensor("bounds"), block.get_tensor("sums")
        dtype, shape = states[:0].dtype, states.get_shape()
        if about.get(SUM) != _sum(key, bounds, sums, shape, dtype):
            raise DamagedError(f"{path}: its header's checksum doesn't hold")
        begin, size = _place(path)
        layers, dim = shape[1:]
        known = _Header(
            bounds.tolist(), sums.tolist(), (layers, dim), dtype, begin, str(path), size
        )
        self._known[key] = known
        return known


def _place(path: Path) -> tuple[int, int]:
    """Where in a safetensors file the states begin (its header says so, in JSON after 8 bytes of
    length: https://huggingface.co/docs/safetensors), and the file's size."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        offsets = json.loads(file.read(length))["states"]["data_offsets"]
        return 8 + length + offsets[0], os.fstat(file.fileno()).st_size


def _sum(key: str, bounds: Tensor, sums: Tensor, shape: Sequence[int], dtype: torch.dtype) -> str:
    return digest((key, bounds.tolist(), sums.tolist(), list(shape), str(dtype)))
