"""Format `textgrid`: Praat's TextGrid, an interval tier for each voice type or speaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

import bab
from bab import Annotation, BabError
from bab.plugins.formats.shared.files import check_span, library, one_line, text_of
from bab.plugins.formats.shared.tiers import Names, Span, from_tiers, to_tiers


class TextGrid(bab.Format):
    """Praat's TextGrid. An interval without text holds its tier's name, as an empty one is a gap.

    Further facts stand on tiers of their own, KEY@TIER, with the same times: xds@FA1, vcm@CHI.
    """

    class Options(bab.Options):
        """Options of the format `textgrid`."""

        names: Names = Field(
            "labels",
            description="tiers of marks without a speaker: their labels (KCHI), or ACLEW's names "
            "(CHI, FA1, MA1, UC1)",
        )
        scored: str = Field("code", description="tier of what was annotated; empty = none")

    suffixes: ClassVar[tuple[str, ...]] = (".TextGrid",)
    keeps: ClassVar[frozenset[str]] = frozenset({"speaker", "text", "values", "duration", "scored"})
    source: ClassVar[str] = "Praat's manual, TextGrid file formats; read and written by praatio"

    def read(self, path: Path) -> list[Annotation]:
        text_of(path)  # a file that isn't there, or no text, is said in our words
        praat = library("praatio.textgrid", "praatio")
        try:
            grid = praat.openTextgrid(str(path), False, "silence", "rename")
        except Exception as error:  # praatio raises whatever its parser meets
            raise BabError(
                f"{path}: can't be read as a TextGrid ({type(error).__name__}: {error}). "
                "Open it in Praat and save it as a text file"
            ) from error
        tiers: list[tuple[str, Mapping[Span, str]]] = []
        points = 0
        for tier in grid.tiers:
            if isinstance(tier, praat.PointTier):
                points += len(tier.entries)
                continue
            place = f"{path}: tier '{tier.name}'"
            name = tier.name.strip()
            spans = {check_span(e.start, e.end, place): e.label for e in tier.entries}
            tiers.append((name, {s: "" if text == name else text for s, text in spans.items()}))
        if points:
            self.notices.append(f"{points} points, which have no length, were left out")
        marks, scored = from_tiers(tiers, self.options.scored)
        length = float(grid.maxTimestamp)
        return [Annotation(path.stem, tuple(marks), length, scored=scored)]

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        (one,) = bab.fit_annotations(self, annotations, path)
        praat = library("praatio.textgrid", "praatio")
        tiers = to_tiers(one, self.options.names, self.options.scored, path)
        last = max([mark.end for mark in one.marks] + [b for _, b in one.scored or ()], default=0.0)
        length = max(last, one.duration or 0.0)
        if not length:
            raise BabError(f"{path}: a TextGrid needs a length, and '{one.uri}' has none")
        grid = praat.Textgrid(0.0, length)
        for tier in tiers:
            _add(praat, grid, tier.name, tier.texts, length)
            for key, texts in tier.further.items():
                _add(praat, grid, f"{key}@{tier.name}", texts, length)
        if not tiers:
            grid.addTier(praat.IntervalTier("KCHI", [(0.0, length, "")], 0.0, length))
        with bab.atomic_path(path) as temporary:
            grid.save(str(temporary), "long_textgrid", True, reportingMode="silence")


def _add(praat: Any, grid: Any, name: str, texts: Mapping[Span, str], length: float) -> None:
    spans = [(start, end, one_line(text).strip() or name) for (start, end), text in texts.items()]
    grid.addTier(praat.IntervalTier(name, spans, 0.0, length))
