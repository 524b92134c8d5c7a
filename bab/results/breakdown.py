"""Cells of a table taken apart: encoder against encoder, by subgroup, recording and layer.

Each view is a list of entries, one number each, for CSV and JSON; people read them as sheets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from bab.core import registry
from bab.core.errors import BabError, counted, did_you_mean
from bab.core.record import Record
from bab.results import compare, jackknife
from bab.results.notes import ONE_SEED, scored_one
from bab.results.render import Sheet, as_json, check_format, flat, latex, markdown, number, span
from bab.results.settings import apart_from_encoders
from bab.results.summary import DONE, LEAKAGE, LEAKY, Column, Table, arrange

_ACROSS = 13  # parts that stand side by side: a base encoder has so many layers
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
    """The paired difference A less B on one column; better: the encoder that is shown to be.

    low, high: None where nothing can be told; why: what keeps it from being said which is better.
    """

    column: str
    metric: str
    mode: str
    settings: str
    encoder_a: str
    encoder_b: str
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    better: str
    why: str
    one_seed: bool


def _recorded(name: str, known: Collection[str]) -> str:
    """An encoder as `--encoder` takes it -> as records have it: with its weights written out, a
    folder's path from the root.

    Raises:
        BabError: no run is of it.
    """
    bare, colon, weights = name.partition(":")
    if name not in known and weights and Path(weights).expanduser().exists():
        name = f"{bare}:{Path(weights).expanduser().resolve()}"
    if name not in known and not colon:
        same = [one for one in known if one.partition(":")[0] == bare]
        if len(same) > 1:  # which weights are its default, its class says
            same = [f"{bare}:{registry.load('encoders', bare).default}"]
        name = same[0] if same else name
    if name not in known:
        raise BabError(f"no run is of encoder '{name}': {did_you_mean(name, known)}")
    return name


def gaps(records: Sequence[Record], names: Sequence[str]) -> list[Gap]:
    """Every two of some encoders, for each column and way of training that both have.

    Raises:
        BabError: fewer than two encoders, one that no record has, or nothing that two of them did.
    """
    table = arrange([r for r in records if r.status == DONE])
    known = {key[0] for key in table.keys}
    names = list(dict.fromkeys(_recorded(name, known) for name in names))
    if len(names) < 2:
        raise BabError(f"'{names[0]}' can only be compared with another encoder: name two or more")
    cells: dict[int, list[_Cell]] = defaultdict(list)
    for key, row in zip(table.keys, table.cells, strict=True):
        for j, members in enumerate(row):
            if members and key[0] in names:
                cells[j].append((key, members))
    listed = [
        gap for j, own in sorted(cells.items()) for gap in _gaps(table.columns[j], own, names)
    ]
    if listed:
        return listed
    raise BabError(
        f"{', '.join(map(repr, names))} have no task, mode and settings in common (`bab table` "
        "shows each one's)"
    )


_Cell = tuple[tuple[str, ...], tuple[Record, ...]]  # a row's key, and its records of one column


def _gaps(column: Column, cells: Sequence[_Cell], names: Sequence[str]) -> list[Gap]:
    """Of one column. Where an encoder has rows that differ in what another's don't, no two rows
    are called alike: then by what differs between the rows of either."""
    texts = {members[0].id: key[3] for key, members in cells}
    others = apart_from_encoders(texts, [members[0] for _, members in cells])
    for settings in (texts, others):
        alike = sorted(_alike(cells, settings).items())
        listed = [
            gap
            for (mode, said, _), own in alike
            for gap in _pairs(column, (mode, said), names, own)
        ]
        if listed:
            return listed
    return []


def _alike(
    cells: Sequence[_Cell], settings: Mapping[str, str]
) -> dict[tuple[str, str, str], dict[str, tuple[Record, ...]]]:
    """The cells that are compared: of one mode, settings (by a cell's first record) and head (rows
    are named by all their heads). Of two cells of one encoder in one place, neither."""
    alike: dict[tuple[str, str, str], dict[str, tuple[Record, ...]]] = defaultdict(dict)
    twice = set()
    for key, members in cells:
        place = (key[1], settings[members[0].id], members[0].head)
        if key[0] in alike[place]:
            twice.add((place, key[0]))
        alike[place][key[0]] = members
    for place, name in twice:
        del alike[place][name]
    return alike


def _pairs(
    column: Column,
    how: tuple[str, str],
    names: Sequence[str],
    cells: Mapping[str, Sequence[Record]],
) -> Iterator[Gap]:
    there = [name for name in names if name in cells]
    held = compare.contest([cells[name] for name in there])
    told = compare.differences(held)
    few = 0 < held.groups < jackknife.MARKED
    for (i, a), (j, b) in combinations(enumerate(there), 2):
        one, two = compare.score(cells[a]), compare.score(cells[b])
        gap = told.get((i, j), compare.Difference(one - two))
        better, why = "", ""
        if gap.apart is None:
            why = counted(held.groups, "group") if few else held.why or "no spread between groups"
        elif gap.apart:
            better = a if (gap.value > 0) == column.higher_is_better else b
        seeds = min(len(cells[a]), len(cells[b]))
        place = (column.label, column.metric, *how, a, b, one, two, gap.value)
        yield Gap(*place, gap.low, gap.high, better, why, seeds == 1)


def versus(records: Sequence[Record], names: Sequence[str], format: str = "markdown") -> str:
    """`gaps`, printed: one line per column and pair.

    Raises:
        BabError: an unknown format, or see `gaps`.
    """
    check_format(format)
    differences = gaps(records, names)
    if format == "json":
        return as_json([gap._asdict() for gap in differences])
    if format == "csv":
        return flat([gap._asdict() for gap in differences])
    units = {c.label: c.unit for c in arrange(records).columns}
    rows = []
    for gap in differences:
        unit = units.get(gap.column, "")
        interval = "" if gap.low is None or gap.high is None else span(gap.low, gap.high, unit)
        unknown = f"can't be told: {gap.why}"
        verdict = gap.better or (unknown if gap.why else "within noise")
        values = [number(v, unit) for v in (gap.a, gap.b, gap.difference)]
        where = [f"{gap.column} {gap.metric}", gap.mode, gap.settings]
        rows.append([*where, gap.encoder_a, gap.encoder_b, *values, interval, verdict])
    headers = ["task", "mode", "settings", "A", "B", "A's", "B's", "A less B", "95 % interval"]
    sheet = Sheet([*headers, "better"], rows, text=5, notes=_said(differences))
    return markdown([sheet]) if format == "markdown" else latex([sheet])


def _said(differences: Sequence[Gap]) -> list[str]:
    """How the differences were judged."""
    notes = ["paired: the same group is left out of both, one after the other (docs/intervals.md)"]
    if len({name for gap in differences for name in (gap.encoder_a, gap.encoder_b)}) > 2:
        notes.append(
            "the intervals of a task hold all together in 95 % of cases (studentised range of all "
            "that are compared on it)"
        )
    notes.append("within noise: not shown to differ, which isn't to say equal")
    notes += [ONE_SEED] if any(gap.one_seed for gap in differences) else []
    return notes + ([LEAKAGE] if any(LEAKY in gap.column for gap in differences) else [])


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
                kinds = r.subgroups if view == "subgroups" else {scored_one(r): r.groups}
                for section, values in kinds.items():
                    for name, metrics in values.items():
                        if r.primary in metrics:
                            parts[section, name].append(metrics[r.primary])
            for (section, name), values_ in parts.items():
                where = (key[0], key[1], key[3])
                yield PartScore(column.label, column.metric, section, name, *where, fmean(values_))


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
        _sheet(f"{column} {metric}", section, members, units.get(column, ""))
        for (column, metric, section), members in sections.items()
    ]
    return markdown(sheets) if format == "markdown" else latex(sheets)


def _sheet(column: str, section: str, scores: Sequence[PartScore], unit: str) -> Sheet:
    """Encoders down and parts across; of many parts the other way round."""
    names = sorted({entry.name for entry in scores}, key=_natural)
    values: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for entry in scores:
        said = number(entry.value, unit)
        values[entry.encoder, entry.mode, entry.settings][entry.name] = said
    keys, title = sorted(values), f"{column}, by {section}"
    notes = [LEAKAGE] if LEAKY in title else []
    if len(names) > max(_ACROSS, len(keys)):
        headers = [section, *(", ".join(filter(None, key)) for key in keys)]
        body = [[name, *(values[key].get(name, "") for key in keys)] for name in names]
        return Sheet(headers, body, title=title, notes=notes)
    body = [[*key, *(values[key].get(name, "") for name in names)] for key in keys]
    headers = ["encoder", "mode", "settings", *names]
    return Sheet(headers, body, text=3, title=title, notes=notes)


def _natural(name: str) -> tuple[Any, ...]:
    """Layers in their order: 2 before 10."""
    return (0, int(name)) if name.isdecimal() else (1, name)
