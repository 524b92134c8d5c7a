"""Who spoke how much: vocalisations of each voice, child vocalisation and turn counts, by hour.

Two definitions of each count stand side by side, and are not the same thing:

ChildProject's (0.4.6, `pipelines/metricsFunctions.py`): `voc_speaker`, `voc_dur_speaker`,
`avg_voc_dur_speaker`, `simple_CTC` with its default arguments, on milliseconds, rounded as its
RTTM reader rounds them and sorted as its import sorts them. An hour is cut as its `segments` and
`period` arguments cut: what crosses the border is clipped and counted on both sides, so hours need
not add up to the recording.

LENA's (support pages "Conversational Turns Report" and "Child Vocalizations Report"): each count is
placed in the hour in which the response, or the vocalisation, begins, so hours do add up.

docs/summaries.md has every column.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from bab.core.annotations import Annotation
from bab.core.atomic import StrPath, atomic_path
from bab.core.errors import BabError
from bab.results.cells import CsvWriter
from bab.results.clock import HOUR_MS, Start, since_midnight

VOICES = ("KCHI", "OCH", "MAL", "FEM")  # key child, other child, male adult, female adult
CHILD = "KCHI"
ADULTS = ("MAL", "FEM")
# As ChildProject's VtcConverter names them: its files are sorted by these where times are equal.
_SPEAKERS: Mapping[str, str] = {"KCHI": "CHI", "OCH": "OCH", "MAL": "MAL", "FEM": "FEM"}

SIMPLE_GAP = 1000  # ms: simple_CTC, max_interval; turns are closer than this
LENA_GAP = 5000  # ms: a pause of at least 5 s ends a conversation
LENA_BREATH = 300  # ms: what lies at least 0.3 s apart are two child vocalisations

Scope = Literal["recording", "hour", "clock"]


class Voc(NamedTuple):
    """One vocalisation: [onset, offset) in milliseconds from the start of the recording."""

    onset: int
    offset: int
    voice: str


@dataclass(frozen=True, slots=True)
class Amount:
    """Of one voice: seconds in all (overlaps count for each), how many, mean length or None."""

    seconds: float
    count: int
    mean_seconds: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Child vocalisations (cvc) and conversational turns (ctc); None where a voice is lacking."""

    cvc_childproject: int | None
    cvc_lena: int | None
    ctc_childproject: int | None
    ctc_lena: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of summary.csv.

    scope "recording": all of it, hour None. "hour": hours of the recording from 0. "clock": hours
    of the day, 0 to 23; a recording of several days has one row for all its 8 o'clocks.
    seconds: how much of the recording lies in the row.
    """

    recording: str
    start: Start | None
    scope: Scope
    hour: int | None
    seconds: float
    voices: Mapping[str, Amount]
    counts: Counts


def vocalisations(recording: Annotation, voices: Sequence[str] = VOICES) -> list[Voc]:
    """The recording's segments in whole milliseconds, clipped to it, sorted; empty ones left out.

    Raises:
        BabError: no duration, a duration or a segment that is no stretch of time, or a label not in
            `voices`.
    """
    end = duration_ms(recording)
    vocs = []
    for segment in recording.marks:
        where = f"{recording.uri}: segment {segment.start}-{segment.end} s of {segment.label!r}"
        if segment.label not in voices:
            raise BabError(f"{where}: voices are {', '.join(voices)}; name it in `voices`")
        onset, offset = _milliseconds(segment.start, where), _milliseconds(segment.end, where)
        if offset < onset:
            raise BabError(f"{where}: it ends before it starts; correct the annotation")
        onset, offset = max(onset, 0), min(offset, end)
        if offset > onset:
            vocs.append(Voc(onset, offset, segment.label))
    return sorted(vocs, key=lambda v: (v.onset, v.offset, _SPEAKERS.get(v.voice, v.voice)))


def duration_ms(recording: Annotation) -> int:
    """The recording's duration in milliseconds.

    Raises:
        BabError: nobody said how long it is, or it is no stretch of time.
    """
    if recording.duration is None:
        raise BabError(f"{recording.uri}: how long it is isn't known; give its duration")
    end = _milliseconds(recording.duration, f"{recording.uri}: duration")
    if end < 0:
        raise BabError(f"{recording.uri}: duration {recording.duration} s: give 0 or more")
    return end


def _milliseconds(seconds: float, what: str) -> int:
    """Whole milliseconds, halves to even: ChildProject's converters, which use numpy's round."""
    if not math.isfinite(seconds):
        raise BabError(f"{what}: {seconds} is no number of seconds; correct the annotation")
    return round(seconds * 1000)


def simple_turns(vocs: Sequence[Voc]) -> int:
    """ChildProject's `simple_CTC`: pairs of neighbours, less than 1 s apart, one of them the key
    child and the other a MAL, FEM or OCH. An onset before the other's end counts too. Every pair
    counts: child, adult, child is 2.
    """
    spoken = [voc for voc in vocs if voc.voice in VOICES]
    return sum(
        (before.voice == CHILD) != (after.voice == CHILD)
        and after.onset - before.offset < SIMPLE_GAP
        for before, after in pairwise(spoken)
    )


def lena_turns(vocs: Sequence[Voc]) -> list[int]:
    """LENA's conversational turns: the onset (ms) of each response.

    A turn is a key child's vocalisation and an adult's, either first, less than 5 s apart and with
    no other voice between. Turns are pairs, and nobody is in two: child, adult is 1; child, adult,
    child is 1; child, adult, child, adult is 2. Vocalisations of one side that follow each other
    are one side of the exchange. (Source: LENA Pro support, "Conversational Turns Report".)
    Where vocalisations overlap, which LENA's never do, the gap is counted from the latest end.
    """
    turns = []
    side = ""  # who spoke last: "child", "adult" or "" (nobody in this exchange)
    paired = False  # the last to speak is already the response of a turn
    latest = 0
    for voc in vocs:
        now = "child" if voc.voice == CHILD else "adult" if voc.voice in ADULTS else ""
        if voc.onset - latest >= LENA_GAP:
            side = ""
        if side and now and now != side and not paired:
            turns.append(voc.onset)
            paired = True
        elif now != side:
            paired = False
        side = now
        latest = max(latest, voc.offset)
    return turns


def lena_vocalisations(vocs: Sequence[Voc]) -> list[int]:
    """LENA's child vocalisations: the onset (ms) of each stretch of the key child that has at least
    0.3 s of something else before and after it.

    LENA leaves out crying, laughing and vegetative sounds; labels of voices can't tell these apart.
    (Source: LENA Pro support, "Child Vocalizations Report".)
    """
    onsets: list[int] = []
    latest = -LENA_BREATH
    for voc in vocs:
        if voc.voice == CHILD:
            if voc.onset - latest >= LENA_BREATH:
                onsets.append(voc.onset)
            latest = max(latest, voc.offset)
    return onsets


class _Stretch(NamedTuple):
    """A part of the recording, ms, and the vocalisations in it, clipped to it."""

    start: int
    end: int
    vocs: list[Voc]


def _stretches(vocs: Sequence[Voc], end: int, shift: int) -> list[_Stretch]:
    """The recording [0, end) cut at every full hour of a clock that stood at `shift` ms at 0."""
    first = -(shift % HOUR_MS)
    cut = [
        _Stretch(max(edge, 0), min(edge + HOUR_MS, end), []) for edge in range(first, end, HOUR_MS)
    ]
    for voc in vocs:
        for index in range((voc.onset - first) // HOUR_MS, (voc.offset - 1 - first) // HOUR_MS + 1):
            part = cut[index]
            part.vocs.append(Voc(max(voc.onset, part.start), min(voc.offset, part.end), voc.voice))
    return cut


def summary_rows(recording: Annotation, voices: Sequence[str] = VOICES) -> Iterator[Row]:
    """The recording's row, one for each of its hours, and, where its start is known, one for each
    hour of the day that it has a part in.

    Args:
        voices: labels that may be among the segments, in the order of the columns. Counts that need
            a voice which is not among them are None.

    Raises:
        BabError: see `vocalisations`.
    """
    vocs = vocalisations(recording, voices)
    end = duration_ms(recording)
    turns, breaths = lena_turns(vocs), lena_vocalisations(vocs)

    def row(scope: Scope, hour: int | None, parts: Sequence[_Stretch]) -> Row:
        inside = [voc for part in parts for voc in part.vocs]
        responses = sum(_between(turns, part) for part in parts)
        cries = sum(_between(breaths, part) for part in parts)
        return Row(
            recording.uri,
            recording.began,
            scope,
            hour,
            sum(part.end - part.start for part in parts) / 1000,
            {voice: _amount(inside, voice) for voice in voices},
            _counts(inside, cries, responses, voices),
        )

    yield row("recording", None, [_Stretch(0, end, vocs)])
    for hour, part in enumerate(_stretches(vocs, end, 0)):
        yield row("hour", hour, [part])
    if recording.began is not None:
        midnight = since_midnight(recording.began)
        days: dict[int, list[_Stretch]] = {}
        for index, part in enumerate(_stretches(vocs, end, midnight)):
            days.setdefault((midnight // HOUR_MS + index) % 24, []).append(part)
        for hour in sorted(days):
            yield row("clock", hour, days[hour])


def _between(onsets: Sequence[int], part: _Stretch) -> int:
    """How many of the sorted onsets lie in the part."""
    return bisect_left(onsets, part.end) - bisect_left(onsets, part.start)


def _amount(vocs: Iterable[Voc], voice: str) -> Amount:
    """ChildProject's voc_dur_speaker (here in seconds), voc_speaker and avg_voc_dur_speaker."""
    lengths = [voc.offset - voc.onset for voc in vocs if voc.voice == voice]
    total, count = sum(lengths), len(lengths)
    return Amount(total / 1000, count, total / count / 1000 if count else None)


