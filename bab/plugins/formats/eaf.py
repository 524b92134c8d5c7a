"""Format `eaf`: ELAN's annotation files, with ACLEW's tiers: CHI, FA1, UC1, xds@FA1, vcm@CHI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

import bab
from bab import Annotation, BabError
from bab.plugins.formats.shared.files import check_span, library, milliseconds, printable
from bab.plugins.formats.shared.tiers import Names, Span, Tier, from_tiers, to_tiers
from bab.plugins.formats.shared.xml import parse_xml

_ALIGNED, _ATTACHED = "transcription", "dependency"  # linguistic types
_LENGTH, _BEGAN = "bab:duration", "bab:began"  # properties of the header, which ELAN keeps


class Eaf(bab.Format):
    """ELAN's .eaf: a tier for each speaker, dependent tiers KEY@SPEAKER for what is said of a mark.

    ELAN has no place for length and time of day; both are kept as properties of the header.
    """

    class Options(bab.Options):
        """Options of the format `eaf`."""

        names: Names = Field(
            "aclew",
            description="tiers of marks without a speaker: ACLEW's names (CHI, FA1, MA1, UC1), or "
            "their labels (KCHI)",
        )
        scored: str = Field("code", description="tier of what was annotated; empty = none")

    suffixes: ClassVar[tuple[str, ...]] = (".eaf",)
    keeps: ClassVar[frozenset[str]] = frozenset(
        {"speaker", "text", "values", "duration", "began", "media", "scored"}
    )
    source: ClassVar[str] = "EAF 3.0 (MPI); ACLEW annotation scheme (Casillas et al. 2017)"

    def read(self, path: Path) -> list[Annotation]:
        parse_xml(path, "ANNOTATION_DOCUMENT", "ELAN's EAF")
        pympi = library("pympi.Elan", "pympi-ling")
        try:
            eaf = pympi.Eaf(str(path), suppress_version_warning=True)
            tiers = [(_name(eaf, name), self._spans(eaf, name, path)) for name in eaf.tiers]
        except BabError:
            raise
        except Exception as error:  # pympi raises whatever it meets
            raise BabError(
                f"{path}: can't be read as ELAN's EAF ({type(error).__name__}: {error}). "
                "Does ELAN open it?"
            ) from error
        marks, scored = from_tiers(tiers, self.options.scored)
        known = {str(key): str(value) for key, value in eaf.properties}
        media = next((d.get("MEDIA_URL") or "" for d in eaf.media_descriptors), "")
        length = _length(known.get(_LENGTH), path)
        return [
            Annotation(path.stem, tuple(marks), length, _clock(known.get(_BEGAN)), media, scored)
        ]

    def _spans(self, eaf: Any, name: str, path: Path) -> dict[Span, str]:
        """A tier's texts by their times; those of a dependent tier by the times they hang on."""
        aligned, attached = eaf.tiers[name][:2]
        spans: dict[Span, str] = {}
        adrift = 0
        for start, end, text, _ in aligned.values():
            adrift += not _put(spans, eaf.timeslots[start], eaf.timeslots[end], text, name, path)
        for reference, text, *_ in attached.values():
            while reference in eaf.annotations:
                above, hung = eaf.tiers[eaf.annotations[reference]][:2]
                if reference in above:
                    start, end = (eaf.timeslots[slot] for slot in above[reference][:2])
                    adrift += not _put(spans, start, end, text, name, path)
                    break
                reference = hung[reference][0]
        if adrift:
            self.notices.append(
                f"{adrift} annotations without a time or a length, or twice at one, were left out"
            )
        return spans

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        (one,) = bab.fit_annotations(self, annotations, path)
        pympi = library("pympi.Elan", "pympi-ling")
        eaf = pympi.Eaf(author="bab")
        eaf.remove_tier("default")
        eaf.add_linguistic_type(_ALIGNED)
        eaf.add_linguistic_type(_ATTACHED, "Symbolic_Association", timealignable=False)
        eaf.remove_linguistic_type("default-lt")
        if one.media:
            eaf.add_linked_file(one.media, one.media, _mime(one.media))
        if one.duration is not None:
            eaf.add_property(_LENGTH, f"{one.duration:.3f}")
        if one.began is not None:
            eaf.add_property(_BEGAN, one.began.isoformat())
        for tier in to_tiers(one, self.options.names, self.options.scored, path):
            _add(eaf, tier)
        with bab.atomic_path(path) as temporary:
            eaf.to_file(str(temporary))


def _put(
    spans: dict[Span, str], start: int | None, end: int | None, text: str, name: str, path: Path
) -> bool:
    """Add one annotation, times in milliseconds; False where it has no times, or no length, or
    stands in another's place."""
    if start is None or end is None or start == end:
        return False
    span = check_span(start / 1000, end / 1000, f"{path}: tier '{name}'")
    return spans.setdefault(span, text or "") == (text or "")


def _name(eaf: Any, tier: str) -> str:
    """A tier's name; that of a dependent one as KEY@TIER, where it isn't called so already."""
    above = eaf.tiers[tier][2].get("PARENT_REF")
    if not above or "@" in tier or not eaf.tiers[tier][1]:
        return str(tier)
    while eaf.tiers[above][2].get("PARENT_REF"):
        above = eaf.tiers[above][2]["PARENT_REF"]
    return f"{tier}@{above}"


def _add(eaf: Any, tier: Tier) -> None:
    """A tier and its dependent ones. pympi finds an annotation's parent by looking at all of them,
    so the references are laid down here."""
    eaf.add_tier(tier.name, _ALIGNED, part=tier.name)
    parents: dict[Span, str] = {}
    for (start, end), text in tier.texts.items():
        eaf.add_annotation(tier.name, milliseconds(start), milliseconds(end), printable(text))
        parents[start, end] = f"a{eaf.maxaid}"
    for key, texts in tier.further.items():
        name = f"{key}@{tier.name}"
        eaf.add_tier(name, _ATTACHED, tier.name, part=tier.name)
        _attach(eaf, name, parents, texts)


def _attach(eaf: Any, name: str, parents: Mapping[Span, str], texts: Mapping[Span, str]) -> None:
    for span, text in texts.items():
        own = eaf.generate_annotation_id()
        eaf.annotations[own] = name
        eaf.tiers[name][1][own] = (parents[span], printable(text), None, None)


def _mime(media: str) -> str:
    suffix = Path(media).suffix.lower().lstrip(".")
    return {"wav": "audio/x-wav", "mp4": "video/mp4", "mp3": "audio/mpeg"}.get(
        suffix, f"audio/{suffix or 'x-wav'}"
    )


def _length(text: str | None, path: Path) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise BabError(f"{path}: the property {_LENGTH} is no number: {text!r}") from None


def _clock(text: str | None) -> datetime | time | None:
    """What `isoformat` wrote: with a date, or without."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text) if "T" in text else time.fromisoformat(text)
    except ValueError:
        return None
