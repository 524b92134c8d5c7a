"""ChildProject's metadata: children, recordings, annotated ranges, and what rows of them mean."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path

from bab import CorpusError, did_you_mean
from bab.kit import AUDIO_SUFFIXES, SPLIT_NAMES, SPLITS, Faults, Row, Span, read_table

EMPTY = frozenset({"", "NA", "N/A", "nan", "NaN", "NULL"})  # how the tables write "unknown"

# Columns that may divide results into subgroups. Free text and dates stay where they are.
CHILD_COLUMNS = ("child_sex", "language", "monoling", "normative")
RECORDING_COLUMNS = ("recording_device_type", "noisy_setting", "location_id")

# recording_filename -> (converted file, annotated span in seconds)
Ranges = dict[str, list[tuple[Path, Span]]]


def read_children(root: Path) -> dict[str, Row]:
    """child_id -> row, each once."""
    path = root / "metadata" / "children.csv"
    children: dict[str, Row] = {}
    faults = Faults()
    for number, row in read_table(path, ("child_id",)):
        child = row["child_id"]
        if child in EMPTY or child in children:
            faults.say(path, number, f"child_id '{child}' is empty or there already. Keep one row")
            continue
        children[child] = row
    faults.refuse()
    return children


def read_recordings(root: Path, children: Mapping[str, Row], notices: list[str]) -> dict[str, Row]:
    """recording_filename -> row, less what is discarded, itself or with its child."""
    path = root / "metadata" / "recordings.csv"
    recordings: dict[str, Row] = {}
    ids: dict[str, str] = {}
    discarded, faults = 0, Faults()
    for number, row in read_table(path, ("recording_filename", "child_id")):
        name, child = row["recording_filename"], row["child_id"]
        if name in EMPTY:
            faults.say(path, number, "recording_filename is empty. Fill it in")
            continue
        if child not in children:
            faults.say(path, number, f"child_id '{child}' is not in children.csv. Add it there")
            continue
        other = ids.setdefault(clip_id(name), name)
        if other != name or name in recordings:
            told = f"'{name}' can't be told from '{other}'. Rename one, or keep one row"
            faults.say(path, number, told)
            continue
        if _is_one(row.get("discard")) or _is_one(children[child].get("discard")):
            discarded += 1
        else:
            recordings[name] = row
    faults.refuse()
    if discarded:
        notices.append(f"{discarded} recordings marked 'discard' were left out.")
    return recordings


def read_ranges(
    root: Path, wanted: str, recordings: Mapping[str, Row], notices: list[str]
) -> Ranges:
    """recording_filename -> (converted file, annotated span in seconds), of the annotation set
    `wanted`, or of the only one."""
    path = root / "metadata" / "annotations.csv"
    columns = (
        "set",
        "recording_filename",
        "range_onset",
        "range_offset",
        "annotation_filename",
    )
    if not (path.exists() or path.is_symlink()):  # a link that leads nowhere is DataLad's
        raise CorpusError(
            f"{path}: no such file. ChildProject's import of annotations writes it, and `bab "
            f"convert FILES {root}/annotations/SET/converted --to childproject`"
        )
    rows = list(read_table(path, columns))
    chosen = _choose_set(path, wanted, sorted({row["set"] for _, row in rows}))
    ranges: Ranges = {}
    failed, faults = 0, Faults()
    for number, row in rows:
        if row["set"] != chosen or row["recording_filename"] not in recordings:
            continue
        if row["annotation_filename"] in EMPTY:  # ChildProject could not import it
            failed += 1
            continue
        limits = (row["range_onset"], row["range_offset"])
        with faults.caught():
            span = span_of(path, number, *limits, ("range_onset", "range_offset"))
            file = root / "annotations" / chosen / "converted" / row["annotation_filename"]
            ranges.setdefault(row["recording_filename"], []).append((file, span))
    faults.refuse()
    if failed:
        notices.append(f"{failed} annotations of set '{chosen}' were never converted.")
    if not ranges:
        raise CorpusError(f"{path}: set '{chosen}' annotates none of the recordings in use.")
    return ranges


def _choose_set(path: Path, wanted: str, sets: list[str]) -> str:
    if wanted and wanted not in sets:
        raise CorpusError(f"{path}: no annotation set '{wanted}': {did_you_mean(wanted, sets)}")
    if wanted or len(sets) == 1:
        return wanted or sets[0]
    raise CorpusError(
        f"{path}: there are {len(sets)} annotation sets ({', '.join(sets) or 'none'}). "
        "Say which one holds the truth: --set corpus.set=NAME"
    )


def audio_files(root: Path, profile: str, names: Iterable[str]) -> dict[str, Path]:
    """recording_filename -> its audio, there or not: the raw one, or the one of a profile."""
    folder = root / "recordings" / "raw"
    converted: dict[str, str] = {}
    if profile:
        folder = root / "recordings" / "converted" / profile
        if not folder.is_dir():
            raise CorpusError(f"{folder}: no such folder. Check --set corpus.profile=NAME")
        table = folder / "recordings.csv"
        if table.exists():
            for _, row in read_table(table, ("original_filename", "converted_filename")):
                converted[row["original_filename"]] = row["converted_filename"]
    return {name: folder / converted.get(name, name) for name in names}


def split_column(root: Path, recordings: Mapping[str, Row]) -> dict[str, dict[str, str]] | None:
    """The column `split` of recordings.csv, if there is one; empty cells are in no split."""
    path = root / "metadata" / "recordings.csv"
    lists: dict[str, dict[str, str]] = {}
    for name, row in recordings.items():
        value = row.get("split", "")
        if value in EMPTY:
            continue
        split = SPLIT_NAMES.get(value.lower())
        if split is None:
            hint = did_you_mean(value, SPLIT_NAMES)
            raise CorpusError(f"{path}: '{name}' has split '{value}': {hint}")
        lists.setdefault(split, {})[clip_id(name)] = f"{path} ({name})"
    return {split: lists[split] for split in SPLITS if split in lists} or None


def check_lists(
    lists: dict[str, dict[str, str]] | None,
    recordings: dict[str, Row],
    ranges: Ranges,
    paths: dict[str, Path],
) -> None:
    """Refuse a list that names what can't be used, saying why it can't."""
    reasons = (
        (recordings, "is not in recordings.csv, or is marked 'discard'"),
        (ranges, "has no annotation in this set"),
        (paths, "has no audio here"),
    )
    faults = Faults()
    known = [(set(map(clip_id, table)), reason) for table, reason in reasons]
    for uri, place in (item for names in (lists or {}).values() for item in names.items()):
        if why := next((reason for there, reason in known if uri not in there), None):
            faults.add(CorpusError(f"{place}: '{uri}' {why}. Take it off the list."))
    faults.refuse()


def labels_of(child: Row, recording: Row) -> dict[str, str]:
    """What results may be divided by; the age in months is from the two tables' dates."""
    labels = {name: child[name] for name in CHILD_COLUMNS if child.get(name, "") not in EMPTY}
    labels |= {
        name: recording[name] for name in RECORDING_COLUMNS if recording.get(name, "") not in EMPTY
    }
    try:
        born = date.fromisoformat(child.get("child_dob", ""))
        then = date.fromisoformat(recording.get("date_iso", ""))
    except ValueError:
        return labels
    return labels | {"age_months": str(int((then - born).days / 30.4375))}


