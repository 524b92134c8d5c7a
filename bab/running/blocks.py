"""One block of the feature cache: the rows of some windows in a safetensors file, each window with
a checksum of its own, so that reading one window reads no other.

    states [rows, L, D]    bounds i64[windows + 1]    sums i64[windows]

The header holds the block's key, and a checksum of bounds, sums and the states' shape and type.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class Reader:
    """Reads windows of blocks. Headers, and each window, are checked when this process first reads
    them: what is read again costs nothing more."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[list[int], list[int]]] = {}  # bounds, sums
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
                bounds, sums = self._known.get(key) or self._header(block, states, path, key)
                begin, end = bounds[index], bounds[index + 1]
                if (key, index) not in self._sound:
                    total = checksum(states[begin:end])
                    if total != sums[index]:  # made anew by another process since it was known?
                        sums = self._header(block, states, path, key)[1]
                    if total != sums[index]:
                        raise DamagedError(f"{path}: the checksum of window {index} doesn't hold")
                    self._sound.add((key, index))
                if crop is not None:
                    begin, end = begin + crop[0], begin + crop[1]
                rows: Tensor = states[begin:end]
                return rows
        except (SafetensorError, IndexError, ValueError) as error:
            raise DamagedError(f"{path}: {error}") from None

    def forget(self, key: str) -> None:
        """The block is gone, or made anew."""
        self._known.pop(key, None)
        # A copy first: other threads read, and so add to it, meanwhile.
        self._sound = {known for known in tuple(self._sound) if known[0] != key}

    def _header(self, block: Any, states: Any, path: Path, key: str) -> tuple[list[int], list[int]]:
        about = block.metadata() or {}
        bounds, sums = block.get_tensor("bounds"), block.get_tensor("sums")
        dtype = states[:0].dtype
        if about.get(SUM) != _sum(key, bounds, sums, states.get_shape(), dtype):
            raise DamagedError(f"{path}: its header's checksum doesn't hold")
        self._known[key] = bounds.tolist(), sums.tolist()
        return self._known[key]


def _sum(key: str, bounds: Tensor, sums: Tensor, shape: Sequence[int], dtype: torch.dtype) -> str:
    return digest((key, bounds.tolist(), sums.tolist(), list(shape), str(dtype)))
