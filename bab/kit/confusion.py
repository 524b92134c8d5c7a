"""What is taken for what: seconds of each voice marked as another or as silence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bab.core.types import Segment
from bab.kit.agreement import detection
from bab.kit.segments import Floats, covers, spoken, union

SILENCE = "silence"


def key(matrix: str, row: str, column: str) -> str:
    """What a sum of `Task.statistics` is called that stands in a matrix of the record."""
    return f"confusion\t{matrix}\t{row}\t{column}"


def confused(
    reference: Sequence[Segment],
    predicted: Sequence[Segment],
    spans: Floats,
    classes: Sequence[str],
) -> dict[str, float]:
    """Seconds inside `spans` (f64[N, 2], disjoint), by `key`:

    "seconds": a voice that is spoken (row) and marked (column). A voice that is spoken and not
    marked is taken for those that are marked and not spoken at that time, as many as there are, in
    equal shares, else for silence; what is marked beyond that stands in the row of silence. Rows
    add up to what is spoken, columns to what is marked; together they are the confusion, missed
    detection and false alarm of pyannote's identification error.
    "speech": any voice against none, by pyannote.
    "overlap annotated", "overlap marked": seconds in which both voices are on.
    """
    sides = [[spoken(one, name) for name in classes] for one in (reference, predicted)]
    times = np.unique(np.concatenate([x.ravel() for x in (spans, *sides[0], *sides[1])]))
    if not len(spans) or len(times) < 2:
        return {}
    middle, lengths = (times[:-1] + times[1:]) / 2, np.diff(times) * 1.0
    lengths[~covers(spans, middle)] = 0.0
    true, said = (np.array([covers(x, middle) for x in side]) for side in sides)
    right, missed, wrong = true & said, true & ~said, said & ~true
    many, more = missed.sum(axis=0), wrong.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        swapped = np.minimum(many, more)
        pair = np.nan_to_num(lengths * swapped / (many * more))
        left = np.nan_to_num(lengths * (many - swapped) / many)  # of each that is missed
        extra = np.nan_to_num(lengths * (more - swapped) / more)
    taken = (missed * pair) @ wrong.T + np.diag((right * lengths).sum(axis=1))
    sums = _matrix("seconds", taken, classes)
    for i, name in enumerate(classes):
        sums[key("seconds", name, SILENCE)] = float((missed[i] * left).sum())
        sums[key("seconds", SILENCE, name)] = float((wrong[i] * extra).sum())
    sums |= _matrix("overlap annotated", (true * lengths) @ true.T, classes)
    sums |= _matrix("overlap marked", (said * lengths) @ said.T, classes)
    on = [union(span for side in each for span in side.tolist()) for each in sides]
    hit, alarm, miss = detection(on[0], on[1], spans)
    speech = {("speech", "speech"): hit, ("speech", SILENCE): miss, (SILENCE, "speech"): alarm}
    return sums | {key("speech", *place): seconds for place, seconds in speech.items()}


def _matrix(name: str, values: Floats, classes: Sequence[str]) -> dict[str, float]:
    return {
        key(name, row, column): float(values[i, j])
        for i, row in enumerate(classes)
        for j, column in enumerate(classes)
    }
