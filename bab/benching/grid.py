"""What a bench is to do: encoders by cells by seeds, as jobs for workers. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bab.config.files import merged
from bab.core.errors import BabError
from bab.core.record import Record

SEARCH = ".search"  # below the runs' folder; hidden, so that tables of the runs leave it out


@dataclass(frozen=True, slots=True)
class Cell:
    """A task on a corpus with an encoder. keys: more keys of its runs, as a recipe has them."""

    encoder: str
    task: str
    corpus: str | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """`fbank vtc@rttm:/data`."""
        return f"{self.encoder} {self.task}" + (f"@{self.corpus}" if self.corpus else "")


@dataclass(frozen=True, slots=True)
class RunGrid:
    """What a bench is to do. rates: learning rates to search; none: each run's own.

    sets: texts of `--set`, over everything else. keys: for all cells, below their own keys.
    """

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...] = (0,)
    rates: tuple[float, ...] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)
    sets: tuple[str, ...] = ()
    runs: str = "runs"
    force: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is given: a cell's runs over seeds and rates, or a single run.

    failed: why the runs are not to be tried, only recorded as failed: they killed a worker.
    """

    cell: Cell
    seeds: tuple[int, ...]
    rates: tuple[float | None, ...]
    failed: str = ""

    @property
    def label(self) -> str:
        """What a person is told of it."""
        many = "seeds" if len(self.seeds) > 1 else "seed"
        rates = [f"{rate:g}" for rate in self.rates if rate is not None]
        tail = f", lr {' '.join(rates)}" if rates else ""
        return f"{self.cell.label}, {many} {' '.join(map(str, self.seeds))}{tail}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended: done | failed | not-applicable | busy (another process is at it).

    searched: its learning rate was one of several; a head solved in closed form has none.
    select: the metric that chose its checkpoint, where that isn't the headline.
    """

    status: str
    folder: str
    reason: str
    seed: int
    rate: float | None
    searched: bool
    select: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a bench leaves: the records of its table, and outcomes that are in none."""

    records: tuple[Record, ...]
    failures: tuple[tuple[Cell, Outcome], ...]


def parse_cell(text: str) -> tuple[str, str | None]:
    """`gender@kaldi:/data/x` -> ("gender", "kaldi:/data/x"); without `@`, the task's own corpus.

    Raises:
        BabError: nothing before or after the `@`.
    """
    task, at, corpus = text.strip().partition("@")
    if not task or (at and not corpus):
        raise BabError(f"cell '{text}' is not spelled TASK or TASK@CORPUS[:ROOT]")
    return task, corpus or None


def jobs(grid: RunGrid) -> list[Job]:
    """The work in order: a job for each cell, whose runs may be trained together."""
    return [Job(cell, grid.seeds, grid.rates or (None,)) for cell in grid.cells]


def apart(job: Job) -> list[Job]:
    """A job's runs as jobs of their own."""
    return [replace(job, seeds=(s,), rates=(r,)) for r in job.rates for s in job.seeds]


def request(grid: RunGrid, job: Job) -> dict[str, Any]:
    """A job as a worker reads it (JSON)."""
    cell = job.cell
    options = {**merged(grid.keys, cell.keys), "observers": ["jsonl"], "quiet": True}
    named = {"encoder": cell.encoder, "task": cell.task, "corpus": cell.corpus}
    for section, name in named.items():
        if name is not None:
            own = options.get(section)  # its options, from the grid's file
            options[section] = {**own, "name": name} if isinstance(own, dict) else name
    return {
        "options": options,
        "sets": list(grid.sets),
        "seeds": list(job.seeds),
        "rates": list(job.rates),
        "runs": grid.runs,
        "search": str(Path(grid.runs) / SEARCH),
        "force": grid.force,
        "failed": job.failed,
    }
