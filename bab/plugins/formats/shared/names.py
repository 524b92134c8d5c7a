"""Voice types, and the names that transcribers give to tiers and speakers.

ACLEW's scheme (Casillas et al. 2017): CHI the key child, then F, M or U for female, male, unknown;
A or C for adult, child; and a number: FA1, MA2, UC1. Other sources write C1, MI1, OC0, MOT*.
"""

from __future__ import annotations

import re

from bab import BabError, Mark

KINDS = ("KCHI", "OCH", "MAL", "FEM")
STEMS = {"KCHI": "CHI", "OCH": "UC", "MAL": "MA", "FEM": "FA"}
# LENA's near and clear voices; CHF, FAF and the like are faint, TVN, OLN, NON, SIL no one's voice.
LENA = {"CHN": "KCHI", "CXN": "OCH", "FAN": "FEM", "MAN": "MAL"}
_PATTERNS = {
    "KCHI": re.compile(r"CHI\*?"),
    "FEM": re.compile(r"FA(\d+|E)|MOT\*?"),
    "MAL": re.compile(r"MA(\d+|E)|FAT\*?"),
    "OCH": re.compile(r"([FMU]C|MI|OC|C)\d+|[FM]CE"),
}


def voice_of(name: str) -> str:
    """The voice type that a tier's or speaker's name stands for: "FA1" -> "FEM"; "" = none."""
    name = name.strip()
    if name in KINDS:
        return name
    return next((kind for kind, form in _PATTERNS.items() if form.fullmatch(name)), "")


def said_by(name: str) -> tuple[str, str]:
    """(label, speaker) of what stands under a name: a name that stands for nothing is both."""
    name = name.strip()
    return (name, "") if name in KINDS else (voice_of(name) or name, name)


def kind_of(mark: Mark, path: object) -> str:
    """The voice type of a mark, whose label may also be a speaker's name (FA1); "" = none.

    Raises:
        BabError: the bare label CHI, which is the other child to some tools and the key child to
            others.
    """
    if mark.label == "CHI" and not mark.speaker:
        raise BabError(
            f"{path}: the label CHI is the other child in what the Voice Type Classifier of 2020 "
            "writes, and the key child elsewhere. Say which: bab convert --set labels.CHI=OCH "
            "(or KCHI)"
        )
    return voice_of(mark.label) or (voice_of(mark.speaker) if not mark.label else "")
