"""Recordings of any length in bounded memory: windows in, one joined output per region out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bab.core.interfaces import Scorer
from bab.core.loader import Source
from bab.core.records import Batch, Clip, Output
from bab.core.views import Examples, samples_of

_NONE = torch.empty(0)


class _Joiner:
    """Adds windows' frames up on the raster of their region; overlaps are averaged."""

    def __init__(self, region: Clip, rate: int, hop: int) -> None:
        self.region = region
        self.rate = rate
        self.hop = max(1, hop)
        self.first = samples_of(region, rate)[0]
        self.total: NDArray[np.float64] | None = None
        self.count: NDArray[np.int64] | None = None

    def add(self, window: Clip, values: NDArray[np.float32]) -> None:
        """values: [T, C] of one window, or [C] where it has a single output."""
        rows = values if values.ndim == 2 else values[None]
        begin = 0
        if values.ndim == 2:
            begin = (samples_of(window, self.rate)[0] - self.first) // self.hop
        self._reserve(begin + len(rows), rows.shape[1])
        assert self.total is not None and self.count is not None
        self.total[begin : begin + len(rows)] += rows
        self.count[begin : begin + len(rows)] += 1

    def _reserve(self, rows: int, columns: int) -> None:
        if self.total is None or self.count is None:
            self.total = np.zeros((rows, columns))
            self.count = np.zeros(rows, dtype=np.int64)
        elif rows > len(self.total):
            more = max(rows, 2 * len(self.total)) - len(self.total)
            self.total = np.concatenate([self.total, np.zeros((more, columns))])
            self.count = np.concatenate([self.count, np.zeros(more, dtype=np.int64)])

    def output(self, single: bool) -> Output:
        """The mean of what was said of each frame. single: one output, not one per frame."""
        assert self.total is not None and self.count is not None
        rows = int(self.count.nonzero()[0][-1]) + 1
        values = (self.total[:rows] / self.count[:rows, None]).astype(np.float32)
        return Output(self.region, values[0] if single else values)


def infer(
    model: Scorer,
    examples: Examples,
    source: Source,
    device: torch.device,
    batch: int,
    share: tuple[int, int] = (0, 1),
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Iterator[Output]:
    """The model's output for each region of `examples`, in order, one at a time.

    batch: windows per pass. share: (rank, world), to take every world-th region. A region without
    a window (no audio) gives nothing. Frames have logits [T, C]; clips have [C].
    """
    owned: dict[int, list[Clip]] = {}
    for window, owner in zip(examples.windows, examples.owners, strict=True):
        owned.setdefault(owner, []).append(window)
    rank, world = share
    todo = [owner for owner in owned if owner % world == rank]
    total = sum(w.duration for owner in todo for w in owned[owner])
    done = 0.0
    for owner in todo:
        region = examples.cutters[owner].clip
        joiner = _Joiner(region, examples.grid.sample_rate, examples.grid.hop)
        single = False
        for begin in range(0, len(owned[owner]), batch):
            windows = owned[owner][begin : begin + batch]
            for window, values in zip(
                windows, _forward(model, windows, source, device), strict=True
            ):
                single = values.ndim == 1
                joiner.add(window, values)
            done += sum(w.duration for w in windows)
            progress(done, total)
        yield joiner.output(single)


@torch.no_grad()
def _forward(
    model: Scorer, windows: Sequence[Clip], source: Source, device: torch.device
) -> list[NDArray[Any]]:
    inputs = source.inputs(windows)
    logits, lengths = model(Batch(inputs.to(device), _NONE, _NONE, tuple(windows), 0))
    values = logits.float().cpu().numpy()
    if values.ndim == 2:
        return list(values)
    return [v[:n] for v, n in zip(values, lengths.tolist(), strict=True)]
