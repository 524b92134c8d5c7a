"""Records on disk, and from records to tables. Every number comes from a record."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, NamedTuple

from bab.core.atomic import StrPath, write_json
from bab.core.compare import BEST, TIED
from bab.core.errors import BabError
from bab.core.records import Record
from bab.core.summary import LEAKAGE, LEAKY, Cell, Column, Row, Summary, summarise
from bab.core.tables import (
    Sheet,
    amount,
    as_json,
    check_format,
    flat,
    latex,
    markdown,
    number,
    span,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

RECORD = "record.json"
LOCK = ".lock"  # a run's folder has one from its first moment
FORMAT = 1
_NUMBERS = ("metrics", "dev", "cost", "groups", "subgroups", "intervals", "presets", "resamples")


_LEGEND = "★ best; ≈ within noise of it: the paired 95 % interval of the difference holds 0"


class Skipped(NamedTuple):
    """A run that is in no table, and why."""

    path: str
    reason: str


# --- on disk ------------------------------------------------------------------------------------


def save(record: Record, folder: StrPath) -> Path:
    """Write `record.json` into `folder`, atomically; numbers that aren't finite become null."""
    path = Path(folder) / RECORD
    write_json(path, dataclasses.asdict(record))
    return path


@cache
def _reader() -> TypeAdapter[Record]:
    """Made once: working out the record's fields takes longer than reading one."""
    from pydantic import TypeAdapter

    return TypeAdapter(Record)


def load(path: StrPath) -> Record:
    """Read a record: the file, or the run's folder.

    Raises:
        BabError: naming the file, where it can't be read, is of another format, or has fields
            that are unknown, missing or of a wrong type.
    """
    from pydantic import ValidationError

    file = Path(path)
    file = file / RECORD if file.is_dir() else file
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BabError(f"{file}: can't be read ({error.strerror})") from None
    except ValueError as error:
        raise BabError(f"{file}: is not JSON ({error}): repeat the run with --force") from None
    if not isinstance(values, dict) or "format" not in values:
        raise BabError(f"{file}: is not a record (it has no format number)")
    if values["format"] != FORMAT:
        raise BabError(
            f"{file}: has format {values['format']!r}, this bab reads format {FORMAT}: read it "
            "with the version that wrote it (versions.bab in the file), or repeat the run"
        )
    known = {f.name for f in dataclasses.fields(Record)}
    if unknown := sorted(set(values) - known):
        raise BabError(f"{file}: has unknown fields: {', '.join(unknown)}")
    for key in _NUMBERS:
        values[key] = _numbers(values.get(key, {}))
    try:
        return _reader().validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BabError(f"{file}: {where}: {first['msg']}: repeat the run with --force") from None


def _numbers(value: Any) -> Any:
    """null -> NaN, which JSON lacks, wherever a number stands."""
    if value is None:
        return float("nan")
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return [_numbers(item) for item in value] if isinstance(value, list) else value


def collect(root: StrPath) -> tuple[list[Record], list[Skipped]]:
    """All records under `root` (a folder of runs, a run, or a record.json), in order of path, and
    the runs that are unfinished or can't be read.

    Raises:
        BabError: where there is no such folder or file.
    """
    top = Path(root)
    if not top.exists():
        raise BabError(f"{top}: there is no such folder; `bab run` makes one")
    if top.is_file():
        return [load(top)], []
    found: list[Record] = []
    skipped: list[Skipped] = []
    for folder, below, files in os.walk(top):
        # Hidden folders hold what is not a result: the runs of a search, half-written folders.
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = Path(folder)
        if RECORD not in files and LOCK not in files:
            continue
        below.clear()  # whatever a run keeps inside is its own affair
        if RECORD not in files:
            skipped.append(Skipped(str(here), "unfinished: the same command goes on with it"))
            continue
        try:
            found.append(load(here / RECORD))
        except BabError as error:
            skipped.append(Skipped(str(here), str(error)))
    return found, skipped


# --- one table of many runs ---------------------------------------------------------------------


