"""Views -> batches. Which examples a step sees is a function of (seed, step): nothing to restore.

The global batch of a step is the same whatever the number of processes and micro-batches; they
only cut it up. Within a shuffled epoch, examples of like length stand together: little is padded.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.core import audio
from bab.core.errors import ConfigError
from bab.core.grid import Grid
from bab.core.records import Batch, Clip, Features, Item, Waves, Window
from bab.core.seeds import derive

_ALL = 2**31  # more frames than any window has: keep to the end
_POOL = 50  # batches that are sorted by length together: enough to group, few enough to stay random


class Source(Protocol):
    """Where a window's input comes from: its audio, or its cached features."""

    def inputs(self, items: Sequence[Item]) -> Waves | Features:
        """The padded inputs of some examples."""


class WaveSource:
    """Reads windows from their files, at the encoder's rate."""

    def __init__(self, rate: int) -> None:
        self.rate = rate

    def inputs(self, items: Sequence[Item]) -> Waves:
        """samples f32[B, S] padded with zeros, lengths i64[B], keep where there is context.

        Raises:
            ConfigError: an example of several windows: those have features, not one wave.
        """
        for item in items:
            if len(item.windows) > 1:
                raise ConfigError(
                    f"clip '{item.clip.id}' ({item.clip.duration:.1f} s) is longer than the "
                    "encoder takes in at once, and can't be cut: probe, or leave it out of train"
                )
        return self.read([item.windows[0] for item in items])

    def read(self, windows: Sequence[Window]) -> Waves:
        """The audio of some windows, padded."""
        clips = [w.clip for w in windows]
        waves = [torch.from_numpy(audio.read(c.path, c.start, c.end, self.rate)) for c in clips]
        lengths = torch.tensor([len(w) for w in waves])
        keep = None
        if any(w.keep is not None for w in windows):
            keep = torch.tensor([w.keep or (0, _ALL) for w in windows])
        return Waves(pad_sequence(waves, batch_first=True), lengths, keep)


class Order:
    """Which examples make up the global batch of each step, over as many epochs as it takes."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        """lengths: of each example, in samples or frames; batch: examples per optimizer step."""
        if not lengths:
            raise ConfigError("there is nothing to train on: the training split has no audio")
        self.lengths = lengths
        self.batch = batch
        self.seed = seed
        self.per_epoch = max(1, len(lengths) // batch)
        self._epoch: tuple[int, list[list[int]]] = (-1, [])
        self._lock = threading.Lock()

    def epoch(self, step: int) -> int:
        """The pass over the data that a step (from 0) belongs to."""
        return step // self.per_epoch

    def at(self, step: int) -> list[int]:
        """Indices of the examples of a step (from 0). The rest of an epoch under one batch is left
        out; the next shuffle picks others."""
        epoch = self.epoch(step)
        with self._lock:
            if self._epoch[0] != epoch:
                self._epoch = (epoch, self._shuffled(epoch))
            return self._epoch[1][step % self.per_epoch]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        draw = random.Random(derive(self.seed, "epoch", epoch))
        order = list(range(len(self.lengths)))
        draw.shuffle(order)
        order = order[: self.per_epoch * self.batch]
        pool = _POOL * self.batch
        batches = []
        for begin in range(0, len(order), pool):
            part = sorted(order[begin : begin + pool], key=lambda i: self.lengths[i])
            batches += [part[i : i + self.batch] for i in range(0, len(part), self.batch)]
        draw.shuffle(batches)
        return batches


@dataclass(frozen=True, slots=True)
class Share:
    """This process's part of every global batch."""

    rank: int = 0
    world: int = 1
    accumulation: int = 1

    def cut(self, indices: Sequence[int]) -> list[list[int]]:
        """The micro-batches of this process: every index falls to just one process and micro-batch.

        Raises:
            ConfigError: where there are fewer examples than parts.
        """
        if len(indices) < self.world * self.accumulation:
            raise ConfigError(
                f"a batch of {len(indices)} examples can't be cut into {self.world} processes x "
                f"{self.accumulation} micro-batches: raise train.batch or lower train.accumulation"
            )
        own = indices[self.rank :: self.world]
        return [list(own[i :: self.accumulation]) for i in range(self.accumulation)]


Targets = Callable[[Clip, int], Tensor]
_REMEMBERED = 50_000  # clips
_CHEAP = 2e-3  # seconds in which a batch is made that is not worth a thread


def remembered(targets: Targets) -> Targets:
    """The same, of each clip asked for once; for targets that are a clip's, not its frames'."""
    known: dict[int, tuple[Clip, Tensor]] = {}  # with the clip, so that its identity stays its own

    def look(clip: Clip, frames: int) -> Tensor:
        found = known.get(id(clip))
        if found is None:
            found = (clip, targets(clip, frames))
            if len(known) < _REMEMBERED:
                known[id(clip)] = found
        return found[1]

    return look


class Collator:
    """Items -> a Batch: inputs from a source, targets for just the frames of each example."""

    def __init__(self, source: Source, grid: Grid, targets: Targets) -> None:
        self.source = source
        self.grid = grid
        self.targets = targets

    def __call__(self, items: Sequence[Item], step: int) -> Batch:
        inputs = self.source.inputs(items)
        lengths = inputs.lengths.tolist()
        if isinstance(inputs, Waves):
            lengths = [self.grid.frames(n) for n in lengths]
        clips = tuple(item.clip for item in items)
        targets = [self.targets(c, t) for c, t in zip(clips, lengths, strict=True)]
        sizes = [len(t) for t in targets]
        alike = min(sizes) == max(sizes)
        padded = torch.stack(targets) if alike else pad_sequence(targets, batch_first=True)
        return Batch(inputs, padded, torch.tensor(sizes), clips, step)


class Prefetcher:
    """Runs `make(step)` for the steps ahead in threads, so that reading overlaps computing.

    The batches come in order and are the same with any number of workers. Those that are made in
    less time than threads need to hand them over (features in memory) are made on the spot.
    """

    def __init__(
        self, make: Callable[[int], list[Batch]], start: int, stop: int, workers: int = 1
    ) -> None:
        self.make = make
        self.range = range(start, stop)
        self.workers = workers

    def __iter__(self) -> Iterator[tuple[int, list[Batch]]]:
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="bab-loader")
        ahead: deque[Future[tuple[list[Batch], float]]] = deque()
        coming = iter(self.range)
        took = math.inf
        try:
            for step in self.range:
                while took > _CHEAP and len(ahead) <= self.workers:
                    if (next_step := next(coming, None)) is None:
                        break
                    ahead.append(pool.submit(self._timed, next_step))
                made, took = ahead.popleft().result() if ahead else self._timed(next(coming))
                yield step, made
        finally:
            pool.shutdown(cancel_futures=True)

    def _timed(self, step: int) -> tuple[list[Batch], float]:
        """A step's batches and the seconds that they took."""
        began = time.perf_counter()
        made = self.make(step)
        return made, time.perf_counter() - began
