"""Corpus `donateacry`: infant cries sent in by parents, with the reason that they gave.

FOLDER/
  hungry/UUID-EPOCH-VERSION-GENDER-AGE-REASON.wav   all is in the name; the folders are optional
  train.txt dev.txt test.txt                        optional: a file name on each line
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


class DonateACry(bab.Corpus):
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

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        clips = cries.donateacry(self.root, options.reason, self.notices)
        lists = given_splits(self.root, clips)
        self._divided = Divided(clips, lists, self.root, self.notices, permissions)
        self.splits_given = self._divided.given

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        return self._divided.clips(split)
