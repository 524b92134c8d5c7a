"""Audits on disk, and results beside what recording traits alone get on the same splits."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bab.core.atomic import write_json
from bab.core.errors import BabError
from bab.core.record import Record
from bab.results import jackknife
from bab.results.compare import contest, differences, interval, score
from bab.results.record import revived
from bab.results.render import Sheet, as_json, check_format, flat, latex, markdown, number, span

FOLDER = ".audit"  # below the runs' folder; hidden, so that tables of the runs leave it out
FORMAT = 1
TRAITS, NAMES, MAJORITY, SHUFFLED = "traits", "names", "majority", "shuffled"
ROWS: Mapping[str, str] = {
    TRAITS: "what the audio carries: format, level, noise, band, duration",
    NAMES: "file names and folders, which no encoder reads",
    MAJORITY: "control: the most frequent class",
    SHUFFLED: "control: the same trees, training labels shuffled",
}
BELOW = "▽"
LEGEND = (
    f"{BELOW} not shown to be above its shortcut: small boosted trees on recording traits alone "
    "(sample rate, codec, level, noise, band, duration; nothing of what is said), same splits. "
    "Such a score may be of the recordings' making. `bab audit CORPUS --task TASK` says which "
    "traits"
)
_SHOWN = 10  # traits in what a person reads


@dataclass(frozen=True, slots=True)
class Trait:
    """alone: the headline metric of one tree on it; drop: what all traits' trees lose when it is
    shuffled among the tested clips (names: None); constant: it is the same for all clips;
    classes: its median in each class."""

    name: str
    meaning: str
    alone: float
    drop: float | None
    constant: bool
    classes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Audit:
    """What traits get on a task's splits. rows: of `ROWS`, a record each (shuffled: several, by
    seed), like a run's."""

    id: str
    rows: Mapping[str, Sequence[Record]]
    traits: Sequence[Trait]
    notices: Sequence[str]
    format: int = FORMAT

    @property
    def shortcut(self) -> Sequence[Record]:
        """What encoders are compared with: all that they could hear of it."""
        return self.rows[TRAITS]


@dataclass(frozen=True, slots=True)
class Gap:
    """A result less another, better = more; low, high: None where nothing can be told."""

    value: float
    low: float | None
    high: float | None
    above: bool


def save(audit: Audit, path: Path) -> None:
    """Write an audit, atomically."""
    write_json(path, dataclasses.asdict(audit))


