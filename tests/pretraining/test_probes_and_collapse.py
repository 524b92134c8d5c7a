"""What is watched while an encoder pretrains: dev losses, collapse, probes as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from bab.config.pretrain import PretrainConfig
from bab.config.resolve import pretrain_config
from bab.core.observers import Watchers
from bab.core.record import RunInfo
from bab.core.types import Loss, Term
from bab.pretraining.watch import Watch, collapsed, dev_losses

INFO = RunInfo("x", ".", "pretrain", "rttm", "hubert", 500, {})


@pytest.mark.parametrize(
    ("values", "groups", "lost"),
    [
        ({}, 2, False),
        ({"perplexity": 2.49}, 2, True),  # 1.25 times what one code of each group has
        ({"perplexity": 2.5}, 2, False),
        ({"perplexity": 1.24}, 1, True),
        ({"perplexity": 1.25}, 1, False),
        ({"perplexity": 2.49}, 0, True),  # of clusters, two
        ({"perplexity": 2.5}, 0, False),
    ],
)
def test_a_perplexity_of_a_code_or_two_is_a_collapse(
    values: dict[str, float], groups: int, lost: bool
) -> None:
    assert collapsed(values, groups) is lost


# --- dev losses


class Batch:
    """A batch that only says which it is."""

    def __init__(self, number: int) -> None:
        self.number = number

    def to(self, device: Any) -> Batch:
        return self


TERMS = {
    0: Loss({"a": Term(torch.tensor(6.0), 2.0, 0.5), "b": Term(torch.tensor(1.0), 0.0)},
            {"right": (3.0, 4.0)}),
    1: Loss({"a": Term(torch.tensor(4.0), 3.0, 0.5)}, {"right": (torch.tensor(2.0), 1.0)}),
    2: Loss({"c": Term(torch.tensor(9.0), 3.0)}, {"none": (1.0, 0.0)}),
}  # fmt: skip


def objective(scorer: Any, batch: Batch) -> Loss:
    assert not torch.is_grad_enabled()
    return TERMS[batch.number]


def losses(*numbers: int, rank: int = 0, world: int = 1) -> dict[str, float]:
    handle = SimpleNamespace(
        process_index=rank,
        num_processes=world,
        device="cpu",
        autocast=Accelerator(cpu=True).autocast,
    )
    batches: Any = [Batch(number) for number in numbers]
    return dev_losses(None, objective, batches, handle)  # type: ignore[arg-type]


def test_dev_losses_are_sums_over_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.utils.gather_object", None)  # one process gathers nothing
    assert losses(0, 1, 2) == pytest.approx(
        {"loss": 1.0 + 3.0, "loss/a": (3 + 2) / 5, "loss/c": 3.0, "right": 5 / 5}
    )
    assert losses(0) == pytest.approx({"loss": 1.5, "loss/a": 1.5, "right": 0.75})
    assert losses() == {"loss": 0}


def test_each_process_takes_its_share_and_all_get_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: given.extend(own) or own)
    for rank in (0, 1):
        losses(0, 1, 2, rank=rank, world=2)
    assert [sorted(names) for _, names in given] == [["loss/a", "loss/b", "loss/c"], ["loss/a"]]
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: given)
    assert losses(1, world=2) == pytest.approx(losses(0, 1, 2))


# --- the watch


class Said(Watchers):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.scores: list[dict[str, Any]] = []

    def bab_notice(self, run: RunInfo, message: str) -> None:
        assert run is INFO
        self.notices.append(message)

    def bab_evaluated(self, run: RunInfo, **told: Any) -> None:
        assert run is INFO
        self.scores.append(told)


class Probe:
    """In subprocess.Popen's place; a test says when and how it ends."""

    made: list[Probe]

    def __init__(self, command: list[str], **options: Any) -> None:
        self.command, self.options = command, options
        self.returncode = 0
        self.over = False
        self.calls: list[str] = []
        self.made.append(self)

    def poll(self) -> int | None:
        return self.returncode if self.over else None

    def wait(self) -> int:
        self.calls.append("wait")
        return self.returncode

    def kill(self) -> None:
        self.calls.append("kill")


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[Probe]:
    Probe.made = []
    monkeypatch.setattr(subprocess, "Popen", Probe)
    return Probe.made


def config(*sets: str) -> PretrainConfig:
    asked = {"encoder": "hubert", "objective": "contrastive", "corpus": "rttm"}
    return pretrain_config(None, asked, sets)


def watching(
    folder: Path, *sets: str, groups: int = 2, beside: bool = False
) -> tuple[Watch, Said, list[Path]]:
    said, exported = Said(), []  # type: ignore[var-annotated]
    watch = Watch(config(*sets), folder, said, exported.append, groups, beside)
    return watch, said, exported


