"""Clips in columns say what the same clips in a list say: checks, splits, digests, reports."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bab.checking.clips import check_clips, checked_clips, refuse_same_ids, same_ids
from bab.columns import ask
from bab.columns.texts import CodedBuilder, Texts, TextsBuilder
from bab.core.errors import BabError
from bab.core.interfaces import Corpus
from bab.core.types import Clip
from bab.data import splits
from bab.data.check import summarise
from bab.data.content import corpus_digest, same_audio
from bab.kit import Clips, ClipsBuilder, Repeated

NAMES = ("train", "dev", "test")


def columns(clips: list[Clip], pieces: int = 3) -> Clips:
    """The same clips in columns, handed over in pieces."""
    builder = ClipsBuilder()
    for piece in np.array_split(np.arange(len(clips)), pieces):
        part = [clips[i] for i in piece]
        names = [c.path for c in part]
        values = sorted(set(names))
        builder.add(
            [c.id for c in part],
            Repeated(values, np.array([values.index(name) for name in names], np.int32)),
            [c.start for c in part],
            [c.end for c in part],
            [c.group for c in part],
            [c.speaker for c in part],
            [dict(c.labels) for c in part],
            [c.text for c in part],
        )
    return builder.clips()


def few(*names: str) -> st.SearchStrategy[str]:
    return st.sampled_from(names)


@st.composite
def corpora(draw, broken: bool = False) -> list[Clip]:
    """Small corpora whose names meet often; broken: with ids twice, too."""
    count = draw(st.integers(0, 14))
    ids = draw(
        st.lists(
            st.text("ab\u00e9\u0915'\"\\ ", min_size=1, max_size=3 if broken else 5),
            min_size=count,
            max_size=count,
            unique=not broken,
        )
    )
    times = st.floats(0, 100, allow_subnormal=False)
    clips = []
    for name in ids:
        start, length = draw(times), draw(times)
        clips.append(
            Clip(
                name,
                draw(few(*(f"/x/{letter}.wav" for letter in "abcdefgh"))),
                start,
                start + length,
                draw(few(*"ghijklmn")),
                draw(st.none() | few("s", "t", "u", "v")),
                (),
                draw(st.dictionaries(few("cry", "mood"), few("x", "y"))),
                draw(st.none() | st.text("ab\u0915'\n", max_size=3)),
            )
        )
    return clips


def told(call) -> object:
    """What a call gives, or what it raises."""
    try:
        return call()
    except BabError as error:
        return type(error), str(error)


def parted(clips: list[Clip], table: Clips, where: list[int]) -> list[dict]:
    """Both, dealt to three splits."""
    places = np.array([where[i % len(where)] for i in range(len(clips))])
    return [
        {n: [c for c, w in zip(clips, places, strict=True) if w == i] for i, n in enumerate(NAMES)},
        {n: table.take(places == i) for i, n in enumerate(NAMES)},
    ]


@settings(max_examples=40, deadline=None)
@given(corpora(), st.lists(st.integers(0, 2), min_size=1, max_size=5), st.integers(0, 3))
def test_columns_say_what_a_list_says(clips, where, seed):
    table = columns(clips)
    assert table == clips and list(table) == clips and clips == list(reversed(table))[::-1]
    assert len(table) == len(clips) and table[1:4] == clips[1:4] and table[::-2] == clips[::-2]
    assert [table[i] for i in range(-len(clips), len(clips))] == clips + clips
    one, two = parted(clips, table, where)
    assert {name: list(part) for name, part in two.items()} == one
    kinds = tuple(splits.KINDS)
    assert list(splits.shared(two)) == list(splits.shared(one))
    for kind in kinds:
        assert list(splits.shared(two, [kind])) == list(splits.shared(one, [kind]))
    assert told(lambda: splits.check_disjoint(two)) == told(lambda: splits.check_disjoint(one))
    assert ask.joined(list(two.values())) == ask.joined(list(one.values()))
    assert splits.components(table) == splits.components(clips)
    assert told(lambda: splits.by_group(table, seed=seed)) == told(
        lambda: splits.by_group(clips, seed=seed)
    )
    for make in (splits.kfold, splits.clip_kfold):
        assert told(partial(make, table, 3, seed)) == told(partial(make, clips, 3, seed))
    assert told(lambda: splits.leave_one_group_out(table)) == told(
        lambda: splits.leave_one_group_out(clips)
    )
    assert splits.split_off(table, 3) == splits.split_off(clips, 3)
    assert splits.ungrouped(table) == splits.ungrouped(clips)
    assert ask.paths_of(table) == ask.paths_of(clips)
    content = {path: path[-5] * 32 for path in ask.paths_of(clips)}
    content |= dict.fromkeys(["/x/a.wav", "/x/b.wav"], "c" * 32)
    assert list(same_audio(two, content)) == list(same_audio(one, content))
    folds = [[splits.Fold(**one)], [splits.Fold(**two)]]
    assert corpus_digest(table, folds[1], {}, content) == corpus_digest(
        clips, folds[0], {}, content
    )
    for part, other in ((table, clips), (two["dev"], one["dev"])):
        assert summarise(part) == summarise(other)
    wanted = ask.those(table, lambda clip: clip.speaker is None)
    assert wanted == [clip for clip in clips if clip.speaker is None]
    for path in ("/x/a.wav", "/y"):
        assert ask.without_files(table, {path: ""}) == [c for c in clips if c.path != path]
    late = [c for c in clips if c.start >= 40 or c.end > 40.5]
    assert ask.after(table, lambda path: 40.0, 0.5) == late


@settings(max_examples=40, deadline=None)
@given(corpora(broken=True), st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_what_is_broken_is_told_alike(clips, where):
    one, two = parted(clips, columns(clips), where)
    assert list(same_ids(two)) == list(same_ids(one))
    corpus = Corpus(Path("/x"), None)
    assert told(lambda: refuse_same_ids(corpus, two)) == told(lambda: refuse_same_ids(corpus, one))
    assert list(splits.shared(two)) == list(splits.shared(one))


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": float("nan")},
        {"end": float("inf")},
        {"start": -1.0},
        {"start": 2.0, "end": 1.0},
        {"id": ""},
        {"path": ""},
        {"group": ""},
    ],
)
def test_a_wrong_clip_is_told_of_alike(wrong):
    fine = {"id": "a", "path": "/a", "start": 0.0, "end": 1.0, "group": "g"}
    clips = [Clip(**fine), Clip(**{**fine, "id": "b", **wrong}), Clip(**{**fine, "id": "c"})]
    corpus = Corpus(Path("/x"), None)
    said = told(lambda: list(check_clips(corpus, clips)))
    assert (isinstance(said, tuple) and "a clip" in said[1]) or "clip 'b'" in said[1]
    assert told(lambda: checked_clips(corpus, columns(clips))) == said
    assert checked_clips(corpus, columns(clips[::2])) == clips[::2]


def alike(values: list) -> list[list[bool]]:
    return [[one == other for other in values] for one in values]


def test_texts_that_hash_alike_are_told_apart(monkeypatch):
    names = ["x", "y", "z", "y", "x", "w", "y"]
    builder = TextsBuilder()
    builder.add(names)
    texts = builder.done()
    for collide in (lambda _: 7, len, hash):
        monkeypatch.setattr("bab.columns.texts.hash", collide, raising=False)
        numbers = texts.numbers().tolist()
        assert [[a == b for b in numbers] for a in numbers] == [
            [a == b for b in names] for a in names
        ]


def test_names_that_hardly_repeat_go_to_one_buffer():
    values = [None, "a", "b", "a", None, *map(str, range(50)), "a", "7", None]
    builder = CodedBuilder(many=20)
    for first in range(0, len(values), 6):
        builder.add(values[first : first + 6])
    builder.add(["a", "q"], np.array([1, 0, 0], np.int32))
    values += ["q", "a", "a"]
    column = builder.done()
    assert isinstance(column.values, Texts) and not column.once
    every = slice(0, len(values))
    assert column.at(every) == values
    assert column.apply(str).at(every) == list(map(str, values))
    numbers = column.numbers().tolist()
    assert [[a == b for b in numbers] for a in numbers] == [
        [a == b for b in values] for a in values
    ]
    assert not column.some_empty


def test_paths_that_are_no_utf8_come_back(tmp_path):
    name = "/x/\udcff.wav"
    clip = Clip("\udcfe", name, 0.0, 1.0, "g")
    table = columns([clip, Clip("b", name, 0.0, 1.0, "g")])
    assert table[0] == clip and ask.paths_of(table) == [name]


def test_columns_can_be_copied_and_sent():
    table = columns([Clip(str(i), "/a", 0.0, float(i), "g") for i in range(9)])
    part = table.take(np.arange(9) % 2 == 0)
    for other in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part)):
        assert other == part


def test_two_tables_are_as_good_as_lists():
    one = [Clip("a", "/a", 0.0, 1.0, "g", "s"), Clip("b", "/b", 0.0, 1.0, "h", "s")]
    two = [Clip("a", "/c", 0.0, 2.0, "h", "t")]
    lists, tables = {"train": one, "test": two}, {"train": columns(one), "test": columns(two)}
    assert list(splits.shared(tables)) == list(splits.shared(lists)) != []
    assert list(same_ids(tables)) == list(same_ids(lists)) != []
    assert ask.joined(list(tables.values())) == one + two
    mixed = {"train": columns(one), "test": two}
    assert list(splits.shared(mixed)) == list(splits.shared(lists))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"paths": ["/a"]}, ValueError),
        ({"starts": [0.0]}, ValueError),
        ({"ids": ["a", 1]}, TypeError),
        ({"groups": ["g", None]}, TypeError),
        ({"labels": [{"a": 1}, {}]}, TypeError),
        ({"labels": ["a", "b"]}, TypeError),
        ({"texts": [b"", None]}, TypeError),
    ],
)
def test_what_no_column_can_be(change, kind):
    fine = {"ids": ["a", "b"], "paths": ["/a", "/b"], "starts": [0, 1], "ends": [1, 2]}
    with pytest.raises(kind):
        ClipsBuilder().add(**{**fine, "groups": ["g", "h"], **change})
