"""`bab bench --launcher` with 1,000 runs, in made-up time: the scheduler is bab's, nothing else is.

    python benchmarks/scheduling.py [--runs 1000] [--workers 40] [--seconds 20] [--lost 10]

The launcher is a pretended engine, whose jobs wait in a queue, and whose clock jumps; a job takes
requests from the bench's real folder, as `bab.benching.pulling` does, and "works" for a drawn time.
Some workers are lost in the middle of a run, without a word. Then the same again, in which the
command that watches dies a third of the way through, and another one begins two minutes later.

Printed: the makespan beside its bound (the sum of all runs over the workers, or the longest run),
runs that were made twice or lost, and the processor time of one look of the watching process.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bab
from bab.benching.grid import Cell, RunGrid
from bab.core.atomic import write_json

_QUEUE = (2.0, 30.0)  # seconds that a job waits before it begins


class Died(BaseException):
    """The command that watches is killed."""


class Engine:
    """A pretended cluster, and the time of all that is simulated."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.draw = random.Random(args.seed)
        self.args = args
        self.now, self.dies = 0.0, float("inf")
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.works: dict[str, Any] = {}
        self.states: dict[str, str] = {}
        self.made: dict[str, int] = {}  # request -> how often it was worked through
        self.lost, self.working, self.last = 0, 0.0, 0.0
        self.lives = args.lost
        self.looks: list[float] = []  # seconds of processor time between two sleeps
        self._since = time.process_time()

    # --- time, in place of the module

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.looks.append(time.process_time() - self._since)
        until = self.now + seconds
        self.run(until)
        if until > self.dies:
            self.dies = float("inf")
            raise Died
        self._since = time.process_time()

    def run(self, until: float) -> None:
        """All that happens up to a moment."""
        while self.events and self.events[0][0] <= until:
            self.now, _, happens = heapq.heappop(self.events)
            happens()
        self.now = until

    def after(self, seconds: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, len(self.works) + id(happens), happens))

    # --- a launcher

    def submit(self, work: Any) -> str:
        number = str(len(self.works))
        self.works[number], self.states[number] = work, "queued"
        self.after(self.draw.uniform(*_QUEUE), lambda: self.begins(number))
        return number

    def poll(self, ids: Sequence[str]) -> Mapping[str, Any]:
        return {one: bab.Standing(self.states.get(one, "ended")) for one in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        self.states.update(dict.fromkeys(ids, "ended"))

    # --- its jobs

    def begins(self, number: str) -> None:
        self.states[number] = "running"
        self.takes(number)

    def takes(self, number: str) -> None:
        """As `Puller.work`: the next request, or the end."""
        work = self.works[number]
        file = Path(work.argv[-1])
        requests = import_module("bab.benching.requests").Requests(file.parent.parent)
        request = requests.take(work.name)
        if request is None and requests.waiting():
            self.after(0.5, lambda: self.takes(number))
        elif request is None:
            job = import_module("bab.launching.job")
            self.states[number] = "ended"
            write_json(job.end_path(file), job.End(0, False, 1.0, "here", "")._asdict())
        else:
            lasts = length(self.args, request.name)
            if self.lives and self.draw.random() < 2 * self.args.lost / self.args.runs:
                self.lives -= 1
                self.after(self.draw.random() * lasts, lambda: self.dies_at(number))
            else:
                self.after(lasts, lambda: self.ends(number, requests, request, lasts))

    def dies_at(self, number: str) -> None:
        self.states[number] = "ended"
        self.lost += 1

    def ends(self, number: str, requests: Any, request: Any, lasts: float) -> None:
        run = request.runs[0]
        facts = {"status": "done", "folder": "", "reason": "", "searched": False, "select": ""}
        requests.end_run(request, {"seed": run.seed, "rate": run.rate, **facts})
        requests.finish(request, self.works[number].name)
        self.made[request.name] = self.made.get(request.name, 0) + 1
        self.working += lasts
        self.last = self.now
        self.takes(number)


def length(args: argparse.Namespace, name: str) -> float:
    """How long a run takes: the same in every simulation."""
    return args.seconds * random.Random(f"{args.seed} {name[:5]}").lognormvariate(-0.125, 0.5)


def simulate(args: argparse.Namespace, folder: Path, dies: float) -> None:
    """One bench from its beginning to its end."""
    launched, fleet = import_module("bab.benching.launched"), import_module("bab.launching.fleet")
    cells = tuple(Cell(f"e{i}", "vtc") for i in range(args.runs))
    grid = RunGrid(cells, runs=str(folder))
    engine = Engine(args)
    engine.dies = dies
    launched.time = fleet.time = engine
    opened = SimpleNamespace(name="made-up", cancel=False, on_interrupt="leave")
    launch: Any = opened
    launch.open = lambda: engine
    heard: list[Any] = []
    began = time.process_time()
    over = False
    while not over:
        bench = launched.Launched(grid, args.workers, lambda line: None, launch)
        records = SimpleNamespace(take=lambda *_: None, result=lambda: None)
        bench.bench = records
        try:
            bench.run(lambda slot, job, event: heard.append(job.label))
            over = True
        except Died:
            print(f"- the watching command dies at {engine.now:.0f} s: {len(heard)} runs heard of")
            engine.run(engine.now + args.away)
            done = sum(engine.made.values())
            print(f"- another one begins at {engine.now:.0f} s: {done} runs have ended meanwhile")
    report(args, engine, time.process_time() - began)


def report(args: argparse.Namespace, engine: Engine, spent: float) -> None:
    lengths = [length(args, f"{i:05}") for i in range(args.runs)]
    bound = max(sum(lengths) / args.workers, max(lengths))
    twice = sum(engine.made.values()) - len(engine.made)
    looks = sorted(engine.looks)
    middle, high = statistics.median(looks) * 1e3, looks[int(len(looks) * 0.99)] * 1e3
    share = engine.working / engine.last / args.workers
    print(
        f"- {len(engine.made)} of {args.runs} runs made by {len(engine.works)} jobs, {twice} twice"
    )
    print(f"- {engine.lost} workers were lost")
    print(f"- makespan {engine.last:.0f} s, bound {bound:.0f} s: {engine.last / bound:.3f} times")
    print(f"- workers at work {share:.1%} of the time")
    print(f"- {len(looks)} looks, each {middle:.0f} ms of processor time (99 %: {high:.0f} ms)")
    print(f"- {spent:.0f} s of processor time in all, with what workers look for themselves")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a run, on average")
    parser.add_argument("--lost", type=int, default=10, help="workers that die")
    parser.add_argument("--away", type=float, default=120.0, help="seconds without a watcher")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    total = args.runs * args.seconds / args.workers
    for title, dies in (("watched to the end", float("inf")), ("the watcher dies", total / 3)):
        print(f"\n{args.runs} runs of {args.seconds:g} s, {args.workers} workers: {title}\n")
        with tempfile.TemporaryDirectory() as folder:
            simulate(args, Path(folder), dies)


if __name__ == "__main__":
    main()
