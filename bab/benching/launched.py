"""A bench whose runs are made by jobs of a launcher: what `Pool` is on one machine.

Each job is a worker that takes request after request (bab.benching.requests), so that a run of
seconds doesn't wait in the cluster's queue. This process only keeps as many workers as there is
work for, tells what they did, and settles searches; it may leave and come back.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bab.benching import grid as planning
from bab.benching.grid import Job, Outcome, Result, RunGrid
from bab.benching.pool import Told
from bab.benching.requests import Request, Requests, RunKey, features_key, run_file, uncovered
from bab.benching.search import Bench
from bab.core.errors import BabError, BusyError, counted
from bab.launching.asked import Launch, interrupted
from bab.launching.fleet import Ended, Fleet
from bab.starting.signals import terminable

_TICK = 0.5  # seconds between two looks into the folder
_LIVES = 3  # workers that a run may lose before it is recorded as failed
_HELD = 20  # times that a run is asked for again which another holds; each waits for 30 s
_STILLBORN = 3  # workers in turn that end badly before they have taken anything


class Launched:
    """Feeds a grid's runs to a launcher's jobs until all have ended."""

    def __init__(
        self, grid: RunGrid, workers: int, settled: Callable[[str], None], launch: Launch
    ) -> None:
        """workers: jobs in the launcher's queue at a time; settled: as of `Pool`."""
        self.grid, self.most, self.launch, self.settled = grid, workers, launch, settled
        self.bench = Bench(grid, settled)
        self.wanted = [_wanted(grid, i, job) for i, job in enumerate(planning.jobs(grid))]
        self.folder = Path(grid.runs) / ".bench" / _key(self.wanted)
        self.requests = Requests(self.folder)
        self.left = {run for request in self.wanted for run in request.runs}
        self.known: set[str] = set()  # files of runs that have ended
        self.stillborn = 0
        self.held: dict[RunKey, int] = {}  # by another process: how often it was found so

    def run(self, tell: Told) -> Result:
        """Make all runs; arguments and errors as of `Pool.run`."""
        launcher = self.launch.open()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise BusyError(
                f"another bab bench watches these jobs ({self.folder}): wait for it"
            ) from None
        try:
            fleet = Fleet(launcher, self.launch.name, self.folder / "jobs")
            if self.launch.cancel:
                return self._cancel(fleet)
            self._begin(fleet)
            with terminable():
                try:
                    self._watch(fleet, tell)
                except KeyboardInterrupt:
                    raise interrupted(fleet, self.launch, "what was finished stands") from None
            self.requests.clear()
            return self.bench.result()
        finally:
            lock.release()

    def _cancel(self, fleet: Fleet) -> Result:
        number = len(fleet.jobs)
        fleet.cancel()
        self.settled(f"{counted(number, 'job')} cancelled; what was finished stands")
        return Result((), ())

    def _begin(self, fleet: Fleet) -> None:
        """Ask for what isn't asked for yet: all, or what an earlier such command lacks."""
        self.requests.make()
        if fleet.jobs:
            self.settled(f"{counted(len(fleet.jobs), 'job')} of an earlier call still at work")
        for worker in {who for _, who in self.requests.taken()} - set(fleet.jobs):
            self._bury(worker, "it was lost while nobody watched")
        for name, event in self.requests.events(set()):
            if event["status"] in ("failed", "busy"):  # tried again, as without a launcher
                self.requests.forget(name)
        for request in uncovered(self.wanted, self.requests):
            self.requests.ask(request)

    def _watch(self, fleet: Fleet, tell: Told) -> None:
        slots: dict[str, int] = {}
        while True:
            self._hear(slots, tell)
            if not self.left:
                return
            for ended in fleet.look():
                self._ended(ended, fleet)
                slots.pop(ended.name, None)
            self._hire(fleet)
            for name in fleet.jobs:
                if name not in slots:
                    slots[name] = min(set(range(len(slots) + 1)) - set(slots.values()))
            time.sleep(_TICK)

    def _hire(self, fleet: Fleet) -> None:
        """Have as many workers as there is something to do for."""
        need = self.requests.employed()
        if not need and not fleet.jobs:
            self._recover()
        while len(fleet.jobs) < min(self.most, need):
            # The number tells them apart for people; the rest from those of a folder that went.
            name = f"w{fleet.made + 1:04}-{secrets.token_hex(2)}"
            folder = str(self.folder.absolute())
            fleet.submit(name, ["-m", "bab.benching.pulling", folder, name])

    def _recover(self) -> None:
        """Nothing is asked for, nobody is at work, and runs lack: files that went away."""
        time.sleep(2.0)  # a file may be late
        for request in uncovered(self.wanted, self.requests):
            self.requests.ask(request)

    def _hear(self, slots: Mapping[str, int], tell: Told) -> None:
        """Tell what has ended, and how far the others are."""
        for name, event in self.requests.events(self.known):
            if event["status"] == "busy" and self._again(name, event):
                continue
            self.known.add(name)
            job = self._job(event["cell"], event["seed"], event["rate"])
            tell(0, job, event)
            keys = ("status", "folder", "reason", "seed", "rate", "searched", "select")
            self.bench.take(job.cell, Outcome(**{key: event[key] for key in keys}))
            self.left.discard(RunKey(event["cell"], event["seed"], event["rate"]))
            self.stillborn = 0
        at = {who: request for request, who in self.requests.taken()}
        for worker, event in self.requests.progress().items():
            request = at.get(worker)
            if request is not None and worker in slots and event.get("of") == request.name:
                body = request.body
                job = Job(self.grid.cells[request.cell], tuple(body["seeds"]), tuple(body["rates"]))
                tell(slots[worker], job, event)

    def _again(self, name: str, event: Mapping[str, Any]) -> bool:
        """Ask again for a run that another process holds: maybe a worker of a node that is lost to
        the engine, and still at work. Not for ever."""
        run = RunKey(event["cell"], event["seed"], event["rate"])
        self.held[run] = self.held.get(run, 0) + 1
        if self.held[run] > _HELD:
            return False
        whole = next(one for one in self.wanted if run in one.runs)
        self.requests.ask(next(one for one in whole.apart() if one.runs == [run]))
        self.requests.forget(name)
        return True

    def _ended(self, ended: Ended, fleet: Fleet) -> None:
        """A worker is gone: what it was at is tried again by another."""
        if ended.end is not None and (ended.end.status == 0 or ended.end.interrupted):
            for request in self.requests.drop(ended.name):  # stopped before it could say so
                self.requests.ask(request)
            return
        taken = self._bury(ended.name, ended.why)
        self.settled(f"worker {ended.name}: {ended.why}{'; its run begins again' * taken}")
        self.stillborn += not taken
        if self.stillborn >= _STILLBORN:
            tail = fleet.tail(ended.name)
            raise BabError(
                f"{_STILLBORN} jobs in turn ended before they did anything ({ended.why}). The last "
                f"lines of {fleet.log(ended.name)}:\n{tail or '(empty)'}"
            )

    def _bury(self, worker: str, why: str) -> bool:
        """Ask again for what a lost worker was at; whether it was at anything."""
        lost = self.requests.drop(worker)
        for request in lost:
            again = replace(request, lost=request.lost + 1)
            ended = self.requests.ended
            open_runs = [r for r in request.runs if not (ended / run_file(r)).exists()]
            if again.lost >= _LIVES:
                reason = f"its worker was lost {again.lost} times; the last time: {why}"
                again = replace(again, body={**again.body, "failed": reason})
            single = again.lost > 1 or len(open_runs) < len(request.runs)
            parts = again.apart() if single and len(request.runs) > 1 else [again]
            for one in parts:
                if set(one.runs) & set(open_runs):
                    self.requests.ask(one)
        return bool(lost)

    def _job(self, cell: int, seed: int, rate: float | None) -> Job:
        return Job(self.grid.cells[cell], (seed,), (rate,))


def _wanted(grid: RunGrid, number: int, job: Job) -> Request:
    """A job as a request."""
    cell = grid.cells.index(job.cell)
    body = planning.request(grid, job)
    return Request(f"{number:05}", cell, features_key(job.cell.label), body)


def _key(wanted: list[Request]) -> str:
    """The same for the same command."""
    text = json.dumps([one.body for one in wanted], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
