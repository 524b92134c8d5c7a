"""Records -> rows of plain numbers: which records share a column, a row, a cell.

A column holds records that may be compared: one task, corpus, version, digest, protocol, split, set
of classes and metric. A row is one way to make a model: encoder, mode, head, and whatever other
setting differs between its runs. A cell is the mean over seeds.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bab.core.errors import BabError, did_you_mean
from bab.core.record import Record
from bab.results import compare
from bab.results.notes import column_notes, heard, newest, old
from bab.results.render import shown
from bab.results.settings import brief, settings_of

DONE = "done"
LEAKY = "†"
LEAKAGE = (
    f"{LEAKY} leakage, allowed by --allow-leakage: tested on speakers, groups or recordings that "
    "were trained on; not to be compared with results without it"
)
BASELINE = "fbank"  # SUPERB's: the encoder that relative scores start from, unless one is named


@dataclass(frozen=True, slots=True)
class Column:
    """What a column's numbers are."""

    label: str
    task: str
    task_version: str
    corpus: str
    corpus_version: str
    corpus_digest: str
    protocol: str
    split: str
    metric: str
    unit: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class TableCell:
    """One row in one column. low, high: over groups and seeds, or no_interval says why there is
    none; old: of a record that an earlier bab wrote, whose interval is too narrow. mark: "best",
    "within noise" of the best, or "".

    deviation: sample standard deviation over seeds, None with one. status and reason say what
    failed or doesn't apply; with a value, which of its seeds are missing. leakage: in one of the
    runs, train shares speakers, groups or recordings with dev or test.
    """

    value: float | None
    low: float | None
    high: float | None
    deviation: float | None
    seeds: tuple[int, ...]
    status: str
    reason: str
    mark: str = ""
    leakage: bool = False
    no_interval: str = ""
    old: bool = False
    heard: bool = False  # the encoder was pretrained on test audio


