"""What suites send, ask and skip: events of a run, options of an encoder, what isn't tried."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from good_parts import GoodCorpus, GoodEncoder, GoodHead, GoodTask, SolvedHead, make_corpus

import bab
from bab.core.observers import hookimpl
from bab.core.record import RunInfo
from bab.testing import heads, loading, observers
from bab.testing.heads import HeadCase
from bab.testing.suite import name_of, run_checks
from bab.testing.taskcase import TaskCase, better, frames_of

# --- events

TOLD: list[tuple[str, dict[str, Any]]] = []


class Listens:
    """Hears all."""

    @hookimpl
    def bab_run_start(self, run):
        TOLD.append(("start", {"fold": run.fold, "folds": run.folds, "steps": run.steps}))

    @hookimpl
    def bab_notice(self, message):
        TOLD.append(("notice", {"message": message}))

    @hookimpl
    def bab_progress(self, stage, done, total, unit):
        TOLD.append(("progress", {"stage": stage, "done": done, "total": total, "unit": unit}))

    @hookimpl
    def bab_step(self, step, values):
        TOLD.append(("step", {"step": step, **values}))

    @hookimpl
    def bab_evaluated(self, step, split, metrics, best):
        TOLD.append(("evaluated", {"step": step, "split": split, "best": best, **metrics}))

    @hookimpl
    def bab_checkpoint(self, step, path):
        TOLD.append(("checkpoint", {"step": step, "name": Path(path).name}))

    @hookimpl
    def bab_run_end(self, run, record, error):
        status = None if record is None else (record.status, record.primary, record.metrics)
        TOLD.append(("end", {"record": status, "error": error}))


class Knows:
    """Keeps all that it is told of the run itself."""

    told: list[Any]

    @hookimpl
    def bab_run_start(self, run):
        self.told.append(run)

    @hookimpl
    def bab_notice(self, run, message):
        self.told.append(message)

    @hookimpl
    def bab_progress(self, stage, done, total, unit):
        self.told.append((stage, done, total, unit))

    @hookimpl
    def bab_step(self, step, values):
        self.told.append((step, dict(values)))

    @hookimpl
    def bab_checkpoint(self, run, path):
        self.told.append(path)

    @hookimpl
    def bab_run_end(self, run, record, error):
        self.told.append((run, record, error))


def test_what_an_observer_is_told_of_a_run(tmp_path: Path) -> None:
    """The run as a plugin finds it: every field of it may be read."""
    cls = type("Here", (Knows,), {"told": []})
    observers.check_run(observers.ObserverCase(cls, tmp_path))
    runs = [
        RunInfo(
            "0123456789ab", str(tmp_path / "run"), "task", "corpus", "encoder:random", 200,
            {"seed": 0}, "f1", fold, 2,
        )
        for fold in (0, 1)
    ]  # fmt: skip
    *_, (run, record, error) = cls.told
    assert run == runs[1]
    assert [one for one in cls.told[:-1] if isinstance(one, RunInfo)] == [
        runs[0], runs[0], runs[1], runs[1]
    ]  # fmt: skip
    assert cls.told[1] == "3 clips were left out: no label, 'ünknown'"
    assert cls.told[2:6] == [
        ("encode", 0.0, 1.0, "s"), ("encode", 0.5, 1.0, "s"), ("encode", 1.0, 1.0, "s"),
        ("nothing", 0.0, 0.0, "files"),
    ]  # fmt: skip
    assert cls.told[6:10] == [
        (step, {"loss": 1.5 / step, "lr": 1e-3}) for step in (1, 100, 101, 200)
    ]
    assert cls.told[10] == str(tmp_path / "run" / "checkpoint")
    assert (record.id, record.status, record.reason, record.task) == (
        "0123456789ab", "done", "", "task"
    )  # fmt: skip
    assert (record.corpus, record.encoder, record.seed, record.config) == (
        "corpus", "encoder:random", 0, {}
    )  # fmt: skip
    assert (record.metrics, record.primary, error) == ({"f1": 0.5}, "f1", "")


def test_an_observers_wrong_hook_is_told_by_its_class(tmp_path: Path) -> None:
    unmarked = type("Mine", (), {"bab_step": lambda self, step: None})
    told = applied(observers.check_hooks, observers.ObserverCase(unmarked, tmp_path))
    said = "it raised PluginError: the observer 'Mine' of here: bab_step must be marked with "
    assert told[0] == "failed" and told[1].startswith(f"{said}@bab.hookimpl (")


def test_a_run_is_played_from_start_to_end_resumed_once_in_two_folds(tmp_path: Path) -> None:
    case = observers.ObserverCase(Listens, tmp_path)
    TOLD.clear()
    observers.check_run(case)
    names = [name for name, _ in TOLD]
    fold = ["start", "notice", *["progress"] * 4, *["step", "evaluated"] * 4, "checkpoint"]
    fold += ["start", "step"]
    assert names == [*fold, *fold, "end"]
    assert [e for n, e in TOLD if n == "checkpoint"] == [{"step": 200, "name": "checkpoint"}] * 2
    starts = [event for name, event in TOLD if name == "start"]
    assert [(e["fold"], e["folds"], e["steps"]) for e in starts] == [
        (number, 2, 200) for number in (0, 0, 1, 1)
    ]
    steps = [event for name, event in TOLD if name == "step"][:5]
    assert [event["step"] for event in steps] == [1, 100, 101, 200, 101]
    assert [event["loss"] for event in steps[:2]] == [1.5, 0.015] and math.isnan(steps[4]["loss"])
    assert [e["done"] / (e["total"] or 1) for n, e in TOLD if n == "progress"][:4] == [0, 0.5, 1, 0]
    evaluated = [event for name, event in TOLD if name == "evaluated"][:4]
    assert [(e["split"], e["f1"], e["f1/KCHI"]) for e in evaluated] == [
        ("dev", step / 400, 0.0) for step in (1, 100, 101, 200)
    ]
    assert evaluated[0]["best"] is False and evaluated[3]["best"] is True
    assert TOLD[-1] == ("end", {"record": ("done", "f1", {"f1": 0.5}), "error": ""})
    TOLD.clear()
    observers.check_failure(case)
    ends = [event for name, event in TOLD if name == "end"]
    assert ends == [
        {"record": None, "error": "out of memory"},
        {"record": None, "error": "stopped"},
    ]
    observers.check_effects(case)
    TOLD.clear()
    observers.check_effects(case)  # again, in the same folder
    assert len(TOLD) == 2 * len(fold) + 1 and list((tmp_path / "here").iterdir()) == []


# --- encoders, beyond one forward pass


def applied(check: Any, subject: Any) -> tuple[str, str]:
    (outcome,) = run_checks([check], subject)
    return outcome.verdict, outcome.told


def encoder(**members: Any) -> type:
    return type("It", (GoodEncoder,), {"__doc__": "x", **members})


def test_options_are_tried_where_there_are_some_and_a_load(monkeypatch: Any) -> None:
    tried: list[dict[str, Any]] = []

    class Watched(GoodEncoder):
        """Says what it is loaded with."""

        @classmethod
        def load(cls, weights, options, *, offline=False, trust_code=False):
            assert weights == "random" and offline
            tried.append(options.model_dump())
            return super().load(weights, options)

    def make() -> Any:
        return GoodEncoder.load.__func__(Watched, "random", Watched.Options())  # type: ignore[attr-defined]

    assert applied(loading.check_options, make) == ("ok", "")
    assert tried == [{"width": 9, "gain": 1.0}, {"width": 8, "gain": 1.5}]
    nothing = "it has no options of which another value could be tried"
    bare = encoder(Options=bab.Options, identify=lambda self: setattr(self, "fingerprint", "x"))

    def without() -> Any:
        made = make()
        made.__class__, made.options = bare, bab.Options()
        return made

    assert applied(loading.check_options, without) == ("not applicable", nothing)
    unloaded = encoder(load=bab.Encoder.load)

    def unloadable() -> Any:
        made = make()
        made.__class__ = unloaded
        return made

    assert applied(loading.check_options, unloadable) == ("not applicable", nothing)
    said = applied(loading.check_weights, unloadable)
    assert said == ("not applicable", "it has no `load` of its own")
    tried.clear()
    monkeypatch.setattr(loading, "_OPTIONS", 1)
    assert applied(loading.check_options, make) == ("ok", "") and len(tried) == 1
    size = sum(p.numel() for p in make().parameters())
    monkeypatch.setattr(loading, "_SMALL", size)
    assert applied(loading.check_options, make)[0] == "ok"
    monkeypatch.setattr(loading, "_SMALL", size - 1)
    assert applied(loading.check_options, make) == (
        "not applicable", "0 million parameters are too many to load for each option"
    )  # fmt: skip


def test_an_option_that_asks_for_what_is_not_here_is_passed_over() -> None:
    class Absent(GoodEncoder):
        """Of another width it would need something."""

        @classmethod
        def load(cls, weights, options, *, offline=False, trust_code=False):
            if options.width != 8:
                raise bab.BabError("install it")
            return super().load(weights, options)

    def make() -> Any:
        return Absent.load("random", Absent.Options())

    assert applied(loading.check_options, make) == ("ok", "")


def test_what_make_knows_goes_before_what_the_encoder_does() -> None:
    class Make:
        options = GoodEncoder.Options(gain=3.0)
        weights = "here"

        def __call__(self) -> Any:
            return GoodEncoder.load("random", GoodEncoder.Options(gain=2.0))

    make: Any = Make()
    made = make()
    assert loading.options_of(make, made).gain == 3.0 and loading.weights_of(make, made) == "here"
    assert loading.options_of(make.__call__, made).gain == 2.0
    assert loading.weights_of(make.__call__, made) == "random"
    del made.options
    assert loading.options_of(lambda: None, made).gain == 1.0  # type: ignore[arg-type,return-value]


def test_a_mask_is_tried_where_it_is_taken_and_given_back_as_it_was() -> None:
    seen: list[Any] = []
    refuses = False

    def forward(self, waves, mask=None, layers="all"):
        seen.append(None if mask is None else mask.clone())
        if mask is not None and refuses:
            raise bab.BabError("no masks")
        return GoodEncoder.forward(self, waves, mask, layers)

    made = encoder(forward=forward)
    for refuses in (False, True):  # noqa: B007  read by `forward`
        seen.clear()
        assert applied(loading.check_input, lambda: made(made.Options()).eval()) == ("ok", "")
        assert seen[0] is None and seen[1].shape == (2, 27)
        assert seen[1].sum(1).tolist() == [1, 1] and bool(seen[1][:, 0].all())


# --- heads


def test_heads_are_built_with_seeds_of_their_own() -> None:
    case = HeadCase(GoodHead, GoodHead.Options())
    before = torch.get_rng_state()
    one, same, other = case(), case(0), case(1)
    assert torch.equal(torch.get_rng_state(), before) and not one.training
    assert torch.equal(one.output.weight, same.output.weight)
    assert not torch.equal(one.output.weight, other.output.weight)


@pytest.mark.parametrize(
    ("base", "passed"),
    [(GoodHead, ["fit"]), (SolvedHead, ["learns"]),
     (type("Bent", (GoodHead,), {"__doc__": "x", "linear": False}), ["linear", "fit"])],
)  # fmt: skip
def test_what_has_no_meaning_for_a_head_is_passed_over(base: Any, passed: list[str]) -> None:
    outcomes = run_checks(heads.CHECKS, HeadCase(base, base.Options()))
    assert [one.name for one in outcomes if one.verdict == "not applicable"] == passed
    assert [name_of(check) for check in heads.CHECKS] == [
        "described", "shapes", "padding", "effects", "linear", "fit", "learns", "state",
    ]  # fmt: skip


# --- tasks


def test_a_tasks_case_holds_what_a_run_would_give(tmp_path: Path) -> None:
    task: Any = GoodTask(GoodTask.Options())
    case = TaskCase.of(task, GoodCorpus(make_corpus(tmp_path), GoodCorpus.Options()))
    for kind in ("right", "wrong", "noise"):
        outputs = case.outputs(case.test, kind)
        again = case.outputs(case.test, kind)
        assert [one.clip for one in outputs] == case.regions(case.test)
        assert all((a.values == b.values).all() for a, b in zip(outputs, again, strict=True))
        assert all(one.values.dtype == "float32" for one in outputs)
    assert better(task, 2.0, 1.0) is task.higher_is_better
    assert better(task, 1.0, 2.0) is not task.higher_is_better and not better(task, 1.0, 1.0)
    right, wrong = (case.scores(kind)[task.primary] for kind in ("right", "wrong"))
    assert better(task, right, wrong)
    clip = case.test[0]
    assert frames_of(clip) == max(1, (round(clip.duration * 16000) - 400) // 320 + 1)