def table(source: StrPath | Sequence[Record], format: str = "markdown") -> str:
    """Encoders by tasks: each cell the primary metric, its 95 % interval, averaged over seeds.

    Args:
        source: a folder of runs, or records.
        format: markdown | csv (one line per cell) | latex | json.

    Raises:
        BabError: an unknown format, no record, or records of two versions of a task or corpus.
    """
    check_format(format)
    if isinstance(source, (str, os.PathLike)):
        records, skipped = collect(source)
        where = f" in {os.fspath(source)}"
    else:
        records, skipped, where = list(source), [], ""
    if not records:
        left = "".join(f"\n  {path}: {reason}" for path, reason in skipped)
        raise BabError(f"no finished run{where}{left}")
    summary = summarise(records)
    if format == "json":
        plain = dataclasses.asdict(summary) | {"skipped": [s._asdict() for s in skipped]}
        return as_json(plain)
    if format == "csv":
        return flat(_flat_rows(summary))
    sheet = _sheet(summary, [f"left out: {path}: {reason}" for path, reason in skipped])
    return markdown([sheet]) if format == "markdown" else latex([sheet])


def _sheet(summary: Summary, notes: Sequence[str]) -> Sheet:
    """What a person reads."""
    settings = any(row.settings for row in summary.rows)
    headers = ["encoder", "mode", "head", *(["settings"] if settings else [])]
    headers += [f"{c.label} {c.metric}{_unit(c)} {_arrow(c)}" for c in summary.columns]
    ranked = [row.rank for row in summary.rows], [row.relative for row in summary.rows]
    shown = [any(value is not None for value in column) for column in ranked]
    headers += [name for name, show in zip(("rank", "relative"), shown, strict=True) if show]
    headers += ["seeds", "parameters", "audio s/s"]
    rows = []
    for row in summary.rows:
        words = [row.encoder, row.mode, row.head, *([row.settings] if settings else [])]
        cells = [
            _cell(cell, column.unit)
            for cell, column in zip(row.cells, summary.columns, strict=True)
        ]
        places = ["" if row.rank is None else f"{row.rank:.1f}"] if shown[0] else []
        places += ["" if row.relative is None else f"{row.relative:.0f}"] if shown[1] else []
        rows.append([*words, *cells, *places, *_facts(row)])
    legend = [_LEGEND] if any(c and c.mark for row in summary.rows for c in row.cells) else []
    cells_there = [cell for row in summary.rows for cell in row.cells if cell is not None]
    legend += [LEAKAGE] if any(cell.leakage for cell in cells_there) else []
    return Sheet(headers, rows, text=3 + settings, notes=[*notes, *legend, *summary.notes])


def _facts(row: Row) -> list[str]:
    seeds = sorted({len(cell.seeds) for cell in row.cells if cell is not None and cell.seeds})
    counts = "-".join(str(n) for n in dict.fromkeys([*seeds[:1], *seeds[-1:]]))
    parameters = "" if row.parameters is None else amount(row.parameters)
    return [counts, parameters, "" if row.speed is None else f"{row.speed:.0f}"]


def _unit(column: Column) -> str:
    return f" ({column.unit})" if column.unit else ""


def _arrow(column: Column) -> str:
    return "↑" if column.higher_is_better else "↓"


def _cell(cell: Cell | None, unit: str) -> str:
    """0.652 ± 0.011 [0.601, 0.698], or why there is no number (whole in CSV and JSON)."""
    if cell is None:
        return ""
    if cell.value is None:
        return f"{cell.status}: {shorten(cell.reason, 60, placeholder=' ...')}"
    text = number(cell.value, unit) + (f" {LEAKY}" if cell.leakage else "")
    if cell.deviation is not None:
        text += f" ± {number(cell.deviation, unit)}"
    if cell.low is not None and cell.high is not None:
        text += f" {span(cell.low, cell.high, unit)}"
    text += {BEST: " ★", TIED: " ≈"}.get(cell.mark, "")
    if cell.reason:
        text += f" ({cell.status}: {shorten(cell.reason, 60, placeholder=' ...')})"
    return text


