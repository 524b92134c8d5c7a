"""Tables for narrow terminals: what doesn't fit side by side is written one value a line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator


def folded(text: str, width: int) -> str:
    """Markdown with every table that is wider than `width` as blocks, a block for each row, and its
    notes wrapped. width 0: as it is."""
    if not width or all(len(line) <= width for line in text.splitlines()):
        return text
    lines: list[str] = []
    table: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            table.append(line)
            continue
        blocks = list(_table(table, width))
        lines += blocks[:-1] if blocks[-1:] == [""] == [line] else blocks
        table = []
        hang = "  " if line.startswith("- ") else ""
        folds = len(line) > width and not line.startswith("    ")
        lines += _wrapped(line, width, hang) if folds else [line]
    return "\n".join(lines[:-1]) + "\n" * text.endswith("\n")


def _wrapped(line: str, width: int, hang: str = "") -> list[str]:
    """Paths and options stay whole."""
    return textwrap.wrap(
        line, width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
    )


def _table(rows: list[str], width: int) -> Iterator[str]:
    if not rows or len(rows[0]) <= width:
        yield from rows
        return
    head, rule, *body = ([cell.strip() for cell in row[1:-1].split(" | ")] for row in rows)
    words = [not cell.endswith(":") for cell in rule]
    size = max(map(len, head))
    for cells in body:
        named = [c for c, word in zip(cells, words, strict=True) if word and c]
        yield ", ".join(named) or cells[0]
        for name, cell, word in zip(head, cells, words, strict=True):
            if cell and not word:
                first, *more = _wrapped(cell, max(20, width - size - 4))
                yield f"  {name:<{size}}  {first}"
                yield from (" " * (size + 4) + line for line in more)
        yield ""
