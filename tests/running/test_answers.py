"""What is known of a model before it is asked: only of the very weights that are meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bab.config.resolve import run_config
from bab.core.record import RunInfo
from bab.running import fold
from bab.running.answers import Answers
from bab.running.runner import run


def info(run_id: str = "r", number: int = 0) -> RunInfo:
    return RunInfo(run_id, "f", "t", "c", "e", 10, {}, fold=number, folds=2)


def test_the_best_weights_are_remembered_once() -> None:
    answers = Answers()
    for step, value in ((10, 0.2), (20, 0.5), (30, 0.5)):
        answers.tune(info(), step, value, {"f1": {"step": step}})
    assert answers.tuned(info("other"), 20) is None and answers.tuned(info(number=1), 20) is None
    assert answers.tuned(info(), 20) == {"f1": {"step": 20}}
    assert answers.tuned(info(), 20) is None  # forgotten
    answers.tune(info(), 10, 0.2, {})
    assert answers.tuned(info(), 20) is None  # other weights
    answers.test(info(), 10, [])
    assert answers.tested(info(), 20) is None
    answers.test(info(), 10, [])
    assert answers.tested(info(), 10) == []


def test_a_run_asks_dev_no_more_than_it_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its record is that of a run which asks again."""
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    asked: list[str] = []
    answered = fold.answered

    def noted(context: Any, scorer: Any, one: Any, split: Any) -> Any:
        asked.append(split)
        return answered(context, scorer, one, split)

    monkeypatch.setattr(fold, "answered", noted)
    begun: list[Path] = []
    same = fold.same_checkpoint

    def looked(folder: Path, accelerator: Any) -> None:
        begun.append(folder)
        same(folder, accelerator)

    monkeypatch.setattr(fold, "same_checkpoint", looked)
    sets = ["train.steps=6", "train.eval_every=3", "train.batch=4", "train.lr=0.1"]
    given = {"encoder": "fbank", "task": "vtc", "quiet": True, "observers": [], "device": "cpu"}

    def made(name: str) -> Any:
        record, folder = run(run_config(None, {**given, "runs": str(tmp_path / name)}, sets))
        assert begun[-1] == folder / "checkpoints"  # all processes go on from one checkpoint
        return record

    once = made("once")
    assert asked == ["dev", "dev", "test"]
    monkeypatch.setattr(Answers, "tuned", lambda self, info, step: None)
    twice = made("twice")
    assert asked == ["dev", "dev", "test", "dev", "dev", "dev", "test"]
    assert once.id == twice.id and once.tuned == twice.tuned and once.presets == twice.presets