def _flat_rows(summary: Summary) -> list[dict[str, object]]:
    """One line per cell, every number by itself."""
    rows: list[dict[str, object]] = []
    for row in summary.rows:
        for cell, column in zip(row.cells, summary.columns, strict=True):
            if cell is None:
                continue
            rows.append(
                {
                    "encoder": row.encoder,
                    "mode": row.mode,
                    "head": row.head,
                    "settings": row.settings,
                    **dataclasses.asdict(column),
                    "value": cell.value,
                    "low": cell.low,
                    "high": cell.high,
                    "deviation": cell.deviation,
                    "seeds": " ".join(str(s) for s in cell.seeds),
                    "status": cell.status,
                    "reason": cell.reason,
                    "mark": cell.mark,
                    "leakage": cell.leakage,
                    "rank": row.rank,
                    "relative": row.relative,
                    "parameters": row.parameters,
                    "audio_per_second": row.speed,
                }
            )
    return rows


# --- one run in detail --------------------------------------------------------------------------


class Score(NamedTuple):
    """One number of a run. section: a preset, "group", or the label of subgroups ("gender").

    name: a class, "all" (over all classes), a group or a subgroup's value.
    """

    section: str
    name: str
    metric: str
    value: float
    low: float | None
    high: float | None


def scores(record: Record) -> list[Score]:
    """All of a run's numbers in one list: presets, then groups, then subgroups.

    A metric called "f1/KCHI" is the F1 of the class KCHI; one without a slash is over all.
    """
    presets = record.presets or {
        "default": {"metrics": record.metrics, "intervals": record.intervals}
    }
    found = []
    for preset, values in presets.items():
        intervals = values.get("intervals", {})
        for key, value in values.get("metrics", {}).items():
            metric, _, name = key.partition("/")
            low, high = intervals.get(key, (None, None))
            found.append(Score(preset, name or "all", metric, value, low, high))
    parts = {"group": record.groups} | record.subgroups
    for section, members in parts.items():
        for name, metrics in members.items():
            whole = ((k, v) for k, v in metrics.items() if "/" not in k)
            found += [Score(section, name, k, v, None, None) for k, v in whole]
    return found


def detail(record: Record, format: str = "markdown") -> str:
    """One run's scores: per class and preset with 95 % intervals, then per group and subgroup.

    Args:
        format: markdown | csv (one line per number) | latex | json.

    Raises:
        BabError: an unknown format, or a run that has no result.
    """
    check_format(format)
    if record.status != "done":
        raise BabError(f"run {record.id} has no scores ({record.status}): {record.reason}")
    found = scores(record)
    if format == "json":
        leaky = {"id": record.id, "leakage": record.leakage}
        return as_json({**leaky, "scores": [one._asdict() for one in found]})
    if format == "csv":
        marked = {"run": record.id, "leakage": record.leakage}
        return flat([{**marked, **one._asdict()} for one in found])
    unit = str(record.bootstrap.get("unit", "group"))
    sheets = [
        _detail_sheet(record, section, [one for one in found if one.section == section], unit)
        for section in dict.fromkeys(one.section for one in found)
    ]
    return markdown(sheets) if format == "markdown" else latex(sheets)


def _detail_sheet(record: Record, section: str, found: Sequence[Score], unit: str) -> Sheet:
    """Names down, metrics across; "all" last."""
    metrics = list(dict.fromkeys(one.metric for one in found))
    names = sorted(dict.fromkeys(one.name for one in found), key=lambda name: name == "all")
    by = {(one.name, one.metric): one for one in found}
    rows = [[name, *(_score(by.get((name, m)), record) for m in metrics)] for name in names]
    title = {"group": f"per {unit}"}.get(section, section)
    if section in record.presets or section == "default":
        title = f"{record.task}@{record.corpus}, {record.encoder}, {record.mode}: {section}"
    notes = [LEAKAGE] if record.leakage else []
    if record.leakage:
        title, metrics = f"{title} {LEAKY}", [f"{name} {LEAKY}" for name in metrics]
    headers = [unit if section == "group" else "", *metrics]
    return Sheet(headers, rows, title=title, notes=notes)


def _score(one: Score | None, record: Record) -> str:
    if one is None:
        return ""
    unit = record.units.get(one.metric, "")
    interval = "" if one.low is None or one.high is None else f" {span(one.low, one.high, unit)}"
    return number(one.value, unit) + interval
