"""Annotation files of any format, for a folder of audio and annotations."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, model_serializer

import bab
from bab import BabError, CorpusError
from bab.kit import SPLIT_NAMES, Span, uri_of
from bab.plugins.datasets.shared.rttm import Annotations, annotated_twice

RTTM = "rttm"
# Of files that say by their suffix what they are; which format a table has, it doesn't say.
_FORMATS = {".rttm": RTTM, ".eaf": "eaf", ".textgrid": "textgrid", ".its": "its", ".cha": "cha"}
_TOLD = 5  # notices of single files that are passed on; then only how many more


class FormatOptions(bab.Options):
    """The option `format`. Left at its default it isn't dumped, so that runs from before it was
    there keep their ids."""

    format: str = Field(
        RTTM, description="of the annotation files: eaf, textgrid, its ... (`bab list formats`)"
    )

    @model_serializer(mode="wrap")
    def _without_default(self, dump: Any) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        if self.format == RTTM:
            values.pop("format", None)
        return values


def read_annotated(
    files: list[Path], name: str, uems: dict[str, list[Span]], notices: list[str]
) -> Annotations:
    """Every annotation among `files` in a format other than RTTM; what the files themselves say was
    annotated goes into `uems`, where no UEM says it.

    Raises:
        CorpusError: naming the file, and its line where it has lines.
    """
    try:
        form = bab.open_format(name)
    except BabError as error:
        raise CorpusError(f"--set corpus.format={name}: {error}") from error
    suffixes = {suffix.lower() for suffix in form.suffixes}
    annotated, told = Annotations({}, {}, {}), list[str]()
    for path in files:
        if path.suffix.lower() not in suffixes or _is_split_list(path):
            continue
        for one in _read(form, path):
            uri = uri_of(one.uri)
            if uri in annotated.source:
                annotated_twice(uri, annotated.source[uri], path)
            annotated.source[uri] = path
            annotated.turns[uri] = [(m.start, m.end, m.label) for m in one.marks if m.start < m.end]
            if one.began is not None:
                annotated.began[uri] = one.began
            if one.scored is not None:
                uems.setdefault(uri, list(one.scored))
        told += [f"{path}: {notice}" for notice in form.notices]
        form.notices.clear()
    notices += told[:_TOLD]
    if len(told) > _TOLD:
        notices.append(f"{len(told) - _TOLD} more notices of this kind about annotation files.")
    return annotated


def how_found(files: Iterable[Path], format: str) -> str:
    """Where no recording is annotated: another format that is there, or how names must agree."""
    there = {_FORMATS.get(path.suffix.lower(), ""): path for path in files}
    others = sorted(there.keys() - {""})
    if others and format not in there:
        one = others[0]
        return f"{there[one].name} is there: if that is an annotation, --set corpus.format={one}"
    where = "the RTTM's second column" if format == RTTM else "the annotation"
    return f"The name in {where} must be the audio file's, less its extension."


def _read(form: bab.Format, path: Path) -> list[bab.Annotation]:
    try:
        return form.read(path)
    except BabError as error:
        raise CorpusError(str(error)) from error


def _is_split_list(path: Path) -> bool:
    return path.suffix.lower() in (".txt", ".lst") and path.stem.lower() in SPLIT_NAMES
