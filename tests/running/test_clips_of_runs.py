"""A run's clips: listed, left out, split, checked, hashed; by corpora and tasks made up here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import bab
from bab.checking.clips import check_trials
from bab.core.errors import AudioError, CorpusError, LeakageError
from bab.core.types import Clip, Trial
from bab.data.content import content_id
from bab.data.splits import Fold
from bab.running import data as module
from bab.running.data import Data, read_data
from bab.running.parts import Parts
from bab.running.session import labels_of


class Made(bab.Corpus):
    """Clips by split; with splits of its own, and what may not be tested."""

    provides = frozenset({"speaker"})

    def __init__(self, root: Path, parts: dict[str, list[Clip]], **more: Any) -> None:
        self.root, self.parts = root, parts
        self.pairs: dict[str, list[Trial]] = more.get("trials", {})
        self.trained_alone: set[str] = more.get("trained_alone", set())

    def clips(self, split: str | None = None) -> Any:
        if split is None:
            return [clip for part in self.parts.values() for clip in part]
        return iter(self.parts[split])

    def splits(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def testable(self, clip: Clip) -> bool:
        return clip.id not in self.trained_alone

    def trials(self, split: str) -> Any:
        return iter(self.pairs[split])


class Known(bab.Task):
    """Knows a clip by its letter; refuses those that it is told to."""

    level = "clip"

    def __init__(self, refused: dict[str, str] | None = None, level: str = "clip") -> None:
        super().__init__(None)
        self.refused, self.level = refused or {}, level  # type: ignore[misc]
        self.checked: list[tuple[str, list[str], Any]] = []
        self.fault = ""

    def refuses(self, clip: Clip) -> str:
        return self.refused.get(clip.id, "")

    def fit(self, clips: Any) -> Any:
        return {"letter": tuple(sorted({c.id[0] for c in clips}))}

    def check(self, labels: Any, clips: Any, split: str) -> None:
        self.checked.append((split, [c.id for c in clips], labels))
        if self.fault == split:
            raise CorpusError(f"{split} is odd")


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Clip]:
    def make(name: str, group: str = "", **more: Any) -> Clip:
        path = tmp_path / f"{name}.wav"
        path.write_text(more.pop("text", name))
        return Clip(name, str(path), 0.0, more.pop("seconds", 2.0), group or f"g-{name}", **more)

    return make


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Which files can't be read."""
    bad: dict[str, str] = {}

    def look(clips: Any, progress: Any) -> dict[str, str]:
        progress(1, 2)
        return {c.path: bad[c.id] for c in clips if c.id in bad}

    monkeypatch.setattr(module, "bad_files", look)
    return bad


def config(**changes: Any) -> Any:
    values: dict[str, Any] = {"protocol": "given", "skip_bad": False, "allow_leakage": False}
    values |= {"test_corpus": None, "tune": "model", "folds": 3, "mode": "probe"}
    return SimpleNamespace(**(values | changes))


def quiet(*_: object) -> None:
    """No progress."""


def ids(folds: list[Fold]) -> list[list[list[str]]]:
    return [[[c.id for c in part] for part in (f.train, f.dev, f.test)] for f in folds]


@pytest.fixture
def parts(clip: Callable[..., Clip]) -> dict[str, list[Clip]]:
    return {
        "train": [clip("a1"), clip("b1"), clip("a2")],
        "dev": [clip("a3"), clip("b2")],
        "test": [clip("b3"), clip("a4"), clip("c1")],
    }


def test_given_splits_are_taken_less_what_cant_be_used(
    tmp_path: Path, parts: dict[str, list[Clip]], heard: dict[str, str]
) -> None:
    heard["a2"] = "cut off"
    task = Known({"c1": "rare", "b1": "short", "a4": "rare"})
    told: list[tuple[str, float, float, str]] = []
    tell = lambda *given: told.append(given)  # noqa: E731
    read = read_data(config(skip_bad=True), task, Made(tmp_path, parts), tell)
    assert ids(read.folds) == [[["a1"], ["a3", "b2"], ["b3"]]]
    assert [c.id for c in read.clips] == ["a1", "a3", "b2", "b3"]
    assert read.skipped == {str(tmp_path / "a2.wav"): "cut off"}
    assert list(read.refused.items()) == [("rare", 2), ("short", 1)]
    assert task.checked == [
        ("dev", ["a3", "b2"], {"letter": ("a",)}), ("test", ["b3"], {"letter": ("a",)}),
    ]  # fmt: skip
    assert read.content == {c.path: content_id(c.path) for c in read.clips}
    assert read.leakage == "" and read.trials == {} and read.digest
    assert {(stage, unit) for stage, _, _, unit in told} == {
        ("checking files", "files"), ("taking checksums", "files"),
    }  # fmt: skip
    assert ("checking files", 1, 2, "files") in told
    with pytest.raises(AudioError, match="cut off"):
        read_data(config(), task, Made(tmp_path, parts), quiet)


