"""Where a format's suite says yes and where no, with what is told; which checks don't apply."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import bab
from bab import Annotation, BabError, Mark
from bab.testing import formats
from bab.testing.formats import FormatCase


class Sound(bab.Format):
    """A small format without fault: JSON."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    keeps: ClassVar[frozenset[str]] = frozenset({"several", "text"})
    back: ClassVar[Callable[[list[Annotation]], list[Annotation]]] = staticmethod(lambda all_: all_)

    def read(self, path: Path) -> list[Annotation]:
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BabError(f"{path}: no JSON: {error}") from error
        return self.back(
            [
                Annotation(uri, tuple(Mark(a, b, label, text=text) for a, b, label, text in marks))
                for uri, marks in rows.items()
            ]
        )

    def write(self, annotations: Sequence[Annotation], path: Path) -> None:
        fitted = bab.fit_annotations(self, annotations, path)
        rows = {a.uri: [(m.start, m.end, m.label, m.text) for m in a.marks] for a in fitted}
        bab.write_text(path, json.dumps(rows))


def form(**members: Any) -> Any:
    if "back" in members:
        members["back"] = staticmethod(members["back"])
    return type("It", (Sound,), {"__doc__": "x", **members})


def marks(change: Callable[[Mark], Mark]) -> Any:
    """A format that reads each mark otherwise."""
    return form(
        back=lambda all_: [replace(one, marks=tuple(map(change, one.marks))) for one in all_]
    )


def said(check: Any, cls: Any, folder: Path, *samples: Path) -> str:
    try:
        return check(FormatCase(cls, folder, samples)) or ""
    except AssertionError as error:
        return str(error)


def swapped(all_: list[Annotation]) -> list[Annotation]:
    """Of several recordings, each has the other's marks."""
    if len(all_) != 2:
        return all_
    one, two = all_
    return [replace(one, marks=two.marks), replace(two, marks=one.marks)]


@pytest.mark.parametrize(
    ("check", "cls", "told"),
    [
        ("round_trips", Sound, ""),
        ("round_trips", marks(lambda m: replace(m, end=m.end + 0.00099)), ""),
        ("round_trips", marks(lambda m: replace(m, end=m.end + 0.0011)),
         "It: FEM 1.2344 to 2.0 s has become 1.234 to 2.0011"),
        ("round_trips", marks(lambda m: replace(m, label=m.label.lower())),
         "It: the label FEM has become fem"),
        ("round_trips", form(back=lambda all_: [replace(a, marks=a.marks[:3]) for a in all_]),
         "It: 6 marks have become 3"),
        ("round_trips", form(back=lambda all_: [*all_, *all_]),
         "plain.json: holds one recording, and 2 were read"),
        ("several", Sound, ""),
        ("several", form(back=swapped), "It: 6 marks have become 3"),
        ("several", form(back=lambda all_: all_[:1]), "It: two recordings are {'home01'}"),
        ("several", form(keeps=frozenset({"text"})), ""),  # several are refused
        ("losses", Sound, ""),
        ("losses", form(keeps=frozenset({"several", "text", "speaker"})),
         "It keeps speaker: ['FA2', 'MA1'] is ['', '']"),
        ("losses", marks(lambda m: replace(m, text="")), "It keeps text: où est l'élan ?"),
        ("losses", form(beside=frozenset({"duration"})), ""),
        ("declared", form(suffixes=()), "suffixes ()"),
        ("declared", form(suffixes=(".a", "b")), "suffixes ('.a', 'b')"),
        ("declared", form(keeps=frozenset({"values.vcm", "text"})), ""),
        ("declared", form(keeps=frozenset({"colour"})), "keeps names ['colour']; there are "),
        ("declared", form(reads=False, writes=False), "it is neither read nor written"),
        ("declared", form(reads=False), ""),
        ("round_trips", form(reads=False), "it isn't both read and written"),
        ("round_trips", form(writes=False), "it isn't both read and written"),
        ("losses", form(writes=False), "it isn't both read and written"),
        ("several", form(reads=False), "it isn't both read and written"),
        ("read_only", Sound, "it is written, too"),
        ("samples", Sound, "no files of its own were given (--sample FILE)"),
        ("samples", form(writes=False),
         "it is only read; no files of its own were given (--sample FILE)"),
        ("bad_files", Sound, ""),
        ("bad_files", form(reads=False), "it isn't read"),
        ("described", Sound, ""),
    ],
)  # fmt: skip
def test_the_edge_of_each_rule(check: str, cls: Any, told: str, tmp_path: Path) -> None:
    got = said(getattr(formats, f"check_{check}"), cls, tmp_path)
    assert (got == "") if not told else (got.startswith(told) or got.endswith(told)), got