def began_at(recording: Row) -> datetime | time | None:
    """`date_iso` and `start_time` of recordings.csv (HH:MM or HH:MM:SS, the start of the audio)."""
    try:
        clock = time.fromisoformat(recording.get("start_time", ""))
    except ValueError:  # NA, or empty: not known
        return None
    try:
        return datetime.combine(date.fromisoformat(recording.get("date_iso", "")), clock)
    except ValueError:
        return clock


def _is_one(cell: str | None) -> bool:
    """Whether `discard` is set: ChildProject reads it as a number, and anything else as 0."""
    try:
        return float(cell or 0) == 1
    except ValueError:
        return False


def clip_id(recording_filename: str) -> str:
    """A recording's id: its file name without extension; folders and spaces become underscores,
    because RTTM columns hold no spaces and ids name files."""
    stem, dot, suffix = recording_filename.strip().rpartition(".")
    name = stem if dot + suffix.lower() in AUDIO_SUFFIXES else recording_filename.strip()
    return re.sub(r"[\s/\\]+", "_", name)


def span_of(path: Path, number: int, onset: str, offset: str, columns: Sequence[str]) -> Span:
    """Two cells in milliseconds -> seconds. columns: their names, for the message."""
    try:
        start, end = float(onset) / 1000, float(offset) / 1000
    except ValueError:
        raise CorpusError(
            f"{path}:{number}: {columns[0]} and {columns[1]} must be milliseconds: "
            f"'{onset}', '{offset}'"
        ) from None
    if not 0 <= start <= end < math.inf:
        raise CorpusError(
            f"{path}:{number}: {columns[0]} {onset} to {columns[1]} {offset} is no span of time."
        )
    return start, end
