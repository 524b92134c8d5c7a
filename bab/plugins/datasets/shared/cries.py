"""The files of ReCANVo, DonateACry and ESC-50 -> clips, for the corpora made of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from bab import Clip, CorpusError, did_you_mean
from bab.kit import (
    AUDIO_SUFFIXES,
    AudioIndex,
    Row,
    audio_by_uri,
    read_table,
    uri_of,
    walk,
    whole_file,
)

RECANVO_INDEX = "dataset_file_directory.csv"
ESC50_INDEX = Path("meta") / "esc50.csv"
# The codes at the end of a DonateACry file name (the corpus's README); reasons as its folders write
# them.
REASONS = {
    "hu": "hungry",
    "bu": "burping",
    "bp": "belly_pain",
    "dc": "discomfort",
    "ti": "tired",
    "lo": "lonely",
    "ch": "cold_hot",
    "sc": "scared",
    "dk": "unknown",
}
AGES = {
    "04": "0-4 weeks",
    "48": "4-8 weeks",
    "26": "2-6 months",
    "72": "7-24 months",
    "22": "over 2 years",
}
GENDERS = {"m": "male", "f": "female"}
# uuid of the app's installation - time (s from iOS, ms from Android) - version - gender - age -
# reason. iOS writes the uuid in capitals, Android in small letters.
_DONATED = re.compile(
    r"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-\d{9,13}-\d+(?:\.\d+)*"
    rf"-(?P<gender>[mf])-(?P<age>{'|'.join(AGES)})-(?P<reason>{'|'.join(REASONS)})",
    re.IGNORECASE,
)
_RAW_SUFFIXES = (".3gp", ".caf", ".m4a", ".aac", ".amr")  # what the app uploaded


def recanvo(
    root: Path,
    missing: Literal["error", "skip"],
    notices: list[str],
    wanted: Collection[str] | None = None,
) -> list[Clip]:
    """ReCANVo's clips in the order of its index; group and speaker are the participant.

    Args:
        missing: what to do about listed files that are not there.
        wanted: labels to keep; None = all. Other rows are not even looked for.

    Raises:
        CorpusError: a faulty row, a file listed twice, missing audio.
    """
    index = root / RECANVO_INDEX
    rows: dict[str, Row] = {}
    for number, row in read_table(index, ("Filename", "Participant", "Label")):
        empty = [name for name in ("Filename", "Participant", "Label") if not row[name]]
        if empty:
            raise CorpusError(f"{index}:{number}: {empty[0]} is empty. Fill it in, or remove it.")
        uri = uri_of(row["Filename"])
        if uri in rows:
            raise CorpusError(f"{index}:{number}: '{row['Filename']}' is listed above already.")
        rows[uri] = row
    if wanted is not None:
        rows = {uri: row for uri, row in rows.items() if row["Label"] in wanted}
    names = {uri: row["Filename"] for uri, row in rows.items()}
    paths = _paths(index, names, AudioIndex(root), missing, notices)
    return [
        whole_file(
            uri,
            path,
            rows[uri]["Participant"],
            {"vocalisation": rows[uri]["Label"], "session": "_".join(uri.split("_")[:2])},
            notices,
            speaker=rows[uri]["Participant"],
        )
        for uri, path in paths.items()
    ]


def _paths(
    index: Path,
    names: dict[str, str],
    audio: AudioIndex,
    missing: Literal["error", "skip"],
    notices: list[str],
) -> dict[str, Path]:
    """uri -> audio file of the listed names (by uri) whose audio is there."""
    if not names:
        raise CorpusError(f"{index}: no clip is listed.")
    paths = {uri: path for uri, name in names.items() if (path := audio.find(name))}
    absent = [name for uri, name in names.items() if uri not in paths]
    if not paths:
        raise CorpusError(
            f"{index}: none of its {len(names)} files is under {audio.root}, such as "
            f"'{next(iter(names.values()))}'. Unpack the audio there."
        )
    if absent and missing == "error":
        raise CorpusError(
            f"{index}: {len(absent)} of {len(names)} files are not under {audio.root}, the first "
            f"is '{absent[0]}'. Unpack the audio there, or use what is there: "
            "--set corpus.missing=skip"
        )
    if absent:
        notices.append(f"{len(absent)} of {len(names)} files have no audio here and were left out.")
    return paths


def donateacry(root: Path, reason: Literal["name", "folder"], notices: list[str]) -> list[Clip]:
    """DonateACry's clips by name; the group is the app's installation, its uuid in small letters.

    Args:
        reason: what says why the child cries: the folder, where its name is a reason (the curators
            moved some files), or always the file's name.

    Raises:
        CorpusError: a name that isn't the corpus's, two files with one name, no audio at all.
    """
    files = list(walk(root))
    audio = audio_by_uri(files)
    if not audio:
        raw = " (what the app uploaded must be converted to wav first)" if _raw(files, ()) else ""
        raise CorpusError(f"{root}: no audio file ({', '.join(AUDIO_SUFFIXES)}){raw}.")
    clips = []
    other: Counter[str] = Counter()
    for stem, paths in sorted(audio.items()):
        if len(paths) > 1:
            raise CorpusError(f"{paths[0]} and {paths[1]}: the same clip twice. Keep one.")
        labels, group = _donated(paths[0])
        folder = paths[0].parent.name
        if folder != labels["reason"] and folder in REASONS.values():
            other[f"'{labels['reason']}' in folder '{folder}'"] += 1
            labels["reason"] = labels["reason"] if reason == "name" else folder
        clips.append(whole_file(stem, paths[0], group, labels, notices))
    if other:
        told = ", ".join(f"{count} {what}" for what, count in sorted(other.items()))
        notices.append(f"Names and folders differ on the reason: {told}. The {reason} was taken.")
    left = _raw(files, audio)
    if left:
        notices.append(
            f"{left} files as the app uploaded them ({', '.join(_RAW_SUFFIXES)}) were left out: "
            "convert them to wav to use them."
        )
    return clips


def _donated(path: Path) -> tuple[dict[str, str], str]:
    """(labels, group) from a file's name."""
    match = _DONATED.fullmatch(path.stem)
    if match is None:
        raise CorpusError(
            f"{path}: not a DonateACry name, uuid-epoch-version-gender-age-reason "
            f"(gender m or f; age {', '.join(AGES)}; reason {', '.join(REASONS)}). "
            "Rename the file, or move it out of the corpus."
        )
    labels = {
        "reason": REASONS[match["reason"].lower()],
        "gender": GENDERS[match["gender"].lower()],
        "age": AGES[match["age"]],
    }
    return labels, match["uuid"].lower()


