"""Worker processes that make a bench's runs, and the queue that feeds them.

A worker is `python -m bab.benching.worker`: requests go in and events come out as lines of JSON.
It has a session of its own, so that Ctrl-C reaches this process alone, which then asks each worker
to save and stop. What a worker prints otherwise lands in `<runs>/.bench/worker-<n>.log`.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bab.benching import grid as planning
from bab.benching.grid import Job, Outcome, Result, RunGrid
from bab.benching.search import Bench
from bab.core.errors import InterruptedRunError
from bab.starting.signals import terminable

_PATIENCE = 120.0  # seconds that workers have to save what they are at
Event = dict[str, Any]
Heard = tuple["Worker", Event | None]
Told = Callable[[int, Job, Event], None]  # slot, its job, an event


class Worker:
    """One process, and the job it is at."""

    def __init__(
        self,
        slot: int,
        logs: Path,
        threads: int,
        heard: queue.SimpleQueue[Heard],
        gpus: Sequence[str] = (),
    ) -> None:
        """gpus: of several, each worker has one; heard: gets this worker's events, and None when it
        has ended."""
        logs.mkdir(parents=True, exist_ok=True)
        self.slot = slot
        self.log = logs / f"worker-{slot}.log"
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}  # what a person set stays
        if len(gpus) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bab.benching.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
                # The same on Windows, where a session is called a process group.
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        self.job: Job | None = None
        self.todo: set[tuple[int, float | None]] = set()
        # A thread, because Windows can't wait for several pipes at once.
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()

    def _listen(self, heard: queue.SimpleQueue[Heard]) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):  # half a line, of a worker that was killed
            for line in self.process.stdout:
                heard.put((self, json.loads(line)))
        heard.put((self, None))

    def start(self, job: Job, request: dict[str, Any]) -> None:
        """Hand it a job; one that has died is found out when its output is read."""
        self.job = job
        self.todo = {(seed, rate) for seed in job.seeds for rate in job.rates}
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:  # a broken pipe
            pass

    def leave(self) -> None:
        """Ask it to save and end."""
        if os.name != "nt":
            self.process.terminate()
        elif self.process.stdin is not None:  # terminate() would kill it there
            self.process.stdin.close()

    def epitaph(self) -> str:
        """Why it died, as far as can be told."""
        code = self.process.wait()
        if code == -9:  # SIGKILL, which Windows lacks
            return "the worker was killed (out of memory?)"
        how = f"signal {-code}" if code < 0 else f"status {code}"
        return f"the worker died ({how}): see {self.log}"


class Pool:
    """Feeds a grid's jobs to workers until all have ended."""

    def __init__(self, grid: RunGrid, workers: int, settled: Callable[[str], None]) -> None:
        """settled: is given a line about each learning-rate search that ended."""
        self.grid = grid
        self.bench = Bench(grid, settled)
        self.pending = planning.jobs(grid)
        self.warm: set[str] = set()  # what features were computed for
        self.logs = Path(grid.runs) / ".bench"
        self.threads = max(1, (os.cpu_count() or 1) // workers)
        self.count = workers
        self.heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self.workers: list[Worker] = []

    def run(self, tell: Told) -> Result:
        """Make all runs.

        Raises:
            InterruptedRunError: Ctrl-C or SIGTERM; the workers saved what they were at.
        """
        with terminable():
            try:
                for slot in range(min(self.count, len(self.pending))):
                    self._hire(slot)
                while self._feed():
                    with suppress(queue.Empty):
                        self._hear(*self.heard.get(timeout=1.0), tell)
            except KeyboardInterrupt:
                self._stop()
                raise InterruptedRunError(
                    "stopped; what was finished stands, and the same command goes on from here"
                ) from None
            finally:
                for worker in self.workers:
                    worker.process.kill()
                    worker.process.wait()
        return self.bench.result()

    def _hire(self, slot: int) -> None:
        from bab.machine.measure import visible_gpus  # it imports torch

        gpus = visible_gpus() if self.count > 1 else ()
        self.workers.append(Worker(slot, self.logs, self.threads, self.heard, gpus))

    def _feed(self) -> bool:
        """Give idle workers something to do; False where all is done."""
        for worker in self.workers:
            if worker.job is None and (job := self._next()) is not None:
                self.pending.remove(job)
                worker.start(job, planning.request(self.grid, job))
        return any(worker.job for worker in self.workers) or bool(self.pending)

    def _next(self) -> Job | None:
        """The first job whose features nobody else is about to compute as well."""
        busy = {_features(worker.job) for worker in self.workers if worker.job}
        for job in self.pending:
            if _features(job) in self.warm or _features(job) not in busy:
                return job
        return None

    def _hear(self, worker: Worker, event: Event | None, tell: Told) -> None:
        if event is None:
            self._bury(worker, tell)
            return
        job = worker.job
        assert job is not None
        if event["event"] == "apart":  # the cell's runs have nothing to gain from one another
            self.pending[:0] = planning.apart(job)
            worker.job, worker.todo = None, set()
            return
        tell(worker.slot, job, event)
        if event["event"] == "ended":
            worker.todo.discard((event["seed"], event["rate"]))
            self._ended(job, event)
        if not worker.todo:
            self.warm.add(_features(job))
            worker.job = None

    def _ended(self, job: Job, event: dict[str, Any]) -> None:
        keys = ("status", "folder", "reason", "seed", "rate", "searched", "select")
        self.bench.take(job.cell, Outcome(**{key: event[key] for key in keys}))

    def _bury(self, worker: Worker, tell: Told) -> None:
        """A worker is gone: what it was at has failed, another takes its place."""
        self.workers.remove(worker)
        reason, job = worker.epitaph(), worker.job
        if job is not None and len(job.seeds) * len(job.rates) > 1:
            # Which of the runs it was can't be told: each is tried by itself.
            self.pending[:0] = [
                one for one in planning.apart(job) if (one.seeds[0], one.rates[0]) in worker.todo
            ]
            worker.todo = set()
        for seed, rate in worker.todo:  # one at most
            assert job is not None
            if not job.failed:  # the next worker only writes down that it failed
                self.pending.insert(0, replace(job, seeds=(seed,), rates=(rate,), failed=reason))
                continue
            event = {
                "event": "ended", "status": "failed", "folder": "", "reason": reason,
                "seed": seed, "rate": rate, "searched": rate is not None, "select": "",
            }  # fmt: skip
            tell(worker.slot, job, event)
            self._ended(job, event)
        if self.pending:
            self._hire(worker.slot)

    def _stop(self) -> None:
        """Ask the workers to save and end; a second Ctrl-C ends them at once."""
        for worker in self.workers:
            worker.leave()
        deadline = time.monotonic() + _PATIENCE
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                return


def _features(job: Job | None) -> str:
    """Jobs that agree in this need the same features."""
    assert job is not None
    return job.cell.label