def test_of_a_model_that_is_evaluated_only_what_is_scored_has_to_be_there(
    tmp_path: Path, parts: dict[str, list[Clip]]
) -> None:
    known = {"letter": ("x",)}
    alone = {"test": parts["test"]}
    task = Known()
    read = read_data(config(), task, Made(tmp_path, alone), quiet, known)
    assert ids(read.folds) == [[[], [], ["b3", "a4", "c1"]]]
    assert task.checked == [("test", ["b3", "a4", "c1"], known)]
    with pytest.raises(KeyError):  # it isn't among its splits, and is asked for
        read_data(config(tune="dev"), task, Made(tmp_path, alone), quiet, known)
    both = {"dev": parts["dev"], "test": parts["test"]}
    task.checked.clear()
    read_data(config(tune="dev"), task, Made(tmp_path, both), quiet, known)
    assert [split for split, _, _ in task.checked] == ["dev", "test"]
    task.fault = "test"
    with pytest.raises(CorpusError) as error:
        read_data(config(), task, Made(tmp_path, both), quiet, known)
    assert str(error.value) == (
        "the model knows other labels than the corpus (letter: x): test is odd"
    )
    with pytest.raises(CorpusError, match=r"^test is odd$"):
        read_data(config(), task, Made(tmp_path, parts), quiet)
    many = {"a": tuple(map(str, range(30))), "b": ("y",)}
    with pytest.raises(CorpusError) as error:
        read_data(config(), task, Made(tmp_path, both), quiet, many)
    assert f"(a: {', '.join(map(str, range(20)))}; b: y)" in str(error.value)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_an_empty_split_is_named_with_what_was_left_out(
    tmp_path: Path, parts: dict[str, list[Clip]], split: str
) -> None:
    task = Known({c.id: f"why {i}" for i, c in enumerate(parts[split])})
    with pytest.raises(CorpusError) as error:
        read_data(config(), task, Made(tmp_path, parts), quiet)
    why = "; ".join(f"why {i} (1)" for i in range(len(parts[split])))
    assert str(error.value) == (
        f"{tmp_path}: the {split} split has no clip. This run needs train, dev (to tune on) and "
        "test; `bab data check` shows what was found. Clips that the task can't use were left "
        f"out: {why}."
    )
    if split == "test":
        with pytest.raises(CorpusError) as error:
            read_data(config(), Known(), Made(tmp_path, {"test": []}), quiet, {"l": ("a",)})
        told = "This run needs a test split; `bab data check` shows what was found."
        assert str(error.value) == f"{tmp_path}: the test split has no clip. {told}"


def test_what_stands_in_two_splits_is_refused_or_marked(
    tmp_path: Path, clip: Callable[..., Clip]
) -> None:
    parts = {
        "train": [clip("a1", "ann"), clip("a2", "bob"), clip("a3", "cid", text="same")],
        "dev": [clip("b1", "ann")],
        "test": [clip("c1", "bob"), clip("c2", "dan", text="same")],
    }
    corpus = Made(tmp_path, parts)
    with pytest.raises(LeakageError) as error:
        read_data(config(), Known(), corpus, quiet)
    other = "Where that is the point, as in speaker identification, --allow-leakage marks it."
    assert str(error.value).startswith("group ") and str(error.value).endswith(f"split. {other}")
    with pytest.raises(LeakageError) as error:
        read_data(config(test_corpus="x"), Known(), corpus, quiet)
    names = "If the two corpora use one name for two things: --set test_names=distinct."
    assert str(error.value).endswith(f"split. {names} {other}")
    read = read_data(config(allow_leakage=True), Known(), corpus, quiet)
    first, second = read.leakage.split(". ", 1)
    assert first == "LEAKAGE (allowed): 2 groups stand in two splits"
    assert second.startswith("LEAKAGE (allowed): 1 file under two names, such as: ")
    assert "a3.wav" in second and "c2.wav" in second and second.endswith(".")
    clean = {**parts, "dev": [clip("b9")], "test": parts["test"][1:]}
    with pytest.raises(LeakageError) as error:
        read_data(config(), Known(), Made(tmp_path, clean), quiet)
    assert str(error.value).endswith(". Leave one of them out, or mark it: --allow-leakage")


def test_folds_by_clip_say_what_would_be_clean(tmp_path: Path, clip: Callable[..., Clip]) -> None:
    clips = [clip(f"a{i}", f"g{i // 4}", speaker=f"g{i // 4}") for i in range(12)]
    corpus = Made(tmp_path, {"all": clips})
    with pytest.raises(LeakageError) as error:
        read_data(config(protocol="clip-kfold"), Known(), corpus, quiet)
    assert "split. protocol=kfold does so. Where that is the point" in str(error.value)


