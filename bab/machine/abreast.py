"""Several passes of a model at once on a CPU, each on its own share of the cores.

Threads that split one small product wait for each other after each: a second core gained 1.0 to
1.7 times by that, and where another process had the core, each wait took milliseconds
(docs/speed.md). Passes of their own never wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")

_SECONDS = 64.0  # of audio in passes at once: of a base model, 30 s take 600 MB on their way


class Share(NamedTuple):
    """How many passes at once, and how many threads each computes with; 0: as many as it finds."""

    passes: int
    threads: int


ALONE = Share(1, 0)


def share(cores: int, longest: float) -> Share:
    """Of so many cores, for passes of up to `longest` seconds."""
    passes = max(1, min(cores, int(_SECONDS // max(longest, 1e-3))))
    return Share(passes, cores // passes)


def abreast(
    work: Callable[[Item], Made], items: Iterable[Item], shared: Share
) -> Iterator[tuple[Item, Made]]:
    """Each item with what `work` makes of it, in order. With more than one pass at once the work
    is done in threads; items are taken no further ahead than those are busy."""
    if shared.passes == 1:
        for item in items:
            yield item, _with(shared.threads, work, item)
        return
    before = torch.get_num_threads()
    name = "bab-pass"
    pool = ThreadPoolExecutor(shared.passes, name, torch.set_num_threads, (shared.threads,))
    busy: deque[tuple[Item, Future[Made]]] = deque()
    try:
        for item in items:
            busy.append((item, pool.submit(work, item)))
            if len(busy) > shared.passes:
                item, made = busy.popleft()
                yield item, made.result()
        for item, made in busy:
            yield item, made.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # else threads that begin later would take theirs


def _with(threads: int, work: Callable[[Item], Made], item: Item) -> Made:
    """Who asks may compute with another number (`one_thread`): its bits would be others."""
    before = torch.get_num_threads()
    if threads in (0, before):
        return work(item)
    torch.set_num_threads(threads)
    try:
        return work(item)
    finally:
        torch.set_num_threads(before)
