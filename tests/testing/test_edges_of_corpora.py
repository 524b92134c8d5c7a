"""Where a corpus's suite says yes and where no: the last that passes and the first that fails, with
what is told of it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest
from good_parts import GoodCorpus, make_corpus

import bab
from bab import Segment, Trial
from bab.testing import corpora


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def made(root: Path, **members: Any) -> Any:
    return type("It", (GoodCorpus,), {"__doc__": "x", **members})(root, GoodCorpus.Options())


def clips(root: Path, **changes: Any) -> Any:
    """Every clip changed alike; a callable is asked for its value."""

    def clip(self: Any, row: Any) -> Any:
        one = GoodCorpus.clip(self, row)
        return replace(one, **{k: v(one) if callable(v) else v for k, v in changes.items()})

    return made(root, clip=clip)


def said(check: Any, corpus: Any) -> str:
    """What a check says; "" where it passes, or has nothing to say."""
    try:
        return check(corpus) or ""
    except AssertionError as error:
        return str(error)


def word(start: float, end: float, label: str = "word") -> Segment:
    return Segment(start, end, label)


@pytest.mark.parametrize(
    ("check", "changes", "told"),
    [
        ("times", {"end": 2.0009}, ""),
        ("times", {"end": 2.0011}, "clip00: ends at 2.0011 s, its file at 2.0"),
        ("times", {"start": -0.1}, "clip00: runs from -0.1 to 2.0 s"),
        ("times", {"start": 2.0}, "clip00: runs from 2.0 to 2.0 s"),
        ("times", {"scored": None}, ""),
        ("times", {"scored": ()}, "clip00: nothing of it is scored; None means all of it"),
        ("times", {"scored": ((-0.0009, 2.0009),)}, ""),
        ("times", {"scored": ((-0.0011, 2.0),)}, "clip00: scored from -0.0011 to 2.0 s"),
        ("times", {"scored": ((0.0, 2.0011),)}, "clip00: scored from 0.0 to 2.0011 s"),
        ("times", {"scored": ((1.0, 1.0),)}, "clip00: scored from 1.0 to 1.0 s"),
        ("times", {"scored": ((0.0, 1.0), (1.0, 2.0))}, ""),
        ("times", {"scored": ((0.0, 1.0), (0.9, 2.0))}, "clip00: scored spans overlap at 0.9 s"),
        ("times", {"path": "a.wav"}, "clip00: no absolute path: a.wav"),
        ("segments", {"segments": (word(-0.0009, 2.0009),)}, ""),
        ("segments", {"segments": (word(-0.0011, 1.0),)}, " is outside of the clip"),
        ("segments", {"segments": (word(1.0, 2.0011),)}, " is outside of the clip"),
        ("segments", {"segments": (word(1.0, 1.0),)}, " has no length"),
        ("segments", {"segments": (word(0.0, 1.0, ""),)}, " has no label"),
        ("segments", {"segments": (word(0.0, 1.0, 3),)}, " has no label"),  # type: ignore[arg-type]
        ("segments", {"segments": ((0.0, 1.0, "a"),)}, " is no bab.Segment"),
        ("segments", {"segments": [word(0.0, 1.0)]}, "clip00: segments is no tuple"),
        ("segments", {"segments": (word(0.5, 1.0), word(0.5, 0.6))}, ""),
        ("segments", {"segments": (word(0.5, 1.0), word(0.4, 0.6))},
         "clip00: segments not sorted at 0.4 s"),
        ("ids", {"id": lambda one: ""}, "an empty id, or no text: ''"),
        ("ids", {"id": lambda one: 3}, "an empty id, or no text: 3"),
        ("ids", {"id": lambda one: one.id + "\n"}, "'clip00\\n': an id is one line of printable t"),
        ("ids", {"id": lambda one: "a"}, "a: two clips have this id"),
        ("ids", {"group": lambda one: ""}, "clip00: group ''"),
        ("ids", {"group": lambda one: 3}, "clip00: group 3"),
        ("types", {"speaker": None, "text": None, "voices": (), "labels": {}}, ""),
        ("types", {"speaker": lambda one: 3}, "clip00: speaker 3 is no text"),
        ("types", {"speaker": lambda one: ""}, "clip00: speaker is '', which must be None"),
        ("types", {"text": lambda one: 3}, "clip00: text 3 is no text"),
        ("types", {"path": lambda one: Path(one.path)}, "clip00: path is a PosixPath, no str"),
        ("types", {"labels": ("a",)}, "clip00: labels ('a',) are no dict"),
        ("types", {"labels": {"mood": 1}}, "clip00: label 'mood': 1 is not text: write '1'"),
        ("types", {"labels": {1: "a"}}, "clip00: label 1: 'a' is not text: write 'a'"),
        ("types", {"voices": ["a"]}, "clip00: voices ['a'] is no tuple"),
        ("types", {"voices": ("a", "", 3)}, "clip00: voices ['', 3] are no names"),
        ("types", {"end": float("nan")}, "clip00: time nan is no finite number"),
        ("types", {"start": "0"}, "clip00: time '0' is no finite number"),
        ("types", {"end": 2}, ""),
        ("types", {"began": datetime(2020, 1, 1, tzinfo=UTC)}, ""),
        ("types", {"began": time(9)}, ""),
        ("types", {"began": "9:00"}, "clip00: began '9:00'"),
        ("provides", {"text": None}, "clips without text: ['clip00', 'clip01', 'clip02']"),
        ("provides", {"speaker": None}, "clips without speaker: ['clip00', 'clip01', 'clip02']"),
        ("provides", {"segments": ()}, "no clip has segments"),
        ("provides", {"labels": {}}, "no clip has a label 'mood'"),
    ],
)  # fmt: skip
def test_the_edge_of_each_rule_on_clips(
    root: Path, check: str, changes: dict[str, Any], told: str
) -> None:
    got = said(getattr(corpora, f"check_{check}"), clips(root, **changes))
    assert (got == "") if not told else (got.endswith(told) or got.startswith(told)), got


@pytest.mark.parametrize(
    ("check", "members", "told"),
    [
        ("ids", {"clips": lambda self, split=None: []}, "clips() gives no clip"),
        ("ids", {"clips": lambda self, split=None: ["a"]}, "clips() gives 'a', no bab.Clip"),
        ("splits", {"splits": lambda self: ["train"]}, "splits ['train']"),
        ("splits", {"splits": lambda self: (1,)}, "splits (1,)"),
        ("provides", {"provides": {"mood"}}, "provides {'mood'} is no frozenset"),
        ("provides", {"provides": frozenset({"mood"})}, "`provides` does not name 'segments'"),
        ("described", {"version": ""}, "version is '', no text"),
        ("described", {"version": 3}, "version is 3, no text"),
        ("described", {"unit": ""}, "unit is '', no text"),
        ("described", {"unit": None}, "unit is None, no text"),
        ("trials", {"trials": lambda self, split: []}, "it has no trials"),
        ("trials", {"trials": lambda self, split: [("a", "b", True)]}, " is no bab.Trial"),
        ("splits", {}, ""), ("stable", {}, ""), ("trials", {}, ""), ("empty", {}, ""),
        ("described", {}, ""), ("provides", {}, ""), ("ids", {}, ""),
    ],
)  # fmt: skip
def test_the_edge_of_each_rule_on_a_corpus(
    root: Path, check: str, members: dict[str, Any], told: str
) -> None:
    got = said(getattr(corpora, f"check_{check}"), made(root, **members))
    assert (got == "") if not told else (got.endswith(told) or got.startswith(told)), got


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda one: replace_trial(one, same=1), r"same is 1, no truth value$"),
        (lambda one: replace_trial(one, test="x"), r"a trial names 'x', which is not in it$"),
        (lambda one: replace_trial(one, enrol="x"), r"a trial names 'x', which is not in it$"),
        (lambda one: replace_trial(one, test=one.enrol), r" compares a clip with itself$"),
        (lambda one: replace_trial(one, same=not one.same), r": the speakers are s\d and s\d$"),
    ],
)
def test_the_edge_of_each_rule_on_trials(root: Path, change: Any, told: str) -> None:
    def trials(self: Any, split: str) -> Any:
        one, *rest = GoodCorpus.trials(self, split)
        return [change(one), *rest]

    assert re.search(told, said(corpora.check_trials, made(root, trials=trials)))


def replace_trial(one: Trial, **changes: Any) -> Trial:
    return Trial(**{"enrol": one.enrol, "test": one.test, "same": one.same, **changes})


def test_trials_of_one_kind_or_twice_the_same(root: Path) -> None:
    def of(keep: Any) -> Any:
        return made(root, trials=lambda self, split: keep(GoodCorpus.trials(self, split)))

    same = said(corpora.check_trials, of(lambda all_: [one for one in all_ if one.same]))
    assert same == "split 'train': all trials say same={True}: no error rate"
    twice = said(corpora.check_trials, of(lambda all_: [*all_, all_[0]]))
    assert twice == "split 'train': a trial stands twice"
    unknown = clips(root, speaker=None)
    unknown.trials = lambda split: []
    assert said(corpora.check_trials, unknown) == "it has no trials"


def test_notices_are_text(root: Path) -> None:
    one = made(root)
    one.notices = ("a", 3)
    assert said(corpora.check_described, one) == "notices that are no text: [3]"


def test_splits_that_are_empty_foreign_or_taken_whatever_they_are_called(root: Path) -> None:
    def of(split: str, change: Any) -> Any:
        def given(self: Any, name: str | None = None) -> Any:
            one = GoodCorpus.clips(self, name)
            return change(one) if name == split else one

        return made(root, clips=given)

    check = corpora.check_splits
    assert said(check, of("dev", lambda one: [])) == "split 'dev' is empty"
    other = of("dev", lambda one: [replace(one[0], text="x"), *one[1:]])
    assert said(check, other) == "split 'dev': clip06 is not in clips()"
    assert said(check, of("dev", lambda one: [*one, one[0]])) == "clip06: two clips have this id"

    def free(self: Any, split: str | None = None) -> Any:
        known = split in (None, "train", "dev", "test")
        return GoodCorpus.clips(self, split if known else "dev")

    assert said(check, made(root, clips=free)) == (
        "clips('no-such-split') gives 6 clips: raise bab.CorpusError"
    )


def test_what_is_not_the_same_a_second_time(root: Path) -> None:
    def turning(part: str, wanted: tuple[str, ...]) -> Any:
        count = [0]

        def given(self: Any, *names: Any) -> Any:
            one = list(getattr(GoodCorpus, part)(self, *names))
            count[0] += 1
            turn = names == wanted and count[0] % 2
            return one[::-1] if turn else one

        return made(root, **{part: given})

    for part, wanted, told in (
        ("clips", (), "clips() is not stable"),
        ("clips", ("train",), "'train' is not stable"),
        ("trials", ("train",), "the trials of 'train' are not stable"),
    ):
        assert said(corpora.check_stable, turning(part, wanted)) == told


def test_an_empty_folder_is_an_error_that_names_it(root: Path, tmp_path: Path) -> None:
    def raising(text: str) -> Any:
        def init(self: Any, place: Any, options: Any, permissions: Any = None) -> None:
            if Path(place) != root:
                raise bab.CorpusError(text.format(place=place))
            GoodCorpus.__init__(self, place, options)

        return made(root, __init__=init)

    assert said(corpora.check_empty, raising("{place}: empty")) == ""
    got = said(corpora.check_empty, raising("it is empty"))
    assert got == "the error doesn't name the folder: it is empty"
    file = made(root)
    file.root = root / "rows.json"
    assert said(corpora.check_empty, file) == "its root is no folder"


def test_a_corpus_may_read_its_clips_when_it_is_asked_for_them(root: Path) -> None:
    def init(self: Any, place: Any, options: Any, permissions: Any = bab.Permissions()) -> None:
        bab.Corpus.__init__(self, Path(place), options, permissions)

    def lazily(part: str) -> Any:
        def given(self: Any, *names: Any) -> Any:
            yield from getattr(GoodCorpus(self.root, self.options), part)(*names)

        return given

    one = made(root, __init__=init, clips=lazily("clips"), trials=lazily("trials"))
    assert [said(check, one) for check in corpora.CHECKS] == [""] * len(corpora.CHECKS)
