"""Work shared out to processes of this machine, which end with the process that began them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def workers(
    count: int, begin: Callable[..., None], *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """A pool of `count` processes; in each, `begin(*arguments)` comes first.

    An error, or a stop, ends them at once, also in the middle of their work. They take no Ctrl-C
    (the process that began them does), and none outlives that process, whatever ended it.
    """
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=_begin, initargs=(begin, arguments)
    )
    try:
        yield pool
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()


def _begin(begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="bab-parent", daemon=True).start()
    begin(*arguments)


def _end_with_parent() -> None:
    """A worker waits for its next piece of work for ever, even when nobody is left to send it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
