"""Corpus `babycry`: is a vocalisation positive or distressed? Three corpora, one question.

    FOLDER/
      recanvo/      ReCANVo, as the corpus `recanvo` has it
      donateacry/   DonateACry, as the corpus `donateacry` has it
      esc50/        ESC-50, as the corpus `esc50` has it: its crying babies

Only ReCANVo is ever tuned and tested on. All that comes from the other two is distress, so that a
model could tell the label from the sound of the corpus: they are for training alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

import bab
from bab import Clip, CorpusError, Permissions
from bab.kit import Divided
from bab.plugins.datasets.shared import cries

# ReCANVo's labels -> valence, as owlgebra-ai/babycry maps them. Labels that say what is meant
# rather than how it feels (selftalk, social, request, yes, ...) have none.
VALENCE = {
    "delighted": "positive",
    "affectionate": "positive",
    "laughter": "positive",
    "happy": "positive",
    "glee": "positive",
    "laugh": "positive",
    "frustrated": "distress",
    "dysregulated": "distress",
    "dysregulation-sick": "distress",
    "dysregulation-bathroom": "distress",
}
TESTED = "recanvo"  # the source of the clips that may be tested


class BabyCry(bab.Corpus):
    """Valence of vocalisations: ReCANVo, and the cries of DonateACry and ESC-50 for training."""

    class Options(bab.Options):
        """Options of the `babycry` corpus."""

        recanvo: str = Field("recanvo", description="folder of ReCANVo, from the root")
        donateacry: str = Field("donateacry", description="folder of DonateACry; empty = without")
        esc50: str = Field("esc50", description="folder of ESC-50; empty = without")
        missing: Literal["error", "skip"] = Field(
            "error", description="listed files that are not there: stop, or leave them out"
        )

    version: ClassVar[str] = "1"
    provides: ClassVar[frozenset[str]] = frozenset({"valence", "source"})
    unit: ClassVar[str] = "participant"
    sample: ClassVar[Path | None] = Path(__file__).parent / "samples"  # holds the three
    source: ClassVar[str] = "owlgebra-ai/babycry (model card and data set on the Hugging Face hub)"

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        super().__init__(Path(root).resolve(), options, permissions)
        self._clips = self._recanvo() + self._donateacry() + self._esc50()
        tested = [clip for clip in self._clips if self.testable(clip)]
        self._divided = Divided(tested, None, self.root, self.notices, permissions)
        self.splits_given = self._divided.given
        rest = Counter(c.labels["source"] for c in self._clips if not self.testable(c))
        if rest:
            told = " and ".join(f"{count} of {source}" for source, count in rest.items())
            self.notices.append(f"For training alone, as all of them are distress: {told}.")

    def testable(self, clip: Clip) -> bool:
        """Whether the clip is ReCANVo's."""
        return clip.labels["source"] == TESTED

    def splits(self) -> tuple[str, ...]:
        return self._divided.names

    def clips(self, split: str | None = None) -> list[Clip]:
        """A split by participant, or everything; whatever isn't ReCANVo's is in train."""
        if split is None:
            return list(self._clips)
        part = self._divided.clips(split)
        if split == "train":
            part += [clip for clip in self._clips if not self.testable(clip)]
        return part

    def _recanvo(self) -> list[Clip]:
        clips = cries.recanvo(
            self._folder(self.options.recanvo), self.options.missing, self.notices, VALENCE
        )
        valences = (VALENCE[clip.labels["vocalisation"]] for clip in clips)
        return [
            replace(
                clip,
                id=f"{TESTED}-{clip.id}",
                labels={**clip.labels, "source": TESTED, "valence": valence},
            )
            for clip, valence in zip(clips, valences, strict=True)
        ]

    def _donateacry(self) -> list[Clip]:
        if not self.options.donateacry:
            return []
        folder = self._folder(self.options.donateacry)
        return _distress(cries.donateacry(folder, "folder", self.notices), "donateacry")

    def _esc50(self) -> list[Clip]:
        if not self.options.esc50:
            return []
        folder = self._folder(self.options.esc50)
        sounds = cries.esc50(folder, self.options.missing, self.notices, ("crying_baby",))
        return _distress((clip for _, clip in sounds), "esc50")

    def _folder(self, option: str) -> Path:
        folder = (self.root / Path(option).expanduser()).resolve()
        if not folder.is_dir():
            raise CorpusError(
                f"{folder}: no such folder. `babycry` unites recanvo, donateacry and esc50: say "
                "where each lies, e.g. --set corpus.esc50=FOLDER; the last two may be left out, "
                "--set corpus.esc50="
            )
        return folder


def _distress(clips: Iterable[Clip], source: str) -> list[Clip]:
    """Clips of another source: ids and groups that can't meet those of the others."""
    return [
        replace(
            clip,
            id=f"{source}-{clip.id}",
            group=f"{source}-{clip.group}",
            labels={"source": source, "valence": "distress"},
        )
        for clip in clips
    ]
