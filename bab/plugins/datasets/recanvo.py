"""Corpus `recanvo`: vocalisations of minimally speaking people, labelled by those who know them.

FOLDER/
  dataset_file_directory.csv   Filename, Participant, Label
  ...                          audio, in any folders: found by file name
  train.txt dev.txt test.txt   optional: a file name on each line
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

import bab
from bab import Clip, Permissions
from bab.plugins.datasets.shared import cries
from bab.plugins.datasets.shared.recordings import Divided
from bab.plugins.datasets.shared.short import given_splits


class Recanvo(bab.Corpus):
    """ReCANVo: single vocalisations with what they express, grouped by participant."""

    class Options(bab.Options):
        """Options of the `recanvo` corpus."""

        missing: Literal["error", "skip"] = Field(
            "error", description="listed files that are not there: stop, or leave them out"
        )

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"vocalisation", "speaker"})
    unit: ClassVar[str] = "participant"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "recanvo"
    source: ClassVar[str] = "Johnson et al., ReCANVo, Scientific Data 2023 (Zenodo 5786860)"

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        clips = cries.recanvo(self.root, options.missing, self.notices)
        lists = given_splits(self.root, clips)
        self._divided = Divided(clips, lists, self.root, self.notices, permissions)
        self.splits_given = self._divided.given

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)
