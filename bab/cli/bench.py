"""`bab bench`: many runs, and their table."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from bab.cli.echo import echo

if TYPE_CHECKING:
    from bab.benching.grid import Cell, Job, RunGrid
    from bab.core.record import Record
    from bab.results.audit import Audit

_KEYS = ("encoders", "tasks", "seeds", "lr", "set", "jobs", "runs")
_RESERVED = {"seed", "runs", "observers", "quiet"}  # what the grid decides for every run


@click.command("bench")
@click.argument("grid", required=False, type=click.Path(path_type=Path))
@click.option("--encoders", metavar="NAME[:WEIGHTS],...", help="Encoders, e.g. fbank,hubert.")
@click.option("--tasks", metavar="TASK[@CORPUS[:ROOT]],...", help="Cells: tasks and corpora.")
@click.option("--seeds", metavar="N,...", help="Seeds; default: 0.")
@click.option("--lr", metavar="RATE,...", help="Learning rates; the best on dev is kept.")
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key, for all runs.")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time; default: 1.")
@click.option("--runs", metavar="FOLDER", help="Where runs are kept; default: runs.")
@click.option("--force", is_flag=True, help="Repeat runs that are finished already.")
@click.option("--audit", is_flag=True, help="Beside results, what recording traits alone get.")
@click.option("--quiet", is_flag=True, help="Progress as plain lines.")
def bench_command(
    grid: Path | None,
    sets: tuple[str, ...],
    force: bool,
    audit: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Run every encoder on every task, and print the table.

    GRID is a YAML file with the same keys (encoders, tasks, seeds, lr, jobs, runs; `set` holds keys
    of all runs). There a task may be a mapping: `task`, and any keys of its runs. The command line
    goes before the file. A run that fails is recorded with its reason while the others go on; what
    is finished is not repeated; Ctrl-C saves what is at work, and the same command goes on.

    \b
    Examples:
      bab bench --encoders fbank,hubert --tasks vtc --seeds 0,1,2
      bab bench --encoders fbank,wavlm:base --tasks vtc,gender@kaldi:/data/x --lr 1e-4,1e-3,1e-2
      bab bench grid.yaml --jobs 4
      bab bench --encoders fbank,hubert --tasks gender@donateacry --audit
    """
    from bab.benching.pool import Pool
    from bab.results.table import table

    asked, jobs = _grid(grid, {k: v for k, v in given.items() if v is not None}, sets, force)
    began = time.monotonic()
    show = _Overview(asked, quiet)
    try:
        result = Pool(asked, jobs, show.say).run(show.event)
    finally:
        show.close()
    audits = _audits(result.records, quiet) if audit else []
    if result.records:
        echo(table(result.records, audits=audits).rstrip())
    for cell, outcome in result.failures:
        rate = "" if outcome.rate is None else f", lr {outcome.rate:g}"
        echo(
            f"{outcome.status}: {cell.label}, seed {outcome.seed}{rate}: {outcome.reason}", err=True
        )
    echo(f"\n{show.count(time.monotonic() - began)}. Runs: {asked.runs}")
    if result.failures:
        click.get_current_context().exit(1)


def _audits(records: Sequence[Record], quiet: bool) -> Sequence[Audit]:
    """The audits of the bench's columns; of those that have none, why."""
    from bab.auditing.audit import audits_of
    from bab.cli.display import ticker

    with ticker(quiet) as display:
        audits, why = audits_of(records, display.tell)
    for line in why:
        echo(f"no audit: {line}", err=True)
    return audits


# --- what is asked for --------------------------------------------------------------------------


def _grid(
    path: Path | None, given: Mapping[str, Any], sets: Sequence[str], force: bool
) -> tuple[RunGrid, int]:
    """The grid and the number of workers, from the file and, before it, the command line.

    Raises:
        ConfigError: an unknown or malformed key, or nothing to do.
    """
    from bab.benching.grid import RunGrid
    from bab.config.files import spelled_out
    from bab.core.errors import ConfigError, did_you_mean

    values: dict[str, Any] = {}
    if path is not None:
        from bab.config.files import read

        values = dict(read(path)[1])
        for key in values:
            if key not in _KEYS:
                raise ConfigError(f"{path}: unknown key '{key}': {did_you_mean(str(key), _KEYS)}")
    values |= given
    for key in ("encoders", "tasks"):
        if not values.get(key):
            raise ConfigError(f"no {key} are named: give --{key}, or a file with `{key}`")
    keys = values.get("set") or {}
    if not isinstance(keys, dict):
        raise ConfigError(f"{path}: set: expected keys and values, found {keys!r:.60}")
    keys = spelled_out(keys)
    _refuse_reserved(keys, sets, bool(values.get("lr")))
    cells = [
        _cell(encoder, task)
        for encoder in _list("encoders", values["encoders"])
        for task in _list("tasks", values["tasks"])
    ]
    rates = tuple(_number("lr", rate, float) for rate in _list("lr", values.get("lr", [])))
    seeds = tuple(_number("seeds", seed, int) for seed in _list("seeds", values.get("seeds", [0])))
    jobs = _number("jobs", values.get("jobs", 1), int)
    if min((*seeds, jobs - 1, *(rate > 0 for rate in rates))) < 0 or not all(r > 0 for r in rates):
        raise ConfigError("seeds are 0 or more; lr and jobs are more than 0")
    unique = list({repr(cell): cell for cell in cells}.values())
    runs = str(values.get("runs", "runs"))
    return (
        RunGrid(
            tuple(unique),
            tuple(dict.fromkeys(seeds)),
            tuple(sorted(set(rates))),
            keys,
            tuple(sets),
            runs,
            force,
        ),
        jobs,
    )


