"""One run in detail: every number of its record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from bab.core.errors import BabError
from bab.core.record import Record
from bab.results import confusion
from bab.results.jackknife import TOO_FEW
from bab.results.notes import HEARD, HEARD_MARK, heard, made, rare, scored_one, unseen
from bab.results.render import (
    Sheet,
    as_json,
    check_format,
    flat,
    latex,
    markdown,
    number,
    shown,
    span,
)
from bab.results.summary import LEAKAGE, LEAKY


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
    numbers = []
    for preset, values in presets.items():
        intervals = values.get("intervals", {})
        for key, value in values.get("metrics", {}).items():
            metric, _, name = key.partition("/")
            low, high = intervals.get(key, (None, None))
            numbers.append(Score(preset, name or "all", metric, value, low, high))
    parts = {"group": record.groups} | record.subgroups
    for section, members in parts.items():
        for name, metrics in members.items():
            whole = ((k, v) for k, v in metrics.items() if "/" not in k)
            numbers += [Score(section, name, k, v, None, None) for k, v in whole]
    return numbers


def detail(record: Record, format: str = "markdown", matrices: bool = True) -> str:
    """One run's scores: per class and preset with 95 % intervals, what was taken for what, then per
    group and subgroup.

    Args:
        format: markdown | csv (one line per number) | latex | json.
        matrices: whether the first preset's confusion is shown too.

    Raises:
        BabError: an unknown format, or a run that has no result.
    """
    check_format(format)
    if record.status != "done":
        raise BabError(f"run {record.id} has no scores ({record.status}): {record.reason}")
    numbers = scores(record)
    if format == "json":
        leaky = {"id": record.id, "leakage": record.leakage}
        plain = {"scores": [one._asdict() for one in numbers], "confusion": record.confusion}
        return as_json(leaky | plain)
    if format == "csv":
        marked = {"run": record.id, "leakage": record.leakage}
        return flat([{**marked, **one._asdict()} for one in numbers])
    unit = scored_one(record)
    sheets = [
        _detail_sheet(record, section, [one for one in numbers if one.section == section], unit)
        for section in dict.fromkeys(one.section for one in numbers)
    ]
    if matrices:
        sheets += confusion.sheets(record)
    return markdown(sheets) if format == "markdown" else latex(sheets)


def _detail_sheet(record: Record, section: str, numbers: Sequence[Score], unit: str) -> Sheet:
    """Names down, metrics across; "all" last."""
    metrics = list(dict.fromkeys(one.metric for one in numbers))
    names = sorted(dict.fromkeys(one.name for one in numbers), key=lambda name: name == "all")
    by = {(one.name, one.metric): one for one in numbers}
    rows = [[name, *(_score(by.get((name, m)), record) for m in metrics)] for name in names]
    title = {"group": f"per {unit}"}.get(section, section)
    if section in record.presets or section == "default":
        encoder = shown(record.encoder, record.encoder_fingerprint)
        title = f"{record.task}@{record.corpus}, {encoder}, {record.mode}: {section}"
    notes = []
    if section == next(iter(record.presets), "default"):
        notes = [
            *filter(None, [made(record), rare(record), unseen(record)]),
            *_without(record, section),
        ]
    own = f"{section}: "  # what was said of tuning this preset
    notes += [text.removeprefix(own) for text in record.notices if text.startswith(own)]
    notes += [LEAKAGE] if record.leakage else []
    notes += [HEARD] if heard(record) else []
    for mark, there in ((LEAKY, record.leakage), (HEARD_MARK, heard(record))):
        if there:
            title, metrics = f"{title} {mark}", [f"{name} {mark}" for name in metrics]
    headers = [unit if section == "group" else "", *metrics]
    return Sheet(headers, rows, title=title, notes=notes)


def _without(record: Record, preset: str) -> list[str]:
    """Which scores have no interval though others have, by reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    values = record.presets.get(preset, {})
    for metric, why in values.get("no_interval", {}).items():
        reasons[why].append(metric)
    if len(record.jackknife.get("groups", ())) < TOO_FEW:
        return []
    every = not values.get("intervals") and len(reasons) == 1
    return [
        f"no intervals: {why}" if every else f"no interval of {', '.join(names)}: {why}"
        for why, names in reasons.items()
    ]


def _score(one: Score | None, record: Record) -> str:
    if one is None:
        return ""
    unit = record.units.get(one.metric, "")
    interval = "" if one.low is None or one.high is None else f" {span(one.low, one.high, unit)}"
    return number(one.value, unit) + interval
