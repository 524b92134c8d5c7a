"""`bab.bench`: many runs from keyword arguments, their records and table as values."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bab.api.settings import Sets, texts
from bab.benching.asked import asked_grid
from bab.benching.grid import Job, RunGrid
from bab.benching.grid import jobs as planned
from bab.core.atomic import StrPath
from bab.core.errors import ConfigError
from bab.core.record import Record
from bab.launching.asked import Launch, split_sets

if TYPE_CHECKING:
    from bab.benching.launched import Launched
    from bab.benching.pool import Pool
    from bab.results.audit import Audit


@dataclass(frozen=True, slots=True)
class Bench:
    """What a bench leaves. records: of its table; failures: what is in none, in words; audits: what
    recording traits alone get, where they were asked for; summary: "12 runs in 1:02: 12 done"."""

    records: tuple[Record, ...]
    failures: tuple[str, ...]
    audits: tuple[Audit, ...]
    summary: str
    runs: Path

    @property
    def table(self) -> Any:
        """The records as `bab.table` gives them: a pandas frame, a line per cell."""
        from bab.api.table import table

        return table(self.records, audits=self.audits)

    def markdown(self) -> str:
        """The table that `bab bench` prints; "" without a record."""
        from bab.results.table import table

        return table(self.records, audits=self.audits).rstrip() if self.records else ""

    def __repr__(self) -> str:
        return f"<Bench of {self.summary}. Runs: {self.runs}>"

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return "\n\n".join(filter(None, [self.markdown(), *self.failures]))


def bench(
    grid: StrPath | None = None,
    *,
    encoders: str | Sequence[str] | None = None,
    tasks: str | Sequence[str | Mapping[str, Any]] | None = None,
    seeds: int | Sequence[int] | str | None = None,
    lr: float | Sequence[float] | str | None = None,
    set: Sets = (),
    jobs: int | None = None,
    runs: StrPath | None = None,
    force: bool = False,
    audit: bool = False,
    quiet: bool = False,
    launcher: str | Launch | None = None,
) -> Bench:
    """Run every encoder on every task: `bab bench`.

    >>> bab.bench(encoders=["fbank", "hubert"], tasks=["vtc"], seeds=[0, 1, 2]).table

    The arguments are the command's options (`bab bench --help`), None where one isn't given. A run
    that fails is among `failures` while the others go on; what is finished is not repeated.

    Args:
        grid: a YAML file with the same keys; what is given here goes before it.
        encoders: NAME[:WEIGHTS], a list or "a,b".
        tasks: TASK[@CORPUS[:ROOT]], a list or "a,b"; in a list also mappings with a run's keys.
        lr: learning rates; the best on dev is kept.
        set: any keys for all runs, as for `bab.run`.
        jobs: runs at a time.
        audit: beside results, what recording traits alone get.
        quiet: progress as plain lines.
        launcher: where runs are made (`bab list launchers`); its keys are `launcher.KEY` in `set`.

    Raises:
        BabError: a user's mistake, with its remedy.
        InterruptedRunError: Ctrl-C; what was finished stands, and the same call goes on.
    """

    given = {"encoders": encoders, "tasks": tasks, "seeds": seeds, "lr": lr, "jobs": jobs}
    given |= {"runs": None if runs is None else str(runs)}
    named = {k: _listed(v) for k, v in given.items() if v is not None}
    place = None if grid is None else Path(grid)
    own, rest = split_sets(texts(set))
    launch = Launch(launcher, own) if isinstance(launcher, str) else launcher
    asked, workers = asked_grid(place, named, rest, force)
    made_by = _maker(asked, workers, launch, own)
    began = time.monotonic()
    show = Overview(asked, quiet)
    try:
        result = made_by(show.say).run(show.event)
    finally:
        show.close()
    failures = []
    for cell, outcome in result.failures:
        rate = "" if outcome.rate is None else f", lr {outcome.rate:g}"
        told = f"{outcome.status}: {cell.label}, seed {outcome.seed}{rate}: {outcome.reason}"
        failures.append(told)
    audits: Sequence[Audit] = ()
    if audit:
        audits, why = _audits(result.records, asked.runs, quiet)
        for line in why:
            show.say(f"no audit: {line}")
    summary = show.count(time.monotonic() - began)
    return Bench(result.records, tuple(failures), tuple(audits), summary, Path(asked.runs))


def _maker(
    grid: RunGrid, workers: int, launch: Launch | None, sets: Sequence[str]
) -> Callable[[Callable[[str], None]], Pool | Launched]:
    """What makes the runs: worker processes here, or jobs of a launcher; it is handed what tells of
    searches.

    Raises:
        ConfigError: keys that mean nothing here, or that the launcher doesn't have.
    """
    if launch is None or launch.name == "local":
        from bab.benching.pool import Pool

        if sets or (launch and launch.sets):
            text = (*sets, *(launch.sets if launch else ()))[0]
            raise ConfigError(f"--set {text}: name another launcher (--launcher slurm); of worker "
                "processes here --jobs alone is asked")  # fmt: skip
        return lambda settled: Pool(grid, workers, settled)
    from bab.benching.launched import Launched

    there = replace(launch, sets=[*sets, *launch.sets])
    there.open()  # a mistyped key is found before anything begins
    return lambda settled: Launched(grid, workers, settled, there)


def _listed(value: Any) -> Any:
    """A tuple as a list, as a file has it."""
    return list(value) if isinstance(value, tuple) else value


def _audits(
    records: Sequence[Record], runs: str, quiet: bool
) -> tuple[Sequence[Audit], Sequence[str]]:
    """The audits of the bench's columns; of those that have none, why."""
    from bab.api.progress import ticker
    from bab.auditing.audit import audits_of

    with ticker(quiet) as display:
        return audits_of(records, runs, display.tell)


