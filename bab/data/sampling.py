"""Which examples make up each step, and each process's part of it.

The global batch of a step is a function of (seed, step), whatever the number of processes and
micro-batches: there is nothing to restore, and they only cut it up. Within a shuffled epoch,
examples of like length stand together, so that little is padded.
"""

from __future__ import annotations

import itertools
import random
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bab.core.errors import ConfigError, counted
from bab.core.seeds import derive

_POOL = 50  # batches that are sorted by length together: enough to group, few enough to stay random
Batches = list[list[int]]  # places, batch by batch


class Cutter(Protocol):
    """How a shuffled epoch becomes batches."""

    def __call__(self, order: Sequence[int], lengths: Sequence[float]) -> Batches: ...


@dataclass(frozen=True, slots=True)
class Counted:
    """Batches of `size` examples. What is over is left out before lengths are looked at, so that
    every example has the same chance.

    refill: where there is less than one batch, examples stand in it twice; else it is short.
    """

    size: int
    refill: bool = False

    def __call__(self, order: Sequence[int], lengths: Sequence[float]) -> Batches:
        size = self.size
        if len(order) < size:
            if self.refill:
                return [[order[i % len(order)] for i in range(size)]]
            return [sorted(order, key=lambda i: lengths[i])]
        whole = order[: len(order) // size * size]
        batches: Batches = []
        for begin in range(0, len(whole), _POOL * size):
            pool = sorted(whole[begin : begin + _POOL * size], key=lambda i: lengths[i])
            batches += [pool[i : i + size] for i in range(0, len(pool), size)]
        return batches


@dataclass(frozen=True, slots=True)
class Timed:
    """Batches whose padded size is within a budget of seconds. The last of a pool goes on to the
    next pool; the very last is filled up with examples that stand twice."""

    seconds: float

    def __call__(self, order: Sequence[int], lengths: Sequence[float]) -> Batches:
        size = _POOL * max(1, int(self.seconds * len(order) / sum(lengths)))
        batches: Batches = []
        rest: list[int] = []
        for begin in range(0, len(order), size):
            pool = sorted([*rest, *order[begin : begin + size]], key=lambda i: lengths[i])
            *full, rest = cut(pool, lengths, self.seconds, len(pool))
            batches += full
        longest = max(lengths[i] for i in rest)
        for place in itertools.cycle(order):
            longest = max(longest, lengths[place])
            if (len(rest) + 1) * longest > self.seconds + 1e-6:
                break
            rest.append(place)
        return [*batches, rest]


class Order:
    """Which examples make up the global batch of each step, over as many epochs as it takes.

    Epochs may differ in how many batches they cut into, so a step's epoch is found by counting; an
    epoch's plan is a function of (seed, epoch).
    """

    def __init__(self, lengths: Sequence[float], seed: int, cutter: Cutter) -> None:
        """lengths: of each example, one at least, in any unit that the cutter knows."""
        self.lengths = lengths
        self.seed = seed
        self.cutter = cutter
        self._ends: list[int] = []  # steps before the end of each epoch
        self._plan: tuple[int, Batches] = (-1, [])
        self._lock = threading.Lock()

    def at(self, step: int) -> tuple[int, list[int]]:
        """(epoch, places of its examples) of a step, both from 0."""
        with self._lock:
            while not self._ends or self._ends[-1] <= step:
                before = self._ends[-1] if self._ends else 0
                self._ends.append(before + len(self._planned(len(self._ends))))
            epoch = bisect_right(self._ends, step)
            batches = self._planned(epoch)
            return epoch, batches[step - (self._ends[epoch - 1] if epoch else 0)]

    def _planned(self, epoch: int) -> Batches:
        if self._plan[0] != epoch:
            draw = random.Random(derive(self.seed, "epoch", epoch))
            order = list(range(len(self.lengths)))
            draw.shuffle(order)
            batches = self.cutter(order, self.lengths)
            draw.shuffle(batches)
            self._plan = (epoch, batches)
        return self._plan[1]


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
                f"a batch of {counted(len(indices), 'example')} can't be cut into {self.world} "
                f"process{'es' * (self.world > 1)} x {self.accumulation} micro-batch"
                f"{'es' * (self.accumulation > 1)}: raise train.batch or lower train.accumulation"
            )
        own = indices[self.rank :: self.world]
        return [list(own[i :: self.accumulation]) for i in range(self.accumulation)]


def cut(
    places: Sequence[int], lengths: Sequence[float], seconds: float, count: int
) -> list[list[int]]:
    """Places, the shortest first -> batches whose padded size is within the budget; one that is
    longer than the budget stands alone.

    seconds, count: the most audio, padding included, and the most examples of a batch.
    """
    batches: Batches = []
    for place in places:
        full = not batches or len(batches[-1]) == count
        if full or (len(batches[-1]) + 1) * lengths[place] > seconds + 1e-6:
            batches.append([])
        batches[-1].append(place)
    return batches


def some(lengths: Sequence[float], seconds: float) -> list[int]:
    """Places drawn at random, always the same ones, up to so many seconds (one at least); the
    shortest first."""
    order = list(range(len(lengths)))
    random.Random(derive("some", len(lengths))).shuffle(order)
    taken, total = order[:1], lengths[order[0]]
    for place in order[1:]:
        total += lengths[place]
        if total > seconds:
            break
        taken.append(place)
    return sorted(taken, key=lambda i: lengths[i])
