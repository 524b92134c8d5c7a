"""Recordings in turn, or several at once in processes of their own: what comes of each."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bab.audio.decoding import REPLACE
from bab.checking.blame import blamed, naming
from bab.core.errors import AudioError, BabError, DiskFullError, InterruptedRunError
from bab.data.workers import workers
from bab.running.maker import Made, Maker, PredictOptions
from bab.running.recordings import Recording

Plan = tuple[str | Path, PredictOptions, Path]  # of a `Maker`
_PATIENCE = 60.0  # seconds that workers have to write down what they have, after a stop
_LOOK = 0.5  # seconds between two looks at how far they are


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a recording: its result, or why it was left out; seconds: of work."""

    made: Made | None
    why: str = ""
    seconds: float = 0.0


@naming()  # in a worker: its traceback doesn't reach the process that waits
def answered(
    maker: Maker,
    recording: Recording,
    tell: Callable[[float], None],
    stop: Callable[[], bool],
) -> Answer:
    """A recording's result; where its audio can't be read, why.

    Raises:
        BabError: the out folder can't be written to.
        InterruptedRunError: stopped; what is done of it is kept.
    """
    began = time.monotonic()
    try:
        made = maker.make(recording, tell, stop)
    except AudioError as error:
        return Answer(None, str(error).replace(f"; {REPLACE}", "; get it again"))
    except DiskFullError:
        raise
    except OSError as error:
        if blamed(error) is not error:
            raise
        raise BabError(
            f"{maker.out} can't be written to ({error.strerror or error}), at {recording.name}: "
            "make room, or name another --out; the same command goes on where it stopped"
        ) from None
    return Answer(made, seconds=time.monotonic() - began)


def side_by_side(
    recordings: Sequence[Recording],
    jobs: int,
    plan: Plan,
    tell: Callable[[float], None],
    stop: Callable[[], bool],
) -> Iterator[tuple[Recording, Answer]]:
    """Recordings with what came of them, as they are done.

    Args:
        recordings: of which `jobs` are at work at a time.
        plan: run folder, options and out folder, of which each process makes a `Maker`.
        tell: is told how many seconds of those at work are done.
        stop: whether to stop.

    Raises:
        BabError: a process died.
        InterruptedRunError: stopped; what is done is kept.
    """
    context = multiprocessing.get_context("spawn")
    seconds = context.Array("d", jobs, lock=False)
    shared = (seconds, context.Value("i", 0), context.Event())
    threads = max(1, (os.cpu_count() or 1) // jobs)
    try:
        with workers(jobs, _begin, plan, threads, shared) as pool:
            waiting = {pool.submit(_work, one): one for one in recordings}
            while waiting:
                ready, _ = wait(waiting, _LOOK, FIRST_COMPLETED)
                for future in ready:
                    yield waiting.pop(future), future.result()
                tell(sum(seconds))
                if stop():
                    shared[2].set()
                    _settle(waiting)
                    raise InterruptedRunError(
                        f"stopped; what is done is in {plan[2]}, and the same command goes on"
                    )
    except BrokenProcessPool:
        raise BabError(
            "a process of --jobs died (was it out of memory?). Use fewer --jobs; the same command "
            "goes on where it stopped"
        ) from None


def _settle(waiting: dict[Future[Answer], Recording]) -> None:
    """Wait until those at work have written down how far they are."""
    wait([future for future in waiting if not future.cancel()], _PATIENCE)


# ------------------------------------------------------------------------------- in a worker

_here: dict[str, Any] = {}  # of this process: its maker, its place among the others, the stop


def _begin(
    plan: tuple[str | Path, PredictOptions, Path], threads: int, shared: tuple[Any, ...]
) -> None:
    import torch

    torch.set_num_threads(threads)
    seconds, count, stopped = shared
    with count.get_lock():
        place, count.value = count.value, count.value + 1
    _here.update(maker=Maker(*plan), seconds=seconds, place=place, stop=stopped.is_set)


def _work(recording: Recording) -> Answer:
    seconds, place = _here["seconds"], _here["place"]

    def tell(done: float) -> None:
        seconds[place] = done

    try:
        return answered(_here["maker"], recording, tell, _here["stop"])
    finally:
        seconds[place] = 0.0
