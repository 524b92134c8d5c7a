"""Corpus `recanvo`: vocalisations of minimally speaking people, labelled by those who know them.

FOLDER/
  dataset_file_directory.csv   Filename, Participant, Label
  ...                          audio, in any folders: found by file name
  train.txt dev.txt test.txt   optional: a file name on each line
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

import bab
from bab import Clip
from bab.kit import ListedCorpus
from bab.plugins.datasets.shared import cries


class Recanvo(ListedCorpus):
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

    def read(self) -> list[Clip]:
        return cries.recanvo(self.root, self.options.missing, self.notices)
