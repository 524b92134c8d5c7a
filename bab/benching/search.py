"""What a bench's runs came to, and which learning rate is best. Imports no torch.

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
from dataclasses import replace
from pathlib import Path
from typing import Any

from bab.benching.grid import SEARCH, Cell, Outcome, Result, RunGrid, jobs
from bab.core.atomic import atomic_folder, write_json
from bab.core.record import Record
from bab.results.record import RECORD, load, save


class Bench:
    """Keeps the outcomes of a grid, and settles each cell's search once all its runs ended."""

    def __init__(self, grid: RunGrid, tell: Callable[[str], None]) -> None:
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
        outcomes = self.outcomes[index]
        plain = [Path(o.folder) for o in outcomes if o.folder and not o.searched]
        searched = [o for o in outcomes if o.searched]
        if any(o.status == "busy" for o in searched):
            self.tell(f"{cell.label}: no rate chosen: another process is at work on its runs")
            searched = []
        chosen = self._settle(cell, searched) if searched else []
        self.places[index] = list(dict.fromkeys([*plain, *chosen]))

    def result(self) -> Result:
        """The records of all cells that were settled."""
        records = [load(path) for paths in self.places.values() for path in paths]
        failures = [
            (self.grid.cells[index], one)
            for index, outcomes in self.outcomes.items()
            for one in dict.fromkeys(outcomes)
            if one.status not in ("done", "not-applicable")
        ]
        return Result(tuple(records), tuple(failures))

    def _settle(self, cell: Cell, outcomes: Sequence[Outcome]) -> list[Path]:
        """Choose a rate and let its runs stand among the runs; those of an earlier choice go."""
        by_rate: dict[float, list[Record | None]] = {}
        for outcome in outcomes:
            assert outcome.rate is not None
            record = load(outcome.folder) if outcome.folder else None
            by_rate.setdefault(outcome.rate, []).append(record)
        rate, dev = choose(by_rate, outcomes[0].select)
        search = {
            "key": "train.lr",
            "chosen": rate,
            "dev": {f"{r:g}": value for r, value in dev.items()},
            "seeds": list(self.grid.seeds),
        }
        top = Path(self.grid.runs)
        folders = [Path(o.folder) for o in outcomes if o.rate == rate and o.folder]
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
    record = replace(load(source), search=dict(search))
    if (target / RECORD).exists() and _same(load(target), record):
        return
    with atomic_folder(target) as temporary:
        shutil.rmtree(temporary)
        shutil.copytree(source, temporary, copy_function=_link)
        (temporary / RECORD).unlink()  # a link: writing to it would change the source
        save(record, temporary)


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
