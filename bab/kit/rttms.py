"""Predicted segments as an RTTM for each recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bab.core.annotations import Annotation, Mark
from bab.core.errors import CorpusError
from bab.core.types import Prediction
from bab.data.annotations import open_format


def write_rttms(predictions: Sequence[Prediction], folder: Path) -> None:
    """`<recording>.rttm` each, empty where nothing was found.

    Raises:
        CorpusError: where two recordings' names become the same file name.
    """
    owners: dict[str, str] = {}
    rttm = open_format("rttm")
    for prediction in predictions:
        stem = re.sub(r"[^\w.\-]+", "_", prediction.id).lstrip(".") or "_"
        if owners.setdefault(stem.casefold(), prediction.id) != prediction.id:
            raise CorpusError(
                f"recordings {owners[stem.casefold()]!r} and {prediction.id!r} would both be "
                f"written to {stem}.rttm: rename one of them"
            )
        marks = tuple(Mark(s.start, s.end, s.label) for s in prediction.segments)
        rttm.write([Annotation(prediction.id, marks)], folder / f"{stem}.rttm")