def noticing(*words: str, forget: bool = False) -> Any:
    def write(self: Any, annotations: Any, path: Path) -> None:
        Sound.write(self, annotations, path)
        if forget:
            self.notices.clear()
        self.notices.extend(words)

    return form(write=write)


def test_notices_are_for_what_is_lost_and_nothing_else(tmp_path: Path) -> None:
    got = said(formats.check_losses, noticing("a word"), tmp_path)
    assert got == "It: notices of nothing lost: ['a word']"
    got = said(formats.check_losses, noticing(forget=True), tmp_path)
    assert got == "It loses speaker without a notice"

    def only_of_text(self: Any, annotations: Any, path: Path) -> None:
        Sound.write(self, annotations, path)
        if any(mark.text for one in annotations for mark in one.marks):
            self.notices.append("text")

    got = said(formats.check_losses, form(write=only_of_text), tmp_path)
    assert got == "It keeps text, and says: ['text']"

    def short(self: Any, annotations: Any, path: Path) -> None:
        Sound.write(self, annotations, path)
        if path.stem == "short":
            self.notices.clear()

    got = said(formats.check_losses, form(write=short), tmp_path)
    assert got == "It loses a mark of no length without a notice"


def test_a_write_that_fails_leaves_what_stood_there(tmp_path: Path) -> None:
    def first_empty(self: Any, annotations: Any, path: Path) -> None:
        path.write_text("")
        Sound.write(self, annotations, path)

    got = said(formats.check_several, form(write=first_empty), tmp_path)
    assert got == "It: a failed write changed the file"
    single = form(write=first_empty, keeps=frozenset({"text"}))
    got = said(formats.check_several, single, tmp_path / "b")
    assert got == "It: a refused write left several.json"

    def lenient(self: Any, annotations: Any, path: Path) -> None:
        good = [replace(a, marks=tuple(m for m in a.marks if m.end > m.start)) for a in annotations]
        Sound.write(self, good, path)

    got = said(formats.check_several, form(write=lenient), tmp_path / "c")
    assert got == "It: several.json was taken; it must be a BabError"


def test_what_is_only_read_refuses_to_write(tmp_path: Path) -> None:
    got = said(formats.check_read_only, form(writes=False), tmp_path)
    assert got == ""

    def write(self: Any, annotations: Any, path: Path) -> None:
        path.write_text("")

    taking = form(writes=False, write=write)
    got = said(formats.check_read_only, taking, tmp_path)
    assert got == "It: no was taken; it must be a BabError"


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (Annotation("a", (Mark(0.0, 1.0, "F"), Mark(0.0, 0.5, "F"))), ""),
        (Annotation("a", ()), ""),
        (Annotation("a", (Mark(0.0, 2.0009, "F"),), 2.0), ""),
        (Annotation("a", (Mark(0.0, 2.0011, "F"),), 2.0), "ends after 2.0 s"),
        (Annotation("a", (Mark(1.0, 1.0, "F"),)), "has no length"),
        (Annotation("a", (Mark(-0.1, 1.0, "F"),)), "has no length"),
        (Annotation("a", (Mark(0.0, 1.0, ""),)), "has no label"),
        (Annotation("", ()), "a recording without a name"),
        (None, "no recording"),
    ],
)
def test_the_edge_of_what_a_file_reads_as(one: Any, told: str, tmp_path: Path) -> None:
    cls = form(read=lambda self, path: [] if one is None else [one])
    got = said(formats.check_samples, cls, tmp_path, tmp_path / "x.json")
    assert got == "" if not told else got.endswith(told)
    assert not told or got.startswith(f"{tmp_path / 'x.json'}: ")


def test_bad_files_are_errors_that_name_them(tmp_path: Path) -> None:
    asked: list[str] = []

    def nameless(self: Any, path: Path) -> Any:
        asked.append(path.name)
        raise BabError("bad" if path.stem == wrong else f"{path}: bad")

    for wrong in ("binary", "prose", "gone"):
        got = said(formats.check_bad_files, form(read=nameless), tmp_path)
        assert got == f"It: the error doesn't name {wrong}.json: bad"
    assert asked[-3:] == ["binary.json", "prose.json", "gone.json"]
    got = said(formats.check_bad_files, form(read=lambda self, path: []), tmp_path)
    assert got == "It: binary.json was taken; it must be a BabError"


def test_a_format_that_is_only_read_needs_files(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as raised:
        formats.check_format(form(writes=False), tmp_path)
    assert str(raised.value) == "It is read only: give files to read"
    path = tmp_path / "a.json"
    path.write_text('{"a": [[0, 1, "FEM", ""]]}')
    formats.check_format(form(writes=False), tmp_path, [path])