def record(place: Path, value: float) -> None:
    folder = place / "runs" / "vtc" / "a"
    folder.mkdir(parents=True)
    values = {"primary": "f1", "metrics": {"f1": value, "recall": 0.1}}
    (folder / "record.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("groups", "what"),
    [(2, "one code per group: a higher objective.diversity_weight,"), (0, "a cluster or two:")],
)
def test_a_collapse_is_said_after_fifty_steps_and_again_after_a_recovery(
    tmp_path: Path, groups: int, what: str
) -> None:
    watch, said, _ = watching(tmp_path, groups=groups)
    low = [*range(1, 50), *range(60, 170), *range(180, 229)]  # 49, 110 and 49 in a row
    for step in range(1, 240):
        watch.bab_step(INFO, step, {"perplexity": 2.125 if step in low else 30.0})
    assert said.notices == [
        f"step 109: the perplexity has been 2.12: it has collapsed to {what} a lower train.lr or "
        "a longer train.warmup may help"
    ]


def test_a_probe_is_a_run_of_its_own(
    tmp_path: Path, probes: list[Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("BAB_MINE", "kept")
    sets = ("probe.every=3", "probe.task=gender", "probe.corpus=kaldi:/x", "probe.sets=[a=1, b=2]")
    watch, said, exported = watching(tmp_path, *sets)
    place = tmp_path / "probes" / "step-000000003"
    record(place, 0.625)
    for step in (1, 2, 3, 4):
        watch.bab_step(INFO, step, {})
    (probe,) = probes
    assert exported == [place / "model"]
    assert probe.command == [
        sys.executable, "-m", "bab", "run", "--task", "gender", "--quiet", "--encoder",
        f"hubert:{place / 'model'}", "--corpus", "kaldi:/x", "--set", "a=1", "--set", "b=2",
        "--runs", str(place / "runs"), "--offline", "--device", "cpu",
    ]  # fmt: skip
    own = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    own.add("TORCHELASTIC_RUN_ID")
    assert probe.options["env"] == {k: v for k, v in os.environ.items() if k not in own}
    assert probe.options["env"]["BAB_MINE"] == "kept"
    assert probe.options["stdout"] == subprocess.DEVNULL
    assert said.scores == [
        {"step": 3, "split": "probe/gender", "metrics": {"f1": 0.625}, "best": False}
    ]
    assert said.notices == [] and watch.probes == [] and probe.calls == ["wait"]
    other, _, _ = watching(tmp_path, "probe.every=1")
    record(tmp_path / "probes" / "step-000000001", 0.5)
    other.bab_step(INFO, 1, {})
    assert "--corpus" not in probes[1].command


@pytest.mark.parametrize(
    ("status", "printed", "recorded", "why"),
    [
        (2, "first\n\nlast line \n\n", True, "last line"),
        (0, "", False, "no message"),
        (1, "", False, "no message"),
    ],
)
def test_a_probe_that_fails_is_told_and_training_goes_on(
    tmp_path: Path, probes: list[Probe], status: int, printed: str, recorded: bool, why: str
) -> None:
    watch, said, _ = watching(tmp_path, "probe.every=2", beside=True)
    watch.bab_step(INFO, 2, {})
    place = tmp_path / "probes" / "step-000000002"
    if recorded:
        record(place, 0.5)
    (place / "said.log").write_text(printed)
    probes[0].returncode, probes[0].over = status, True
    watch.bab_step(INFO, 3, {})
    assert said.notices == [f"step 2: the probe on 'vtc' failed: {why}"] and said.scores == []


def test_beside_the_training_scores_come_when_they_are_there(
    tmp_path: Path, probes: list[Probe]
) -> None:
    watch, said, _ = watching(tmp_path, "probe.every=2", beside=True)
    for step in (2, 4, 6):
        record(tmp_path / "probes" / f"step-{step:09d}", step / 10)
        watch.bab_step(INFO, step, {})
    assert said.scores == [] and len(probes) == 3
    probes[1].over = True
    watch.bab_step(INFO, 7, {})
    assert [one["step"] for one in said.scores] == [4]
    watch.told(INFO, wait=True)
    assert [one["step"] for one in said.scores] == [4, 2, 6]
    watch.bab_step(INFO, 8, {})
    watch.leave()
    assert [one.calls for one in probes[:3]] == [["wait"]] * 3
    assert probes[3].calls == ["kill", "wait"]


def test_without_probes_nothing_is_exported(tmp_path: Path, probes: list[Probe]) -> None:
    watch, _, exported = watching(tmp_path)
    for step in range(5):
        watch.bab_step(INFO, step, {})
    assert exported == [] and probes == []
