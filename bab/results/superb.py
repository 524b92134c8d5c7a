"""SUPERB's overall score: ten tasks on one scale, filterbanks at 0, the reference top at 1000.

Yang et al. 2021 (arXiv 2105.01051); the score as its public leaderboard defines it (Feng et al.
2022, arXiv 2210.08634, `superb_s`): each metric is stretched linearly between the two reference
rows, averaged within its task, then over the tasks.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bab.core.errors import BabError
from bab.results.render import Sheet, as_json, check_format, flat, latex, markdown

# Task -> its metrics, in the columns' names of the leaderboard: phoneme recognition (PER), keyword
# spotting, intent, speaker identity, emotion (accuracies), speech recognition (WER), query by
# example (MTWV x 100), slot filling (F1 and CER), speaker verification (EER), diarisation (DER).
TASKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "PR": ("PR",),
        "KS": ("KS",),
        "IC": ("IC",),
        "SID": ("SID",),
        "ER": ("ER",),
        "ASR": ("ASR",),
        "QbE": ("QbE_x100",),
        "SF": ("SF_F1", "SF_CER"),
        "SV": ("SV",),
        "SD": ("SD",),
    }
)
METRICS = tuple(metric for metrics in TASKS.values() for metric in metrics)
# The two reference rows of the leaderboard: FBANK, and the best published value of each metric
# when the score was introduced. Error rates fall from one to the other: the formula needs no sign.
FBANK: Mapping[str, float] = MappingProxyType(
    {
        "PR": 82.01, "KS": 41.38, "IC": 9.65, "SID": 20.06, "ER": 48.24, "ASR": 23.18,
        "QbE_x100": 0.58, "SF_F1": 69.64, "SF_CER": 52.94, "SV": 9.56, "SD": 10.05,
    }
)  # fmt: skip
TOP: Mapping[str, float] = MappingProxyType(
    {
        "PR": 3.53, "KS": 96.66, "IC": 98.76, "SID": 90.33, "ER": 67.62, "ASR": 3.62,
        "QbE_x100": 7.36, "SF_F1": 89.81, "SF_CER": 21.76, "SV": 5.11, "SD": 5.62,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SuperbRow:
    """One model of a leaderboard file. score: None where a task is missing; published: as found."""

    model: str
    values: Mapping[str, float]
    score: float | None
    missing: tuple[str, ...]
    published: float | None


def relative(
    values: Mapping[str, float],
    low: Mapping[str, float],
    high: Mapping[str, float],
    tasks: Iterable[Sequence[str]],
) -> float:
    """1000 / |T| * the sum over tasks of the mean over their metrics of (s - low) / (high - low).

    tasks: the metrics of each. NaN where `low` and `high` agree, which gives no scale.
    """
    shares = []
    for metrics in tasks:
        spans = [(high[m] - low[m], values[m] - low[m]) for m in metrics]
        if any(span == 0 for span, _ in spans):
            return math.nan
        shares.append(math.fsum(part / span for span, part in spans) / len(spans))
    return 1000 * math.fsum(shares) / len(shares) if shares else math.nan


def superb_s(values: Mapping[str, float]) -> float:
    """The score of a model, from its metric of each of SUPERB's ten tasks (keys: `METRICS`).

    Percentages as the leaderboard prints them; query by example is MTWV x 100.

    Raises:
        BabError: metrics that are missing: a score over fewer tasks is not this score.
    """
    if missing := [metric for metric in METRICS if metric not in values]:
        raise BabError(f"superb_s needs all of SUPERB's ten tasks; missing: {', '.join(missing)}")
    return relative(values, FBANK, TOP, TASKS.values())


def read_leaderboard(path: Path) -> list[SuperbRow]:
    """A CSV with a column `model` and one per metric of `METRICS`; `score`, where there is one, is
    the published score. Other columns are left alone, an empty field is a missing task.

    Raises:
        BabError: naming the file, the line and the value.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except FileNotFoundError:
        raise BabError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BabError(f"{path}: can't be read as CSV: {error}") from None
    known = set(lines[0]) if lines else set()
    if "model" not in known or not known & set(METRICS):
        raise BabError(
            f"{path}: expected a header with `model` and SUPERB's metrics: {','.join(METRICS)}"
        )
    return [_row(path, number, line) for number, line in enumerate(lines, start=2)]


def _row(path: Path, number: int, line: Mapping[str, str | None]) -> SuperbRow:
    values: dict[str, float] = {}
    for key in (*METRICS, "score"):
        text = (line.get(key) or "").strip()
        if not text:
            continue
        try:
            values[key] = float(text)
        except ValueError:
            raise BabError(f"{path}: line {number}: {key}: '{text}' is not a number") from None
    published = values.pop("score", None)
    missing = tuple(metric for metric in METRICS if metric not in values)
    score = None if missing else superb_s(values)
    return SuperbRow(line.get("model") or "", values, score, missing, published)


def leaderboard(path: Path, format: str = "markdown") -> str:
    """The models of such a file, best first, each with its superb_s computed from its metrics.

    Args:
        format: markdown | csv | latex | json.

    Raises:
        BabError: an unknown format, or a file that can't be read so.
    """
    check_format(format)
    rows = sorted(read_leaderboard(path), key=lambda r: math.inf if r.score is None else -r.score)
    lines: list[dict[str, object]] = [
        {
            "model": row.model,
            "superb_s": row.score,
            "published": row.published,
            **{metric: row.values.get(metric) for metric in METRICS},
        }
        for row in rows
    ]
    if format == "json":
        return as_json(lines)
    if format == "csv":
        return flat(lines)
    keys = ["model", "superb_s", "published", *METRICS]
    cells = [[_shown(key, line[key]) for key in keys] for line in lines]
    notes = [
        f"{row.model}: no superb_s, it lacks {', '.join(row.missing)}"
        for row in rows
        if row.score is None
    ]
    sheet = Sheet(keys, cells, notes=notes)
    return markdown([sheet]) if format == "markdown" else latex([sheet])


def _shown(key: str, value: object) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.0f}" if key in ("superb_s", "published") else f"{value:.2f}"
