"""RTTM and UEM files, the annotation formats of NIST: every file of a corpus, read and checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path
from sys import intern
from typing import NamedTuple

from bab import Clip, CorpusError, LeakageError
from bab.plugins.datasets.shared.recordings import SPLIT_NAMES, SPLITS, Span, lines, uri_of

# Other objects that an RTTM may hold (NIST, Rich Transcription evaluation plan, 2009): skipped.
OTHER_TYPES = frozenset(
    {"SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT"}
    | {"IP", "SU", "CB", "A/P", "SPKR-INFO"}
)

Turn = tuple[float, float, str]  # start, end, label as written


class Annotations(NamedTuple):
    """A corpus' annotation files: uri -> its turns; the file that they are from; its start."""

    turns: dict[str, list[Turn]]
    source: dict[str, Path]
    began: dict[str, datetime | time]

    def dated(self, clips: Sequence[Clip]) -> list[Clip]:
        """The same, each with the time at which it begins, where a file tells."""
        return [replace(clip, began=self.began.get(clip.id)) for clip in clips]


def read_rttm(files: list[Path]) -> Annotations:
    """Every SPEAKER line of the RTTM files among `files`. Turns of no length are dropped.

    An RTTM without a line says that nobody speaks in the recording of its name.

    Raises:
        CorpusError: naming file and line: a malformed line, a bad number, a negative time; a
            recording annotated in two files.
        LeakageError: where those two files are named as two splits.
    """
    annotated = Annotations({}, {}, {})
    for path in files:
        if path.suffix.lower() != ".rttm":
            continue
        here = _read_one_rttm(path)
        for uri in here or {uri_of(path.stem): []}:
            if uri in annotated.source:
                annotated_twice(uri, annotated.source[uri], path)
            annotated.source[uri] = path
        annotated.turns.update(here or {uri_of(path.stem): []})
    return annotated


def annotated_twice(uri: str, one: Path, two: Path) -> None:
    splits = [SPLIT_NAMES.get(path.stem.lower()) for path in (one, two)]
    if None not in splits and splits[0] != splits[1]:
        raise LeakageError(f"recording '{uri}' stands in two splits: {one} and {two}. Keep one.")
    raise CorpusError(
        f"recording '{uri}' is annotated in {one} and in {two}. Keep one, or say which folder: "
        "--set corpus.rttm=FOLDER"
    )


def _read_one_rttm(path: Path) -> dict[str, list[Turn]]:
    """uri -> turns of one file. The loop is plain: a corpus may have millions of lines."""
    turns_of: dict[str, list[Turn]] = {}
    uris: dict[str, list[Turn]] = {}  # as written, so that each spelling is looked at once
    for number, line in lines(path):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            if fields and fields[0] not in OTHER_TYPES and not line.startswith((";", "#")):
                raise CorpusError(f"{path}:{number}: not a line of an RTTM: {line.strip()!r}")
            continue
        if not 8 <= len(fields) <= 10:
            raise CorpusError(
                f"{path}:{number}: {len(fields)} columns, not the 10 of an RTTM (names may hold no "
                f"spaces): {line.strip()!r}"
            )
        try:
            start, length = float(fields[3]), float(fields[4])
        except ValueError:
            raise CorpusError(
                f"{path}:{number}: start and duration must be numbers: {line.strip()!r}"
            ) from None
        if not (0 <= start < math.inf and 0 <= length < math.inf):
            raise CorpusError(
                f"{path}:{number}: start and duration must be finite and not negative: "
                f"{fields[3]} {fields[4]}"
            )
        name = fields[1]
        turns = uris.get(name)
        if turns is None:
            turns = uris[name] = turns_of.setdefault(uri_of(name), [])
        if length:
            turns.append((start, start + length, intern(fields[7])))
    return turns_of


def read_uem(files: list[Path]) -> dict[str, list[Span]]:
    """uri -> annotated spans, seconds, over all UEM files among `files`.

    Raises:
        CorpusError: naming file and line: a malformed line, a bad number, an end before the start.
    """
    spans: dict[str, list[Span]] = {}
    for path in files:
        if path.suffix.lower() != ".uem":
            continue
        for number, line in lines(path):
            fields = line.split()
            if not fields or line.startswith((";", "#")):
                continue
            try:
                uri, _, start, end = fields
                span = (float(start), float(end))
            except ValueError:
                raise CorpusError(
                    f"{path}:{number}: not a line of a UEM (name, channel, start, end): "
                    f"{line.strip()!r}"
                ) from None
            if not 0 <= span[0] < span[1] < math.inf:
                raise CorpusError(f"{path}:{number}: not a span of time: {start} to {end}")
            spans.setdefault(uri_of(uri), []).append(span)
    return spans


def lists_by_file(annotated: Annotations) -> dict[str, dict[str, str]] | None:
    """The split that combined RTTM files named train, dev and test stand for, if there are such."""
    lists: dict[str, dict[str, str]] = {}
    for uri, path in annotated.source.items():
        split = SPLIT_NAMES.get(path.stem.lower())
        if split is None:
            return None
        lists.setdefault(split, {})[uri] = str(path)
    return {split: lists[split] for split in SPLITS if split in lists} or None
