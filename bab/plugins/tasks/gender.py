"""Task `gender`: is a speaker female or male?"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from bab import Options
from bab.kit import ClipTask

CLASSES = ("female", "male")
# How corpora write it: Common Voice up to 16 and from 17 on, Kaldi's spk2gender, LibriSpeech.
WORDS = {
    "female": "female",
    "female_feminine": "female",
    "f": "female",
    "male": "male",
    "male_masculine": "male",
    "m": "male",
}


class GenderOptions(Options):
    """What can be set under `task`."""

    map: dict[str, str] = Field(
        default_factory=dict,
        description="more of a corpus's words: WORD: female or male, or '' to leave it out",
    )


class Gender(ClipTask):
    """Female or male, by what the corpus says; clips with another word or none are left out."""

    Options = GenderOptions
    source = "Amplifying Voices (F1 .973 on Catalan Common Voice); SUPERB's head"
    needs = frozenset({"gender"})
    corpus = "commonvoice"
    primary = "macro_f1"
    kinds = ("gender",)
    wanted: Mapping[str, tuple[str, ...]] = {"gender": CLASSES}
    remedy = "Say what the corpus's words mean with --set task.map.WORD=female (or male)"

    def __init__(self, options: GenderOptions) -> None:
        super().__init__(options)
        self._words = WORDS | {k.casefold(): v for k, v in options.map.items()}

    def mapped(self, kind: str, written: str) -> str:
        return self._words.get(written.casefold(), "")
