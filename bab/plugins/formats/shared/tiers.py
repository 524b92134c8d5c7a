"""Annotations as tiers, for formats that have them: TextGrid and ELAN.

One tier holds the marks of one name; marks of a tier may not overlap. What is known beyond times
and text stands on a dependent tier, KEY@TIER, as in ACLEW's scheme: xds@FA1 (addressee), vcm@CHI.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bab import Annotation, Mark
from bab.plugins.formats.shared.names import STEMS, kind_of, said_by

Names = Literal["aclew", "labels"]
Span = tuple[float, float]
_KEYS = {"xds": "addressee"}  # ACLEW's tier -> our key; others are called the same
_TIERS = {key: tier for tier, key in _KEYS.items()}
_LANE = re.compile(r" \(\d+\)$")


@dataclass
class Tier:
    """A tier's texts by stretch of time; further: the same stretches on the tiers KEY@NAME."""

    name: str
    texts: dict[Span, str] = field(default_factory=dict)
    further: dict[str, dict[Span, str]] = field(default_factory=lambda: defaultdict(dict))


def to_tiers(one: Annotation, names: Names, scored: str, path: object) -> list[Tier]:
    """The tiers that hold an annotation, in the order in which their names are first needed.

    names: what a mark without a speaker stands under: "aclew" = CHI, FA1, MA1, UC1; "labels" = its
    label. scored: the tier for the stretches that were annotated; "" = none.
    """
    tiers: dict[str, Tier] = {}
    ends: dict[str, float] = {}
    taken = {mark.speaker for mark in one.marks if mark.speaker}
    for mark in one.marks:
        kind = kind_of(mark, path)
        stem = mark.speaker or mark.label or "NA"
        numbered = names == "aclew" and not mark.speaker and mark.label == kind != ""
        if numbered:
            stem = STEMS[kind]
        name = _lane(stem, numbered and kind != "KCHI", mark, ends, taken)
        ends[name] = mark.end
        tier = tiers.setdefault(name, Tier(name))
        span = (mark.start, mark.end)
        tier.texts[span] = mark.text
        for key, value in mark.values.items():
            if value:
                tier.further[_TIERS.get(key, key)][span] = value
        if mark.label and mark.label != said_by(_LANE.sub("", name))[0]:
            tier.further["label"][span] = mark.label
    every = list(tiers.values())
    if scored and one.scored is not None:
        every.append(Tier(scored, {span: str(i) for i, span in enumerate(one.scored, 1)}))
    return every


def _lane(stem: str, numbered: bool, mark: Mark, ends: Mapping[str, float], taken: set[str]) -> str:
    """The first tier of this stem on which nothing reaches into the mark: FA1, FA2; Anna, Anna (2).

    A number that the annotation itself uses for a speaker is left to that speaker.
    """
    number = 1
    while True:
        name = f"{stem}{number}" if numbered else stem if number == 1 else f"{stem} ({number})"
        if ends.get(name, 0.0) <= mark.start and (not numbered or name not in taken):
            return name
        number += 1


def from_tiers(
    tiers: Sequence[tuple[str, Mapping[Span, str]]], scored: str
) -> tuple[list[Mark], tuple[Span, ...] | None]:
    """Marks and annotated stretches of a file's tiers; KEY@TIER belongs to the marks of TIER that
    have the same times, and stands for itself where there are none."""
    names = {name for name, _ in tiers}
    facts: dict[str, dict[Span, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    plain: list[tuple[str, Mapping[Span, str]]] = []
    texts = dict(tiers)
    for name, spans in tiers:
        key, at, parent = name.partition("@")
        if not at or parent not in names:
            plain.append((name, spans))
            continue
        own = {span: text for span, text in spans.items() if span in texts[parent]}
        for span, text in own.items():
            facts[parent][span][_KEYS.get(key, key)] = text
        if len(own) < len(spans):
            plain.append((name, {s: t for s, t in spans.items() if s not in own}))
    marks: list[Mark] = []
    annotated = None
    for name, spans in plain:
        if scored and name == scored:
            annotated = tuple(sorted(spans))
            continue
        bare = _LANE.sub("", name.strip())
        for span, text in spans.items():
            values = dict(facts[name].get(span, {}))
            label, speaker = said_by(bare)
            label = values.pop("label", label)
            marks.append(Mark(*span, label, speaker, text, values))
    return marks, annotated
