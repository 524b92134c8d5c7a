"""What tasks of labels in an order share: vocabulary, targets, greedy decoding, errors."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bab import CsvWriter, Grid, Output, Prediction, Segment, write_text
from bab.kit import refuse_diverged

BLANK = "<blank>"  # class 0 of every vocabulary: no label


def vocabulary(units: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The blank, then every unit that occurs, sorted."""
    return (BLANK, *sorted({unit for one in units for unit in one}))


def targets(units: Sequence[str], names: Sequence[str]) -> Tensor:
    """Units -> i64[U]; one that isn't in the vocabulary can't be learned, and is left out."""
    column = {name: i for i, name in enumerate(names) if i}
    return torch.tensor([column[u] for u in units if u in column], dtype=torch.int64)


class Spelt(NamedTuple):
    """A label and the frames [first, end) that say it, counted from the beginning of the clip."""

    unit: str
    first: int
    end: int


def greedy(output: Output, names: Sequence[str]) -> list[Spelt]:
    """The best label of each frame, logits f32[T, C]; runs become one, blanks go.

    Raises:
        DivergedError: an output that is not finite.
    """
    refuse_diverged(output)
    return _runs(output.values.argmax(axis=1), output.first, names)


def aligned(output: Output, units: Sequence[str], names: Sequence[str]) -> list[Spelt]:
    """Where labels that are known stand: the likeliest path through the frames that says them
    (Graves et al. 2006), by torchaudio. None where they don't fit."""
    import torchaudio

    wanted = targets(units, names)
    if not len(wanted) or len(output.values) < len(wanted):
        return []
    logs = torch.from_numpy(output.values).log_softmax(-1)[None]
    try:
        path, _ = torchaudio.functional.forced_align(logs, wanted[None], blank=0)
    except RuntimeError:  # more labels than the frames can say
        return []
    return _runs(path[0].numpy(), output.first, names)


def _runs(path: NDArray[np.int64], first: int, names: Sequence[str]) -> list[Spelt]:
    begins = np.flatnonzero(np.diff(path, prepend=-1))
    ends = [*begins[1:].tolist(), len(path)]
    return [
        Spelt(names[path[begin]], first + begin, first + end)
        for begin, end in zip(begins.tolist(), ends, strict=True)
        if path[begin]
    ]


def timed(
    spelt: Sequence[Spelt], output: Output, grid: Grid, between: str | None = None
) -> tuple[Segment, ...]:
    """Labels, or words between `between`, with times in seconds of the file.

    A word lasts from its first label's first frame to the end of its last label's run. CTC says a
    label late and briefly: its times are good to some tens of milliseconds at best.
    """
    edges = grid.edges(len(output.values), output.clip.duration, output.first)
    words: list[list[Spelt]] = [[]]
    for one in spelt:
        if one.unit == between:
            words.append([])
        elif between is None:
            words.append([one])
        else:
            words[-1].append(one)
    return tuple(
        Segment(
            round(output.clip.start + float(edges[word[0].first - output.first]), 3),
            round(output.clip.start + float(edges[word[-1].end - output.first]), 3),
            "".join(one.unit for one in word),
        )
        for word in words
        if word
    )


def pause(output: Output, names: Sequence[str], after: str | None = None) -> int:
    """After the last blank frame (that follows `after`, where that is given): what lies before and
    behind it can be decoded apart. 0 where there is none."""
    best = output.values.argmax(axis=1)
    blanks = np.flatnonzero(best == 0)
    if after is not None and after in names:
        said = np.where(best == 0, 0, np.arange(len(best)) + 1)
        last = np.maximum.accumulate(said)  # 1 + the last frame that says anything
        blanks = np.array([i for i in blanks if last[i] and names[best[last[i] - 1]] == after])
    return int(blanks[-1]) + 1 if len(blanks) else 0


def rate(totals: Mapping[str, float], errors: str, count: str) -> dict[str, float]:
    """{"wer": errors per hundred} from summed counts "<errors>" and "<count>"; {} of nothing."""
    if not totals.get(count):
        return {}
    return {errors: 100.0 * totals[f"{errors}_errors"] / totals[count]}


def write_texts(predictions: Sequence[Prediction], path: Path) -> None:
    """`id,hypothesis`, a line for each clip, in UTF-8."""
    table = io.StringIO()
    writer = CsvWriter(table)
    writer.writerow(("id", "hypothesis"))
    writer.writerows((p.id, p.text) for p in predictions)
    write_text(path, table.getvalue())
