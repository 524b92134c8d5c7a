"""Who speaks when, made up in a line."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, time

from bab.core.annotations import Annotation, Mark
from bab.core.types import Segment


def said(
    uri: str,
    seconds: float | None,
    segments: Iterable[Segment],
    began: datetime | time | None = None,
) -> Annotation:
    """An annotated recording of so many seconds."""
    marks = tuple(Mark(s.start, s.end, s.label) for s in segments)
    return Annotation(uri, marks, duration=seconds, began=began)
