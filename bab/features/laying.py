"""Frames of several examples in one batch: how they lie in memory, and in which memory."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LINE = 64  # bytes; torch's own tensors begin at a multiple of them


class Rooms:
    """Memory for batches, taken again once nothing of a batch is left.

    What an allocator gets back it lends in part to small tensors that stay (targets), and has to
    ask the system for the next batch: five rates and three seeds of vtc took 5.9 GB that way, and
    the system fills each page with zeros first.
    """

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []  # appended to whenever the last of a batch goes
        self._lock = threading.Lock()

    def room(self, sizes: Sequence[int], layers: int, dim: int, by_frame: bool) -> Tensor:
        """f32[B, L, T, D] for so many frames each; zeros behind them. In memory a layer of all
        examples comes after the other, as the layer mix goes through them: nothing is turned round
        at each step, and the sums are the same bits.

        by_frame: a frame of all layers comes after the other, as they are kept on the disk: for
        what reads a frame as one row (bab.benching.affine).
        """
        count, longest = len(sizes), max(sizes)
        flat = self._taken(4 * layers * count * longest * dim).view(torch.float32)
        if by_frame:
            whole = flat.view(count, longest, layers, dim).transpose(1, 2)
        else:
            whole = flat.view(layers, count, longest, dim).transpose(0, 1)
        for own, frames in zip(whole, sizes, strict=True):
            own[:, frames:] = 0.0
        return whole

    def _taken(self, size: int) -> Tensor:
        """u8[size] that nobody else uses."""
        with self._lock:
            fits = [i for i, one in enumerate(self._free) if size <= len(one) - _LINE <= 2 * size]
            if fits:
                array = self._free.pop(min(fits, key=lambda i: len(self._free[i])))
            else:
                self._free.clear()
                array = np.empty(size + size // 8 + _LINE, dtype=np.uint8)
        begin = -array.ctypes.data % _LINE
        part = array[begin : begin + size]
        # The tensor, and whatever is made of it, holds this part: it ends with the last of them.
        weakref.finalize(part, self._free.append, array).atexit = False
        return torch.from_numpy(part)
