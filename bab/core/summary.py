"""Records -> rows of plain numbers: which records share a column, a row, a cell.

A column holds records that may be compared: one task, corpus, version, digest, protocol, split, set
of classes and metric. A row is one way to make a model: encoder, mode, head, and whatever other
setting differs between its runs. A cell is the mean over seeds.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bab.core.errors import BabError
from bab.core.records import Record

DONE = "done"
# Settings that never tell two rows apart: the seed, which is averaged over; where a run happened
# and who watched it; what the record holds by its real name (encoder, corpus).
_IRRELEVANT = (
    "seed", "device", "runs", "observers", "quiet", "offline", "trust_code", "cache", "bootstrap",
    "train.save_every", "encoder.weights", "corpus.root",
)  # fmt: skip


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
class Cell:
    """One row in one column. low, high: the mean of the seeds' intervals.

    deviation: sample standard deviation over seeds, None with one. status and reason say what
    failed or doesn't apply; with a value, which of its seeds are missing.
    """

    value: float | None
    low: float | None
    high: float | None
    deviation: float | None
    seeds: tuple[int, ...]
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """One way to make a model. parameters: of the encoder; speed: its seconds of audio per second,
    the mean over the row's runs.
    """

    encoder: str
    mode: str
    head: str
    settings: str
    parameters: float | None
    speed: float | None
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The table, before it is printed."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def summarise(records: Sequence[Record]) -> Summary:
    """Sort records into rows and columns.

    Raises:
        BabError: where records of two versions of one task or corpus would share a table.
    """
    unique = list({record.id: record for record in records}.values())
    _same_version(unique, "task")
    _same_version(unique, "corpus")
    columns = _columns(unique)
    settings = _settings(unique, columns)
    rows: dict[tuple[str, ...], list[tuple[int, Record]]] = defaultdict(list)
    for record in unique:
        key = (record.encoder, record.mode, record.head, settings[record.id])
        rows[key].append((columns[record.id], record))
    members: dict[int, list[Record]] = defaultdict(list)
    for record in unique:
        members[columns[record.id]].append(record)
    titles = _labels([members[i] for i in sorted(members)])
    return Summary(
        tuple(_column(title, members[i]) for i, title in zip(sorted(members), titles, strict=True)),
        tuple(_row(key, rows[key], sorted(members)) for key in sorted(rows)),
        tuple(dict.fromkeys(note for r in unique for note in _notes(r))),
    )


def _same_version(records: Sequence[Record], kind: str) -> None:
    """Refuse two versions of a task or corpus: their numbers are of different things."""
    seen: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        seen[getattr(record, kind)][getattr(record, f"{kind}_version")].append(record)
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
    return {name: ranked.index(key) for name, key in keys.items()}


def _place(record: Record) -> tuple[str, ...]:
    return record.task, record.corpus, record.protocol, record.split


def _classes(record: Record) -> str:
    return json.dumps(record.labels, sort_keys=True)


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
    root = (record.config.get("corpus") or {}).get("root")
    return f"{record.task}@{record.corpus}" + (f":{Path(root).name}" if root else "")


def _protocol(record: Record) -> str:
    return record.protocol if record.split == "test" else f"{record.protocol} {record.split}"


def _digest(record: Record) -> str:
    return record.corpus_digest[:8]


def _class_names(record: Record) -> str:
    names = [name for group in record.labels.values() for name in group]
    return "+".join(names) if len(names) <= 8 else f"{len(names)} classes"


def _settings(records: Sequence[Record], columns: Mapping[str, int]) -> dict[str, str]:
    """Record id -> the settings in which runs of its row and column differ, seed apart."""
    together: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for r in records:
        together[r.encoder, r.mode, r.head, columns[r.id]].append(r)
    found: dict[str, str] = {}
    for members in together.values():
        flat = {r.id: dict(_flatten(r.config)) for r in members}
        keys = dict.fromkeys(key for one in flat.values() for key in one)
        odd = [k for k in keys if len({one.get(k, "none") for one in flat.values()}) > 1]
        # Two sets of weights under one name (a folder that changed) are two rows. A run that
        # failed before its encoder was loaded has no fingerprint and stands with either.
        weights = {r.encoder_fingerprint for r in members if r.encoder_fingerprint}
        for r in members:
            told = [f"{k}={flat[r.id].get(k, 'none')}" for k in odd]
            if len(weights) > 1:
                told.append(f"weights={r.encoder_fingerprint[:8] or 'unknown'}")
            found[r.id] = ", ".join(told)
    return found


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """`train.lr` -> "0.001", for all keys that may change a result."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path in _IRRELEVANT:
            continue
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}.")
        else:
            yield path, value if isinstance(value, str) else json.dumps(value)


def _row(
    key: tuple[str, ...], members: Sequence[tuple[int, Record]], columns: Sequence[int]
) -> Row:
    encoder, mode, head, settings = key
    costs = [r.cost for _, r in members if r.status == DONE]
    return Row(
        encoder,
        mode,
        head,
        settings,
        _mean([c["encoder_parameters"] for c in costs if "encoder_parameters" in c]),
        _mean([c["encoder_audio_per_second"] for c in costs if "encoder_audio_per_second" in c]),
        tuple(_cell([r for i, r in members if i == column]) for column in columns),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _cell(members: Sequence[Record]) -> Cell | None:
    """The mean over seeds of those that are done; what happened to the others."""
    if not members:
        return None
    done = sorted((r for r in members if r.status == DONE), key=lambda r: r.seed)
    rest = [r for r in members if r.status != DONE]
    status = rest[0].status if rest else DONE
    reason = "; ".join(dict.fromkeys(r.reason or "no reason given" for r in rest))
    if not done:
        return Cell(None, None, None, None, (), status, reason)
    if rest:
        reason = f"seed {', '.join(str(r.seed) for r in rest)}: {reason}"
    values = [r.metrics.get(r.primary, math.nan) for r in done]
    intervals = [r.intervals[r.primary] for r in done if r.primary in r.intervals]
    whole = len(intervals) == len(done)
    return Cell(
        statistics.fmean(values),
        _mean([low for low, _ in intervals]) if whole else None,
        _mean([high for _, high in intervals]) if whole else None,
        statistics.stdev(values) if len(values) > 1 else None,
        tuple(r.seed for r in done),
        status,
        reason,
    )


def _notes(record: Record) -> list[str]:
    """What a reader of the table must know of a record."""
    if record.status != DONE or not record.bootstrap.get("samples") or not record.intervals:
        return []
    unit, units = record.bootstrap.get("unit", "group"), record.bootstrap.get("units", "?")
    each = "" if unit == "group" else f" (each a {unit})"
    return [f"{_name(record)}: 95 % intervals by bootstrap over {units} groups{each}"]
