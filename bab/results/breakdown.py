"""Cells of a table taken apart: encoder against encoder, by subgroup, recording and layer.

Each view is a list of entries, one number each, for CSV and JSON; people read them as sheets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

from bab.core.errors import BabError, did_you_mean
from bab.core.record import Record
from bab.results import compare
from bab.results.render import Sheet, as_json, check_format, flat, latex, markdown, number, span
from bab.results.summary import DONE, LEAKAGE, LEAKY, Table, arrange

View = Literal["subgroups", "recordings", "layers"]
_NOTHING: Mapping[View, str] = {
    "subgroups": "no run has scores by subgroup: its corpus gives the clips no labels to part them",
    "recordings": "no run has scores by recording or group",
    "layers": "no run used a single layer: `bab run --layers N` for each layer, or a bench with "
    "`layers: N` in its cells",
}


class PartScore(NamedTuple):
    """One number. section: what parts the cell (gender, layer, ...); name: one of its parts."""

    column: str
    metric: str
    section: str
    name: str
    encoder: str
    mode: str
    settings: str
    value: float


class Gap(NamedTuple):
    """The paired difference A less B on one column; better: the encoder that is certainly better.

    low, high: None where the records keep nothing to resample.
    """

    column: str
    metric: str
    mode: str
    settings: str
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    better: str


def gaps(records: Sequence[Record], a: str, b: str) -> list[Gap]:
    """Encoder A against encoder B, for each column and way of training that both have.

    Raises:
        BabError: an encoder that no record has, or nothing that both did.
    """
    table = arrange([r for r in records if r.status == DONE])
    names = {key[0] for key in table.keys}
    for name in (a, b):
        if name not in names:
            raise BabError(f"no run is of encoder '{name}': {did_you_mean(name, names)}")
    rows = list(zip(table.keys, table.cells, strict=True))
    pairs = [
        (key, *cells)
        for key, left in rows
        for other, right in rows
        # Rows are named by all their heads, and one encoder may have run more tasks than another.
        if (key[0], other[0]) == (a, b) and (key[1], key[3]) == (other[1], other[3])
        for cells in zip(table.columns, left, right, strict=True)
    ]
    differences = []
    for key, column, left, right in pairs:
        if left and right and left[0].head == right[0].head:
            one, two = compare.score(left), compare.score(right)
            gap = compare.difference(left, right)
            better = ""
            if gap is not None and not gap.low <= 0 <= gap.high:
                better = a if (gap.value > 0) == column.higher_is_better else b
            low, high = (gap.low, gap.high) if gap is not None else (None, None)
            place = (column.label, column.metric, key[1], key[3])
            differences.append(Gap(*place, one, two, one - two, low, high, better))
    if not differences:
        raise BabError(f"'{a}' and '{b}' have no task, mode and settings in common")
    return differences


def versus(records: Sequence[Record], a: str, b: str, format: str = "markdown") -> str:
    """`gaps`, printed: one line per column.

    Raises:
        BabError: an unknown format, or see `gaps`.
    """
    check_format(format)
    differences = gaps(records, a, b)
    if format == "json":
        return as_json([gap._asdict() for gap in differences])
    if format == "csv":
        return flat([gap._asdict() for gap in differences])
    units = {c.label: c.unit for c in arrange(records).columns}
    rows = []
    for gap in differences:
        unit = units.get(gap.column, "")
        interval = "" if gap.low is None or gap.high is None else span(gap.low, gap.high, unit)
        verdict = gap.better or ("within noise" if interval else "not available")
        values = [number(v, unit) for v in (gap.a, gap.b, gap.difference)]
        rows.append([f"{gap.column} {gap.metric}", gap.mode, gap.settings, *values])
        rows[-1] += [interval, verdict]
    headers = ["task", "mode", "settings", a, b, "difference", "95 % interval", "better"]
    notes = ["paired: both encoders on the same resampled groups (and seeds)"]
    notes += [LEAKAGE] if any(LEAKY in gap.column for gap in differences) else []
    sheet = Sheet(headers, rows, text=3, notes=notes)
    return markdown([sheet]) if format == "markdown" else latex([sheet])


def entries(records: Sequence[Record], view: View) -> list[PartScore]:
    """The headline metric of each cell by subgroup, recording or layer, the mean over seeds.

    Raises:
        BabError: where no record has such scores.
    """
    table = arrange([r for r in records if r.status == DONE])
    scores = list(_layers(table) if view == "layers" else _parts(table, view))
    if not scores:
        raise BabError(_NOTHING[view])
    return scores


def _parts(table: Table, view: View) -> Iterator[PartScore]:
    for key, cells in zip(table.keys, table.cells, strict=True):
        for column, members in zip(table.columns, cells, strict=True):
            parts: dict[tuple[str, str], list[float]] = defaultdict(list)
            for r in members:
                kinds = r.subgroups if view == "subgroups" else {_unit(r): r.groups}
                for section, values in kinds.items():
                    for name, metrics in values.items():
                        if r.primary in metrics:
                            parts[section, name].append(metrics[r.primary])
            for (section, name), values_ in parts.items():
                where = (key[0], key[1], key[3])
                yield PartScore(column.label, column.metric, section, name, *where, fmean(values_))


def _unit(record: Record) -> str:
    return str(record.bootstrap.get("unit", "group"))


def _layers(table: Table) -> Iterator[PartScore]:
    """One entry per layer; what else differs between the runs stays in the settings."""
    for key, cells in zip(table.keys, table.cells, strict=True):
        rest = ", ".join(p for p in key[3].split(", ") if p and not p.startswith("layers="))
        for column, members in zip(table.columns, cells, strict=True):
            by_layer: dict[int, list[Record]] = defaultdict(list)
            for r in members:
                layer = r.config.get("layers")
                if isinstance(layer, int):
                    by_layer[layer].append(r)
            for layer, runs in sorted(by_layer.items()):
                where = (key[0], key[1], rest)
                value = compare.score(runs)
                yield PartScore(column.label, column.metric, "layer", str(layer), *where, value)


def show(records: Sequence[Record], view: View, format: str = "markdown") -> str:
    """`entries`, printed: a sheet per column and section, encoders down, parts across.

    Raises:
        BabError: an unknown format, or see `entries`.
    """
    check_format(format)
    scores = entries(records, view)
    if format == "json":
        return as_json([entry._asdict() for entry in scores])
    if format == "csv":
        return flat([entry._asdict() for entry in scores])
    units: dict[str, str] = {c.label: c.unit for c in arrange(records).columns}
    sections: dict[tuple[str, str, str], list[PartScore]] = defaultdict(list)
    for entry in scores:
        sections[entry.column, entry.metric, entry.section].append(entry)
    sheets = [
        _sheet(f"{column} {metric}, by {section}", members, units.get(column, ""))
        for (column, metric, section), members in sections.items()
    ]
    return markdown(sheets) if format == "markdown" else latex(sheets)


def _sheet(title: str, scores: Sequence[PartScore], unit: str) -> Sheet:
    names = sorted({entry.name for entry in scores}, key=_natural)
    rows: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for entry in scores:
        rows[entry.encoder, entry.mode, entry.settings][entry.name] = entry.value
    body = [
        [*key, *(number(values[n], unit) if n in values else "" for n in names)]
        for key, values in sorted(rows.items())
    ]
    notes = [LEAKAGE] if LEAKY in title else []
    return Sheet(["encoder", "mode", "settings", *names], body, text=3, title=title, notes=notes)


def _natural(name: str) -> tuple[Any, ...]:
    """Layers in their order: 2 before 10."""
    return (0, int(name)) if name.isdecimal() else (1, name)
