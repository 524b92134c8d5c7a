"""Splits: what leaks is refused and named; what is made leaks nothing, whatever the corpus."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bab.core.errors import CorpusError, LeakageError
from bab.core.types import Clip
from bab.data import splits


def clip(name: str, seconds: float = 1.0, **facts) -> Clip:
    facts = {"path": f"/x/{name}.wav", "group": f"g-{name}"} | facts
    return Clip(id=name, start=0.0, end=seconds, **facts)


@pytest.mark.parametrize(
    ("facts", "kind", "name"),
    [
        ({"path": "/x/same.wav"}, "recording", "/x/same.wav"),
        ({"group": "family7"}, "group", "family7"),
        ({"speaker": "id1"}, "speaker", "id1"),
        ({"voices": ("aunt", "zoe")}, "voice", "aunt"),
    ],
)
def test_leakage_names_what_is_shared(facts, kind, name):
    parts = {"train": [clip("a"), clip("b", **facts)], "test": [clip("c", **facts)]}
    with pytest.raises(LeakageError) as caught:
        splits.check_disjoint(parts)
    for word in (kind, f"'{name}'", "'train'", "'test'", "'b'", "'c'"):
        assert word in str(caught.value)


def test_same_id_in_two_splits_leaks():
    with pytest.raises(LeakageError, match="clip 'a'"):
        splits.check_disjoint({"dev": [clip("a")], "test": [clip("a", path="/y/a", group="other")]})


def test_all_that_is_shared_is_told_once_whichever_split_is_largest():
    a, b, c = (clip(n, speaker=s) for n, s in (("a", "ann"), ("b", "ann"), ("c", "bob")))
    d, e = clip("d", speaker="ann"), clip("e", group="g-c")
    parts = {"train": [a, c], "dev": [b], "test": [d, e, clip("f"), clip("g")]}
    wanted = {
        ("speaker", "ann", "train", "dev"),
        ("speaker", "ann", "train", "test"),
        ("group", "g-c", "train", "test"),
    }
    assert sorted(splits.shared(parts)) == sorted(wanted)
    small = {**parts, "test": [d, e]}  # now nothing is larger than train
    assert {one[:2] for one in splits.shared(small)} == {one[:2] for one in wanted}
    assert set(splits.shared(parts, ["group"])) == {("group", "g-c", "train", "test")}


def test_sharing_within_a_split_is_no_leak():
    same = {"group": "g", "path": "/p", "voices": ("v",)}
    splits.check_disjoint({"train": [clip("a", **same), clip("b", **same)], "test": [clip("c")]})


def brute_components(clips: list[Clip]) -> set[frozenset[str]]:
    """Independent reference: grow each set of clips until nothing more touches it."""
    facts = {c.id: {c.path, c.group, c.speaker, *c.voices} - {None} for c in clips}
    found = set()
    for one in facts:
        reached = {one}
        while True:
            touched = set().union(*(facts[c] for c in reached))
            more = {c for c in facts if facts[c] & touched}
            if more == reached:
                break
            reached = more
        found.add(frozenset(reached))
    return found


@st.composite
def corpora(draw, smallest=1):
    count = draw(st.integers(smallest, 14))
    name = st.integers(0, 12).map(str)
    return [
        clip(
            f"c{i}",
            draw(st.floats(0.1, 100)),
            group="group" + draw(name),
            speaker=draw(st.none() | name.map("speaker{}".format)),
            voices=tuple(draw(st.lists(name.map("voice{}".format), max_size=2))),
        )
        for i in range(count)
    ]


@settings(max_examples=60, deadline=None)
@given(corpora())
def test_components_are_the_closure_of_sharing(clips):
    parts = splits.components(clips)
    assert {frozenset(c.id for c in part) for part in parts} == brute_components(clips)
    assert sum(map(len, parts)) == len(clips)


@settings(max_examples=60, deadline=None)
@given(corpora(), st.integers(0, 3))
def test_by_group_covers_and_never_leaks(clips, seed):
    if len(brute_components(clips)) < 3:
        with pytest.raises(CorpusError, match="independent parts"):
            splits.by_group(clips, seed=seed)
        return
    parts = splits.by_group(clips, seed=seed)
    splits.check_disjoint(parts)
    assert list(parts) == ["train", "dev", "test"] and all(parts.values())
    assert sorted(c.id for part in parts.values() for c in part) == sorted(c.id for c in clips)
    for part in parts.values():
        assert part == [c for c in clips if c in part]  # the corpus's order
    shuffled = random.Random(1).sample(clips, len(clips))
    again = splits.by_group(shuffled, seed=seed)
    assert {k: {c.id for c in v} for k, v in again.items()} == {
        k: {c.id for c in v} for k, v in parts.items()
    }


def test_by_group_keeps_to_the_shares():
    draw = random.Random(3)
    clips = [clip(f"c{i}", draw.uniform(1, 50), group=f"g{i // 3}") for i in range(300)]
    total = sum(c.duration for c in clips)
    parts = splits.by_group(clips, {"train": 3, "dev": 1, "test": 1})
    for name, share in {"train": 0.6, "dev": 0.2, "test": 0.2}.items():
        assert sum(c.duration for c in parts[name]) / total == pytest.approx(share, abs=0.01)
    other = splits.by_group(clips, {"train": 3, "dev": 1, "test": 1}, seed=1)
    assert other["test"] != parts["test"]


def test_by_group_is_the_same_for_ever():
    """Pinned: a split that drifts with a release would make old figures incomparable."""
    parts = splits.by_group([clip(f"c{i}") for i in range(10)])
    assert {name: [c.id for c in part] for name, part in parts.items()} == PINNED


PINNED = {
    "train": ["c0", "c1", "c2", "c4", "c6", "c9"],
    "dev": ["c3", "c7"],
    "test": ["c5", "c8"],
}


@pytest.mark.parametrize("shares", [{}, {"a": 0.5, "b": 0.0}, {"a": -1.0}, {"a": float("nan")}])
def test_by_group_refuses_impossible_shares(shares):
    with pytest.raises(CorpusError, match="positive"):
        splits.by_group([clip("a"), clip("b")], shares)


@settings(max_examples=60, deadline=None)
@given(corpora(smallest=6), st.integers(3, 5))
def test_kfold_tests_every_clip_once(clips, folds):
    if len(brute_components(clips)) < folds:
        with pytest.raises(CorpusError, match=f"{folds} folds"):
            splits.kfold(clips, folds)
        return
    rounds = splits.kfold(clips, folds)
    assert len(rounds) == folds
    check_rounds(rounds, clips)


def check_rounds(rounds, clips):
    assert sorted(c.id for r in rounds for c in r.test) == sorted(c.id for c in clips)
    for this, after in itertools.pairwise([*rounds, rounds[0]]):
        splits.check_disjoint({"train": this.train, "dev": this.dev, "test": this.test})
        assert list(this.dev) == list(after.test)
        assert this.train and len(this.train) + len(this.dev) + len(this.test) == len(clips)


def test_kfold_is_balanced_by_duration():
    draw = random.Random(0)
    clips = [clip(f"c{i}", draw.uniform(10, 60)) for i in range(120)]
    seconds = [sum(c.duration for c in r.test) for r in splits.kfold(clips, 6)]
    assert max(seconds) / min(seconds) < 1.05


@pytest.mark.parametrize("folds", [0, 1, 2])
def test_kfold_needs_three(folds):
    with pytest.raises(CorpusError, match="3 or more"):
        splits.kfold([clip(f"c{i}") for i in range(9)], folds)


def test_leave_one_group_out():
    clips = [clip(f"c{i}", group=f"g{i % 4}") for i in range(10)]
    rounds = splits.leave_one_group_out(clips)
    assert [{c.group for c in r.test} for r in rounds] == [{"g0"}, {"g1"}, {"g2"}, {"g3"}]
    check_rounds(rounds, clips)
    with pytest.raises(CorpusError, match="2 independent parts"):
        splits.leave_one_group_out(clips[:2])


def test_a_long_chain_of_shared_voices_is_one_component():
    clips = [clip(f"c{i}", voices=(f"v{i}", f"v{i + 1}")) for i in range(20000)]
    assert len(splits.components(clips)) == 1
