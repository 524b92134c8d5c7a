"""A bench that trains a cell's runs together, against the same runs made one by one."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import forks
import pytest
from safetensors.torch import load_file

from bab.benching import worker
from bab.cli import main
from bab.config.resolve import run_config
from bab.core.record import Record
from bab.results.record import collect, load
from bab.running.runner import run

RATES, SEEDS = (1e-3, 3e-2), (0, 1)
OPTIONS = {"encoder": "fbank", "task": "classify", "corpus": "donateacry", "quiet": True}
SETS = ['task.labels=["reason"]', "train.batch=4", "train.steps=30", "train.eval_every=10"]


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(
    tmp_path: Path, features: Path, forked_workers: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setenv("BAB_CACHE", str(features))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def request(sets: list[str], force: bool = False, **changes: Any) -> dict[str, Any]:
    options = {**OPTIONS, "observers": ["jsonl"], **changes}
    return {
        "options": options, "sets": sets, "seeds": list(SEEDS), "rates": list(RATES),
        "runs": "runs", "search": "runs/.search", "force": force, "failed": "",
    }  # fmt: skip


def serve(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What a worker says to a request, but for progress."""
    said: list[dict[str, Any]] = []
    worker.serve(asked, lambda event: said.append(dict(event)))
    return [event for event in said if event["event"] != "progress"]


def alone(rate: float, seed: int, sets: list[str]) -> tuple[Record, Path]:
    options = {**OPTIONS, "observers": [], "runs": "alone", "seed": seed}
    return run(run_config(None, options, [*sets, f"train.lr={rate!r}"]))


def steps(folder: str) -> int:
    """How many training steps a run's own trainer took."""
    lines = (Path(folder) / "log.jsonl").read_text().splitlines()
    return sum(json.loads(line)["event"] == "step" for line in lines)


@pytest.mark.parametrize("more", [[], ["protocol=kfold", "folds=3"]], ids=["given", "kfold"])
def test_the_records_are_those_of_runs_made_one_by_one(here: Path, more: list[str]) -> None:
    sets = [*SETS, *more]
    events = list(serve(request(sets)))
    assert len(events) == 4  # two rates, two seeds
    for event in events:
        assert event["status"] == "done", event
        found = load(event["folder"])
        own, place = alone(event["rate"], event["seed"], sets)
        assert steps(event["folder"]) == 0  # all were taken in the sweep
        assert found.id == own.id
        assert found.dev == pytest.approx(own.dev, abs=1e-5)
        assert found.metrics == pytest.approx(own.metrics, abs=1e-5)
        assert found.cost["train_seconds"] > 0
        models = list(place.rglob("model.safetensors"))
        assert len(models) == (3 if more else 1)
        for path in models:
            together = load_file(Path(event["folder"]) / path.relative_to(place))
            for name, weight in load_file(path).items():
                # AdamW's steps hardly depend on a gradient's size, so one that cancels out to its
                # last digits may take another way: a weight in 10,000 does.
                apart = (together[name] - weight).abs()
                assert (apart > 5e-5).float().mean() < 1e-4
                assert apart.max() < 5e-3


def test_repeated_with_force_they_are_trained_anew(here: Path) -> None:
    first = {e["folder"]: load(e["folder"]) for e in serve(request(SETS))}
    assert [e["folder"] for e in serve(request(SETS))] == list(first)  # found done
    before = {f: (Path(f) / "record.json").stat().st_mtime_ns for f in first}
    for event in serve(request(SETS, force=True)):
        assert steps(event["folder"]) == 0
        assert (Path(event["folder"]) / "record.json").stat().st_mtime_ns != before[event["folder"]]
        assert load(event["folder"]).metrics == first[event["folder"]].metrics


def test_a_mistyped_attempt_is_forgotten_once_the_cell_has_run(here: Path) -> None:
    asked = {**request(["train.stepz=3"]), "seeds": [0], "rates": [0.01]}
    (event,) = serve(asked)
    assert event["status"] == "failed" and Path(event["folder"]).exists()
    other = {**request(["train.stepz=4"], encoder="hubert"), "seeds": [0], "rates": [0.01]}
    (kept,) = serve(other)
    (done,) = serve({**asked, "sets": SETS})
    assert done["status"] == "done"
    assert not Path(event["folder"]).exists() and Path(kept["folder"]).exists()


def test_what_is_not_exact_together_is_given_back(here: Path) -> None:
    apart = [{"event": "apart"}]
    assert serve(request([*SETS, "head.dropout=0.5"])) == apart  # known once the heads are built
    assert serve(request([*SETS, "train.patience=2"])) == apart  # known from the configuration
    assert serve(request([*SETS[1:], "head.rnn=bilstm"], task="vtc", corpus="rttm")) == apart
    assert serve(request([*SETS, "head.hiden=3"])) == apart  # each run reports its own error
    command = ["bench", "--encoders", "fbank", "--tasks", "classify@donateacry", "--seeds", "0,1"]
    sets = [part for one in [*SETS, "head.dropout=0.5"] for part in ("--set", one)]
    assert main([*command, *sets]) == 0
    records, _ = collect(here / "runs")
    assert sorted(r.seed for r in records) == [0, 1]


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_stopped_in_the_middle_of_a_sweep_it_goes_on(
    here: Path, how: signal.Signals, forked_workers: Path
) -> None:
    sets = [*SETS, "train.steps=600", "train.eval_every=10"]
    command = [sys.executable, "-m", "bab.cli", "bench", "--encoders", "fbank", "--seeds", "0,1"]
    command += ["--tasks", "classify@donateacry"]
    command += [part for one in sets for part in ("--set", one)]
    process = forks.Forked(command, cwd=here)
    deadline = time.monotonic() + 90
    while len(list(here.glob("runs/classify/*/*/*/checkpoints/best-*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if how == signal.SIGINT:
        process.send_signal(how)
    else:  # the worker: its bench tries the runs again, by themselves
        os.kill(int(forked_workers.read_text().split()[0]), how)
    _, said = process.communicate(timeout=200)
    if how == signal.SIGINT:
        assert process.returncode == 130, said
        assert collect(here / "runs")[0] == []
        left = list(here.glob("runs/classify/*/*/*/checkpoints/step-*"))
        assert len(left) == 2 and len({path.name for path in left}) == 1
        again = forks.run(command, cwd=here)
        assert again.returncode == 0, again.stderr
    else:
        assert process.returncode == 0, said
    records, _ = collect(here / "runs")
    assert sorted(r.seed for r in records) == [0, 1]
    for record in records:
        own, _ = alone(record.config["train"]["lr"], record.seed, sets)
        assert record.metrics == pytest.approx(own.metrics, abs=1e-5)
