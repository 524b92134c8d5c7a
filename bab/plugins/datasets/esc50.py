"""Corpus `esc50`: environmental sounds in five folds.

FOLDER/
  meta/esc50.csv   filename, fold, target, category, esc10, src_file, take
  audio/           5 s each; wav as the table says, or the same names in another format
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

import bab
from bab import Clip, CorpusError, Permissions
from bab.kit import Divided
from bab.plugins.datasets.shared import cries


class Esc50(bab.Corpus):
    """ESC-50: 50 kinds of sound; its folds are the splits, clips of one recording stay together."""

    class Options(bab.Options):
        """Options of the `esc50` corpus."""

        test_fold: int = Field(5, ge=1, description="the fold to test on")
        dev_fold: int = Field(4, ge=1, description="the fold to tune on; the others train")
        missing: Literal["error", "skip"] = Field(
            "error", description="listed files that are not there: stop, or leave them out"
        )

        @model_validator(mode="after")
        def _two_folds(self) -> Esc50.Options:
            if self.test_fold == self.dev_fold:
                raise ValueError(f"fold {self.test_fold} can't both tune and test")
            return self

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"category", "esc10"})
    unit: ClassVar[str] = "source recording"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "esc50"
    source: ClassVar[str] = "Piczak, ESC: Dataset for Environmental Sound Classification, 2015"

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        sounds = cries.esc50(self.root, options.missing, self.notices)
        given: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
        names = {options.dev_fold: "dev", options.test_fold: "test"}
        for fold, clip in sounds:
            given[names.get(fold, "train")].append(clip.id)
        for fold, split in names.items():
            if not given[split]:
                there = ", ".join(map(str, sorted({number for number, _ in sounds})))
                raise CorpusError(
                    f"{self.root / cries.ESC50_INDEX}: no clip is in fold {fold} (there are: "
                    f"{there}). Choose another: --set corpus.{split}_fold=N"
                )
        clips = [clip for _, clip in sounds]
        self._divided = Divided(clips, given, self.root, self.notices, permissions)
        self.splits_given = self._divided.given

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)