def _list(key: str, value: Any) -> list[Any]:
    """`a,b` or a list.

    Raises:
        ConfigError: an empty element.
    """
    from bab.core.errors import ConfigError

    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    parts = parts if isinstance(parts, list) else [parts]
    if any(part in ("", None) for part in parts):
        raise ConfigError(f"{key}: an empty name in '{value}'")
    return parts


def _number(key: str, value: Any, kind: type) -> Any:
    from bab.core.errors import ConfigError

    what = "a whole number" if kind is int else "a number"
    try:
        number = kind(value) if isinstance(value, (str, int, float)) else None
        if number is None or number != float(value):
            raise ValueError
    except ValueError:
        raise ConfigError(f"{key}: {value!r} is not {what}") from None
    return number


def _refuse_reserved(keys: Mapping[str, Any], sets: Sequence[str], rated: bool) -> None:
    """Refuse keys of all runs that the grid itself decides.

    Raises:
        ConfigError: naming the key, and the option in its place.
    """
    from bab.core.errors import ConfigError

    instead = {"seed": "--seeds", "runs": "--runs", "observers": "", "quiet": "--quiet"}
    instead |= {"task": "--tasks", "encoder": "--encoders"}
    if rated:
        instead["train.lr"] = "--lr"
    given = [text.partition("=")[0].strip() for text in sets]
    given += [k for k, v in keys.items() if k in _RESERVED or isinstance(v, str)]
    if isinstance(keys.get("train"), dict):
        given += [f"train.{key}" for key in keys["train"]]
    for key in given:
        if key in instead:
            way = f": use {instead[key]}" if instead[key] else " for a bench"
            raise ConfigError(f"{key} can't be set for all runs{way}")


def _own(task: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's keys, `task` among them; `task: classify` may stand beside `task.labels: [cry]`."""
    from bab.config.files import spelled_out

    options = {k: v for k, v in task.items() if str(k).startswith("task.")}
    rest = {k: v for k, v in task.items() if k not in options}
    if options and isinstance(rest.get("task"), str):
        rest["task"] = {"name": rest["task"]}
    return spelled_out({**rest, **options})


def _cell(encoder: Any, task: Any) -> Cell:
    """Raises ConfigError for a name that nothing offers; both are checked before anything runs."""
    from bab.benching.grid import Cell, parse_cell
    from bab.core import registry
    from bab.core.errors import ConfigError
    from bab.core.names import members

    keys = _own(task) if isinstance(task, dict) else {}
    text = keys.pop("task", None) if isinstance(task, dict) else task
    if isinstance(text, dict):  # with options of its own: {name: classify, labels: [reason]}
        keys["task"] = {k: v for k, v in text.items() if k != "name"}
        text = text.get("name")
    if not isinstance(text, str) or not isinstance(encoder, str):
        wrong = encoder if isinstance(text, str) else task
        raise ConfigError(f"expected a name, or a mapping with `task`, found {wrong!r:.60}")
    name, corpus = parse_cell(text)
    if corpus is None and isinstance(keys.get("corpus"), str):
        corpus = keys.pop("corpus")
    if odd := set(keys) & _RESERVED:
        raise ConfigError(f"{text}: {sorted(odd)[0]} can't be given for one cell")
    if isinstance(keys.get("encoder", {}), str):
        raise ConfigError(f"{text}: encoder: options alone may be given for one cell")
    registry.find("tasks", name)
    for member in members(encoder):
        registry.find("encoders", member.name)
    if corpus is not None:
        registry.find("datasets", corpus.partition(":")[0])
    return Cell(encoder, name, corpus, keys)


# --- what is seen -------------------------------------------------------------------------------


class _Display(Protocol):
    def stage(self, name: str, done: float, total: float, unit: str, note: str) -> None: ...

    def say(self, line: str) -> None: ...

    def close(self) -> None: ...


class _Overview:
    """A line per finished run; on a terminal also a bar for the whole and one per run at work."""

    def __init__(self, grid: RunGrid, quiet: bool) -> None:
        from bab.benching.grid import jobs
        from bab.plugins.observers.progress import Live, Plain, moving

        plain = quiet or not moving(sys.stderr)
        self.display: _Display = Plain(sys.stderr, time.monotonic) if plain else Live()
        self.live = not plain
        self.total = sum(len(job.seeds) * len(job.rates) for job in jobs(grid))
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
        return f"{sum(self.done.values())} runs in {clock(seconds)}: {parts or 'nothing'}"

    def _whole(self) -> None:
        if self.live:
            self.display.stage("bench", sum(self.done.values()), self.total, "runs", "")

    def _score(self, folder: str) -> str:
        from bab.results.record import load
        from bab.results.render import number

        record = load(folder)
        value = record.metrics.get(record.primary, float("nan"))
        return f"{record.primary} {number(value, record.units.get(record.primary, ''))}"
