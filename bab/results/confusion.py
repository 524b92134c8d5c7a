"""What was taken for what: a record's matrices, with error rates of each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bab.core.record import Record
from bab.results.render import Sheet

Matrix = Mapping[str, Mapping[str, float]]
_OVERLAP = "overlap"  # matrices of what is on together, which have no errors
_NONE = ("silence", "nothing")  # rows and columns of what isn't there: last


class Rates(NamedTuple):
    """Of one class: how much of it there is; missed, and said where it isn't, as shares of that;
    error: their sum, pyannote's detection error rate of the class."""

    total: float
    missed: float
    false_alarm: float
    error: float


def rates(matrix: Matrix) -> dict[str, Rates]:
    """The error rates of each class that has any amount: row = true, column = said."""
    told = {}
    for name, cells in matrix.items():
        total = sum(cells.values())
        if name in _NONE or not total:
            continue
        right = cells.get(name, 0.0)
        false = sum(row.get(name, 0.0) for row in matrix.values()) - right
        missed = total - right
        told[name] = Rates(total, missed / total, false / total, (missed + false) / total)
    return told


def sheets(record: Record) -> Iterator[Sheet]:
    """A table for each matrix."""
    for name, matrix in record.confusion.items():
        rows = _ordered(matrix)
        columns = _ordered({key: 0 for cells in matrix.values() for key in cells})
        errors = {} if name.startswith(_OVERLAP) else rates(matrix)
        body = []
        for row in rows:
            line = [row, *(_amount(matrix[row].get(column)) for column in columns)]
            if errors:
                one = errors.get(row)
                shares = ("", "", "") if one is None else (f"{x:.3f}" for x in one[1:])
                line += [_amount(sum(matrix[row].values())), *shares]
            body.append(line)
        more = ["in all", "missed", "false alarms", "error rate"] if errors else []
        yield Sheet(
            ["", *columns, *more],
            body,
            title=f"{name}, {next(iter(record.presets), 'default')}",
            notes=[_said(name)],
        )


def _said(name: str) -> str:
    if name.startswith(_OVERLAP):
        return "seconds in which both are on; a voice by itself: in all"
    return (
        "true in rows, said in columns; missed and false alarms are shares of what is true, the "
        "error rate is their sum (pyannote's detection error rate)"
    )


def _ordered(names: Mapping[str, object]) -> list[str]:
    return sorted(names, key=lambda name: name in _NONE)


def _amount(value: float | None) -> str:
    """Clips are counted, seconds have two decimals; nothing is nothing."""
    if not value:
        return ""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"
