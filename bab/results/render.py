"""Plain cells -> Markdown or LaTeX, and flat rows -> CSV. No numbers are computed here."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bab.core.errors import BabError, did_you_mean
from bab.core.names import short
from bab.results.cells import CsvWriter

FORMATS = ("markdown", "csv", "latex", "json")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "★": r"$\star$",
    "≈": r"$\approx$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "→": r"$\rightarrow$",
    "▽": r"$\nabla$",
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table to print. text: how many of the first columns are words, aligned left."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: int = 1
    title: str = ""
    notes: Sequence[str] = field(default=())


def check_format(name: str) -> None:
    """Raises BabError for a format that isn't one of FORMATS."""
    if name not in FORMATS:
        raise BabError(f"no table format is called '{name}': {did_you_mean(name, FORMATS)}")


def number(value: float, unit: str = "") -> str:
    """Shares with three decimals, percentages with one, anything else with four digits."""
    if not math.isfinite(value):
        return "undefined"
    if unit == "":
        return f"{value:.3f}"
    return f"{value:.1f}" if unit == "%" else f"{value:.4g}"


def span(low: float, high: float, unit: str = "") -> str:
    """An interval: [0.601, 0.698]."""
    return f"[{number(low, unit)}, {number(high, unit)}]"


def amount(value: float) -> str:
    """A count for people: 94.4 M, 12.5 k, 870."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f} {letter}"
    return f"{value:.0f}"


def markdown(sheets: Sequence[Sheet]) -> str:
    """GitHub's tables, padded so that they are readable as text too."""
    return "\n".join(_markdown(sheet) for sheet in sheets)


def _markdown(sheet: Sheet) -> str:
    cells = [[_plain(cell) for cell in row] for row in (sheet.headers, *sheet.rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(sheet.headers))]
    left = [i < sheet.text for i in range(len(widths))]
    rule = ["-" * w if at else "-" * (w - 1) + ":" for w, at in zip(widths, left, strict=True)]
    lines = [
        "| "
        + " | ".join(
            c.ljust(w) if at else c.rjust(w) for c, w, at in zip(row, widths, left, strict=True)
        )
        + " |"
        for row in (cells[0], rule, *cells[1:])
    ]
    head = [f"### {_plain(sheet.title)}", ""] if sheet.title else []
    notes = ["", *(f"- {_plain(note)}" for note in sheet.notes)] if sheet.notes else []
    return "\n".join([*head, *lines, *notes]) + "\n"


def _plain(text: str) -> str:
    """One line that can't end a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def latex(sheets: Sequence[Sheet]) -> str:
    """`tabular`s with booktabs rules; what isn't a letter is escaped. Notes become comments."""
    return "\n".join(_latex(sheet) for sheet in sheets)


def _latex(sheet: Sheet) -> str:
    columns = "".join("l" if i < sheet.text else "r" for i in range(len(sheet.headers)))
    body = [" & ".join(escape(cell) for cell in row) + r" \\" for row in sheet.rows]
    lines = [
        *([f"% {' '.join(sheet.title.split())}"] if sheet.title else []),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_heading, sheet.headers)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *(f"% {' '.join(note.split())}" for note in sheet.notes),
    ]
    return "\n".join(lines) + "\n"


def _heading(text: str) -> str:
    """A column's heading; of several lines, one over the other."""
    lines = [escape(line) for line in text.split("\n")]
    return lines[0] if len(lines) == 1 else r"\shortstack{" + r" \\ ".join(lines) + "}"


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def flat(rows: Sequence[Mapping[str, object]]) -> str:
    """CSV with a header from the first row's keys; None and NaN are empty fields."""
    if not rows:
        return ""
    out = io.StringIO()
    writer = CsvWriter(out)
    writer.writerow(rows[0])
    for row in rows:
        values = (row.get(key) for key in rows[0])
        writer.writerow("" if _missing(value) else value for value in values)
    return out.getvalue()


def as_json(value: object) -> str:
    """Indented JSON; numbers that aren't finite, which JSON lacks, are null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if _missing(value) else value


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def shown(encoder: str, fingerprint: str) -> str:
    """An encoder for people: as the record has it, a folder by its short name."""
    name = short(encoder, fingerprint)
    return name if fingerprint and name.endswith(f"-{fingerprint[:8]}") else encoder
