"""The contract suite of formats finds what it is for: one planted fault each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

import bab
from bab import Annotation, BabError, Mark
from bab.testing.formats import check_format


class Sound(bab.Format):
    """A small format without fault: JSON."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    keeps: ClassVar[frozenset[str]] = frozenset({"several", "text"})

    def read(self, path: Path) -> list[Annotation]:
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BabError(f"{path}: no JSON: {error}") from error
        return [
            Annotation(uri, tuple(Mark(a, b, label, text=text) for a, b, label, text in marks))
            for uri, marks in rows.items()
        ]

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        fitted = bab.fit_annotations(self, annotations, path)
        rows = {a.uri: [(m.start, m.end, m.label, m.text) for m in a.marks] for a in fitted}
        bab.write_text(path, json.dumps(rows))


class Centiseconds(Sound):
    def read(self, path):
        return [
            Annotation(a.uri, tuple(Mark(round(m.start, 2), m.end, m.label) for m in a.marks))
            for a in super().read(path)
        ]


class OneOfTwo(Sound):
    """Of marks of one voice that overlap, only the first is kept."""

    def read(self, path):
        found = []
        for one in super().read(path):
            ends: dict[str, float] = {}
            marks = []
            for mark in one.marks:
                if mark.start >= ends.get(mark.label, 0):
                    ends[mark.label] = mark.end
                    marks.append(mark)
            found.append(Annotation(one.uri, tuple(marks)))
        return found


class Relabels(Sound):
    def read(self, path):
        names = {"KCHI": "CHI"}
        return [
            Annotation(
                a.uri, tuple(Mark(m.start, m.end, names.get(m.label, m.label)) for m in a.marks)
            )
            for a in super().read(path)
        ]


class Silent(Sound):
    """Drops what it can't hold without a word."""

    def write(self, annotations, path):
        super().write(annotations, path)
        self.notices.clear()


class Chatty(Sound):
    def write(self, annotations, path):
        super().write(annotations, path)
        self.notices.append("something may have been lost")


class Boasts(Sound):
    """Says that it keeps more than it does."""

    keeps = frozenset({"several", "text", "speaker"})


class NoEmpty(Sound):
    def read(self, path):
        return [one for one in super().read(path) if one.marks]


class Mixes(Sound):
    """Puts several recordings under one name."""

    def read(self, path):
        found = super().read(path)
        return [Annotation(found[0].uri, tuple(m for one in found for m in one.marks))]


class TakesAll(Sound):
    """Reads any file as an empty recording."""

    def read(self, path):
        try:
            return super().read(path)
        except BabError:
            return [Annotation(path.stem)]


class Unnamed(Sound):
    def read(self, path):
        try:
            return super().read(path)
        except BabError:
            raise BabError("this is no JSON") from None


class Raw(Sound):
    """Lets the library's own error through."""

    def read(self, path):
        return json.loads(path.read_bytes().decode()) and super().read(path)


class HalfWritten(Sound):
    def write(self, annotations, path):
        path.write_text("")
        super().write(annotations, path)


class Litters(Sound):
    def write(self, annotations, path):
        super().write(annotations, path)
        (path.parent / f".{path.name}.tmp").write_text("")


class NoAccents(Sound):
    def write(self, annotations, path):
        super().write(annotations, path)
        path.write_text(path.read_text().replace("\\u00f9", "?"))


class Suffixless(Sound):
    suffixes = ("json",)


class Unknown(Sound):
    keeps = frozenset({"several", "text", "colour"})


def test_the_sound_one_passes(tmp_path):
    check_format(Sound, tmp_path)


@pytest.mark.parametrize(
    ("cls", "word"),
    [
        (Centiseconds, "has become"),
        (OneOfTwo, "3 marks have become 1"),
        (Relabels, "has become CHI"),
        (Silent, "without a notice"),
        (Chatty, "notices of nothing lost"),
        (Boasts, "keeps speaker"),
        (NoEmpty, "no recording"),
        (Mixes, "two recordings"),
        (TakesAll, "must be a BabError"),
        (Unnamed, "doesn't name"),
        (HalfWritten, "changed the file"),
        (Litters, "behind"),
        (NoAccents, "keeps text"),
        (Suffixless, "suffixes"),
        (Unknown, "colour"),
    ],
)
def test_a_planted_fault_is_found(cls, word, tmp_path):
    with pytest.raises(AssertionError, match=word):
        check_format(cls, tmp_path)


def test_an_error_of_a_library_is_not_taken_for_one_of_ours(tmp_path):
    with pytest.raises((ValueError, OSError)):
        check_format(Raw, tmp_path)


class ReadOnly(Sound):
    """Read, and not written."""

    writes = False


def test_a_read_only_format_needs_files_to_read(tmp_path):
    with pytest.raises(AssertionError, match="give files"):
        check_format(ReadOnly, tmp_path)
    path = tmp_path / "a.json"
    path.write_text('{"a": [[2, 3, "FEM", ""], [0, 1, "KCHI", ""]]}')
    check_format(ReadOnly, tmp_path, [path])
    path.write_text('{"a": [[2, 2, "FEM", ""]]}')
    with pytest.raises(AssertionError, match="no length"):
        check_format(ReadOnly, tmp_path, [path])
