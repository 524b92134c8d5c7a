"""A bench's requests as files, where worker processes of any machine take them.

`todo/` holds what nobody is at; a worker takes a request by renaming it into `at/`, with its own
name behind it, which can't succeed twice. How a run ended stands in `ended/`, a file for each, and
is there before its request goes from `at/`: whoever looks into `todo`, `at` and `ended`, in this
order, sees every run at least once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from bab.core.atomic import write_bytes, write_json

_MARK = "@"  # between a request and who has it


class RunKey(NamedTuple):
    """One run of a bench: the cell by its place in the grid, seed, learning rate."""

    cell: int
    seed: int
    rate: float | None


@dataclass(frozen=True, slots=True)
class Request:
    """What a worker takes: runs of one cell. name: sorts as they are to be made; features: the same
    for requests that need the same; body: see bab.benching.grid.request; lost: how many workers
    went away while at it."""

    name: str
    cell: int
    features: str
    body: Mapping[str, Any]
    lost: int = 0

    @property
    def runs(self) -> list[RunKey]:
        """The runs that it is for."""
        body = self.body
        return [RunKey(self.cell, seed, rate) for rate in body["rates"] for seed in body["seeds"]]

    def apart(self) -> list[Request]:
        """Its runs as requests of their own."""
        return [
            replace(
                self,
                name=f"{self.name}.{number:04}",
                body={**self.body, "seeds": [run.seed], "rates": [run.rate]},
            )
            for number, run in enumerate(self.runs)
        ]


class Requests:
    """The folder of a bench's requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.todo, self.at, self.ended, self.warm, self.now = (
            folder / name for name in ("todo", "at", "ended", "warm", "now")
        )

    def make(self) -> None:
        """Make the folder."""
        for place in (self.todo, self.at, self.ended, self.warm, self.now):
            place.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Forget all requests; what jobs printed stays."""
        for place in (self.todo, self.at, self.ended, self.warm, self.now):
            shutil.rmtree(place, ignore_errors=True)

    # --- of those who ask and wait

    def ask(self, request: Request) -> None:
        """Put a request where workers take it."""
        write_json(self.todo / f"{request.name}.json", _values(request))

    def open(self) -> list[Request]:
        """What is to be done or being done."""
        return [*self._read(self.todo), *(request for request, _ in self.taken())]

    def employed(self) -> int:
        """How many workers have something to do: those at work, and one for each request that can
        begin now."""
        waiting, taken = [*self._read(self.todo)], [request for request, _ in self.taken()]
        busy = {request.features for request in taken}
        count = len(taken)
        for request in waiting:
            if (self.warm / request.features).exists():
                count += 1
            elif request.features not in busy:
                busy.add(request.features)
                count += 1
        return count

    def taken(self) -> list[tuple[Request, str]]:
        """What workers are at, and who."""
        return [
            (request, path.name.partition(_MARK)[2].removesuffix(".json"))
            for path in _files(self.at)
            if (request := _request(path)) is not None
        ]

    def events(self, known: set[str]) -> list[tuple[str, dict[str, Any]]]:
        """How runs ended that are not among `known`, by file name; each event with its `cell`."""
        told = []
        for path in _files(self.ended):
            if path.name not in known and (event := _json(path)) is not None:
                told.append((path.name, event))
        return told

    def forget(self, name: str) -> None:
        """Take back how a run ended."""
        (self.ended / name).unlink(missing_ok=True)

    def progress(self) -> dict[str, dict[str, Any]]:
        """What each worker has last told of the run that it is at; with its request under `of`."""
        return {p.stem: event for p in _files(self.now) if (event := _json(p)) is not None}

    def drop(self, worker: str) -> list[Request]:
        """Take its requests from a worker that is gone."""
        lost = [request for request, who in self.taken() if who == worker]
        for request in lost:
            self._held(request, worker).unlink(missing_ok=True)
        (self.now / f"{worker}.json").unlink(missing_ok=True)
        return lost

    # --- of workers

    def take(self, worker: str) -> Request | None:
        """The first request whose features are there, or which nobody else computes just now."""
        busy = {request.features for request, who in self.taken() if who != worker}
        for path in _files(self.todo):
            request = _request(path)
            if request is None:
                continue
            if request.features in busy and not (self.warm / request.features).exists():
                continue
            try:
                path.rename(self._held(request, worker))
            except OSError:  # another was faster
                continue
            return request
        return None

    def waiting(self) -> bool:
        """Whether there is something to do that nobody is at."""
        return bool(_files(self.todo))

    def heat(self, request: Request) -> None:
        """Say that what a request needs of features is there."""
        if not (self.warm / request.features).exists():
            with suppress(OSError):
                write_bytes(self.warm / request.features, b"")

    def back(self, request: Request, worker: str) -> None:
        """Give a request back, for any worker."""
        with suppress(OSError):
            self._held(request, worker).rename(self.todo / f"{request.name}.json")

    def end_run(self, request: Request, event: Mapping[str, Any]) -> None:
        """Say how one of a request's runs ended."""
        run = RunKey(request.cell, event["seed"], event["rate"])
        write_json(self.ended / run_file(run), {**event, "cell": request.cell})

    def finish(self, request: Request, worker: str) -> None:
        """All runs of a request have ended."""
        self.heat(request)
        self._held(request, worker).unlink(missing_ok=True)

    def split(self, request: Request, worker: str) -> None:
        """Ask for a request's runs one by one."""
        for one in request.apart():
            self.ask(one)
        self._held(request, worker).unlink(missing_ok=True)

    def _held(self, request: Request, worker: str) -> Path:
        return self.at / f"{request.name}{_MARK}{worker}.json"

    def _read(self, place: Path) -> Iterator[Request]:
        return (one for path in _files(place) if (one := _request(path)) is not None)


def run_file(run: RunKey) -> str:
    """Where it stands how a run ended."""
    return f"{run.cell}_{run.seed}_{run.rate!r}.json"


def features_key(label: str) -> str:
    """What requests have in common that need the same features."""
    return hashlib.blake2b(label.encode(), digest_size=6).hexdigest()


def uncovered(wanted: Sequence[Request], requests: Requests) -> list[Request]:
    """Of what is wanted, what is neither asked for nor ended: whole requests where none of their
    runs is, else run by run."""
    covered = {run for request in requests.open() for run in request.runs}
    ended = {path.name for path in _files(requests.ended)}
    lacking = []
    for request in wanted:
        missing = [r for r in request.runs if r not in covered and run_file(r) not in ended]
        if len(missing) == len(request.runs):
            lacking.append(request)
        else:
            lacking += [one for one in request.apart() if one.runs[0] in missing]
    return lacking


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.suffix == ".json" and p.name[0] != ".")
    except OSError:
        return []


def _json(path: Path) -> dict[str, Any] | None:
    """None of a file that went meanwhile."""
    with suppress(OSError, ValueError):
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return None


def _values(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in Request.__slots__}


def _request(path: Path) -> Request | None:
    values = _json(path)
    return None if values is None else Request(**values)