def load(path: Path) -> Audit:
    """Read an audit.

    Raises:
        BabError: a file that can't be read, or isn't one.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']!r}")
        rows = {name: [revived(one, str(path)) for one in values["rows"][name]] for name in ROWS}
        traits = [Trait(**{**one, "alone": _real(one["alone"])}) for one in values["traits"]]
    except OSError as error:
        raise BabError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BabError(f"{path}: is no audit ({error}): `bab audit --force` makes it") from None
    return Audit(values["id"], rows, traits, values["notices"])


def _real(value: Any) -> float:
    return math.nan if value is None else float(value)


def gap(cell: Sequence[Record], other: Sequence[Record]) -> Gap:
    """How far a cell is above another, group by group. Above: the 95 % interval of the difference
    lies above 0, or the difference is the same whatever group is left out."""
    sign = 1.0 if cell[0].higher_is_better else -1.0
    value = sign * (score(cell) - score(other))
    held = contest([cell, other])
    told = differences(held).get((0, 1))
    if told is None:
        return Gap(value, None, None, above=False)
    ends = sorted(sign * end for end in (told.low, told.high) if end is not None)
    certain = told.apart or (not ends and held.groups >= jackknife.MARKED)
    low, high = ends or (None, None)
    return Gap(value, low, high, above=bool(certain and value > 0))


def collect(runs: Path) -> list[Audit]:
    """The audits below a folder of runs."""
    return [load(path) for path in sorted((runs / FOLDER).rglob("*.json"))]


def fitting(audits: Sequence[Audit], members: Sequence[Record]) -> Audit | None:
    """The newest audit of a column of a table: of the same clips, splits, classes and metric."""
    asked = [_question(r) for r in members if r.status == "done"]
    own = [audit for audit in audits if _question(audit.shortcut[0]) in asked]
    return max(own, key=lambda audit: audit.shortcut[0].created, default=None)


def _question(record: Record) -> tuple[object, ...]:
    asked = (record.task, record.task_version, record.corpus, record.corpus_digest)
    return *asked, record.protocol, record.split, record.primary, record.labels


def column_notes(label: str, audit: Audit) -> list[str]:
    """What a table says of an audited column."""
    few = len(audit.shortcut[0].jackknife.get("groups", ()))
    said = [f"{label}: {text}" for text in verdict(audit)]
    if few < jackknife.MARKED:
        said.append(f"{label}: {few} groups: nothing can be shown to be above its shortcut")
    return said


def control(audit: Audit) -> str:
    """The better of the two controls: what is chance here."""
    sign = 1.0 if audit.shortcut[0].higher_is_better else -1.0
    return max((MAJORITY, SHUFFLED), key=lambda name: sign * score(audit.rows[name]))


def verdict(audit: Audit) -> list[str]:
    """What the audit says, in sentences."""
    first = audit.shortcut[0]
    unit, metric = first.units.get(first.primary, ""), first.primary
    chance = control(audit)
    against = audit.rows[chance]
    base, said = number(score(against), unit), []
    few = len(first.jackknife.get("groups", ()))
    for name, who in ((TRAITS, "recording traits"), (NAMES, "file names")):
        rows = audit.rows[name]
        own = f"{who} alone get {metric} {_scored(rows, unit)}"
        if not gap(rows, against).above:
            why = f" ({few} groups: too few to tell)" if few < jackknife.MARKED else ""
            said.append(f"No shortcut shown{why}: {own}, chance ({chance}) {base}.")
            continue
        best = next(t for t in audit.traits if (t.drop is None) == (name == NAMES))
        text = f"SHORTCUT: {own}, where chance ({chance}) gets {base}. The {best.name} alone gives "
        said.append(text + f"{number(best.alone, unit)}.")
        if name == TRAITS:
            said[-1] += " A model shows that it uses more only where its score is above that."
    return said


def _scored(records: Sequence[Record], unit: str) -> str:
    """0.652 [0.601, 0.698]"""
    ends, text = interval(records), number(score(records), unit)
    if ends.low is None or ends.high is None:
        return text
    return f"{text} {span(ends.low, ends.high, unit)}"


def render(audit: Audit, format: str = "markdown") -> str:
    """An audit as people read it (markdown, latex), or all of it (json, csv: the traits).

    Raises:
        BabError: an unknown format.
    """
    check_format(format)
    if format == "json":
        return as_json(dataclasses.asdict(audit))
    if format == "csv":
        return flat([_flat(trait) for trait in audit.traits])
    sheets = [_scores(audit), _traits(audit)]
    return markdown(sheets) if format == "markdown" else latex(sheets)


def _flat(trait: Trait) -> dict[str, object]:
    classes = {f"median {name}": value for name, value in trait.classes.items()}
    return {
        "trait": trait.name,
        "alone": trait.alone,
        "drop": trait.drop,
        "constant": trait.constant,
        **classes,
    }


def _plain(value: float) -> str:
    """44100, 0.3852, -3.811e-06"""
    return f"{value:.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _scores(audit: Audit) -> Sheet:
    first = audit.shortcut[0]
    unit = first.units.get(first.primary, "")
    rows = []
    for name, meaning in ROWS.items():
        rows.append([name, meaning, _scored(audit.rows[name], unit)])
    title = f"{first.task}@{first.corpus}, {first.protocol}: what needs no listening"
    headers = ["from", "which is", f"{first.primary}{f' ({unit})' if unit else ''}"]
    return Sheet(headers, rows, text=2, title=title, notes=[*verdict(audit), *audit.notices])


def _traits(audit: Audit) -> Sheet:
    first = audit.shortcut[0]
    unit = first.units.get(first.primary, "")
    rows = []
    varying = [trait for trait in audit.traits if not trait.constant]
    for trait in varying[:_SHOWN]:
        drop = "" if trait.drop is None else f"{trait.drop:+.3f}"
        medians = ", ".join(f"{name} {_plain(value)}" for name, value in trait.classes.items())
        rows.append([trait.name, trait.meaning, number(trait.alone, unit), drop, medians])
    notes = [
        f"alone: {first.primary} of one tree of at most eight leaves on this trait; the largest of "
        f"{len(audit.traits)} is above chance by chance, too",
        "drop: how much the trees on all traits lose when this one is shuffled among the tested "
        "clips (mean of 3); traits that say the same stand in for each other",
        "medians by class are over all clips",
    ]
    if constant := [trait.name for trait in audit.traits if trait.constant]:
        notes.append(f"the same for all clips: {', '.join(constant)}")
    if len(varying) > _SHOWN:
        notes.append(f"the first {_SHOWN} of {len(varying)} that vary; --format csv has all")
    headers = ["trait", "what it is", "alone", "drop", "median of each class"]
    return Sheet(headers, rows, text=2, title="Which traits", notes=notes)
