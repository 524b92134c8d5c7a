"""Corpus `donateacry`: infant cries sent in by parents, with the reason that they gave.

FOLDER/
  hungry/UUID-EPOCH-VERSION-GENDER-AGE-REASON.wav   all is in the name; the folders are optional
  train.txt dev.txt test.txt                        optional: a file name on each line
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

import bab
from bab import Clip
from bab.kit import ListedCorpus
from bab.plugins.datasets.shared import cries


class DonateACry(ListedCorpus):
    """DonateACry: cries by reason, gender and age, grouped by the app installation."""

    class Options(bab.Options):
        """Options of the `donateacry` corpus."""

        reason: Literal["folder", "name"] = Field(
            "folder",
            description="what says the reason: the folder, where it is named after one, else the "
            "file's name; or always the file's name",
        )

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"reason", "gender", "age"})
    unit: ClassVar[str] = "app installation"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples" / "donateacry"
    source: ClassVar[str] = "github.com/gveres/donateacry-corpus"

    def read(self) -> list[Clip]:
        return cries.donateacry(self.root, self.options.reason, self.notices)
