"""Recordings of any length in bounded memory: windows in, one joined output per region out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bab.core.grid import Grid
from bab.core.types import Batch, Clip, Features, Item, Output, Waves, Window, pinned
from bab.data.batches import Source
from bab.data.windows import Examples, kept_frames, samples_of
from bab.features.ahead import ahead
from bab.machine.arithmetic import arithmetic
from bab.running.model import Model

_NONE = torch.empty(0)
_Pass = tuple[list[int], list[Item], Waves | Features]
_SECONDS_PER_PASS = 64.0  # of audio on a CPU: about 2 GB with a base model
_SECONDS_ON_GPU = 512.0  # which has the memory, and idles with less
_AHEAD = 2  # passes that are read before they are asked for


def per_pass(windows: Iterable[Window], seconds: float) -> int:
    """How many windows go through the model together."""
    return max(1, int(seconds / max((w.clip.duration for w in windows), default=1.0)))


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
    precision: str = "fp32",
    embed: bool = False,
    share: tuple[int, int] = (0, 1),
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Iterator[Output]:
    """The model's output for each region of `examples`, one at a time; in order on a CPU, the
    shortest first on a GPU, which then takes many at once.

    precision: in which the model computes. embed: give the head's embeddings (pair tasks).
    share: (rank, world), to take every world-th region. A region without a window (no audio)
    gives nothing. Frames have logits [T, C]; clips [C]; pairs [E].
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
    rows: list[NDArray[Any]] = []
    passes: Iterable[_Pass] = _passes(_grouped(todo, owned, device), owned, source, device)
    # Features may have to be computed: on a CPU that is no work to do beside.
    if source.by_window or device.type != "cpu":
        passes = ahead(passes, _AHEAD)
    for owners, part, inputs in passes:
        with arithmetic(device, precision):
            rows += _forward(model, part, inputs.to(device), embed)
        done += sum(fresh[id(item)] for item in part)
        progress(done, total)
        for owner in owners:
            joiner = _Joiner(examples.cutters[owner].clip, examples.grid)
            for item in owned[owner]:
                joiner.add(item, rows.pop(0))
            yield joiner.output()


def _passes(
    groups: Iterable[tuple[list[int], int]],
    owned: dict[int, list[Item]],
    source: Source,
    device: torch.device,
) -> Iterator[_Pass]:
    """What goes through the model at once: the regions that are complete with it, the examples,
    their inputs."""
    for owners, batch in groups:
        items = [item for owner in owners for item in owned[owner]]
        for begin in range(0, len(items), batch):
            part = items[begin : begin + batch]
            inputs = source.inputs(part)
            if device.type == "cuda":
                inputs = inputs.each(pinned)
            yield owners if begin + batch >= len(items) else [], part, inputs


def _fresh(items: Sequence[Item]) -> Iterator[tuple[Item, float]]:
    """Each item with its seconds that none before it held: windows overlap, audio counts once."""
    end = -math.inf
    for item in items:
        yield item, max(0.0, item.clip.end - max(end, item.clip.start))
        end = max(end, item.clip.end)


def _grouped(
    todo: Sequence[int], owned: dict[int, list[Item]], device: torch.device
) -> Iterator[tuple[list[int], int]]:
    """Regions that fit into one pass together, and how many examples a pass takes; one with more
    than that goes alone."""
    windows = [window for items in owned.values() for item in items for window in item.windows]
    batch = per_pass(windows, _SECONDS_PER_PASS)
    group: list[int] = []
    count = 0
    if device.type != "cpu":
        longest = {o: max(w.clip.duration for i in owned[o] for w in i.windows) for o in todo}
        todo = sorted(todo, key=lambda owner: longest[owner])
    for owner in todo:
        before = batch
        if device.type != "cpu":
            batch = max(1, int(_SECONDS_ON_GPU / longest[owner]))
        if group and count + len(owned[owner]) > batch:
            yield group, before
            group, count = [], 0
        group.append(owner)
        count += len(owned[owner])
    if group:
        yield group, batch


@torch.no_grad()
def _forward(
    model: Model, items: Sequence[Item], inputs: Waves | Features, embed: bool
) -> list[NDArray[Any]]:
    clips = tuple(item.clip for item in items)
    batch = Batch(inputs, _NONE, _NONE, clips, 0)
    if embed:
        return list(model.embed(batch).float().cpu().numpy())
    logits, lengths = model(batch)
    values = logits.float().cpu().numpy()
    if values.ndim == 2:
        return list(values)
    return [v[:n] for v, n in zip(values, lengths.tolist(), strict=True)]
