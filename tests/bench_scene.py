"""A launched bench whose jobs never begin by themselves: a test plays its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bab.benching.grid import Cell, Job, Result, RunGrid
from bab.benching.launched import Launched
from bab.benching.requests import Request, features_key
from bab.core.atomic import write_json
from bab.core.launchers import Launcher, Standing, Work
from bab.launching.asked import Launch
from bab.launching.job import End, end_path

VTC, GENDER = Cell("fbank", "vtc"), Cell("fbank", "gender")


def request(number: int, seeds: tuple[int, ...] = (0,), label: str = "a") -> Request:
    """Runs of some seeds at the task's own rate, of a cell with that label."""
    body = {"seeds": list(seeds), "rates": [None]}
    return Request(f"{number:05}", number, features_key(label), body)


class Engine(Launcher):
    """Queues jobs that never begin by themselves."""

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.gone: set[str] = set()  # ids of those that have ended
        self.cancelled: list[str] = []

    def submit(self, work: Work) -> str:
        self.works.append(work)
        return str(len(self.works))

    def poll(self, ids: Sequence[str]) -> Mapping[str, Standing]:
        return {one: Standing("running") for one in ids if one not in self.gone}

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids
        self.gone |= set(ids)


class Asked(Launch):
    engine: Engine

    def open(self) -> Launcher:
        return self.engine


Turn = Callable[[], None]


class Scene:
    """A bench, and what happens between two of its looks."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.top, self.engine = top, Engine()
        self.said: list[str] = []
        self.told: list[tuple[int, str, dict[str, Any]]] = []
        self.naps: list[float] = []
        self.turns: list[Turn] = []
        self.most = 3
        self.way: dict[str, Any] = {}
        self.grid = RunGrid((VTC,), runs=str(top / "runs"))
        monkeypatch.setattr("bab.launching.fleet._POLL", 0.0)
        monkeypatch.setattr("bab.launching.fleet._SHARE", 0.0)
        monkeypatch.setattr("bab.launching.fleet._LATE", 0.0)
        monkeypatch.setattr("time.sleep", self.nap)
        self.open()

    def open(self, *cells: Cell, **changes: Any) -> None:
        """Another grid, or the same again."""
        whole = {"cells": cells or self.grid.cells, "seeds": self.grid.seeds, **changes}
        self.grid = RunGrid(runs=self.grid.runs, **whole)
        launch = Asked("here", (), **self.way)
        object.__setattr__(launch, "engine", self.engine)
        self.bench = Launched(self.grid, self.most, self.said.append, launch)
        self.requests, self.folder = self.bench.requests, self.bench.folder

    def nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        if not self.turns:
            raise AssertionError("it waits for something that never comes")
        self.turns.pop(0)()

    def run(self, *turns: Turn) -> Result:
        self.turns = list(turns)
        return self.bench.run(lambda slot, job, event: self.tell(slot, job, event))

    def tell(self, slot: int, job: Job, event: Mapping[str, Any]) -> None:
        self.told.append((slot, job.label, dict(event)))

    @property
    def workers(self) -> list[str]:
        return [work.name for work in self.engine.works]

    def take(self, place: int = -1) -> Request:
        """A worker takes what is there for it."""
        taken = self.requests.take(self.workers[place])
        assert taken is not None
        return taken

    def end(
        self, one: Request, status: str = "failed", seeds: Sequence[int] = (), **more: Any
    ) -> None:
        """Its runs end, or those of some seeds."""
        for run in one.runs:
            if not seeds or run.seed in seeds:
                said = {"event": "ended", "status": status, "folder": "", "reason": "x"}
                said |= {"seed": run.seed, "rate": run.rate, "searched": False, "select": ""}
                self.requests.end_run(one, {**said, **more})

    def finish(self, one: Request, place: int = -1) -> None:
        self.requests.finish(one, self.workers[place])

    def die(self, status: int = -9, interrupted: bool = False, place: int = -1) -> None:
        """A worker's job ends."""
        file = self.folder / "jobs" / f"{self.workers[place]}.json"
        write_json(end_path(file), End(status, interrupted, 7.0, "node3", "")._asdict())
        self.engine.gone.add(str(len(self.workers) + place + 1 if place < 0 else place + 1))

    def whole(self, **more: Any) -> None:
        """A worker does all that is left."""
        while (one := self.requests.take(self.workers[-1])) is not None:
            self.end(one, **more)
            self.finish(one)
