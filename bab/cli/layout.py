"""How a corpus lies on disk, shown on its shipped sample: the tree, and lines of its text files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_SHOWN = 2  # entries of one kind in a folder, before the rest is only counted
_TEXT = {"", ".rttm", ".uem", ".txt", ".csv", ".tsv", ".scp", ".TXT"}
_TABLES = {".csv", ".tsv"}  # their first line names the columns
_WIDE = 90  # characters of an example line
_MORE = 3  # folders that are named beside one that is shown
_EXAMPLES = 9  # files that lines are shown of


def layout(sample: Path) -> list[str]:
    """The lines that are shown of a sample: what lies where, and its text files' first lines."""
    if not sample.is_dir():
        return []
    tree, examples = list(_tree(sample, "")), list(_examples(sample))
    return [*tree, *([""] if examples else []), *examples]


def _entries(folder: Path) -> list[Path]:
    shown = [p for p in folder.iterdir() if not p.name.startswith((".", "README"))]
    return sorted(shown, key=lambda p: (p.is_dir(), p.name != "train", p.name))


def _shape(folder: Path) -> frozenset[tuple[int, str]]:
    """What lies below, by depth and kind: folders of one shape are shown once."""
    below = (p for p in folder.rglob("*") if p.is_file())
    return frozenset((len(p.relative_to(folder).parts), p.suffix) for p in below)


def _tree(folder: Path, indent: str) -> Iterator[str]:
    shapes: set[frozenset[tuple[int, str]]] = set()
    told: set[frozenset[tuple[int, str]]] = set()
    entries = _entries(folder)
    for entry in entries:
        if entry.is_dir():
            if (shape := _shape(entry)) not in shapes:
                shapes.add(shape)
                yield f"{indent}{entry.name}/"
                yield from _tree(entry, indent + "  ")
            elif shape not in told:
                told.add(shape)
                more = [f"{p.name}/" for p in entries if p.is_dir() and _shape(p) == shape][1:]
                yield f"{indent}{' '.join(more[:_MORE])}{' ...' * (len(more) > _MORE)} (alike)"
            continue
        alike = [p for p in entries if p.suffix == entry.suffix and p.is_file()]
        few = len(alike) <= _SHOWN + 1 or entry.suffix in ("", ".txt")
        if few or alike.index(entry) < _SHOWN:
            yield f"{indent}{entry.name}"
        elif alike.index(entry) == _SHOWN:
            yield f"{indent}... ({len(alike)} *{entry.suffix})"


def _examples(sample: Path) -> Iterator[str]:
    """The first line of one file of each kind; of a table, the names of its columns before it."""
    seen: set[str] = set()
    paths = [p for p in sample.rglob("*") if p.is_file() and p.suffix in _TEXT]
    for path in sorted(paths, key=lambda p: ("train" not in str(p.relative_to(sample)), p)):
        kind = "list" if path.stem in ("train", "dev", "test") else re.sub(r"\d+", "0", path.name)
        if kind in seen or len(seen) >= _EXAMPLES or path.name.startswith((".", "README")):
            continue
        seen.add(kind)
        with path.open(encoding="utf-8", errors="replace") as file:
            first = [line.rstrip("\n") for line, _ in zip(file, range(2), strict=False)]
        yield f"{path.relative_to(sample)}:"
        for line in first if path.suffix in _TABLES else first[:1]:
            cut = line if len(line) <= _WIDE else line[: _WIDE - 4] + " ..."
            yield f"  {cut.expandtabs(2)}"
