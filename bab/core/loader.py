"""Batches made ahead of the steps that want them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from bab.core.types import Batch

_CHEAP = 2e-3  # seconds in which a batch is made that is not worth a thread


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
