"""Recordings in turn, or several at once in processes of their own: what comes of each."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bab.audio.decoding import of_a_file
from bab.checking.blame import blamed, naming
from bab.core.errors import AudioError, BabError, DiskFullError, InterruptedRunError
from bab.data.workers import workers
from bab.predicting.maker import Heard, Made, Maker, PredictOptions
from bab.predicting.recordings import Recording

Result = TypeVar("Result")
Plan = tuple[str | Path, PredictOptions, Path]  # of a `Maker`
_PATIENCE = 60.0  # seconds that workers have to write down what they have, after a stop
_BEHIND = 3  # recordings that the model has heard and that wait to be written
_LOOK = 0.5  # seconds between two looks at how far they are


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a recording: its result, or why it was left out; seconds: of work."""

    made: Made | None
    why: str = ""
    seconds: float = 0.0


Answers = Generator[tuple[Recording, Answer], None, None]


def in_turn(
    maker: Maker,
    recordings: Sequence[Recording],
    tell: Callable[[float], None],
    stop: Callable[[], bool],
) -> Answers:
    """Recordings with what came of them, in order.

    What is said of a short one is decoded and written in a thread, while the model hears the next:
    to wait for the disk would take a third of the time of a folder of clips.

    Raises:
        BabError: the out folder can't be written to.
        InterruptedRunError: stopped; what is done is kept.
    """
    waiting: deque[tuple[Recording, Future[Answer]]] = deque()

    def ready(most: int) -> Iterator[tuple[Recording, Answer]]:
        while waiting and (len(waiting) > most or waiting[0][1].done()):
            one, future = waiting.popleft()
            yield one, future.result()

    with ThreadPoolExecutor(1) as writer:
        try:
            for recording in recordings:
                heard, seconds = _heard(maker, recording, tell, stop)
                future = writer.submit(_finished, maker, recording, heard, seconds)
                waiting.append((recording, future))
                brief = isinstance(heard, Answer) or heard.brief
                yield from ready(_BEHIND if brief else 0)
        except InterruptedRunError:
            yield from ready(0)
            raise
        yield from ready(0)


def _heard(
    maker: Maker,
    recording: Recording,
    tell: Callable[[float], None],
    stop: Callable[[], bool],
) -> tuple[Heard | Answer, float]:
    """What the model says of a recording, or why it can't be read; seconds of work."""
    began = time.monotonic()
    heard = _tried(maker, recording, lambda: maker.hear(recording, tell, stop))
    return heard, time.monotonic() - began


def _finished(maker: Maker, recording: Recording, heard: Heard | Answer, seconds: float) -> Answer:
    """What came of a recording."""
    if isinstance(heard, Answer):
        return heard
    made = _tried(maker, recording, lambda: maker.finish(heard))
    return made if isinstance(made, Answer) else Answer(made, seconds=seconds)


@naming()  # in a worker: its traceback doesn't reach the process that waits
def _tried(maker: Maker, recording: Recording, work: Callable[[], Result]) -> Result | Answer:
    """What some work gives; where a recording's audio can't be read, why.

    Raises:
        BabError: the out folder can't be written to.
        InterruptedRunError: stopped; what is done of it is kept.
    """
    try:
        return work()
    except AudioError as error:
        return Answer(None, of_a_file(error))
    except DiskFullError:
        raise
    except OSError as error:
        if blamed(error) is not error:
            raise
        raise BabError(
            f"{maker.out} can't be written to ({error.strerror or error}), at {recording.name}: "
            "make room, or name another --out; the same command goes on where it stopped"
        ) from None


def side_by_side(
    recordings: Sequence[Recording],
    jobs: int,
    plan: Plan,
    tell: Callable[[float], None],
    stop: Callable[[], bool],
) -> Answers:
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
    done, place = _here["seconds"], _here["place"]

    def tell(seconds: float) -> None:
        done[place] = seconds

    try:
        heard, seconds = _heard(_here["maker"], recording, tell, _here["stop"])
        return _finished(_here["maker"], recording, heard, seconds)
    finally:
        done[place] = 0.0