class Display(Protocol):
    def stage(self, name: str, done: float, total: float, unit: str, note: str) -> None: ...

    def say(self, line: str) -> None: ...

    def close(self) -> None: ...


class Overview:
    """A line per finished run; on a terminal also a bar for the whole and one per run at work."""

    def __init__(self, grid: RunGrid, quiet: bool) -> None:
        from bab.plugins.observers.progress import Live, Plain, moving

        plain = quiet or not moving(sys.stderr)
        self.display: Display = Plain(sys.stderr, time.monotonic) if plain else Live()
        self.live = not plain
        self.total = sum(len(job.seeds) * len(job.rates) for job in planned(grid))
        self.done: dict[str, int] = {}
        self._whole()

    def event(self, slot: int, job: Job, event: dict[str, Any]) -> None:
        """Show an event of a worker."""
        if event["event"] == "progress":
            if self.live:
                note = f"{event['stage']}: {job.label}"
                name = f"worker {slot + 1}"
                left = max(event["total"], event["done"] + 1e-9)  # a bar that ends would vanish
                self.display.stage(name, event["done"], left * 1.000001, event["unit"], note)
            return
        status = event["status"]
        self.done[status] = self.done.get(status, 0) + 1
        rate = "" if event["rate"] is None else f", lr {event['rate']:g}"
        told = event["reason"].splitlines()[0] if event["reason"] else self._score(event["folder"])
        number = f"[{sum(self.done.values())}/{self.total}]"
        self.say(f"{number} {job.cell.label}, seed {event['seed']}{rate}: {status}: {told}")
        self._whole()

    def say(self, line: str) -> None:
        """A line that stays."""
        self.display.say(line)

    def close(self) -> None:
        """Give the terminal back."""
        self.display.close()

    def count(self, seconds: float) -> str:
        """`12 runs in 1:02: 11 done, 1 failed`."""
        from bab.plugins.observers.progress import clock

        parts = ", ".join(f"{number} {status}" for status, number in self.done.items())
        number = sum(self.done.values())
        runs = "run" if number == 1 else "runs"
        return f"{number} {runs} in {clock(seconds)}: {parts or 'nothing'}"

    def _whole(self) -> None:
        if self.live:
            self.display.stage("bench", sum(self.done.values()), self.total, "runs", "")

    def _score(self, folder: str) -> str:
        from bab.results.record import load
        from bab.results.render import number

        record = load(folder)
        value = record.metrics.get(record.primary, float("nan"))
        return f"{record.primary} {number(value, record.units.get(record.primary, ''))}"
