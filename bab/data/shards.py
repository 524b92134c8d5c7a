"""Shares of a command's work, for machines that know nothing of one another."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bab.core.errors import BabError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shard:
    """One share of several. number: from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/40`.

        Raises:
            BabError: it isn't spelled so, or there is no such share.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal()):
            raise BabError(f"--shard {text}: expected NUMBER/COUNT, for example 3/40")
        shard = cls(int(number), int(count))
        if not 1 <= shard.number <= shard.count:
            raise BabError(f"--shard {text}: shards are 1 to {shard.count} of {shard.count}")
        return shard

    def of(self, items: Sequence[T], sizes: Sequence[float]) -> list[T]:
        """This share of items, in their order. sizes: of each, its seconds of audio.

        The longest goes first, each to the share that has least so far: so no share has more than
        4/3 of what it need have (Graham 1969, "Bounds on multiprocessing timing anomalies"). The
        same for every share that is handed the same items.
        """
        loads = [(0.0, number) for number in range(1, self.count + 1)]
        own = []
        for index in sorted(range(len(items)), key=lambda i: (-sizes[i], i)):
            load, number = heapq.heappop(loads)
            # An item without a length costs something all the same.
            heapq.heappush(loads, (load + sizes[index] + 1e-3, number))
            if number == self.number:
                own.append(index)
        return [items[index] for index in sorted(own)]
