"""One fold by hand: what dev decides, what is solved, which encoder is trained; ranks beside it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

import bab
from bab.core.errors import BabError, ConfigError, CorpusError
from bab.core.record import RunInfo
from bab.core.types import Clip, Output, Prediction
from bab.data.splits import Fold
from bab.machine import processes
from bab.running import fold as module
from bab.running.answers import Answers
from bab.running.fold import Evaluation

INFO = RunInfo("r", "f", "t", "c", "e", 5, {})
CLIPS = [Clip("a", "a.wav", 0, 1, "g"), Clip("b", "b.wav", 0, 1, "g")]


class Errors(bab.Task):
    """The sum of the values, as an error or as a score."""

    primary = "sum"
    presets = ("usual", "other")

    def __init__(self, **changes: Any) -> None:
        super().__init__(None)
        self.__dict__.update(changes)
        self.tuned_on: list[Any] = []

    def tune(self, outputs: Any, grid: Any, labels: Any) -> dict[str, Any]:
        self.tuned_on.append((outputs, grid, labels))
        return {"usual": {"add": 10.0}, "other": {"add": 20.0}}

    def decode(self, output: Output, grid: Any, labels: Any, tuned: Any) -> Prediction:
        return Prediction(output.clip.id, scores={"v": float(output.values[0]) + tuned["add"]})

    def score(self, references: Any, predictions: Any) -> dict[str, float]:
        assert references is CLIPS and list(predictions) == ["a", "b"]
        total = sum(p.scores["v"] for p in predictions.values())
        return {"sum": total, "most": max(p.scores["v"] for p in predictions.values())}


def evaluation(**changes: Any) -> tuple[Evaluation, Any]:
    task = Errors(**changes)
    context = SimpleNamespace(
        parts=SimpleNamespace(task=task, encoder=SimpleNamespace(grid="grid")), answers=Answers(),
        info=INFO, references=lambda clips, split: clips if split == "dev" else None,
    )  # fmt: skip
    fold = Fold([], CLIPS, [])
    return Evaluation(cast(Any, context), cast(Any, "scorer"), fold, {"k": ("a",)}), context


OUTPUTS = [Output(c, np.array([v], np.float32)) for c, v in zip(CLIPS, (1.0, 4.0), strict=True)]


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({}, 25.0), ({"higher_is_better": False}, -25.0), ({"select": "most"}, 14.0),
        ({"select": "most", "higher_is_better": False}, -14.0),
    ],
)  # fmt: skip
def test_dev_decides_by_one_metric_of_the_first_preset(
    changes: dict[str, Any], value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, context = evaluation(**changes)
    metrics, decides = judge.judged(OUTPUTS, 7)
    assert metrics == {"sum": 25.0, "most": 14.0} and decides == value
    assert context.parts.task.tuned_on == [(OUTPUTS, "grid", {"k": ("a",)})]
    assert context.answers.tuned(INFO, 7) == {"usual": {"add": 10.0}, "other": {"add": 20.0}}
    asked: list[Any] = []
    monkeypatch.setattr(module, "answered", lambda *given: asked.append(given) or OUTPUTS)
    assert judge(7) == (metrics, value)
    ((_, scorer, fold, split),) = asked
    assert (scorer, fold, split) == ("scorer", judge.fold, "dev")
    assert judge.outputs(cast(Any, "another")) is OUTPUTS and asked[1][1] == "another"


def test_dev_that_gives_no_deciding_metric_is_told() -> None:
    judge, _ = evaluation(select="f1")
    with pytest.raises(CorpusError) as error:
        judge.judged(OUTPUTS, 7)
    assert str(error.value) == (
        "the dev split gives no f1, so no checkpoint can be chosen: it needs clips that hold what "
        "the task looks for"
    )


def test_a_head_is_solved_for_one_kind_of_label() -> None:
    context = SimpleNamespace(config=SimpleNamespace(head=SimpleNamespace(name="logistic")))
    with pytest.raises(ConfigError) as error:
        module._solve(cast(Any, context), cast(Any, None), [], {"age": ("a",), "mood": ("b",)})
    assert str(error.value) == (
        "head 'logistic' is solved for one kind of label, not for age and mood at once: make a run "
        "for each"
    )


@pytest.mark.parametrize(
    ("index", "model", "loaded"),
    [(0, None, ""), (1, None, "opened"), (0, "m", ""), (1, "m", "saved")],
)
def test_each_fold_trains_an_encoder_from_the_weights_that_were_named(
    index: int, model: str | None, loaded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[Any] = []
    monkeypatch.setattr(module, "freeze", lambda encoder, what: frozen.append((encoder, what)))
    monkeypatch.setattr(module, "open_encoder", lambda *given: (("opened", given), ()))
    monkeypatch.setattr(
        module, "load_saved", lambda *given: SimpleNamespace(encoder=("saved", given))
    )
    config = SimpleNamespace(
        mode="finetune", model=model, offline="o", trust_code="t", encoder="e", freeze="conv"
    )
    context = SimpleNamespace(config=config, parts=SimpleNamespace(encoder="own"))
    encoder: Any = module._trained(cast(Any, context), index)
    if loaded:
        first = model if loaded == "saved" else "e"
        assert encoder == (loaded, (first, "o", "t"))
    else:
        assert encoder == "own"
    assert frozen == [(encoder, "conv")]
    config.mode = "probe"
    assert module._trained(cast(Any, context), index) is None and len(frozen) == 1


def test_ranks_that_see_other_checkpoints_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step-000000004.safetensors"
    shared: dict[str, Any] = {"first": path.name, "apart": False}
    monkeypatch.setattr("accelerate.utils.broadcast_object_list", lambda names: [shared["first"]])
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: [*own, shared["apart"]])
    two: Any = SimpleNamespace(num_processes=2)

    def said() -> str:
        with pytest.raises(BabError) as error:
            processes.same_checkpoint(tmp_path, two)
        return str(error.value)

    told = f"in {tmp_path}: --runs must name a folder that all machines share"
    first = f"the processes don't see the same checkpoints (the first one: {path.name}) {told}"
    assert said() == first
    path.touch()
    processes.same_checkpoint(tmp_path, two)
    shared["apart"] = True
    assert said() == first
    shared.update(first=None, apart=False)
    assert said() == first.replace(path.name, "none")
    processes.same_checkpoint(tmp_path, cast(Any, SimpleNamespace(num_processes=1)))


def test_processes_beside_a_gpu_share_its_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 9)
    for threads, gpu, local, world in (
        (1, True, None, 4), (1, True, "2", 8), (1, True, None, 1), (2, True, None, 4),
        (1, False, None, 4), (1, True, "20", 20),
    ):  # fmt: skip
        monkeypatch.setattr(torch, "get_num_threads", lambda t=threads: t)
        monkeypatch.setattr(torch.cuda, "is_available", lambda g=gpu: g)
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        if local is not None:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        processes.share_cpus(world)
    assert asked == [2, 4, 1]
