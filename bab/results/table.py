"""Many runs, side by side: encoders by tasks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten

from bab.core.atomic import StrPath
from bab.core.errors import BabError
from bab.core.record import Record
from bab.results.audit import BELOW, Audit, Gap, column_notes, fitting, gap
from bab.results.audit import LEGEND as SHORTCUTS
from bab.results.compare import BEST, TIED, score
from bab.results.notes import HEARD, HEARD_MARK
from bab.results.record import collect
from bab.results.render import (
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
from bab.results.settings import brief
from bab.results.summary import (
    BASELINE,
    DONE,
    LEAKAGE,
    LEAKY,
    Column,
    Row,
    Summary,
    TableCell,
    arrange,
    summarise,
)

_LEGEND = (
    "★ best; ≈ within noise: not shown to be worse than it, which isn't to say equal. Each group "
    "in turn is left out of all rows; the worst is compared with the best, on the studentised "
    "range of as many as are left, and goes. Of equal rows, one is called worse in some 5 tables "
    "of 100"
)


@dataclass(frozen=True, slots=True)
class Beside:
    """A table's audited columns, by place, and how far each cell (row, column) is above its
    column's shortcut."""

    audits: Mapping[int, Audit]
    gaps: Mapping[tuple[int, int], Gap]


def table(
    source: StrPath | Sequence[Record],
    format: str = "markdown",
    audits: Sequence[Audit] = (),
    baseline: str = BASELINE,
) -> str:
    """Encoders by tasks: each cell the primary metric, its 95 % interval, averaged over seeds.

    Args:
        source: a folder of runs, or records.
        format: markdown | csv (one line per cell) | latex | json.
        baseline: the encoder that relative scores start from.
        audits: those of columns get a column of their own: how far each cell is above its shortcut.

    Raises:
        BabError: an unknown format, no record, or records of two versions of a task or corpus.
    """
    check_format(format)
    if isinstance(source, (str, os.PathLike)):
        records, skipped = collect(source, brief=True)
        where = f" in {os.fspath(source)}"
    else:
        records, skipped, where = list(source), [], ""
    if not records:
        left = "".join(f"\n  {path}: {reason}" for path, reason in skipped)
        raise BabError(f"no finished run{where}{left}")
    summary, beside = summarise(records, baseline), _beside(records, audits)
    if format == "json":
        plain = dataclasses.asdict(summary) | {"skipped": [s._asdict() for s in skipped]}
        return as_json(plain | ({"shortcuts": _flat_gaps(beside)} if beside.audits else {}))
    if format == "csv":
        return flat(_flat_rows(summary, beside))
    left_out = [f"left out: {path}: {reason}" for path, reason in skipped]
    sheet = _sheet(summary, beside, left_out)
    return markdown([sheet]) if format == "markdown" else latex([sheet])


def _beside(records: Sequence[Record], audits: Sequence[Audit]) -> Beside:
    if not audits:
        return Beside({}, {})
    laid = arrange(records)
    matched = {
        j: audit
        for j, members in enumerate(laid.members)
        if (audit := fitting(audits, members)) is not None
    }
    gaps = {
        (i, j): gap(done, audit.shortcut)
        for i, row in enumerate(laid.cells)
        for j, audit in matched.items()
        if (done := [r for r in row[j] if r.status == DONE])
    }
    return Beside(matched, gaps)


