"""Columns of texts and clips by hand: what they hold, number, repeat and answer."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bab.columns import ask, clips, texts
from bab.columns.clips import Clips, ClipsBuilder, Repeated
from bab.columns.texts import Coded, CodedBuilder, Texts, TextsBuilder
from bab.core.types import Clip


def built(*parts: list[str]) -> Texts:
    builder = TextsBuilder()
    for part in parts:
        builder.add(part)
    return builder.done()


WORDS = ["a", "", "bc", "é", "\u0915\u0916", "", "xyz"]


def test_texts_come_back_by_slice_and_by_place() -> None:
    for made in (
        built(WORDS),
        built(WORDS[:3], [], WORDS[3:]),
        pickle.loads(pickle.dumps(built(WORDS))),
    ):
        assert len(made) == 7 and made.some_empty
        for first in range(7):
            for last in range(first, 8):
                assert made.at(slice(first, last)) == WORDS[first:last]
        places = np.array([6, 0, 3, 3, 1], np.int32)
        assert made.at(places) == ["xyz", "a", "é", "é", ""]
    plain = built(["ab", "c"], ["def"])
    assert plain.at(slice(0, 3)) == ["ab", "c", "def"] and not plain.some_empty
    assert plain.at(slice(1, 1)) == [] and len(built()) == 0 and not built().some_empty


@pytest.mark.parametrize("piece", [1, 2, 3, 1 << 16])
@pytest.mark.parametrize("hashed", [hash, len, lambda text: 0])
def test_equal_texts_have_equal_numbers(
    monkeypatch: pytest.MonkeyPatch, piece: int, hashed: Callable[[str], int]
) -> None:
    monkeypatch.setattr(texts, "_PIECE", piece)
    monkeypatch.setattr(texts, "hash", hashed, raising=False)
    for words in (WORDS, ["a", "b", "a", "c", "b", "a"], ["a"], [], ["ab", "ba", "cc", "ba"]):
        numbers = built(words).numbers()
        assert numbers.dtype == np.int32 and len(numbers) == len(words)
        assert (numbers[:, None] == numbers).tolist() == [[a == b for b in words] for a in words]


def coded(*parts: Any, many: int = 1 << 19) -> Coded:
    builder = CodedBuilder(many)
    for part in parts:
        builder.add(*part) if isinstance(part, tuple) else builder.add(part)
    return builder.done()


def test_values_that_repeat_stand_once() -> None:
    made = coded(["a", None, "b"], (["c", "a"], np.array([1, 0, 1], np.int32)), [])
    assert made.values == ["a", "b", "c", None] and made.once
    assert made.codes.tolist() == [0, -1, 1, 0, 2, 0] and made.codes.dtype == np.int32
    assert made.at(slice(0, 6)) == ["a", None, "b", "a", "c", "a"]
    assert made.at(np.array([4, 1], np.int32)) == ["c", None]
    assert made.numbers().tolist() == [0, -1, 1, 0, 2, 0] and not made.some_empty
    assert made.apply(str).at(slice(0, 3)) == ["a", "None", "b"]
    assert coded(["", "a"]).some_empty and coded([]).at(slice(0, 0)) == []


@pytest.mark.parametrize(
    ("rows", "one_buffer"),
    [(["a", "b", "c"], True), (["a", "b", "a", "b"], False), (["a", "b", "c", "a"], True),
     (["a", "b", "c", "a", "a", "a"], False), (["a", None, "b", "c"], True),
     (["a", 1, "c"], False)],
)  # fmt: skip
def test_more_than_so_many_values_of_which_most_stand_once_go_to_one_buffer(
    rows: list[Any], one_buffer: bool
) -> None:
    made = coded(rows, many=2)
    assert isinstance(made.values, Texts) == one_buffer and made.once != one_buffer
    assert made.at(slice(0, len(rows))) == rows
    more = coded(rows, ["z", None, "a"], (["q", "r"], np.array([1, 1, 0], np.int32)), many=2)
    every = [*rows, "z", None, "a", "r", "r", "q"]
    assert more.at(slice(0, len(every))) == every
    numbers = more.numbers()
    assert ((numbers == -1) == [value is None for value in every]).all()
    assert (numbers[:, None] == numbers).tolist() == [[a == b for b in every] for a in every]
    assert more.apply(repr).at(np.array([0, len(every) - 1], np.int32)) == [repr(every[0]), "'q'"]


# ------------------------------------------------------------------------------- clips


FACTS = [
    ("a", "/1", 0.0, 1.0, "g", "s", {"k": "x"}, "hi"),
    ("b", "/1", 1.0, 2.5, "g", None, {}, None),
    ("c", "/2", 0.0, 4.0, "h", "t", {"k": "y", "m": ""}, ""),
    ("d", "/3", 2.0, 3.0, "h", "s", {"k": "x"}, "hi"),
    ("e", "/2", 4.0, 5.0, "i", None, {}, "ho"),
]
LISTED = [Clip(i, p, a, b, g, s, (), labels, text) for i, p, a, b, g, s, labels, text in FACTS]


def table(rows: list[tuple[Any, ...]] = FACTS) -> Clips:
    builder = ClipsBuilder()
    builder.add(*(list(column) for column in zip(*rows, strict=True)))
    return builder.clips()


@pytest.mark.parametrize("piece", [1, 2, 1 << 13])
def test_columns_are_a_sequence_of_clips(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(clips, "_PIECE", piece)
    made = table()
    assert list(made) == LISTED and [made[i] for i in (0, 4, -1, -5)] == [
        LISTED[i] for i in (0, 4, -1, -5)
    ]
    for place in (5, -6):
        with pytest.raises(IndexError):
            made[place]
    part = made[1:4][::2]
    assert list(part) == [LISTED[1], LISTED[3]] and part.rows.tolist() == [1, 3]
    assert part.rows.dtype == np.int32 and made.rows.tolist() == [0, 1, 2, 3, 4]
    assert part[1] == LISTED[3] and part[1:] == LISTED[3:4] and repr(part) == "<2 clips in columns>"
    assert part.starts.tolist() == [1.0, 2.0] and part.ends.tolist() == [2.5, 3.0]
    assert made.ends.tolist() == [1.0, 2.5, 4.0, 3.0, 5.0]
    assert [len(part.table.ids.at(rows)) for rows in made.pieces()] == {
        1: [1] * 5,
        2: [2, 2, 1],
    }.get(piece, [5])
    assert made == LISTED and made != LISTED[:4] and made != [*LISTED[:4], LISTED[0]] and made != 3
    assert made.take(np.array([False, True, False, False, True])) == [LISTED[1], LISTED[4]]
    assert made.take(np.array([4, 0])).take(np.array([1, 1, 0])) == [LISTED[i] for i in (0, 0, 4)]
    assert part.numbers("speaker").tolist() == [-1, 0] and part.numbers("voice") is None  # type: ignore[union-attr]


def test_columns_without_speakers_labels_or_texts() -> None:
    builder = ClipsBuilder()
    codes = np.array([0, 0, 1], np.int32)
    builder.add(["a", "b", "c"], Repeated(["/1", "/2"], codes), [0, 1, 0], [1, 2, 9], ["g"] * 3)
    made = builder.clips()
    assert list(made) == [Clip(i, p, a, b, "g") for i, p, a, b in
                          (("a", "/1", 0, 1), ("b", "/1", 1, 2), ("c", "/2", 0, 9))]  # fmt: skip
    assert made[0].labels is made[2].labels and made.starts.dtype == np.float64
    assert list(ClipsBuilder().clips()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ids": ["a", None]}, "TypeError ids are texts"),
        ({"starts": [0]}, "ValueError 1 times for 2 ids"),
        ({"ends": [0, 1, 2]}, "ValueError 3 times for 2 ids"),
        ({"paths": ["a"]}, "ValueError paths: 1 for 2 ids"),
        ({"paths": Repeated(["a"], np.zeros(3, np.int32))}, "ValueError paths: 3 for 2 ids"),
        ({"paths": ["a", None]}, "TypeError paths: NoneType"),
        ({"groups": ["a", 1]}, "TypeError groups: int"),
        ({"speakers": ["a", b""]}, "TypeError speakers: bytes"),
        ({"texts": Repeated([1], np.zeros(2, np.int32))}, "TypeError texts: int"),
        ({"labels": [{}, None]}, "TypeError labels: NoneType"),
        ({"labels": [{"a": 1}, {}]}, "TypeError labels are texts by name"),
        ({"labels": [{1: "a"}, {}]}, "TypeError labels are texts by name"),
    ],
)
def test_columns_that_can_t_be(change: dict[str, Any], told: str) -> None:
    fine = {"ids": ["a", "b"], "paths": ["/a", "/b"], "starts": [0, 1], "ends": [1, 2]}
    with pytest.raises((TypeError, ValueError)) as caught:
        ClipsBuilder().add(**{**fine, "groups": ["g", "h"], **change})
    assert f"{type(caught.value).__name__} {caught.value}" == told


# ------------------------------------------------------------------------------- questions


def test_answers_are_the_same_from_columns_and_from_a_list() -> None:
    for given in (table(), LISTED):
        assert ask.paths_of(given) == ["/1", "/2", "/3"]
        assert (
            ask.durations(given).tolist() == [1.0, 1.5, 4.0, 1.0, 1.0] and ask.total(given) == 8.5
        )
        counts = {
            kind: ask.count_of(given, kind) for kind in ("recording", "group", "speaker", "voice")
        }
        assert counts == {"recording": 3, "group": 3, "speaker": 2, "voice": 0}
        assert list(ask.ids(given)) == list("abcde")
        late = {"/1": 2.0, "/2": 4.0, "/3": 2.5}
        kept = [c.id for c in ask.after(given, late.__getitem__, 0.5)]
        assert kept == (["e"] if given is not LISTED else list("abcde"))
        assert [c.id for c in ask.without_files(given, {"/2": 0})] == ["a", "b", "d"]
        assert ask.without_files(given, {}) is given
        assert ask.picked(given, np.array([1, 0, 0, 0, 1], bool)) == [LISTED[0], LISTED[4]]
        assert ask.those(given, lambda c: c.speaker == "s") == [LISTED[0], LISTED[3]]
        told: dict[str, int] = {}
        for labels, times in ask.labelled(given):
            told[str(dict(labels))] = told.get(str(dict(labels)), 0) + times
        assert told == {"{'k': 'x'}": 2, "{}": 2, "{'k': 'y', 'm': ''}": 1}
    made = table()
    assert ask.those(made, lambda c: True) is made and ask.listed(made) is made
    assert ask.listed(iter(LISTED)) == LISTED
    # Either limit: what begins at the end of its file, and what ends more than the tolerance on.
    assert [c.id for c in ask.after(made, lambda p: 2.0, 0.5)] == ["c", "d", "e"]
    assert [c.id for c in ask.after(made, lambda p: 2.0, 3.0)] == ["d", "e"]


def test_parts_of_one_table_or_of_none() -> None:
    made, other = table(), table()
    one, two = made[:2], made[3:]
    assert ask.table_of([one, two]) is made.table and ask.table_of([one, []]) is made.table
    assert ask.table_of([one, other]) is None and ask.table_of([]) is None
    assert ask.table_of([one, LISTED[:1]]) is None and ask.table_of([LISTED]) is None
    assert ask.joined([one, [], two]).rows.tolist() == [0, 1, 3, 4]  # type: ignore[union-attr]
    assert ask.joined([one, []]) is one and ask.joined([]) == []
    assert ask.joined([one, LISTED[4:]]) == [*LISTED[:2], LISTED[4]]
    assert ask.joined([one, other[:1]]) == [LISTED[0], LISTED[1], LISTED[0]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("recording", ["c", "e"]), ("clip", []), ("group", ["c", "d"]), ("speaker", ["a", "d"]),
     ("voice", [])],
)  # fmt: skip
def test_what_may_stand_in_two_parts(kind: str, expected: list[str]) -> None:
    made = table()
    parts = ask.in_two({"x": made[:3], "y": made[3:]}, kind)
    assert sorted(c.id for part in parts.values() for c in part) == expected
    assert list(parts) == ["x", "y"]
    given = {"x": LISTED}
    assert ask.in_two(given, kind) is given and ask.repeated(given) is given
    assert ask.in_two({"x": made[:0]}, kind) == {"x": []}


def test_ids_that_stand_twice() -> None:
    again = table([*FACTS, FACTS[1]])
    parts = ask.repeated({"x": again[:3], "y": again[3:]})
    assert {name: [c.id for c in part] for name, part in parts.items()} == {"x": ["b"], "y": ["b"]}
    alone = ask.repeated({"x": again[:3], "y": again[3:5]})
    assert not any(len(part) for part in alone.values())


def test_clips_are_linked_by_what_they_share() -> None:
    """a-b by group and file, c-d by group, a-d by speaker, c-e by file: one chain."""
    assert len(set(ask.linked(table()).tolist())) == 1
    rows = [row for row in FACTS if row[0] in "ace"]
    of = ask.linked(table(rows)).tolist()
    assert of[1] == of[2] != of[0]
    apart = [("a", "/1", 0, 1, "g", None, {}, None), ("b", "/2", 0, 1, "h", None, {}, None),
             ("c", "/3", 0, 1, "i", "s", {}, None),
             ("b", "/4", 0, 1, "j", "s", {}, None)]  # fmt: skip
    of = ask.linked(table(apart)).tolist()
    assert of[1] == of[3] == of[2] != of[0]  # by id, and by speaker
    assert ask.linked(table(apart)[:0]).tolist() == []
