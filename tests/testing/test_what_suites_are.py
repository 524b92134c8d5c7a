"""The machinery of contract suites: rules, verdicts, declarations, planted batches, subjects."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from good_parts import GoodEncoder, GoodHead, GoodObjective, GoodObserver
from pydantic import Field

import bab
import bab.testing
from bab.core.errors import BabError
from bab.plugins.formats.rttm import Rttm
from bab.plugins.launchers.local import Local
from bab.plugins.objectives.masked import Masked
from bab.testing import declared, encoders, planted, suite, tools
from bab.testing.objectives import level_of
from bab.testing.suite import Contract, Outcome

# --- checks


def check_nothing(subject: Any) -> None:
    """The rule, over
    two lines.

    More of it.

    To do: what helps,
    on two lines.

    To do: never this.
    """


def check_bare(subject: Any) -> str | None:
    raise ValueError("two\n lines")


def test_a_rule_and_its_remedy_are_read_off_the_docstring() -> None:
    assert suite.name_of(check_nothing) == "nothing" and suite.name_of(1) == "check"  # type: ignore[arg-type]
    assert suite.rule_of(check_nothing) == (
        "The rule, over two lines.",
        "what helps, on two lines.",
    )
    assert suite.rule_of(check_bare) == ("", "")
    assert suite.rule_of(lambda subject: None) == ("", "")


def test_each_check_has_a_verdict_whatever_the_others_do() -> None:
    def check_sure(subject: Any) -> None:
        """Sure.

        To do: nothing.
        """
        assert subject == 3

    def check_odd(subject: Any) -> str:
        """Odd."""
        return "it has no meaning"

    def check_false(subject: Any) -> None:
        """False.

        To do: mend it.
        """
        raise AssertionError("said so")

    def check_gone(subject: Any) -> None:
        raise SystemExit(3)

    checks = [check_false, check_sure, check_odd, check_bare, check_gone, check_nothing]
    outcomes = list(suite.run_checks(checks, 3))
    assert outcomes[:3] == [
        Outcome("false", "failed", "False.", "said so", "mend it."),
        Outcome("sure", "ok", "Sure."),
        Outcome("odd", "not applicable", "Odd.", "it has no meaning"),
    ]
    assert [one.verdict for one in outcomes[3:]] == ["failed", "failed", "ok"]
    line = check_bare.__code__.co_firstlineno + 1
    here = f"({Path(__file__).name}:{line})"
    assert outcomes[3].told == f"it raised ValueError: two lines {here}"
    assert outcomes[4].told.startswith("it raised SystemExit: 3 (")


def test_what_an_error_said_and_where_it_was_raised() -> None:
    assert suite.said_by(AssertionError("a  b\nc")) == "a b c"
    assert suite.said_by(AssertionError()) == "it raised AssertionError()"
    assert suite.said_by(BabError("x")) == "it raised BabError: x"
    with pytest.raises(AssertionError) as raised:  # inside of a suite: where that was called
        tools.close(torch.zeros(1), torch.ones(1), "it")
    assert suite.said_by(raised.value) == "it: they differ by 1, more than 0.0001"
    with pytest.raises(RuntimeError) as other:
        tools.close(torch.zeros(2), torch.zeros(3), "it")
    assert f"({Path(__file__).name}:" in suite.said_by(other.value)


def test_a_contract_has_a_test_for_each_check(tmp_path: Path) -> None:
    def check_one(subject: Any) -> str | None:
        """One."""
        return "no use" if subject == 2 else None

    class Two(Contract):
        checks = (check_one, check_bare)
        made = 1

        def subject(self, folder: Path) -> Any:
            assert folder == tmp_path
            return self.made

        def test_bare(self, tmp_path: Path) -> None:
            """Its own."""

    one: Any = Two()
    assert one.test_one.__doc__ == "One." and one.test_bare.__doc__ == "Its own."
    one.test_one(tmp_path)
    one.made = 2
    with pytest.raises(pytest.skip.Exception, match="no use"):
        one.test_one(tmp_path)
    with pytest.raises(NotImplementedError):
        Contract().subject(tmp_path)


def test_every_kind_has_a_contract(tmp_path: Path) -> None:
    assert bab.testing.__all__ == sorted(bab.testing.__all__) and len(bab.testing.__all__) == 9
    for name in bab.testing.__all__:
        made = getattr(bab.testing, name)
        assert made.__name__ == name and issubclass(made, Contract)
        for check in made.checks:
            assert check.__name__.startswith("check_") and suite.rule_of(check)[0], check
            assert callable(getattr(made, f"test_{suite.name_of(check)}"))
    with pytest.raises(AttributeError) as raised:
        bab.testing.Contract  # noqa: B018
    assert str(raised.value) == "module 'bab.testing' has no attribute 'Contract'"


def of(contract: str, folder: Path, **members: Any) -> Any:
    return type("TestIt", (getattr(bab.testing, contract),), members)().subject(folder)


def test_what_contracts_hand_to_their_checks(tmp_path: Path) -> None:
    head = of("HeadContract", tmp_path, component=GoodHead)
    assert head.cls is GoodHead and head.options == GoodHead.Options()
    options = GoodHead.Options()
    assert of("HeadContract", tmp_path, component=GoodHead, options=options).options is options
    objective = of("ObjectiveContract", tmp_path, component=GoodObjective)
    assert (objective.cls, objective.level) == (GoodObjective, level_of(GoodObjective, options))
    assert of("ObjectiveContract", tmp_path, component=GoodObjective, level="pair").level == "pair"
    make = of("EncoderContract", tmp_path, component=GoodEncoder)
    assert (make.cls, make.weights, make.options) == (
        GoodEncoder, GoodEncoder.default, GoodEncoder.Options(),
    )  # fmt: skip
    assert of("EncoderContract", tmp_path, component=GoodEncoder, weights="x").weights == "x"
    loaded = make()
    assert type(loaded) is GoodEncoder and loaded.fingerprint
    observer = of("ObserverContract", tmp_path, component=GoodObserver)
    assert (observer.cls, observer.folder) == (GoodObserver, tmp_path)
    form = of("FormatContract", tmp_path, component=Rttm, samples=(tmp_path / "a",))
    assert (form.cls, form.folder, form.samples) == (Rttm, tmp_path, (tmp_path / "a",))
    launcher = of("LauncherContract", tmp_path, component=Local)
    assert (launcher.cls, launcher.options, launcher.folder) == (Local, None, tmp_path)
    says = lambda self, samples: samples  # noqa: E731
    model = of(
        "ModelContract", tmp_path, name="hf", seconds=2.0, says=says,
        model=lambda self, folder: str(folder),
    )  # fmt: skip
    assert (model.name, model.where, model.folder) == ("hf", str(tmp_path / "model"), tmp_path)
    assert model.seconds == 2.0 and (tmp_path / "model").is_dir()
    corpus = object()
    assert of("CorpusContract", tmp_path, make=lambda self: corpus) is corpus
    for name, method in (("CorpusContract", "make"), ("TaskContract", "make")):
        with pytest.raises(NotImplementedError):
            getattr(type("T", (getattr(bab.testing, name),), {})(), method)()


# --- what is declared


class Several(bab.Options):
    """Of all types that another value is known for."""

    flag: bool = Field(False, description="x")
    count: int = Field(4, ge=4, description="x")
    few: int = Field(2, ge=0, le=2, description="x")
    share: float = Field(0.5, lt=0.6, description="x")
    zero: float = Field(0.0, ge=0, description="x")
    kind: Literal["a", "b", "c"] = Field("b", description="x")
    text: str = Field("t", description="x")
    fixed: int = Field(1, ge=1, le=1, description="x")


def test_options_vary_one_at_a_time_by_the_first_value_that_they_take() -> None:
    made = dict(declared.variants(Several()))
    assert list(made) == [
        "flag=True", "count=5", "few=1", "share=0.25", "zero=0.1", "kind=a",
    ]  # fmt: skip
    for what, options in made.items():
        name = what.partition("=")[0]
        changed = {k for k, v in options.model_dump().items() if v != Several().model_dump()[k]}
        assert changed == {name}
    assert dict(declared.variants(Several(count=9, kind="a"))).keys() >= {"count=10", "kind=b"}


class Bare(bab.Options):
    """Two without a word."""

    one: int = 1
    two: int = 2
    told: int = Field(3, description="x")


class Needs(bab.Options):
    """One without a default."""

    must: int = Field(description="x")


def test_what_is_not_declared_is_told() -> None:
    def said(call: Any, *given: Any) -> str:
        with pytest.raises(AssertionError) as raised:
            call(*given)
        return str(raised.value)

    def made(**members: Any) -> type:
        return type("It", (), members)

    declared.described(made(__doc__="Text."))
    declared.described(made(__doc__="Text.", Options=Several))
    for doc in (None, "", " \n"):
        assert said(declared.described, made(__doc__=doc)) == (
            "class It has no docstring: `bab info` shows nothing"
        )
    child = type("Child", (made(__doc__="Text."),), {})
    assert "class Child has no docstring" in said(declared.described, child)
    assert said(declared.described, made(__doc__="x", Options=int)) == (
        "It.Options is no subclass of bab.Options"
    )
    assert said(declared.described, made(__doc__="x", Options=Bare)) == (
        "options without a description: one, two; write one: TYPE = pydantic.Field(DEFAULT, "
        "description=...)"
    )
    assert declared.standard(made(Options=Bare)) == Bare()
    assert said(declared.standard, made(Options=Needs)) == (
        "Options() can't be made: option 'must': Field required"
    )


def test_who_uses_or_seeds_a_global_generator_is_found() -> None:
    acts = {
        "torch's": (lambda: torch.rand(1), lambda: torch.manual_seed(5)),
        "numpy's": (lambda: np.random.rand(), lambda: np.random.seed(5)),
        "random's": (random.random, lambda: random.seed(5)),
    }
    before = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    for name, (use, seed) in acts.items():
        with declared.untouched() as used:
            assert used() == []
            use()
            assert used() == [name]
        assert declared.seeded_by(use) == [] and declared.seeded_by(seed) == [name]
    with declared.untouched() as used:
        for use, _ in acts.values():
            use()
        assert used() == [*acts]
    assert declared.seeded_by(lambda: [seed() for _, seed in acts.values()]) == [*acts]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (str(np.random.get_state()), random.getstate()) == before[1:]


def test_which_arguments_a_function_does_not_take() -> None:
    assert declared.takes(lambda a, b=1: None, "a", "b", "c", "d") == ["c", "d"]
    assert declared.takes(lambda **more: None, "a", "b") == []
    assert declared.takes(lambda *more: None, "a") == ["a"]


# --- audio


def test_the_audio_of_checks() -> None:
    one = tools.noise(4000)
    assert one.shape == (4000,) and float(one.abs().max()) <= 1
    assert float(one.std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(one, tools.noise(4000, 0)) and not torch.equal(one, tools.noise(4000, 1))
    assert float(tools.noise(4000, 0, 9.0).abs().max()) == 1
    batch = tools.waves([one[:30], one[:50]])
    assert batch.lengths.tolist() == [30, 50] and batch.samples.shape == (2, 50)
    assert torch.equal(batch.samples[0, :30], one[:30]) and torch.equal(batch.samples[1], one[:50])
    assert float(batch.samples[0, 30:].abs().mean()) > 0.2  # loud padding
    tools.close(torch.tensor([1.0]), torch.tensor([1.00009]), "near")
    with pytest.raises(AssertionError):
        tools.close(torch.tensor([1.0]), torch.tensor([1.00011]), "far")
    encoder = GoodEncoder.load("random", GoodEncoder.Options())
    encoder.max_seconds = None
    assert tools.longest(encoder) == 60 * encoder.sample_rate
    encoder.max_seconds = 1.5
    assert tools.longest(encoder) == round(1.5 * encoder.sample_rate)


def test_a_whole_encoder_is_checked_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(**options: Any) -> Any:
        return lambda: GoodEncoder.load("random", GoodEncoder.Options(**options))

    monkeypatch.setattr(encoders, "ALL", encoders.ALL[:1])
    encoders.check_encoder(make())
    encoders.check_encoder(make(), make(gain=2.0))
    with pytest.raises(AssertionError) as raised:
        encoders.check_encoder(make(), make())
    assert str(raised.value) == "`other` gives the same output as `make`"


# --- planted batches


@pytest.mark.parametrize("level", ["frame", "clip", "sequence", "pair", "pretraining"])
def test_a_planted_batch_can_be_taken_apart(level: str) -> None:
    whole = planted.plant(level)
    again = planted.plant(level)
    assert torch.equal(whole.values, again.values)
    assert torch.equal(whole.batch.targets, again.batch.targets)
    assert whole.lengths == (9, 5, 7, 3) and len(whole.batch.clips) == 4
    assert whole.batch.seeds == (11, 12, 13, 14) and whole.batch.step == 3
    framed = level in ("frame", "sequence", "pretraining")
    wide = 8 if level in ("pair", "pretraining") else 3
    assert whole.values.shape == ((4, 9, wide) if framed else (4, wide))
    assert whole.sizes == ((7,) if level == "pretraining" else (3,))
    some = whole.rows([1, 3])
    assert [clip.id for clip in some.clips] == ["clip1", "clip3"] and some.seeds == (12, 14)
    assert some.inputs.lengths.tolist() == [400 + 4 * 320, 400 + 2 * 320]
    assert some.inputs.samples.shape == (2, 400 + 4 * 320)  # type: ignore[union-attr]
    targets = whole.batch.targets[[1, 3]]
    kept = {"frame": 5, "pretraining": 5, "sequence": 1}.get(level, 1)
    assert torch.equal(some.targets, targets[:, :kept])
    assert some.target_lengths.tolist() == whole.batch.target_lengths[[1, 3]].tolist()
    assert (some.mask is None) == (level != "pretraining")
    if some.mask is not None:
        assert some.mask.shape == (2, 5) and some.mask.sum(1).tolist() == [3, 3]
    said, lengths = whole.model([1, 3])(some)
    assert lengths.tolist() == [5, 3] and said.requires_grad
    assert torch.equal(said.detach(), whole.values[[1, 3], :5] if framed else whole.values[[1, 3]])
    encoded = whole.model([0]).encode(some)
    assert encoded.local is not None and encoded.local.shape == (1, 9, 5)
    assert not whole.local[3, 3:].any() and whole.local[3, :3].any()


@pytest.mark.parametrize("level", ["frame", "clip", "sequence", "pair", "pretraining"])
def test_spoilt_padding_differs_where_nobody_may_look_and_nowhere_else(level: str) -> None:
    whole = planted.plant(level)
    spoilt = whole.spoilt()
    inside = torch.arange(9) < torch.tensor([9, 5, 7, 3])[:, None]
    if level in ("frame", "sequence"):
        assert spoilt.values[~inside].isnan().all()
        assert torch.equal(spoilt.values[inside], whole.values[inside])
    else:
        assert torch.equal(spoilt.values, whole.values)
    before, after = whole.batch.targets, spoilt.batch.targets
    if level in ("frame", "pretraining"):
        assert bool((after[~inside] == 1).all()) and torch.equal(after[inside], before[inside])
    elif level == "sequence":
        assert after.tolist() == [[1, 2, 1], [2, 2, 2], [1, 1, 2], [2, 2, 2]]
    else:
        assert torch.equal(after, before)


def test_a_model_that_is_right_says_what_is_meant() -> None:
    frame = planted.plant("frame")
    said, _ = frame.right(3.0)(frame.batch)
    assert torch.equal(said > 0, frame.batch.targets > 0) and set(said.abs().unique().tolist()) == {
        3
    }
    clip = planted.plant("clip")
    for by in (2.0, -2.0):
        rows = [[by if column == own else -by for column in range(3)] for own in (0, 1, 2, 1)]
        assert clip.right(by)(clip.batch)[0].tolist() == rows
    sequence = planted.plant("sequence")
    said, _ = sequence.right(1.0)(sequence.batch)
    path = said.argmax(-1)
    assert torch.equal(said, 2.0 * torch.nn.functional.one_hot(path, 3) - 1.0)
    assert path[0].tolist() == [1, 0, 2, 0, 1, 0, 0, 0, 0]
    assert path[2].tolist() == [1, 0, 1, 0, 0, 0, 0, 0, 0]


def test_the_level_of_an_objective() -> None:
    options = bab.Options()
    assert level_of(Masked, Masked.Options()) == "pretraining"

    def made(**members: Any) -> Any:
        return type("It", (GoodObjective,), {"__doc__": "x", **members})

    assert level_of(made(level=("sequence", "clip")), options) == "clip"  # whatever stands first
    assert level_of(made(level="sequence"), options) == "sequence"
    undeclared = made(level="", forward=lambda self, model, batch: 1 / 0)
    with pytest.raises(AssertionError) as raised:
        level_of(undeclared, GoodObjective.Options())
    said = str(raised.value)
    assert said.startswith("it takes the targets of no level: ")
    assert said.count("ZeroDivisionError: division by zero") == said.count(";") + 1 >= 4
