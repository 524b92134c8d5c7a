"""Stretches of speech -> segments to train on: BabyHuBERT's rules (arXiv 2509.15001), in samples.

1. Gaps shorter than 2 s are filled.
2. Segments shorter than 2 s are widened to 2 s, alike on both sides; at an end of the recording
   the other side gives what is lacking. Segments that overlap then become one.
3. Segments longer than 30 s are cut in the middle of their longest pause, and again until none is
   longer. A cut leaves 2 s on both sides. Where there is no such pause, the segment is cut into
   equal parts.

The published code cuts the pause out, and then drops pieces of 2 s and less, the widened ones among
them. Here the halves of the pause stay, and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Span = tuple[int, int]
GAP, SHORTEST, LONGEST = 2.0, 2.0, 30.0  # seconds
VERSION = 1


def segments(speech: Sequence[Span], total: int, rate: int) -> list[Span]:
    """Segments of a recording of `total` samples, in order and apart.

    speech: in order and apart. Every sample of it is in a segment; a segment lasts 2 to 30 s,
    or as long as the recording where that is shorter.
    """
    merged = _merged(speech, round(GAP * rate))
    wide = _joined([_widened(span, total, round(SHORTEST * rate)) for span in merged])
    spans: list[Span] = []
    first = 0  # of the speech inside the next span: all of it lies in one of them
    for span in wide:
        last = first
        while last < len(speech) and speech[last][0] < span[1]:
            last += 1
        spans += _cut(span, _pauses(speech[first:last]), rate)
        first = last
    return spans


def _merged(speech: Sequence[Span], gap: int) -> list[Span]:
    merged: list[Span] = []
    for start, end in speech:
        if merged and start - merged[-1][1] < gap:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _widened(span: Span, total: int, shortest: int) -> Span:
    start, end = span
    lacking = shortest - (end - start)
    if lacking <= 0:
        return span
    start = max(0, min(start - lacking // 2, total - shortest))
    return start, min(total, start + shortest)


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Only at the ends of a recording can widened segments reach each other."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _pauses(speech: Sequence[Span]) -> list[Span]:
    return [(a[1], b[0]) for a, b in pairwise(speech)]


def _cut(span: Span, pauses: Sequence[Span], rate: int) -> list[Span]:
    """A segment in parts of 30 s at most. The order of the parts is that of time."""
    longest, shortest = round(LONGEST * rate), round(SHORTEST * rate)
    parts: list[Span] = []
    waiting = [(span, list(pauses))]  # of each, the pauses inside: a day's are gone through once
    while waiting:
        (start, end), inside = waiting.pop()
        if end - start <= longest:
            parts.append((start, end))
            continue
        able = [p for p in inside if start + shortest <= sum(p) // 2 <= end - shortest]
        if not able:
            count = -(-(end - start) // longest)
            edges = [start + (end - start) * i // count for i in range(count + 1)]
            parts += pairwise(edges)
            continue
        middle = (start + end) / 2
        pause = max(able, key=lambda p: (p[1] - p[0], -abs(sum(p) / 2 - middle)))
        at, place = sum(pause) // 2, inside.index(pause)
        # The pause itself is now at an edge, where nothing is cut.
        waiting += [((at, end), inside[place:]), ((start, at), inside[:place])]
    return parts
