"""ChildProject's converted annotations: segments, cut to what their file annotates."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from bab import Clip, CorpusError
from bab.kit import Faults, Span, merge, read_columns
from bab.plugins.datasets.shared.childproject import EMPTY, span_of

KIND = {"CHI": "KCHI", "OCH": "OCH", "MAL": "MAL", "FEM": "FEM"}  # speaker_type -> label
SEGMENT_COLUMNS = ("segment_onset", "segment_offset", "speaker_type")
SHORTEST = 0.02  # seconds: no annotator marks shorter ones as a rule; 20 s written as 20 would be
Turn = tuple[float, float, str]  # start, end in seconds, speaker_type


def read_turns(ranges: Sequence[tuple[Path, Span]], dropped: Counter[str]) -> list[Turn]:
    """Segments of one recording, cut to the annotated ranges of their file, each once.

    dropped: told how many segments each unknown speaker_type has."""
    turns: set[Turn] = set()
    for start, end, (kind,) in _rows(ranges, ()):
        if kind in KIND:
            turns.add((start, end, KIND[kind]))
        else:
            dropped[kind] += 1
    return sorted(turn for turn in turns if turn[0] < turn[1])


def refuse_seconds(root: Path, clips: Sequence[Clip]) -> None:
    """Refuse annotations whose times were written in seconds: in milliseconds, as they are read,
    half of all segments would be shorter than any utterance.

    Raises:
        CorpusError: the median segment is shorter than 20 ms.
    """
    lengths = [s.end - s.start for clip in clips for s in clip.segments]
    if lengths and median(lengths) < SHORTEST:
        raise CorpusError(
            f"{root}: half of its {len(lengths)} segments are shorter than {median(lengths):.4f} "
            "s. Are the times of the converted annotations seconds? segment_onset, segment_offset, "
            "range_onset and range_offset are milliseconds"
        )


def spoken_to(recording: Clip, ranges: Sequence[tuple[Path, Span]]) -> tuple[list[Clip], int]:
    """A recording's utterances that have an addressee, and how many segments have none.

    Labels: addressee, as annotated (T C A O P U, several by commas), and voice (NA: unknown)."""
    utterances: dict[str, Clip] = {}
    missing = 0
    for start, end, (kind, addressee) in sorted(_rows(ranges, ("addressee",))):
        if addressee.strip() in EMPTY:
            missing += 1
            continue
        end = min(end, recording.end)
        voice = KIND.get(kind, "NA")
        name = f"{recording.id}-{round(start * 1000)}-{round(end * 1000)}-{voice}"
        if end > start and name not in utterances:
            labels = {**recording.labels, "addressee": addressee.strip(), "voice": voice}
            utterances[name] = replace(
                recording, id=name, start=start, end=end, labels=labels, segments=(), scored=None
            )
    return list(utterances.values()), missing


def _rows(
    ranges: Sequence[tuple[Path, Span]], columns: Sequence[str]
) -> Iterator[tuple[float, float, tuple[str, ...]]]:
    """(start, end, speaker_type and `columns`) of segments, cut to what their file annotates."""
    files: dict[Path, list[Span]] = {}
    faults = Faults()
    for path, span in ranges:
        files.setdefault(path, []).append(span)
    for path, spans in files.items():
        covered = merge(spans, math.inf)
        ends = [end for _, end in covered]
        for number, (onset, offset, *cells) in read_columns(path, (*SEGMENT_COLUMNS, *columns)):
            try:
                start, end = span_of(path, number, onset, offset, SEGMENT_COLUMNS)
            except CorpusError as error:
                faults.add(error)
                continue
            for first, last in covered[bisect_right(ends, start) :]:
                if first >= end:
                    break
                yield max(start, first), min(end, last), tuple(cells)
    faults.refuse()
