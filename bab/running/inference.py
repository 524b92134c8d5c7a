"""Recordings of any length in bounded memory: windows in, one joined output per region out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bab.core.grid import Grid
from bab.core.types import Batch, Clip, Item, Output
from bab.data.batches import Source
from bab.data.windows import Examples, kept_frames, samples_of
from bab.running.model import Model

_NONE = torch.empty(0)
_SECONDS_PER_PASS = 64.0  # of audio: enough to keep a device busy, about 2 GB with a base model


def per_pass(examples: Examples) -> int:
    """How many windows go through the model together."""
    longest = max((w.clip.duration for w in examples.windows), default=1.0)
    return max(1, int(_SECONDS_PER_PASS / longest))


class _Joiner:
    """Adds windows' frames up on the raster of their region; overlaps are averaged.

    Single outputs (a clip's logits, an embedding) are averaged over the region's windows, each by
    its frames: of a linear head that is what it says of the mean over all frames.
    """

    def __init__(self, region: Clip, grid: Grid) -> None:
        self.region = region
        self.grid = grid
        self.first = samples_of(region, grid.sample_rate)[0]
        self.single = False
        self.total: NDArray[np.float64] | None = None
        self.count: NDArray[np.int64] | None = None

    def add(self, item: Item, values: NDArray[np.float32]) -> None:
        """values: [T, C] of one example, or [C] where it has a single output."""
        self.single = values.ndim == 1
        rows = values[None] if self.single else values
        begin, weight = 0, 1
        if self.single:
            rate = self.grid.sample_rate
            weight = sum(kept_frames(window, self.grid, rate) for window in item.windows)
        if not self.single and item.clip is not self.region:
            keep = item.windows[0].keep
            begin = (samples_of(item.clip, self.grid.sample_rate)[0] - self.first) // self.grid.hop
            begin = max(0, begin + (keep[0] if keep else 0))
        self._reserve(begin + len(rows), rows.shape[1])
        assert self.total is not None and self.count is not None
        self.total[begin : begin + len(rows)] += weight * rows
        self.count[begin : begin + len(rows)] += weight

    def _reserve(self, rows: int, columns: int) -> None:
        if self.total is None or self.count is None:
            self.total = np.zeros((rows, columns))
            self.count = np.zeros(rows, dtype=np.int64)
        elif rows > len(self.total):
            more = max(rows, 2 * len(self.total)) - len(self.total)
            self.total = np.concatenate([self.total, np.zeros((more, columns))])
            self.count = np.concatenate([self.count, np.zeros(more, dtype=np.int64)])

    def output(self) -> Output:
        """The mean of what was said of each frame, or of the whole."""
        assert self.total is not None and self.count is not None
        rows = int(self.count.nonzero()[0][-1]) + 1
        values = (self.total[:rows] / self.count[:rows, None]).astype(np.float32)
        return Output(self.region, values[0] if self.single else values)


def infer(
    model: Model,
    examples: Examples,
    source: Source,
    device: torch.device,
    batch: int,
    embed: bool = False,
    share: tuple[int, int] = (0, 1),
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Iterator[Output]:
    """The model's output for each region of `examples`, in order, one at a time.

    batch: examples per pass. embed: give the head's embeddings (pair tasks). share: (rank, world),
    to take every world-th region. A region without a window (no audio) gives nothing. Frames have
    logits [T, C]; clips [C]; pairs [E].
    """
    owned: dict[int, list[Item]] = {}
    for item, owner in zip(examples.items, examples.owners, strict=True):
        # Audio goes in window by window; features of a whole clip come joined already.
        alone = [Item(w.clip, (w,)) for w in item.windows] if source.by_window else [item]
        owned.setdefault(owner, []).extend(alone)
    rank, world = share
    todo = [owner for owner in owned if owner % world == rank]
    fresh = {id(i): s for owner in todo for i, s in _fresh(owned[owner])}
    total, done = sum(fresh.values()), 0.0
    for owners in _grouped(todo, owned, batch):
        items = [item for owner in owners for item in owned[owner]]
        rows: list[NDArray[Any]] = []
        for begin in range(0, len(items), batch):
            part = items[begin : begin + batch]
            rows += _forward(model, part, source, device, embed)
            done += sum(fresh[id(item)] for item in part)
            progress(done, total)
        for owner in owners:
            joiner = _Joiner(examples.cutters[owner].clip, examples.grid)
            for item in owned[owner]:
                joiner.add(item, rows.pop(0))
            yield joiner.output()


def _fresh(items: Sequence[Item]) -> Iterator[tuple[Item, float]]:
    """Each item with its seconds that none before it held: windows overlap, audio counts once."""
    end = -math.inf
    for item in items:
        yield item, max(0.0, item.clip.end - max(end, item.clip.start))
        end = max(end, item.clip.end)


def _grouped(todo: Sequence[int], owned: dict[int, list[Item]], batch: int) -> Iterator[list[int]]:
    """Regions that fit into one pass together; one with more windows than that goes alone."""
    group: list[int] = []
    count = 0
    for owner in todo:
        if group and count + len(owned[owner]) > batch:
            yield group
            group, count = [], 0
        group.append(owner)
        count += len(owned[owner])
    if group:
        yield group


@torch.no_grad()
def _forward(
    model: Model, items: Sequence[Item], source: Source, device: torch.device, embed: bool
) -> list[NDArray[Any]]:
    clips = tuple(item.clip for item in items)
    batch = Batch(source.inputs(items).to(device), _NONE, _NONE, clips, 0)
    if embed:
        return list(model.embed(batch).float().cpu().numpy())
    logits, lengths = model(batch)
    values = logits.float().cpu().numpy()
    if values.ndim == 2:
        return list(values)
    return [v[:n] for v, n in zip(values, lengths.tolist(), strict=True)]
