"""Which components fit each other, and what is said of those that don't, to the letter."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from train_worker import Small

import bab
from bab.config.resolve import run_config
from bab.core.errors import BabError, ConfigError, NotApplicableError
from bab.core.types import Clip, Prediction, View
from bab.data import cross_corpus
from bab.predicting import overview
from bab.predicting.outputs import Done
from bab.running import assembly
from bab.running import parts as module
from bab.running.model import LayerMix
from bab.running.parts import Parts, build_parts, build_question


def said(*sets: str, error: type[BabError] = ConfigError, **asked: Any) -> str:
    given = {"encoder": "fbank", **asked}
    with pytest.raises(error) as caught:
        build_parts(run_config(None, given, sets))
    assert type(caught.value) is error
    return str(caught.value)


def test_components_that_do_not_fit_are_named() -> None:
    head = "gives frame outputs; task 'gender' needs one for level 'clip'"
    assert said("head=frames", task="gender") == f"head 'frames' {head}"
    told = said("head=logistic", task="gender", mode="finetune", encoder="hubert:random-tiny")
    assert told == "head 'logistic' is solved, not trained: use --mode probe"
    assert said("protocol=kfold", task="sv") == (
        "trial lists belong to given splits: use protocol=given"
    )
    assert said("objective=masked", task="vtc") == (
        "objective 'masked' learns from audio alone: `bab pretrain` uses it. Task 'vtc' has "
        "multilabel"
    )
    assert said("objective=ctc", task="vtc") == (
        "objective 'ctc' is for tasks of level sequence; task 'vtc' is of level frame, and has "
        "multilabel"
    )
    several = "fbank+hubert:random-tiny"
    told = said(task="vtc", encoder=several, error=NotApplicableError)
    assert told == (
        f"ensemble '{several}' gives one vector per clip; task 'vtc' needs frames: name one encoder"
    )
    told = said(task="gender", encoder=several, mode="finetune")
    assert told == f"ensemble '{several}': its members stay frozen: use --mode probe"
    assert said("view.train_seconds=2", "view.pool=mean", task="gender") == (
        "view.train_seconds=2: of pooled features no part can be cropped; leave it out, or use "
        "--mode finetune"
    )
    told = said("view.train_seconds=2.5", task="gender", encoder=several)
    assert told.startswith("view.train_seconds=2.5: of pooled features")
    assert said("view.window=0.02", task="vtc") == (
        "view.window=0.02: one frame of 'fbank' takes in 0.025 s; a window can't be shorter"
    )
    build_parts(run_config(None, {"encoder": "fbank", "task": "vtc"}, ["view.window=0.025"]))
    told = said(
        "encoder.output=clip", task="vtc", encoder="clap:random-tiny", error=NotApplicableError
    )
    assert told.startswith(
        "task 'vtc' needs frames, but 'clap:random-tiny' as set gives one vector"
    )
    assert told.endswith("per clip (`bab info ENCODER` lists its options)")


def test_a_corpus_has_to_provide_what_a_task_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    suited: list[Any] = []
    task: Any = SimpleNamespace(suit=suited.append, needs=frozenset({"b", "a", "c"}))
    config: Any = SimpleNamespace(task=SimpleNamespace(name="t"), corpus_name="c")

    def told(*provides: str) -> str:
        corpus: Any = SimpleNamespace(provides=frozenset(provides))
        with pytest.raises(NotApplicableError) as error:
            module._refuse_corpus(config, task, corpus)
        return str(error.value)

    assert told("c", "z") == (
        "task 't' needs a, b, which corpus 'c' does not provide (it has c, z)"
    )
    assert (
        told() == "task 't' needs a, b, c, which corpus 'c' does not provide (it has audio alone)"
    )
    assert suited == [frozenset({"c", "z"}), frozenset()]
    module._refuse_corpus(config, task, cast(Any, SimpleNamespace(provides=task.needs | {"d"})))


@pytest.mark.parametrize(
    ("pool", "fusion", "mode", "linear", "seconds", "one_output", "pooled"),
    [
        ("mean", "", "finetune", False, 1.0, False, True),
        ("frames", "late", "probe", False, 1.0, False, True),
        ("frames", "", "probe", True, None, True, True),
        ("frames", "", "finetune", True, None, True, False),
        ("frames", "", "probe", False, None, True, False),
        ("frames", "", "probe", True, 2.0, True, False),
        ("frames", "", "probe", True, None, False, False),
    ],
)
def test_where_the_head_gets_one_mean_frame(
    pool: Any, fusion: str, mode: str, linear: bool, seconds: Any, one_output: bool, pooled: bool
) -> None:
    config: Any = SimpleNamespace(encoder=SimpleNamespace(fusion=fusion), mode=mode)
    task: Any = SimpleNamespace(one_output=one_output)
    view = View(pool=pool, train_seconds=seconds)
    assert module._pooled(config, view, task, cast(Any, SimpleNamespace(linear=linear))) is pooled


def test_two_corpora_are_one_to_train_and_one_to_test(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(
        module, "open_corpus", lambda config, allowed: opened.append((config, allowed)) or config
    )
    monkeypatch.setattr(cross_corpus, "Across", lambda *given: ("across", *given))
    checked: list[str] = []
    monkeypatch.setattr(cross_corpus, "check_protocol", checked.append)
    config: Any = SimpleNamespace(
        offline="o",
        allow_leakage="l",
        corpus="one",
        test_corpus=None,
        protocol="p",
        test_names="distinct",
    )
    assert module._corpus(config) == "one" and checked == []
    config.test_corpus = "two"
    assert module._corpus(config) == ("across", "one", "two", True) and checked == ["p"]
    config.test_names = "same"
    assert module._corpus(config) == ("across", "one", "two", False)
    assert {(a.offline, a.leakage) for _, a in opened} == {("o", "l")}


def test_a_run_has_just_the_parts_that_it_names() -> None:
    parts = build_parts(run_config(None, {"encoder": "fbank", "task": "gender"}, ["head=pooled"]))
    assert parts.members == (parts.encoder,) and parts.start is None and parts.called == "fbank"
    assert parts.corpus.name == bab.load("tasks", "gender").corpus
    task, corpus = build_question(run_config(None, {"encoder": "fbank", "task": "gender"}))
    assert type(task) is type(parts.task) and corpus.name == parts.corpus.name
    clip = Clip("a", "a.wav", 0.0, 9.0, "g", scored=((0.0, 4.0), (5.0, 9.0)))
    other: Any = Small()
    examples = parts.examples([clip], other)
    assert examples.grid is other.grid and examples.whole and len(examples) == 2
    assert parts.examples([clip]).grid is parts.encoder.grid
    several = build_parts(
        run_config(None, {"encoder": "fbank+hubert:random-tiny", "task": "gender"})
    )
    assert several.called == "fbank+hubert:random-tiny" and len(several.members) == 2
    assert several.pooled and several.encoder is not several.members[0]
    assert isinstance(parts, Parts) and isinstance(parts.view, View)


def test_heads_are_made_for_what_they_get(monkeypatch: pytest.MonkeyPatch) -> None:
    dims: list[int] = []

    class Counted(bab.Head):
        level = ("clip",)

        def __init__(self, dim: int) -> None:
            dims.append(dim)
            super().__init__(dim, 3, bab.Options())

    one, two = Small(), Small()
    two.dim, two.depth = 5, 1
    single = assembly.assemble(one, [one], "", "mix", Counted, [3], False)
    assert dims == [8] and single.encoder is one and single.pool is False
    assert type(single.mix) is LayerMix and isinstance(single.head, Counted)
    both = assembly.assemble(None, [one, two], "concat", "mix", Counted, [2, 1], True)
    assert (
        dims[1:] == [13] and both.encoder is None and both.pool and isinstance(both.head, Counted)
    )
    late: Any = assembly.assemble(None, [one, two], "late", "last", Counted, [2, 1], True)
    assert dims[2:] == [8, 5] and late.head.dims == [8, 5] and late.head.sizes == [2, 1]
    with pytest.raises(ConfigError, match="layers=2: this encoder has layers 0 to 1"):
        assembly.layer_mix([one], 2)


def test_features_are_planned_for_one_encoder_or_for_each() -> None:
    class Source:
        def __init__(self, encoder: Any) -> None:
            self.encoder, self.store, self.planned = encoder, "store", []

        def plan(self, windows: Any) -> None:
            self.planned += windows

    made: list[Source] = []

    def source(encoder: Any) -> Any:
        made.append(Source(encoder))
        return made[-1]

    clips = [Clip("a", "a.wav", 0.0, 2.0, "g")]
    one = assembly.frozen_source([Small()], source, View(window=1.0), clips, lambda: ["w1", "w2"])  # type: ignore
    assert one is made[0] and made[0].planned == ["w1", "w2"]
    unasked = lambda: pytest.fail("several have windows of their own")  # noqa: E731
    joined: Any = assembly.frozen_source(
        [Small(), Small()], source, View(window=1.0), clips, unasked
    )
    assert joined.sources == made[1:] and [len(s.planned) for s in made[1:]] == [2, 2]


# ------------------------------------------------------------------------------- scores of speakers


def done(name: str, *vector: float) -> Done:
    return Done(
        key="k", made_by="m", name=name, path=f"/{name}", digest="d", seconds=2.0,
        prediction=Prediction(name, vector=vector),
    )  # fmt: skip


class Alike:
    """Cosines of vectors of length 1."""

    def compare(self, trials: Any, known: Any) -> list[float]:
        self.asked = [(t.enrol, t.test, t.same) for t in trials]
        self.known = known
        sides = [
            (torch.tensor(known[t.enrol].vector), torch.tensor(known[t.test].vector))
            for t in trials
        ]
        return [float(a @ b) for a, b in sides]


def test_each_recording_beside_each_other_or_each_enrolled_speaker(tmp_path: Path) -> None:
    task = Alike()
    saved: Any = SimpleNamespace(task=task)
    path = tmp_path / "scores.csv"
    heard = [done("a", 1.0, 0.0), done("b", 0.6, 0.8), done("c", 0.0, 1.0)]
    assert overview.write_scores(saved, heard, path) == ""
    assert path.read_text().splitlines() == [
        "first,second,score", "a,b,0.6000", "a,c,0.0000", "b,c,0.8000",
    ]  # fmt: skip
    enrolled = [
        done(".enrolled/ann/1", 1.0, 0.0), done(".enrolled/ann/2", 0.0, 1.0),
        done(".enrolled/bob", 0.0, -1.0), done(".enrolled/none", 0.0, 0.0),
    ]  # fmt: skip
    assert overview.write_scores(saved, [*enrolled, *heard[:2]], path) == ""
    assert task.asked[0] == (".enrolled/ann", "a", False)
    assert path.read_text().splitlines() == [
        "enrolled,recording,score", "ann,a,0.7071", "bob,a,0.0000", "none,a,0.0000",
        "ann,b,0.9899", "bob,b,-0.8000", "none,b,0.0000",
    ]  # fmt: skip
    assert task.known[".enrolled/ann"].vector == pytest.approx((0.70710678, 0.70710678))
    assert overview.write_scores(saved, heard[:1], path) == ""
    assert path.read_text() == "first,second,score\n"
