"""Task `accent`: which of the accents of a language does a speaker have? Five of Catalan.

Common Voice lets volunteers write their accent freely ("Català central", "valencià meridional,
Alacant"); its older releases had a list of keys. Words that occur in such texts decide.
"""

from __future__ import annotations

import re
import unicodedata

from pydantic import Field

from bab import Options
from bab.kit import ClipTask

# Beginnings of words, without accents, in Catalan, Spanish and English -> accent. The English ones
# are the keys of older Common Voice releases.
STEMS: dict[str, tuple[str, ...]] = {
    "central": ("central", "barcelon", "giron"),
    "nord-occidental": ("nord-occidental", "nordoccidental", "noroccidental", "northwest", "lleid"),
    "valencià": ("valenci",),
    "balear": ("balear", "mallorqu", "menorqu", "eivissenc", "mallorca", "menorca"),
    "septentrional": ("septentrional", "rossellon", "northern"),
}


class AccentOptions(Options):
    """What can be set under `task`."""

    classes: tuple[str, ...] = Field(
        tuple(STEMS), min_length=2, description="accents to tell apart, in the order of the outputs"
    )
    map: dict[str, str] = Field(
        default_factory=dict,
        description="a corpus's whole text: its accent, or '' to leave it out; goes before the "
        "built-in Catalan words",
    )


class Accent(ClipTask):
    """One of five Catalan accents, or of `task.classes`; clips with another are left out."""

    Options = AccentOptions
    source = "Amplifying Voices (F1 .977 on Catalan Common Voice); SUPERB's head"
    needs = frozenset({"accent"})
    corpus = "commonvoice"
    primary = "macro_f1"
    kinds = ("accent",)
    remedy = (
        "Say what the corpus's words mean with --set task.map='{TEXT: ACCENT}', or leave the "
        "accent out with --set task.classes='[...]'"
    )

    def __init__(self, options: AccentOptions) -> None:
        super().__init__(options)
        self.wanted = {"accent": options.classes}
        self._given = {plain(text): accent for text, accent in options.map.items()}
        self._known: dict[str, str] = {}

    def mapped(self, kind: str, written: str) -> str:
        known = self._known.get(written)
        if known is None:
            text = plain(written)
            known = self._known[written] = self._given[text] if text in self._given else told(text)
        return known


def plain(text: str) -> str:
    """Lower case, without accents on letters, "Nord-Occidental" and "nord  occidental" alike."""
    bare = unicodedata.normalize("NFD", text.casefold())
    bare = "".join(c for c in bare if not unicodedata.combining(c))
    return re.sub(r"\s+", " ", re.sub(r"nord[\s-]+occidental", "nord-occidental", bare)).strip()


def told(text: str) -> str:
    """The one accent that a plain text names; "" where it names none, or two."""
    accents = [
        accent
        for accent, stems in STEMS.items()
        if any(re.search(rf"(?<!\w){re.escape(stem)}", text) for stem in stems)
    ]
    return accents[0] if len(accents) == 1 else ""
