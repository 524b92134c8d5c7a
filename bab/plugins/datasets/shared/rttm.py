"""RTTM and UEM files, the annotation formats of NIST: every file of a corpus, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path
from sys import intern
from typing import NamedTuple

from bab import Clip, CorpusError, LeakageError, Segment
from bab.kit import (
    LATE,
    SPLIT_NAMES,
    SPLITS,
    Faults,
    Span,
    cut_to_file,
    duration_of,
    lines,
    merge,
    uri_of,
)

# Other objects that an RTTM may hold (NIST, Rich Transcription evaluation plan, 2009): skipped.
OTHER_TYPES = frozenset(
    {"SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT"}
    | {"IP", "SU", "CB", "A/P", "SPKR-INFO"}
)

_LINE = "Write it as SPEAKER NAME 1 START DURATION <NA> <NA> LABEL <NA> <NA>, or remove it"

Turn = tuple[float, float, str]  # start, end, label as written


class Annotations(NamedTuple):
    """A corpus' annotation files: uri -> its turns; the file that they are from; its start."""

    turns: dict[str, list[Turn]]
    source: dict[str, Path]
    began: dict[str, datetime | time]

    def dated(self, clips: Sequence[Clip]) -> list[Clip]:
        """The same, each with the time at which it begins, where a file tells."""
        return [replace(clip, began=self.began.get(clip.id)) for clip in clips]


def read_rttm(files: list[Path], faults: Faults) -> Annotations:
    """Every SPEAKER line of the RTTM files among `files`. Turns of no length are dropped.

    An RTTM without a line says that nobody speaks in the recording of its name.

    faults: told, with file and line, of a malformed line, a bad number, a negative time, and of a
    recording annotated in two files (a LeakageError, where these are named as two splits).

    Raises:
        CorpusError: a file that can't be read as text.
    """
    annotated = Annotations({}, {}, {})
    for path in files:
        if path.suffix.lower() != ".rttm":
            continue
        here = _read_one_rttm(path, faults)
        for uri in here or {uri_of(path.stem): []}:
            if uri in annotated.source:
                with faults.caught():
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


def _read_one_rttm(path: Path, faults: Faults) -> dict[str, list[Turn]]:
    """uri -> turns of one file. The loop is plain: a corpus may have millions of lines."""
    turns_of: dict[str, list[Turn]] = {}
    uris: dict[str, list[Turn]] = {}  # as written, so that each spelling is looked at once
    for number, line in lines(path):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            if fields and fields[0] not in OTHER_TYPES and not line.startswith((";", "#")):
                faults.say(path, number, f"not a line of an RTTM: {line.strip()!r}. {_LINE}")
            continue
        if not 8 <= len(fields) <= 10:
            told = f"{len(fields)} columns, not the 10 of an RTTM (names may hold no spaces): "
            faults.say(path, number, told + repr(line.strip()))
            continue
        try:
            start, length = float(fields[3]), float(fields[4])
        except ValueError:
            faults.say(path, number, f"start and duration must be numbers: {line.strip()!r}")
            continue
        if not (0 <= start < math.inf and 0 <= length < math.inf):
            told = f"start and duration must be finite and not negative: {fields[3]} {fields[4]}"
            faults.say(path, number, told)
            continue
        name = fields[1]
        turns = uris.get(name)
        if turns is None:
            turns = uris[name] = turns_of.setdefault(uri_of(name), [])
        if length:
            turns.append((start, start + length, intern(fields[7])))
    return turns_of


def read_uem(files: list[Path], faults: Faults) -> dict[str, list[Span]]:
    """uri -> annotated spans, seconds, over all UEM files among `files`.

    faults: told, with file and line, of a malformed line, a bad number, an end before the start.
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
                told = f"not a line of a UEM (name, channel, start, end): {line.strip()!r}"
                faults.say(path, number, told)
                continue
            if not 0 <= span[0] < span[1] < math.inf:
                faults.say(path, number, f"not a span of time, in seconds: {start} to {end}")
                continue
            spans.setdefault(uri_of(uri), []).append(span)
    return spans


def fit_file(
    uri: str,
    path: Path,
    turns: list[Turn],
    uem: Sequence[Span] | None,
    meaning: Mapping[str, str | None],
    notices: list[str],
    faults: Faults,
) -> tuple[float, tuple[Segment, ...], tuple[Span, ...] | None]:
    """A recording's end, its segments by what their labels mean, and what was annotated, all cut to
    the file: notices say what was; faults are told where nothing is left."""
    turns.sort()
    last = max((stop for _, stop in uem or ()), default=0.0)
    end = duration_of(path, max([turn[1] for turn in turns] + [last]), notices)
    segments = [Segment(a, b, kind) for a, b, label in turns if (kind := meaning[label])]
    kept, late = cut_to_file(segments, end)
    if turns and end > 0 and turns[0][0] >= end:
        faults.add(
            CorpusError(
                f"{uri}: all of its {len(turns)} segments begin after the end of {path} "
                f"({end:.2f} s), the first at {turns[0][0]:g} s. Times are seconds, not "
                "milliseconds; or replace the audio, if it is cut short"
            )
        )
    elif late:
        notices.append(f"{uri}: {late} segments cut at the end of the file ({end:.2f} s).")
    scored = None if uem is None else merge(uem, end)
    if scored == () and end > 0:
        faults.add(
            CorpusError(
                f"{uri}: its UEM covers none of the file's {end:.2f} s. Times are seconds since "
                "the start of the recording"
            )
        )
    elif uem and last > end + LATE:
        notices.append(f"{uri}: its UEM ends at {last:.2f} s: cut at the file's end ({end:.2f} s).")
    return end, kept, scored


def lists_by_file(annotated: Annotations) -> dict[str, dict[str, str]] | None:
    """The split that combined RTTM files named train, dev and test stand for, if there are such."""
    lists: dict[str, dict[str, str]] = {}
    for uri, path in annotated.source.items():
        split = SPLIT_NAMES.get(path.stem.lower())
        if split is None:
            return None
        lists.setdefault(split, {})[uri] = str(path)
    return {split: lists[split] for split in SPLITS if split in lists} or None