@dataclass(frozen=True, slots=True)
class Row:
    """One way to make a model. parameters: of the encoder; speed: its seconds of audio per second,
    the mean over the row's runs; rank: the mean over columns; relative: SUPERB's formula over the
    table's own columns, the baseline at 0 and the best at 1000. Both need every column.
    """

    encoder: str  # as records have it
    called: str  # the same for people: a folder by its short name
    mode: str
    head: str
    settings: str
    parameters: float | None
    speed: float | None
    cells: tuple[TableCell | None, ...]
    rank: float | None = None
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Which records stand where: cells[row][column], and each column's records."""

    keys: tuple[tuple[str, ...], ...]  # encoder, mode, head, settings
    members: tuple[tuple[Record, ...], ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[tuple[Record, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The table, before it is printed."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def arrange(records: Sequence[Record]) -> Table:
    """Sort records into rows and columns.

    Raises:
        BabError: where records of two versions of one task or corpus would share a table.
    """
    unique = list({record.id: record for record in records}.values())
    _same_version(unique, "task")
    _same_version(unique, "corpus")
    columns = _columns(unique)
    settings, heads = settings_of(unique, columns), _heads(unique, columns)
    members: dict[int, list[Record]] = defaultdict(list)
    rows: dict[tuple[str, ...], dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for r in unique:
        key = (r.encoder, r.mode, heads[r.id], settings[r.id])
        members[columns[r.id]].append(r)
        rows[key][columns[r.id]].append(r)
    order = sorted(members)
    titles = _labels([members[i] for i in order])
    return Table(
        tuple(sorted(rows)),
        tuple(tuple(members[i]) for i in order),
        tuple(_column(title, members[i]) for i, title in zip(order, titles, strict=True)),
        tuple(tuple(tuple(newest(rows[key].get(i, ()))) for i in order) for key in sorted(rows)),
    )


def summarise(records: Sequence[Record], baseline: str = BASELINE) -> Summary:
    """The numbers of a table. baseline: the encoder that relative scores start from. Raises
    BabError: see `arrange`; or no run is of that encoder, which isn't the usual one."""
    table = arrange(records)
    known = {key[0] for key in table.keys}
    if baseline not in {BASELINE, *known, *(name.partition(":")[0] for name in known)}:
        raise BabError(f"no run is of encoder '{baseline}': {did_you_mean(baseline, known)}")
    shortly = zip(table.keys, brief([key[3] for key in table.keys]), strict=True)
    names = [", ".join(filter(None, (*key[:2], text))) for key, text in shortly]
    done = [[_done(members) for members in row] for row in table.cells]
    marks = [
        compare.marks([row[j] for row in done], column.higher_is_better)
        for j, column in enumerate(table.columns)
    ]
    rows = [
        _row(key, cells, [column[i] for column, _ in marks])
        for i, (key, cells) in enumerate(zip(table.keys, table.cells, strict=True))
    ]
    rows, notes = _ranked(rows, table.columns, baseline)
    told = [
        note
        for j, (column, (_, why)) in enumerate(zip(table.columns, marks, strict=True))
        for note in column_notes(
            column.label, {k: c[j] for k, c in zip(names, done, strict=True)}, why
        )
    ]
    return Summary(table.columns, tuple(rows), (*told, *notes))


def _ranked(
    rows: list[Row], columns: Sequence[Column], baseline: str
) -> tuple[list[Row], list[str]]:
    """The rows with rank and relative score, where there are several tasks; and how to read it."""
    if len(rows) < 2 or len(columns) < 2:
        return rows, []
    values = [[None if c is None else c.value for c in row.cells] for row in rows]
    higher = [column.higher_is_better for column in columns]
    ranked = [
        replace(row, rank=rank)
        for row, rank in zip(rows, compare.ranks(values, higher), strict=True)
    ]
    whole = [i for i, row in enumerate(values) if None not in row]
    base = [i for i in whole if baseline in (rows[i].encoder, rows[i].encoder.partition(":")[0])]
    if len(base) != 1:
        why = "several rows are" if base else "no row that holds every task is"
        told = base or baseline != BASELINE
        return ranked, [f"no relative score: {why} {baseline}"] if told else []
    scores, left_out = compare.relative_scores(values, higher, base[0])
    names = ", ".join(columns[j].label for j in left_out)
    note = f"relative: {baseline} is 0, the best of each task 1000, averaged over the tasks"
    note += f"; without {names}, where nothing beats {baseline}" if names else ""
    if not any(scores):
        return ranked, [f"no relative score: {baseline} is beaten in fewer than two tasks"]
    return [replace(row, relative=s) for row, s in zip(ranked, scores, strict=True)], [note]


def _done(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if r.status == DONE]


def _same_version(records: Sequence[Record], kind: str) -> None:
    """Refuse two versions of a task or corpus: their numbers are of different things."""
    seen: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        # A run over two corpora names both, and both versions: a→b (--test-corpus).
        names = getattr(record, kind).split("→")
        versions = getattr(record, f"{kind}_version").split("→")
        for name, version in dict(zip(names, versions, strict=False)).items():
            if version:  # unknown where a run failed early
                seen[name][version].append(record)
    for name, versions in seen.items():
        if len(versions) > 1:
            lines = [
                f"  version {version}: {r.encoder}, seed {r.seed}, run {r.id}"
                for version, members in sorted(versions.items())
                for r in members
            ]
            raise BabError(
                f"these records are of {len(versions)} versions of {kind} {name}, whose numbers "
                "can't stand in one table: repeat the older runs, or move them elsewhere\n"
                + "\n".join(lines)
            )


def _columns(records: Sequence[Record]) -> dict[str, int]:
    """Record id -> its column's number, in the order of tasks, corpora and first appearance."""
    keys: dict[str, tuple[str, ...]] = {}
    done = [r for r in records if r.status == DONE]
    for record in done:
        keys[record.id] = (*_place(record), record.corpus_digest, _classes(record), record.primary)
    for record in records:
        if record.status == DONE:
            continue
        # A run that failed may not know its classes or digest: it stands with its like.
        like = [keys[r.id] for r in done if _place(r) == _place(record)]
        near = [key for key in like if record.corpus_digest in key]
        keys[record.id] = (near or like or [(*_place(record), record.corpus_digest, "", "")])[0]
    order = {key: i for i, key in enumerate(dict.fromkeys(keys[r.id] for r in records))}
    ranked = sorted(order, key=lambda key: (key[:2], order[key]))
    places = {key: number for number, key in enumerate(ranked)}
    return {name: places[key] for name, key in keys.items()}


def _place(record: Record) -> tuple[str, ...]:
    return record.task, record.corpus, record.protocol, record.split


def _classes(record: Record) -> str:
    return repr(sorted(record.labels.items()))


def _column(label: str, members: Sequence[Record]) -> Column:
    first = next((r for r in members if r.status == DONE), members[0])
    return Column(
        label,
        first.task,
        first.task_version,
        first.corpus,
        first.corpus_version,
        first.corpus_digest,
        first.protocol,
        first.split,
        first.primary,
        first.units.get(first.primary, ""),
        first.higher_is_better,
    )


def _labels(groups: Sequence[Sequence[Record]]) -> list[str]:
    """`task@corpus:root` for each column, with what tells equal ones apart behind it."""
    firsts = [next((r for r in members if r.status == DONE), members[0]) for members in groups]
    labels = [_name(record) for record in firsts]
    for tell in (_protocol, _digest, _class_names):
        taken = [label for label in labels if labels.count(label) > 1]
        extras = {
            label: {tell(r) for r, own in zip(firsts, labels, strict=True) if own == label}
            for label in taken
        }
        labels = [
            f"{label} {tell(r)}".strip() if len(extras.get(label, ())) > 1 else label
            for r, label in zip(firsts, labels, strict=True)
        ]
    return labels


def _name(record: Record) -> str:
    roots = [_root(record.config.get(key)) for key in ("corpus", "test_corpus")]
    named = [
        name + (f":{Path(root).name}" if root else "")
        for name, root in zip(record.corpus.split("→"), roots, strict=False)
    ]
    return f"{record.task}@{'→'.join(named)}" + (f" {LEAKY}" if record.leakage else "")


def _root(corpus: Any) -> str:
    """Where a corpus lies: of a run's configuration, or of what was asked for (`kaldi:/data/x`)
    where the run failed before that was understood."""
    if isinstance(corpus, Mapping):
        return str(corpus.get("root") or "")
    return str(corpus or "").partition(":")[2]


def _protocol(record: Record) -> str:
    return record.protocol if record.split == "test" else f"{record.protocol} {record.split}"


def _digest(record: Record) -> str:
    return record.corpus_digest[:8]


def _class_names(record: Record) -> str:
    names = [name for group in record.labels.values() for name in group]
    return "+".join(names) if len(names) <= 8 else f"{len(names)} classes"


def _heads(records: Sequence[Record], columns: Mapping[str, int]) -> dict[str, str]:
    """Record id -> the head that its row is called by: its own where an encoder has several on one
    task; else all that the row has, since each task brings its own."""
    heads: dict[tuple[str, str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for r in records:
        if r.head:  # unknown where a run failed early
            heads[r.encoder, r.mode][columns[r.id]].add(r.head)
    names_of: dict[str, str] = {}
    for r in records:
        own = heads[r.encoder, r.mode]
        several = any(len(names) > 1 for names in own.values())
        names_of[r.id] = r.head if several else ", ".join(sorted(set().union(*own.values())))
    return names_of


def _row(key: tuple[str, ...], cells: Sequence[Sequence[Record]], marks: Sequence[str]) -> Row:
    encoder, mode, head, settings = key
    costs = [r.cost for members in cells for r in _done(members)]
    prints = [r.encoder_fingerprint for members in cells for r in members]
    return Row(
        encoder,
        shown(encoder, max(prints, default="")),
        mode,
        head,
        settings,
        _mean([c["encoder_parameters"] for c in costs if "encoder_parameters" in c]),
        _mean([c["encoder_audio_per_second"] for c in costs if "encoder_audio_per_second" in c]),
        tuple(_cell(members, mark) for members, mark in zip(cells, marks, strict=True)),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _cell(members: Sequence[Record], mark: str) -> TableCell | None:
    """The mean over seeds of those that are done; what happened to the others."""
    if not members:
        return None
    done = sorted((r for r in members if r.status == DONE), key=lambda r: r.seed)
    rest = [r for r in members if r.status != DONE]
    status = rest[0].status if rest else DONE
    reason = "; ".join(dict.fromkeys(r.reason or "no reason given" for r in rest))
    if not done:
        return TableCell(None, None, None, None, (), status, reason)
    if rest:
        reason = f"seed {', '.join(str(r.seed) for r in rest)}: {reason}"
    values = [r.metrics.get(r.primary, math.nan) for r in done]
    bounds = compare.interval(done)
    return TableCell(
        statistics.fmean(values),
        bounds.low,
        bounds.high,
        statistics.stdev(values) if len(values) > 1 else None,
        tuple(r.seed for r in done),
        status,
        reason,
        mark,
        any(r.leakage for r in done),
        bounds.why,
        any(old(r) for r in done),
        any(heard(r) for r in done),
    )
