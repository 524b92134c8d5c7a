"""Who is heard: the four kinds of voice, the ways corpora write them, and `groups.tsv`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bab import CorpusError
from bab.kit import lines, uri_of

KINDS = ("KCHI", "OCH", "MAL", "FEM")  # key child, other child, male adult, female adult
Kind = Literal["KCHI", "OCH", "MAL", "FEM", "NA"]  # NA: leave these segments out


def label_map(
    counts: Mapping[str, int], given: Mapping[str, Kind], root: Path, notices: list[str]
) -> dict[str, str | None]:
    """What each label of a corpus means: one of `KINDS`, or None = left out.

    KCHI, OCH, MAL and FEM mean themselves, in capitals or not. CHI means the *other* child beside
    KCHI (as the Voice Type Classifier of 2020 writes it) and the *key* child beside OCH (as
    ChildProject writes it).
    Anything else, such as SPEECH, is left out and counted.

    Args:
        counts: label -> segments that carry it, over the whole corpus.
        given: what the user says; it wins.

    Raises:
        CorpusError: CHI beside neither or both, or no segment with a label that means anything.
    """
    upper = {label: label.upper() for label in counts}
    known: dict[str, str | None] = {k: u if u in KINDS else None for k, u in upper.items()}
    for label in [k for k, u in upper.items() if u == "CHI" and k not in given]:
        known[label] = _child(set(upper.values()), root)
        notices.append(f"{label} was read as {known[label]}.")
    for label, kind in given.items():
        if label in counts:
            known[label] = None if kind == "NA" else kind
        else:
            notices.append(f"labels.{label} is set, but no segment is labelled {label}.")
    if counts and not any(known.values()):
        raise CorpusError(
            f"{root}: no segment is labelled {', '.join(KINDS)}. The labels are: "
            f"{_tally(counts)}. Say what they mean, e.g. --set corpus.labels.{min(counts)}=FEM"
        )
    dropped = {label: counts[label] for label, kind in known.items() if kind is None}
    if dropped:
        notices.append(
            f"Segments left out, by label: {_tally(dropped)} "
            f"(to use them: --set corpus.labels.{min(dropped)}=FEM, for example)."
        )
    return known


def _child(labels: set[str], root: Path) -> str:
    if ("KCHI" in labels) == ("OCH" in labels):
        beside = "both KCHI and OCH" if "OCH" in labels else "neither KCHI nor OCH"
        raise CorpusError(
            f"{root}: CHI stands beside {beside}, so it may mean the key child or another one. "
            "Say which: --set corpus.labels.CHI=KCHI (or OCH)"
        )
    return "OCH" if "KCHI" in labels else "KCHI"


def _tally(counts: Mapping[str, int]) -> str:
    most = sorted(counts, key=lambda label: (-counts[label], label))
    shown = ", ".join(f"{label} ({counts[label]})" for label in most[:12])
    return shown + (f" and {len(most) - 12} more" if len(most) > 12 else "")


@dataclass(frozen=True)
class Groups:
    """What `groups.tsv` says: uri -> voices, and uri -> group (family, child)."""

    voices: Mapping[str, tuple[str, ...]]
    group: Mapping[str, str]


def read_groups(path: Path) -> Groups:
    """Read `groups.tsv`: tab-separated, with a header; one row for each voice in each recording.

    Columns: `recording` (its name, as in the RTTM), and `voice` (who: any name that is the same
    wherever the same person is heard) or `group` (the family or child: one for each recording), or
    both. Other columns are ignored, and so are empty cells. An absent file means nothing is known.

    Raises:
        CorpusError: naming file and line: a missing column, a short row, two groups for one.
    """
    if not path.exists():
        return Groups({}, {})
    rows = [line.rstrip("\r\n").split("\t") for _, line in lines(path)]
    header = [name.strip() for name in rows[0]] if rows else []
    if "recording" not in header or not {"voice", "group"} & set(header):
        raise CorpusError(
            f"{path}:1: the header must name the columns 'recording' and 'voice' (or 'group'), "
            f"separated by tabs; it names: {', '.join(header) or 'nothing'}."
        )
    voices: dict[str, tuple[str, ...]] = {}
    group: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
        if not any(cells.values()):
            continue
        if len(row) < len(header) or not cells["recording"]:
            raise CorpusError(f"{path}:{number}: a cell is missing: {chr(9).join(row)!r}")
        uri = uri_of(cells["recording"])
        voice, family = cells.get("voice"), cells.get("group")
        if voice and voice not in voices.get(uri, ()):
            voices[uri] = (*voices.get(uri, ()), voice)
        if family and group.setdefault(uri, family) != family:
            raise CorpusError(
                f"{path}:{number}: '{uri}' is of group '{family}' here and '{group[uri]}' above."
            )
    return Groups(voices, group)
