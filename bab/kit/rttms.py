"""Predicted segments as an RTTM for each recording."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from bab.core.annotations import Annotation, Mark
from bab.core.names import fitted
from bab.core.types import Prediction
from bab.data.annotations import open_format


def write_rttms(predictions: Sequence[Prediction], folder: Path) -> None:
    """`<recording>.rttm` each, empty where nothing was found. Of two names that would be one file's
    the second gets a hash of its own; each file says inside which recording's it is."""
    owners: set[str] = set()
    rttm = open_format("rttm")
    for prediction in predictions:
        stem = fitted(re.sub(r"[^\w.\-]+", "_", prediction.id).lstrip(".") or "_")
        if stem.casefold() in owners:
            stem += "-" + hashlib.blake2b(prediction.id.encode(), digest_size=4).hexdigest()
        owners.add(stem.casefold())
        marks = tuple(Mark(s.start, s.end, s.label) for s in prediction.segments)
        rttm.write([Annotation(prediction.id, marks)], folder / f"{stem}.rttm")
