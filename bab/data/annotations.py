"""Annotation files, whatever their format: opened by name or suffix, and what a format can't hold.

Imports neither torch nor numpy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bab.core import registry
from bab.core.annotations import Annotation, Format, Mark
from bab.core.errors import BabError, ConfigError, did_you_mean

# What a format may hold, beyond times and labels; `values.KEY` is one key of `Mark.values`.
FACETS: Mapping[str, str] = {
    "speaker": "who speaks, beside the label",
    "text": "the text of a mark",
    "values": "further facts of a mark",
    "duration": "the length of a recording",
    "began": "the time of day at which a recording begins",
    "media": "the audio file's name",
    "scored": "which stretches were annotated",
    "several": "several recordings in one file",
}


def open_format(name: str, options: Mapping[str, Any] | None = None) -> Format:
    """A format by its name, with its options.

    Raises:
        PluginError: there is none of this name, or it can't be loaded.
        ConfigError: an option that it doesn't have, or a value that it can't have.
    """
    from pydantic import ValidationError

    cls = registry.load("formats", name)
    try:
        form: Format = cls(cls.Options(**(options or {})))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        told = f"option '{key}': {first['msg']}"
        if first["type"] == "extra_forbidden":
            told = f"there is no option '{key}': {did_you_mean(key, cls.Options.model_fields)}"
        raise ConfigError(f"format '{name}', {told}") from None
    return form


def names_of(path: Path, kept: Callable[[Any], bool] = lambda cls: True) -> list[str]:
    """The formats whose files end as `path` does, the one that is called so first."""
    suffix = path.suffix.lower()
    matching = []
    for name in registry.names("formats"):
        cls = registry.load("formats", name)
        if kept(cls) and suffix in (each.lower() for each in cls.suffixes):
            matching.append(name)
    return sorted(matching, key=lambda name: (f".{name}" != suffix, name))


def fit_annotations(
    form: Format, annotations: Sequence[Annotation], path: Path
) -> list[Annotation]:
    """What a format's `write` begins with: annotations at whole milliseconds, without what it
    can't hold. What is lost is added to `form.notices`, counted.

    Raises:
        BabError: the format isn't written; several recordings, where it holds one; a mark or a
            span that is no stretch of time.
    """
    kind = _called(form)
    if not form.writes:
        raise BabError(f"{path}: {kind} is read only: write another format (`bab list formats`)")
    if len(annotations) != 1 and "several" not in form.keeps:
        raise BabError(
            f"{path}: {kind} holds one recording a file, not {len(annotations)}: write a file each"
        )
    form.notices += losses(form, annotations)
    whole = [_whole(one, path) for one in annotations]
    short = sum(len(a.marks) - len(b.marks) for a, b in zip(annotations, whole, strict=True))
    if short:
        form.notices.append(f"{short} marks shorter than half a millisecond were left out")
    return [_without(one, form.keeps) for one in whole]


def losses(form: Format, annotations: Sequence[Annotation]) -> list[str]:
    """What of these annotations `form` can't hold: a line for each kind of thing, counted."""
    lost: Counter[str] = Counter()
    for one in annotations:
        lost["duration"] += one.duration is not None
        lost["began"] += one.began is not None
        lost["media"] += bool(one.media) and _stem(one.media) != one.uri
        lost["scored"] += one.scored is not None
        for mark in one.marks:
            lost["speaker"] += bool(mark.label) and mark.speaker not in ("", mark.label)
            lost["text"] += bool(mark.text)
            lost["values"] += any(not _holds(form.keeps, key) for key in mark.values)
    kind = _called(form)
    return [
        f"{kind} can't hold {FACETS[what]}: {count} left out"
        for what, count in lost.items()
        if count and what not in form.keeps | form.beside
    ]


def _called(form: Format) -> str:
    entry = registry.owner(form)
    return entry.name if entry else type(form).__name__


def _holds(keeps: frozenset[str], key: str) -> bool:
    return "values" in keeps or f"values.{key}" in keeps


def _stem(media: str) -> str:
    return media.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]


def _whole(one: Annotation, path: Path) -> Annotation:
    """Times at whole milliseconds; what is left without length is left out."""
    marks = []
    for mark in one.marks:
        start, end = _rounded(mark.start, mark.end, one.uri, path)
        if start < end:
            marks.append(replace(mark, start=start, end=end))
    spans = one.scored
    if spans is not None:
        spans = tuple(_rounded(*span, one.uri, path) for span in sorted(spans))
    duration = None if one.duration is None else round(float(one.duration), 3)
    return replace(one, marks=tuple(marks), scored=spans, duration=duration)


def _rounded(start: float, end: float, uri: str, path: Path) -> tuple[float, float]:
    if not 0 <= start <= end < math.inf:
        raise BabError(f"{path}: '{uri}' has a mark from {start} to {end} s: no stretch of time")
    return round(float(start), 3), round(float(end), 3)


def _without(one: Annotation, keeps: frozenset[str]) -> Annotation:
    """An annotation less what a format doesn't keep, so that no writer has to look."""
    bare: dict[str, Any] = {"duration": None, "began": None, "scored": None}
    dropped = {key: value for key, value in bare.items() if key not in keeps}
    marks = tuple(_bare(mark, keeps) for mark in one.marks)
    return replace(one, marks=marks, **dropped)


def _bare(mark: Mark, keeps: frozenset[str]) -> Mark:
    if "text" in keeps and "values" in keeps:
        return mark
    values = {key: value for key, value in mark.values.items() if _holds(keeps, key)}
    return replace(mark, text=mark.text if "text" in keeps else "", values=values)