def _sheet(summary: Summary, beside: Beside, notes: Sequence[str]) -> Sheet:
    """What a person reads."""
    settings = brief([row.settings for row in summary.rows])
    differ = any(settings)
    headers = ["encoder", "mode", "head", *(["settings"] if differ else [])]
    for j, c in enumerate(summary.columns):
        headers.append(f"{c.label}\n{c.metric}{_unit(c)} {_arrow(c)}")
        if j in beside.audits:
            shortcut = number(score(beside.audits[j].shortcut), c.unit)
            headers.append(f"above its\nshortcut ({shortcut})")
    ranked = [row.rank for row in summary.rows], [row.relative for row in summary.rows]
    shown = [any(value is not None for value in column) for column in ranked]
    headers += [name for name, show in zip(("rank", "relative"), shown, strict=True) if show]
    headers += ["seeds", "parameters", "audio s/s"]
    rows = []
    for i, row in enumerate(summary.rows):
        words = [row.called, row.mode, row.head, *([settings[i]] if differ else [])]
        cells = []
        for j, (cell, column) in enumerate(zip(row.cells, summary.columns, strict=True)):
            over = beside.gaps.get((i, j))
            cells.append(
                _cell(cell, column.unit) + (f" {BELOW}" if over and not over.above else "")
            )
            cells += [_gap(over, column.unit)] if j in beside.audits else []
        places = ["" if row.rank is None else f"{row.rank:.1f}"] if shown[0] else []
        places += ["" if row.relative is None else f"{row.relative:.0f}"] if shown[1] else []
        rows.append([*words, *cells, *places, *_facts(row)])
    legend = [_LEGEND] if any(c and c.mark for row in summary.rows for c in row.cells) else []
    cells_there = [cell for row in summary.rows for cell in row.cells if cell is not None]
    legend += [LEAKAGE] if any(cell.leakage for cell in cells_there) else []
    legend += [HEARD] if any(cell.heard for cell in cells_there) else []
    legend += [SHORTCUTS] if beside.audits else []
    told = [
        note
        for j, audit in beside.audits.items()
        for note in column_notes(summary.columns[j].label, audit)
    ]
    return Sheet(headers, rows, text=3 + differ, notes=[*notes, *legend, *told, *summary.notes])


def _gap(over: Gap | None, unit: str) -> str:
    """+0.120 [0.051, 0.190]"""
    if over is None:
        return ""
    text = ("+" if over.value >= 0 else "") + number(over.value, unit)
    if over.low is not None and over.high is not None:
        text += f" {span(over.low, over.high, unit)}"
    return text


def _facts(row: Row) -> list[str]:
    seeds = sorted({len(cell.seeds) for cell in row.cells if cell is not None and cell.seeds})
    counts = "-".join(str(n) for n in dict.fromkeys([*seeds[:1], *seeds[-1:]]))
    parameters = "" if row.parameters is None else amount(row.parameters)
    return [counts, parameters, "" if row.speed is None else f"{row.speed:.0f}"]


def _unit(column: Column) -> str:
    return f" ({column.unit})" if column.unit else ""


def _arrow(column: Column) -> str:
    return "↑" if column.higher_is_better else "↓"


def _cell(cell: TableCell | None, unit: str) -> str:
    """0.652 ± 0.011 [0.601, 0.698], or why there is no number (whole in CSV and JSON)."""
    if cell is None:
        return ""
    if cell.value is None:
        return f"{cell.status}: {shorten(cell.reason, 60, placeholder=' ...')}"
    text = number(cell.value, unit) + (f" {LEAKY}" if cell.leakage else "")
    text += f" {HEARD_MARK}" if cell.heard else ""
    if cell.deviation is not None:
        text += f" ± {number(cell.deviation, unit)}"
    if cell.low is not None and cell.high is not None:
        text += f" {span(cell.low, cell.high, unit)}"
    text += {BEST: " ★", TIED: " ≈"}.get(cell.mark, "")
    if cell.reason:
        text += f" ({cell.status}: {shorten(cell.reason, 60, placeholder=' ...')})"
    return text


def _flat_gaps(beside: Beside) -> list[dict[str, object]]:
    """One entry per audited cell: its row and column by place, the shortcut's score, the gap."""
    return [
        {
            "row": i,
            "column": j,
            "shortcut": score(beside.audits[j].shortcut),
            **dataclasses.asdict(over),
        }
        for (i, j), over in beside.gaps.items()
    ]


def _flat_rows(summary: Summary, beside: Beside) -> list[dict[str, object]]:
    """One line per cell, every number by itself."""
    rows: list[dict[str, object]] = []
    known = {(g["row"], g["column"]): g for g in _flat_gaps(beside)}
    names = {"shortcut": "shortcut", "value": "gap", "low": "gap_low", "high": "gap_high"}
    names = {**names, "above": "above_shortcut"} if known else {}
    for i, row in enumerate(summary.rows):
        for j, (cell, column) in enumerate(zip(row.cells, summary.columns, strict=True)):
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
                    "heard": cell.heard,
                    "no_interval": cell.no_interval,
                    "rank": row.rank,
                    "relative": row.relative,
                    "parameters": row.parameters,
                    "audio_per_second": row.speed,
                    **{name: known.get((i, j), {}).get(key) for key, name in names.items()},
                }
            )
    return rows