def test_clips_that_may_not_be_tested_are_trained_on_in_every_round(
    tmp_path: Path, clip: Callable[..., Clip]
) -> None:
    clips = [clip(f"a{i}", f"g{i}") for i in range(6)]
    more = [clip("x0", "g0"), clip("x9", "g9")]
    corpus = Made(tmp_path, {"all": [*clips, *more]}, trained_alone={"x0", "x9"})
    read = read_data(config(protocol="leave-one-group-out"), Known(), corpus, quiet)
    tested = [f.test[0].id for f in read.folds if len(f.test) == 1]
    assert sorted(tested) == [f"a{i}" for i in range(6)]
    for fold in read.folds:
        out = {c.group for c in (*fold.dev, *fold.test)}
        extra = [c.id for c in fold.train if c.id.startswith("x")]
        assert extra == (["x9"] if "g0" in out else ["x0", "x9"])
        assert not out & {c.group for c in fold.train}
    kfold = read_data(config(protocol="kfold"), Known(), corpus, quiet)
    assert len(kfold.folds) == 3 and all(len(f.test) == 2 for f in kfold.folds)
    plain = Made(tmp_path, {"all": clips})
    assert len(read_data(config(protocol="kfold", folds=6), Known(), plain, quiet).folds) == 6


def test_two_clips_of_one_id_are_refused_within_a_corpus_alone(
    tmp_path: Path, parts: dict[str, list[Clip]], clip: Callable[..., Clip]
) -> None:
    twice = Clip("a1", str(clip("other").path), 0.0, 1.0, "other")
    with pytest.raises(CorpusError, match="two clips of train and test have the id 'a1'"):
        read_data(config(), Known(), Made(tmp_path, {**parts, "test": [twice]}), quiet)
    across = {**parts, "test": [twice, Clip("a1", str(clip("z").path), 0.0, 1.0, "z")]}
    with pytest.raises(CorpusError, match="two clips of test have the id 'a1'"):
        read_data(config(test_corpus="x"), Known(), Made(tmp_path, across), quiet)
    both = Made(tmp_path, {"all": [*parts["train"], twice]})
    with pytest.raises(CorpusError, match="two clips of the corpus have the id 'a1'"):
        read_data(config(protocol="kfold"), Known(), both, quiet)


SAME, OTHER = Trial("a3", "b2", True), Trial("b2", "a3", False)


def trials_of(tmp_path: Path, parts: Any, test: list[Trial], **more: Any) -> Data:
    corpus = Made(tmp_path, parts, trials={"dev": [SAME, OTHER], "test": test})
    return read_data(config(**more), Known(level="pair"), corpus, quiet)


def test_trials_are_those_between_clips_that_can_be_read(
    tmp_path: Path, parts: dict[str, list[Clip]], heard: dict[str, str]
) -> None:
    test = [Trial("b3", "a4", True), Trial("a4", "b3", False), Trial("b3", "c1", False)]
    read = trials_of(tmp_path, parts, test)
    assert read.trials == {"dev": [SAME, OTHER], "test": test}
    heard["c1"] = "cut off"
    again = trials_of(tmp_path, parts, test, skip_bad=True)
    assert again.trials["test"] == test[:2] and again.digest != read.digest
    with pytest.raises(CorpusError) as error:
        trials_of(tmp_path, parts, [*test, Trial("a3", "b3", True)], skip_bad=True)
    assert str(error.value) == (
        f"{tmp_path}: trials of test name 1 clip(s) that the split doesn't list: 'a3'"
    )
    with pytest.raises(CorpusError) as error:
        trials_of(tmp_path, parts, [Trial(f"x{i}", "x0", True) for i in range(7)], skip_bad=True)
    assert str(error.value).endswith("name 7 clip(s) that the split doesn't list: 'x0', 'x1', 'x2'"
                                     ", 'x3', 'x4'")  # fmt: skip


@pytest.mark.parametrize("same", [True, False])
def test_trials_of_one_kind_alone_are_refused(
    tmp_path: Path, parts: dict[str, list[Clip]], same: bool
) -> None:
    with pytest.raises(CorpusError) as error:
        trials_of(tmp_path, parts, [Trial("b3", "a4", same), Trial("a4", "c1", same)])
    assert str(error.value) == (
        f"{tmp_path}: the test split has 2 trials, {2 * same} of them of one speaker: both kinds "
        "are needed, in dev (to choose the checkpoint) and test"
    )


def test_trials_against_what_speakers_say() -> None:
    clips = [Clip(n, "x", 0, 1, "g", speaker=s) for n, s in (("a", "1"), ("b", "1"), ("c", None))]
    corpus = cast(Any, SimpleNamespace(root="/r"))
    check_trials(corpus, "dev", [Trial("a", "b", True), Trial("a", "c", False)], clips)
    with pytest.raises(CorpusError) as error:
        check_trials(corpus, "dev", [Trial("a", "b", False)], clips)
    assert str(error.value) == (
        "/r: the trial 'a' 'b' of dev is said to be of two speakers, but its clips are of '1' and "
        "'1'"
    )


def test_labels_of_a_model_count_where_it_is_evaluated() -> None:
    start = SimpleNamespace(labels={"k": ("a",)})
    evaluated, probed = config(mode="evaluate"), config()
    assert labels_of(evaluated, cast(Parts, SimpleNamespace(start=start))) == {"k": ("a",)}
    assert labels_of(probed, cast(Parts, SimpleNamespace(start=start))) is None
    assert labels_of(evaluated, cast(Parts, SimpleNamespace(start=None))) is None