def _raw(files: Sequence[Path], readable: Collection[str]) -> int:
    """Files in the app's formats that are not there in a readable one too."""
    return sum(p.suffix.lower() in _RAW_SUFFIXES and p.stem not in readable for p in files)


def esc50(
    root: Path,
    missing: Literal["error", "skip"],
    notices: list[str],
    categories: Collection[str] | None = None,
) -> list[tuple[int, Clip]]:
    """(fold, clip) of ESC-50 in the order of its table; the group is the recording cut into clips.

    Args:
        missing: what to do about listed files that are not there.
        categories: those to keep; None = all 50.

    Raises:
        CorpusError: a faulty row, a file listed twice, missing audio, an unknown category.
    """
    index = root / ESC50_INDEX
    rows: dict[str, Row] = {}
    folds: dict[str, int] = {}
    known = set()
    for number, row in read_table(index, ("filename", "fold", "category", "esc10", "src_file")):
        uri = uri_of(row["filename"])
        known.add(row["category"])
        empty = [name for name in ("filename", "category", "src_file") if not row[name]]
        if empty or not row["fold"].isdecimal() or uri in rows:
            what = f"{empty[0]} is empty" if empty else f"fold is '{row['fold']}', not a number"
            what = "listed above already" if uri in rows else what
            raise CorpusError(f"{index}:{number}: '{row['filename']}': {what}.")
        rows[uri] = row
        folds[uri] = int(row["fold"])
    if categories is not None:
        for name in categories:
            if name not in known:
                raise CorpusError(f"{index}: no category '{name}': {did_you_mean(name, known)}")
        rows = {uri: row for uri, row in rows.items() if row["category"] in categories}
    names = {uri: row["filename"] for uri, row in rows.items()}
    paths = _paths(index, names, AudioIndex(root), missing, notices)
    return [(folds[uri], _esc50_clip(uri, path, rows[uri], notices)) for uri, path in paths.items()]


def _esc50_clip(uri: str, path: Path, row: Row, notices: list[str]) -> Clip:
    labels = {"category": row["category"], "esc10": row["esc10"].lower(), "fold": row["fold"]}
    return whole_file(uri, path, row["src_file"], labels, notices)
