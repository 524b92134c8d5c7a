"""Many runs: encoders by cells by seeds, each run found, resumed, repeated or recorded as failed.

This process only plans and reads records: it imports no torch. The runs are made by worker
processes (bab.core.pool), so that one that dies takes only its own run with it.

Where learning rates are searched, every rate is run with every seed in `<runs>/.search`. The rate
with the best mean dev score is chosen per encoder and cell; its runs, and no others, then stand
among the runs. Test scores play no part in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bab.core import results
from bab.core.atomic import atomic_folder, write_json
from bab.core.errors import BabError
from bab.core.records import Record
from bab.core.sources import merged

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
class Grid:
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


def jobs(grid: Grid) -> list[Job]:
    """The work in order: a job for each cell, whose runs may be trained together."""
    return [Job(cell, grid.seeds, grid.rates or (None,)) for cell in grid.cells]


def apart(job: Job) -> list[Job]:
    """A job's runs as jobs of their own."""
    return [replace(job, seeds=(s,), rates=(r,)) for r in job.rates for s in job.seeds]


def request(grid: Grid, job: Job) -> dict[str, Any]:
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


class Bench:
    """Keeps the outcomes of a grid, and settles each cell's search once all its runs ended."""

    def __init__(self, grid: Grid, tell: Callable[[str], None]) -> None:
        """tell: is given a line about each search that was settled."""
        self.grid = grid
        self.tell = tell
        self.left: dict[int, int] = {}
        self.outcomes: dict[int, list[Outcome]] = {}
        self.places: dict[int, list[Path]] = {}
        for job in jobs(grid):
            index = grid.cells.index(job.cell)
            self.left[index] = self.left.get(index, 0) + len(job.seeds) * len(job.rates)

    def take(self, cell: Cell, outcome: Outcome) -> None:
        """Note how a run ended; the last of a cell's runs settles the cell."""
        index = self.grid.cells.index(cell)
        if not outcome.searched:  # the run is the same at every rate
            outcome = replace(outcome, rate=None)
        self.outcomes.setdefault(index, []).append(outcome)
        self.left[index] -= 1
        if self.left[index]:
            return
        found = self.outcomes[index]
        plain = [Path(o.folder) for o in found if o.folder and not o.searched]
        searched = [o for o in found if o.searched]
        if any(o.status == "busy" for o in searched):
            self.tell(f"{cell.label}: no rate chosen: another process is at work on its runs")
            searched = []
        chosen = self._settle(cell, searched) if searched else []
        self.places[index] = list(dict.fromkeys([*plain, *chosen]))

    def result(self) -> Result:
        """The records of all cells that were settled."""
        records = [results.load(path) for paths in self.places.values() for path in paths]
        failures = [
            (self.grid.cells[index], one)
            for index, found in self.outcomes.items()
            for one in dict.fromkeys(found)
            if one.status not in ("done", "not-applicable")
        ]
        return Result(tuple(records), tuple(failures))

    def _settle(self, cell: Cell, found: Sequence[Outcome]) -> list[Path]:
        """Choose a rate and let its runs stand among the runs; those of an earlier choice go."""
        by_rate: dict[float, list[Record | None]] = {}
        for outcome in found:
            assert outcome.rate is not None
            record = results.load(outcome.folder) if outcome.folder else None
            by_rate.setdefault(outcome.rate, []).append(record)
        rate, dev = choose(by_rate, found[0].select)
        search = {
            "key": "train.lr",
            "chosen": rate,
            "dev": {f"{r:g}": value for r, value in dev.items()},
            "seeds": list(self.grid.seeds),
        }
        top = Path(self.grid.runs)
        folders = [Path(o.folder) for o in found if o.rate == rate and o.folder]
        names = [folder.relative_to(top / SEARCH) for folder in folders]
        for name in names:
            promote(top / SEARCH / name, top / name, search)
        _forget(top, self._memo(cell), names)
        shown = ", ".join(f"{r:g}: {value:.4g}" for r, value in dev.items())
        if math.isnan(dev[rate]):
            self.tell(f"{cell.label}: no lr could be chosen: of each a run failed")
        else:
            self.tell(f"{cell.label}: lr {rate:g} is best on dev ({shown})")
        return [top / name for name in names]

    def _memo(self, cell: Cell) -> Path:
        """Where it stands which runs a search let stand, whatever rates it went over."""
        facts = [cell.encoder, cell.task, cell.corpus, cell.keys, self.grid.keys, self.grid.sets]
        text = json.dumps([*facts, self.grid.seeds], sort_keys=True, default=str)
        name = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        return Path(self.grid.runs) / SEARCH / f"{name}.json"


def choose(
    by_rate: Mapping[float, Sequence[Record | None]], select: str = ""
) -> tuple[float, dict[float, float]]:
    """The rate with the best mean dev score over its seeds, and each rate's mean.

    select: the metric that chose the checkpoints, where it is not the headline.

    A rate of which a run failed (None: it left no record) has no mean, and is chosen only where
    all rates have failures. Of rates that are equally good, the lowest.
    """
    dev = {
        rate: statistics.fmean(_dev(record, select) for record in by_rate[rate])
        for rate in sorted(by_rate)
    }
    known = [r for records in by_rate.values() for r in records if r is not None and r.primary]
    sign = 1.0 if all(r.higher_is_better for r in known) else -1.0
    best = max(dev, key=lambda r: -math.inf if math.isnan(dev[r]) else sign * dev[r])
    return best, dev


def _dev(record: Record | None, select: str) -> float:
    if record is None or record.status != "done":
        return math.nan
    return record.dev.get(select or record.primary, math.nan)


def promote(source: Path, target: Path, search: Mapping[str, Any]) -> None:
    """Let a searched run stand among the runs: its files are linked, its record says how the rate
    was found."""
    record = replace(results.load(source), search=dict(search))
    if (target / results.RECORD).exists() and _same(results.load(target), record):
        return
    with atomic_folder(target) as temporary:
        shutil.rmtree(temporary)
        shutil.copytree(source, temporary, copy_function=_link)
        (temporary / results.RECORD).unlink()  # a link: writing to it would change the source
        results.save(record, temporary)


def _same(one: Record, other: Record) -> bool:
    return (one.id, one.created, one.search) == (other.id, other.created, other.search)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _forget(top: Path, memo: Path, names: Sequence[Path]) -> None:
    """Remove the runs of an earlier choice (they are still in the search's folder)."""
    before = json.loads(memo.read_text(encoding="utf-8")) if memo.exists() else []
    for name in set(before) - {str(n) for n in names}:
        # The record of a failure is worth nothing once the cell has run.
        if (top / SEARCH / name).exists() or Path(name).parts[0] == "failed":
            shutil.rmtree(top / name, ignore_errors=True)
    write_json(memo, [str(n) for n in names])
