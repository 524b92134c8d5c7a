"""Annotation files: what they say of a recording, and the contract of their formats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path
from typing import Any, ClassVar

from bab.core.options import Component
from bab.core.types import Segment


@dataclass(frozen=True, slots=True)
class Mark(Segment):
    """label: a voice type (KCHI, OCH, MAL, FEM), a word, or what the file itself calls it; speaker:
    who, as the file writes it (FA1); values: further facts (addressee, vcm, words ...)."""

    speaker: str = ""
    text: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One recording. Sorts its marks. duration: seconds; began: the clock at second 0; media: the
    audio's path or name; scored: the stretches that were annotated, None = all of it."""

    uri: str
    marks: tuple[Mark, ...] = ()
    duration: float | None = None
    began: datetime | time | None = None
    media: str = ""
    scored: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", tuple(sorted(self.marks, key=lambda m: m.start)))


class Format(Component):
    """suffixes: of its files, the usual one first; keeps: what it holds, of `FACETS` in
    bab.data.annotations; beside: what of them it writes elsewhere, in an index; notices: what its
    files left out, until the caller empties it."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[frozenset[str]] = frozenset()
    beside: ClassVar[frozenset[str]] = frozenset()
    reads: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def __init__(self, options: Any) -> None:
        self.options, self.notices = options, list[str]()

    def read(self, path: Path) -> list[Annotation]:
        """What a file says. A BabError names file, line, value and remedy."""
        raise NotImplementedError

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        """One file, whole or not at all. `bab.fit_annotations` comes first: it gives notice."""
        raise NotImplementedError
