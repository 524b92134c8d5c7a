"""Corpora told apart by name, one to train and one to test; digests and lists of what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bab.core.errors import ConfigError, CorpusError, NotApplicableError
from bab.core.interfaces import Corpus, Task
from bab.core.types import Clip, Segment, Trial
from bab.core.weights import WeightsError
from bab.data.content import corpus_digest
from bab.data.cross_corpus import Across, check_protocol, names_apart, prefixed
from bab.data.heard import heard_by, write_heard
from bab.data.lines import doubled, faults, unfit, usable_by
from bab.data.splits import Fold


class Made(Corpus):
    """A corpus of clips that a test made up."""

    def __init__(self, name: str, parts: Mapping[str, list[Clip]], given: bool = True) -> None:
        super().__init__(Path(f"/{name}"), None)
        self.name, self.parts, self.splits_given = name, parts, given
        self.notices = [f"a note of {name}"]

    def splits(self) -> tuple[str, ...]:
        return ("train", "dev", "test")

    def clips(self, split: str | None = None) -> list[Clip]:
        every = [clip for part in self.parts.values() for clip in part]
        return every if split is None else self.parts[split]

    def testable(self, clip: Clip) -> bool:
        return clip.labels.get("source") != "other"

    def trials(self, split: str) -> list[Trial]:
        return [Trial(f"{split}1", f"{split}2", self.name == "a")]


def clip(name: str, **facts: Any) -> Clip:
    return Clip(name, f"/x/{name}.wav", 0.0, 1.0, **{"group": f"g{name}", **facts})


def both(distinct: bool = False, given: bool = True) -> Across:
    trained = Made("a", {s: [clip(f"a-{s}")] for s in ("train", "dev", "test")})
    other = clip("o", labels={"source": "other"})
    tested = Made("b", {"train": [clip("t")], "dev": [], "test": [clip("b", speaker="s"), other]},
                  given)  # fmt: skip
    trained.version, tested.version = "1", "2"  # type: ignore[misc]
    trained.provides, tested.provides = frozenset("xy"), frozenset("yz")  # type: ignore[misc]
    tested.unit = "child"  # type: ignore[misc]
    return Across(trained, tested, distinct)


def test_corpora_of_one_kind_are_numbered() -> None:
    def names(*kinds: str) -> list[str]:
        return names_apart([Made(kind, {}) for kind in kinds])

    assert names("rttm", "kaldi") == ["rttm", "kaldi"] and names() == []
    assert names("rttm", "kaldi", "rttm", "rttm") == ["rttm1", "kaldi", "rttm2", "rttm3"]


def test_a_prefix_stands_before_every_name() -> None:
    one = clip("a", speaker="s", voices=("v", "w"))
    assert prefixed(one, "") is one
    made = prefixed(one, "p:")
    assert (made.id, made.group, made.speaker, made.voices) == (
        "p:a",
        "p:ga",
        "p:s",
        ("p:v", "p:w"),
    )
    assert made.path == one.path and prefixed(clip("a"), "p:").speaker is None


def test_trained_on_one_and_tested_on_the_other() -> None:
    corpus = both()
    assert (corpus.name, corpus.version, corpus.unit) == ("a→b", "1→2", "child")
    assert corpus.provides == {"y"} and corpus.root == Path("/b")
    assert [p.name for p in corpus.corpora] == ["a", "b"]
    assert [[c.id for c in corpus.clips(s)] for s in corpus.splits()] == [
        ["a-train"], ["a-dev"], ["b"],
    ]  # fmt: skip
    assert [c.id for c in corpus.clips()] == ["a-train", "a-dev", "b"]
    assert corpus.trials("dev") == [Trial("dev1", "dev2", True)]
    assert corpus.trials("test") == [Trial("test1", "test2", False)]
    notes = ["a (train, dev): a note of a", "b (test): a note of b"]
    told = "Trained and tuned on a, tested on b: "
    assert corpus.notices == [*notes, f"{told}its test split."]
    whole = both(given=False)
    assert [c.id for c in whole.clips("test")] == ["t", "b"]
    assert whole.notices == [*notes, f"{told}all of it, as it lists no splits."]


def test_distinct_names_are_told_apart() -> None:
    corpus = both(distinct=True)
    (one,) = corpus.clips("test")
    assert (one.id, one.group, one.speaker) == ("b-b", "b-gb", "b-s")
    assert [c.id for c in corpus.clips("dev")] == ["a-dev"]
    assert corpus.trials("test") == [Trial("b-test1", "b-test2", False)]
    assert corpus.trials("train") == [Trial("train1", "train2", True)]


def test_folds_are_of_one_corpus() -> None:
    check_protocol("given")
    with pytest.raises(ConfigError) as caught:
        check_protocol("kfold")
    assert str(caught.value) == (
        "--test-corpus tests on another corpus, so protocol=kfold has no meaning: use "
        "protocol=given"
    )


# ------------------------------------------------------------------------------- digests


FULL = Clip("a", "/x/a.wav", 0.5, 2.0, "g", "s", ("v", "w"), {"k": "1", "m": "2"}, "said",
            (Segment(0.5, 1.0, "FEM"),), ((0.5, 2.0),))  # fmt: skip
OTHER = clip("b")
CONTENT = {"/x/a.wav": "0" * 32, "/x/b.wav": "1" * 32, "/y/a.wav": "0" * 32}


def digest(
    one: Clip = FULL,
    folds: Sequence[Fold] | None = None,
    trials: Mapping[str, Sequence[Trial]] | None = None,
) -> str:
    folds = [Fold([one], [OTHER], [])] if folds is None else folds
    trials = {"test": [Trial("a", "b", True)]} if trials is None else trials
    return corpus_digest([one, OTHER], folds, trials, CONTENT)


def test_a_digest_is_of_what_a_corpus_says_and_not_of_where_it_lies() -> None:
    same = digest()
    assert len(same) == 32 and digest(replace(FULL, path="/y/a.wav")) == same
    assert digest(replace(FULL, labels={"m": "2", "k": "1"})) == same
    changes: list[dict[str, Any]] = [
        {"id": "c"}, {"path": "/x/b.wav"}, {"start": 0.25}, {"end": 2.5}, {"group": "h"},
        {"speaker": None}, {"voices": ("w", "v")}, {"labels": {"k": "1", "m": "3"}},
        {"labels": {"k": "1"}}, {"text": None}, {"scored": None}, {"segments": ()},
        {"segments": (Segment(0.5, 1.5, "FEM"),)}, {"segments": (Segment(0.75, 1.0, "FEM"),)},
        {"segments": (Segment(0.5, 1.0, "MAL"),)},
    ]  # fmt: skip
    made = [digest(replace(FULL, **change)) for change in changes]
    folds = (
        [],
        [Fold([OTHER], [FULL], [])],
        [Fold([FULL], [], [OTHER])],
        [Fold([FULL, OTHER], [], [])],
        [Fold([OTHER, FULL], [], [])],
        [Fold([FULL], [OTHER], []), Fold([], [], [])],
    )
    made += [digest(folds=each) for each in folds]
    trials = (
        {},
        {"dev": [Trial("a", "b", True)]},
        {"test": [Trial("a", "b", False)]},
        {"test": [Trial("b", "a", True)]},
        {"test": [Trial("a", "a", True)]},
    )
    made += [digest(trials=each) for each in trials]
    assert len({same, *made}) == 1 + len(made)


# ------------------------------------------------------------------------------- lists, and tasks


def test_an_error_is_one_problem_or_one_for_each_note() -> None:
    error = CorpusError("first")
    (one,) = faults("/x", error, "split")
    assert (one.path, one.kind, one.message, one.fatal) == ("/x", "split", "first", True)
    error.add_note("line 1")
    error.add_note("line 2")
    made = faults("/x", error, "split")
    assert [(p.kind, p.message, p.fatal) for p in made] == [
        ("files", "line 1", True), ("files", "line 2", True),
    ]  # fmt: skip


class Picky(Task):
    """A task that refuses what it is told to."""

    needs = frozenset({"speaker"})

    def __init__(self, **says: Any) -> None:
        self.says = says

    def suit(self, provides: frozenset[str]) -> None:
        if "suit" in self.says:
            raise NotApplicableError(self.says["suit"])

    def refuses(self, clip: Clip) -> str:
        return "too short" if clip.id in self.says.get("short", ()) else ""

    def fit(self, clips: Sequence[Clip]) -> Any:
        if "fit" in self.says:
            raise CorpusError(self.says["fit"])
        return [clip.id for clip in clips]

    def check(self, labels: Any, clips: Sequence[Clip], split: str) -> None:
        if split in self.says:
            raise CorpusError(f"{labels} {[c.id for c in clips]} {split}")


SPLITS = {s: [clip(f"{s}1"), clip(f"{s}2")] for s in ("train", "dev", "test")}


@pytest.mark.parametrize(
    ("says", "provides", "told"),
    [
        ({}, {"speaker"}, []),
        ({}, {"text", "age"}, ["t needs speaker, which this corpus doesn't provide"]),
        ({"suit": "no frames"}, {"speaker"}, ["t: no frames"]),
        ({"fit": "no label"}, {"speaker"}, ["t: no label"]),
        ({"short": ("train1",), "dev": 1}, {"speaker"}, ["t: ['train2'] ['dev1', 'dev2'] dev"]),
        ({"short": ("dev1", "dev2"), "dev": 1}, {"speaker"},
         ["t: no clip of dev can be used: too short"]),
        ({"short": ("train1", "train2"), "fit": "x", "test": 1}, {"speaker"},
         ["t: no clip of train can be used: too short"]),
        ({"dev": 1, "test": 1}, {"speaker"},
         ["t: ['train1', 'train2'] ['dev1', 'dev2'] dev",
          "t: ['train1', 'train2'] ['test1', 'test2'] test"]),
    ],
)  # fmt: skip
def test_what_a_task_would_stop_at(
    says: dict[str, Any], provides: set[str], told: list[str]
) -> None:
    made = list(unfit({"t": Picky(**says)}, SPLITS, frozenset(provides)))
    assert [p.message for p in made] == told
    assert all((p.path, p.kind, p.fatal) == ("", "task", True) for p in made)
    empty = {**SPLITS, "dev": []}  # nothing there is nothing to tell of
    assert not [p for p in unfit({"t": Picky()}, empty, frozenset(provides)) if "clip" in p.message]


def test_every_task_is_tried() -> None:
    tasks = {"a": Picky(suit="x"), "b": Picky(fit="y"), "c": Picky()}
    assert [p.message for p in unfit(tasks, SPLITS, frozenset({"speaker"}))] == ["a: x", "b: y"]
    assert [p.message for p in unfit(tasks, SPLITS, frozenset())] == [
        "a: x", "b needs speaker, which this corpus doesn't provide",
        "c needs speaker, which this corpus doesn't provide",
    ]  # fmt: skip
    none = {"a": Picky(short=("train1", "train2")), "b": Picky(fit="y")}
    assert [p.message for p in unfit(none, SPLITS, frozenset({"speaker"}))] == [
        "a: no clip of train can be used: too short", "b: y",
    ]  # fmt: skip
    assert [c.id for c in usable_by(Picky(short=("dev1",)), SPLITS["dev"])] == ["dev2"]


@pytest.mark.parametrize(
    ("spans", "told"),
    [
        ([(0.0, 1.0), (1.0, 2.0)], None),
        ([(0.0, 1.0), (0.995, 2.0)], None),  # rounded
        ([(0.0, 1.0), (0.99, 2.0)], "1 overlap of 'FEM' with itself, the first of 0.000 to 1.000 s "
         "and 0.990 to 2.000 s"),
        # The long one is compared with each that begins before its end.
        ([(0.0, 9.0), (1.0, 2.0), (3.0, 4.0)], "2 overlaps of 'FEM' with itself, the first of 0.000"
         " to 9.000 s and 1.000 to 2.000 s"),
        ([(1.0, 2.0), (0.0, 1.5)], "1 overlap of 'FEM' with itself, the first of 0.000 to 1.500 s "
         "and 1.000 to 2.000 s"),
        ([(0.0, 2.0), (0.0, 1.0)], "1 overlap of 'FEM' with itself, the first of 0.000 to 1.000 s "
         "and 0.000 to 2.000 s"),
    ],
)  # fmt: skip
def test_a_voice_that_is_heard_beside_itself(
    spans: list[tuple[float, float]], told: str | None
) -> None:
    segments = tuple(Segment(*span, "FEM") for span in spans)
    one = Clip("a", "/x/a.wav", 0.0, 9.0, "g", segments=(*segments, Segment(0.0, 9.0, "MAL")))
    made = list(doubled([one]))
    if told is None:
        assert made == []
        return
    said = f"/x/a.wav: clip 'a' has {told}: join them, unless two such voices are meant"
    assert [(p.path, p.kind, p.message, p.fatal) for p in made] == [
        ("/x/a.wav", "same voice", said, False)
    ]


def test_doubled_voices_are_told_clip_by_clip_and_by_label() -> None:
    both = [Segment(0.0, 2.0, label) for label in ("OCH", "MAL", "FEM", "OCH", "FEM")]
    clips = [Clip(name, "/x/a.wav", 0.0, 9.0, "g", segments=tuple(both)) for name in "ba"]
    told = [p.message.split(":")[1].split(" with")[0] for p in doubled(clips)]
    assert told == [
        f" clip '{name}' has 1 overlap of '{label}'" for name in "ba" for label in ("FEM", "OCH")
    ]


# ------------------------------------------------------------------------------- what was heard


def test_what_an_encoder_heard_is_listed_beside_it(tmp_path: Path) -> None:
    assert heard_by(f"hubert:{tmp_path}") == frozenset() == heard_by("hubert:base")
    one, two = "0" * 32, "af" * 16
    write_heard(tmp_path, [two, one, two])
    assert heard_by(f"hubert:{tmp_path}") == {one, two}
    text = (tmp_path / "heard.json").read_text()
    assert text.index(one) < text.index(two) and '"digest": "blake2b-128 of a file"' in text
    assert '"format": 1' in text
    write_heard(tmp_path, [])
    assert heard_by(f"hubert:{tmp_path}") == frozenset()


def test_a_relative_folder_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_heard(tmp_path, ["0" * 32])
    monkeypatch.chdir(tmp_path)
    assert heard_by("hubert:.") == frozenset()


@pytest.mark.parametrize("listed", ['{"files": "x"}', '{"files": ["x"]}', "{}", '{"files": [1]}'])
def test_a_damaged_list_of_what_was_heard(tmp_path: Path, listed: str) -> None:
    (tmp_path / "heard.json").write_text(listed)
    with pytest.raises(WeightsError) as caught:
        heard_by(f"hubert:{tmp_path}")
    assert str(caught.value) == (
        f"{tmp_path / 'heard.json'}: is no list of digests, of what the encoder heard: export it "
        "again, or remove the file (nothing is then known of what it heard)"
    )
