"""What tasks of labels in an order share: vocabulary, targets, greedy decoding, errors."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bab import Output, Prediction, write_text
from bab.plugins.tasks.shared.finite import refuse_diverged

BLANK = "<blank>"  # class 0 of every vocabulary: no label


def vocabulary(units: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The blank, then every unit that occurs, sorted."""
    return (BLANK, *sorted({unit for one in units for unit in one}))


def targets(units: Sequence[str], names: Sequence[str]) -> Tensor:
    """Units -> i64[U]; one that isn't in the vocabulary can't be learned, and is left out."""
    column = {name: i for i, name in enumerate(names) if i}
    return torch.tensor([column[u] for u in units if u in column], dtype=torch.int64)


def greedy(output: Output, names: Sequence[str]) -> list[str]:
    """The best label of each frame, logits f32[T, C]; runs become one, blanks go.

    Raises:
        DivergedError: an output that is not finite.
    """
    refuse_diverged(output)
    best = output.values.argmax(axis=1)
    change = np.flatnonzero(np.diff(best, prepend=-1))
    return [names[i] for i in best[change].tolist() if i]


def word_errors(reference: str, hypothesis: str) -> tuple[float, float]:
    """(insertions + deletions + substitutions, words of the reference), counted by jiwer."""
    import jiwer

    if not reference.split():  # jiwer refuses an empty reference
        return float(len(hypothesis.split())), 0.0
    errors = jiwer.process_words(reference, hypothesis)
    wrong = errors.substitutions + errors.deletions + errors.insertions
    return float(wrong), float(errors.hits + errors.substitutions + errors.deletions)


def character_errors(reference: str, hypothesis: str) -> tuple[float, float]:
    """The same of characters: code points, spaces between words included, as jiwer counts."""
    import jiwer

    if not reference.strip():
        return float(len(hypothesis.strip())), 0.0
    errors = jiwer.process_characters(reference, hypothesis)
    wrong = errors.substitutions + errors.deletions + errors.insertions
    return float(wrong), float(errors.hits + errors.substitutions + errors.deletions)


def rate(totals: Mapping[str, float], errors: str, count: str) -> dict[str, float]:
    """{"wer": errors per hundred} from summed counts "<errors>" and "<count>"; {} of nothing."""
    if not totals.get(count):
        return {}
    return {errors: 100.0 * totals[f"{errors}_errors"] / totals[count]}


def write_texts(predictions: Sequence[Prediction], path: Path) -> None:
    """`id,hypothesis`, a line for each clip, in UTF-8."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("id", "hypothesis"))
    writer.writerows((p.id, p.text) for p in predictions)
    write_text(path, table.getvalue())