def _counts(vocs: Sequence[Voc], breaths: int, turns: int, voices: Sequence[str]) -> Counts:
    """The four counts, or None where the voices that one needs were never looked for."""
    child = CHILD in voices
    adult = child and any(voice in voices for voice in ADULTS)
    return Counts(
        sum(voc.voice == CHILD for voc in vocs) if child else None,
        breaths if child else None,
        simple_turns(vocs) if adult else None,
        turns if adult else None,
    )


def columns(voices: Sequence[str] = VOICES) -> tuple[str, ...]:
    """The header of summary.csv."""
    each = (f"{v}_{what}" for v in voices for what in ("seconds", "count", "mean_seconds"))
    counts = ("cvc_childproject", "cvc_lena", "ctc_childproject", "ctc_lena")
    return ("recording", "start", "scope", "hour", "seconds", *each, *counts)


def write_summary(
    recordings: Iterable[Annotation], path: StrPath, voices: Sequence[str] = VOICES
) -> None:
    """Write summary.csv: UTF-8, commas, one line per recording, scope and hour.

    It is written whole or not at all. One recording is held at a time, so `recordings` may be a
    generator over thousands.

    Args:
        voices: as for `summary_rows`; the same for all recordings.

    Raises:
        BabError: see `vocalisations`; what stood at `path` stays.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        writer = CsvWriter(stream)
        writer.writerow(columns(voices))
        for recording in recordings:
            writer.writerows(_cells(row) for row in summary_rows(recording, voices))


def _cells(row: Row) -> list[str]:
    """A row as text: seconds to the millisecond, means to the microsecond, None as nothing."""
    cells = [
        row.recording,
        "" if row.start is None else row.start.isoformat(timespec="seconds"),
        row.scope,
        "" if row.hour is None else str(row.hour),
        f"{row.seconds:.3f}",
    ]
    for amount in row.voices.values():
        mean = "" if amount.mean_seconds is None else f"{amount.mean_seconds:.6f}"
        cells += [f"{amount.seconds:.3f}", str(amount.count), mean]
    counts = row.counts
    for count in (
        counts.cvc_childproject, counts.cvc_lena, counts.ctc_childproject, counts.ctc_lena,
    ):  # fmt: skip
        cells.append("" if count is None else str(count))
    return cells
