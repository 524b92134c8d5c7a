"""Grids of runs: found, searched, failed, interrupted, resumed."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import forks
import pytest

from bab.benching import grid, search
from bab.benching.grid import SEARCH, Cell, Outcome, RunGrid
from bab.benching.search import Bench
from bab.cli import main
from bab.core.errors import BabError, ConfigError
from bab.core.record import Record
from bab.results.record import collect, load, save

QUICK = ["--set", "train.steps=10", "--set", "train.eval_every=10"]

# A head that is no linear map of a frame: its runs are not trained in one sweep.
ONE_BY_ONE = ["--set", "head.rnn=bilstm", "--set", "head.hidden=4", "--set", "head.layers=1"]


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


def times(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("record.json")}


def test_a_grid_is_searched_on_dev_and_not_repeated(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "--encoders", "fbank", "--tasks", "vtc", "--seeds", "0,1", *QUICK]
    command += ["--lr", "1e-2,1e-5"]
    assert main(command) == 0
    said = capsys.readouterr()
    records, skipped = collect(here / "runs")
    assert not skipped and sorted(r.seed for r in records) == [0, 1]
    searched, _ = collect(here / "runs" / ".search")
    dev = {
        rate: sum(r.dev["f1"] for r in searched if r.config["train"]["lr"] == rate) / 2
        for rate in (1e-2, 1e-5)
    }
    best = max(dev, key=lambda rate: dev[rate])
    for record in records:
        assert record.config["train"]["lr"] == best == record.search["chosen"]
        assert record.search["dev"] == pytest.approx({f"{k:g}": v for k, v in dev.items()})
        assert record.search["key"] == "train.lr"
    assert all(not r.search for r in searched) and len(searched) == 4
    value = sum(r.metrics["f1"] for r in records) / 2
    assert f"| {value:.3f} ±" in " ".join(said.out.split()) and "4 done" in said.out
    assert f"lr {best:g} is best on dev" in said.err
    before = times(here)
    assert main([*command, "--lr", "1e-2,1e-5,3e-2"]) == 0  # only the new rate is run
    after = times(here / "runs" / ".search")
    kept = {path: when for path, when in before.items() if ".search" in path}
    assert len(after) == 6 and kept.items() < after.items()
    assert len(collect(here / "runs")[0]) == 2


def test_what_fails_is_recorded_while_the_rest_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sick = {"task": "vtc", "head": {"rnn": "lots"}}
    where = here / "runs"
    grid = {
        "encoders": ["fbank"],
        "tasks": [sick, "vtc@esc50", "vtc@childproject"],
        "set": {"train": {"steps": 4}},
        "jobs": 2,
    }
    (here / "grid.yaml").write_text(json.dumps(grid))
    assert main(["bench", "grid.yaml"]) == 1
    said = capsys.readouterr()
    records, _ = collect(where)
    found = {r.status: r for r in records}
    assert set(found) == {"failed", "not-applicable", "done"}
    assert "head.rnn" in found["failed"].reason and found["failed"].task_version
    assert "needs segments" in found["not-applicable"].reason
    assert "failed: head.rnn" in said.out and "not-applicable:" in said.out
    assert all(text in said.out for text in ("1 done", "1 failed", "1 not-applicable"))
    grid["tasks"][0]["head"]["rnn"] = "none"  # type: ignore[index]
    (here / "grid.yaml").write_text(json.dumps(grid))
    assert main(["bench", "grid.yaml"]) == 0


def test_interrupted_it_goes_on(here: Path) -> None:
    command = [sys.executable, "-m", "bab.cli", "bench", "--encoders", "fbank", "--tasks", "vtc"]
    command += ["--seeds", "0,1", "--set", "train.steps=60", "--set", "train.save_every=5"]
    command += ["--set", "train.eval_every=60", *ONE_BY_ONE]
    process = forks.Forked(command)
    deadline = time.monotonic() + 90
    while not list(here.glob("runs/vtc/*/*/*/checkpoints/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in said and "Traceback" not in said
    assert collect(here / "runs")[0] == []
    assert list(here.glob("runs/vtc/*/*/*/checkpoints/step-*"))
    done = forks.run(command)
    assert done.returncode == 0, done.stderr
    assert [r.seed for r in sorted(collect(here / "runs")[0], key=lambda r: r.seed)] == [
        0,
        1,
    ]
    logs = [p.read_text() for p in here.glob("runs/vtc/*/*/*/log.jsonl")]
    assert any('"resumed"' in log for log in logs)


def test_a_worker_that_is_killed_takes_only_its_own_run_with_it(
    here: Path, forked_workers: Path
) -> None:
    command = [sys.executable, "-m", "bab.cli", "bench", "--encoders", "fbank", "--tasks", "vtc"]
    command += ["--seeds", "0,1", "--set", "train.steps=60", "--set", "train.save_every=5"]
    command += ["--set", "train.eval_every=60", *ONE_BY_ONE]
    process = forks.Forked(command)
    deadline = time.monotonic() + 90
    while not list(here.glob("runs/vtc/*/*/*/checkpoints/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(int(forked_workers.read_text().split()[0]), signal.SIGKILL)
    out, said = process.communicate(timeout=90)
    assert process.returncode == 1, said
    assert "the worker was killed (out of memory?)" in said
    assert "1 failed" in out and "1 done" in out
    assert sorted(r.status for r in collect(here / "runs")[0]) == ["done", "failed"]


def test_slips_are_found_before_anything_runs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "odd.yaml").write_text("encoder: fbank\n")
    for arguments, message in [
        (["--encoders", "fbanc", "--tasks", "vtc"], "did you mean 'fbank'"),
        (["--encoders", "fbank", "--tasks", "vtx"], "did you mean 'vtc'"),
        (["--encoders", "fbank", "--tasks", "vtc@rtm"], "did you mean 'rttm'"),
        (["--tasks", "vtc"], "no encoders are named"),
        (["--encoders", "fbank,", "--tasks", "vtc"], "an empty name"),
        (["--encoders", "fbank", "--tasks", "vtc@"], "not spelled TASK"),
        (["--encoders", "fbank", "--tasks", "vtc", "--seeds", "1.5"], "not a whole number"),
        (["--encoders", "fbank", "--tasks", "vtc", "--lr", "0"], "more than 0"),
        (["odd.yaml"], "did you mean 'encoders'"),
        (["none.yaml"], "no such file"),
    ]:
        assert main(["bench", *arguments]) == 2, arguments
        assert message in capsys.readouterr().err, arguments
    assert not (here / "runs").exists()


# --- choosing, without runs ---------------------------------------------------------------------


def make(name: str, dev: float, seed: int = 0, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "status": "done", "task": "vtc", "task_version": "1", "corpus": "rttm",
        "corpus_version": "1", "corpus_digest": "d", "encoder": "fbank",
        "encoder_fingerprint": "f", "head": "frames", "objective": "multilabel", "mode": "probe",
        "protocol": "given", "split": "test", "primary": "f1", "dev": {"f1": dev},
        "metrics": {"f1": 1 - dev}, **changes,
    }  # fmt: skip
    return Record(id=name, seed=seed, **values)


def test_the_best_mean_on_dev_wins_and_test_plays_no_part() -> None:
    runs = {0.1: [make("a", 0.5), make("b", 0.7, 1)], 0.01: [make("c", 0.65), make("d", 0.6, 1)]}
    assert search.choose(runs) == (0.01, pytest.approx({0.01: 0.625, 0.1: 0.6}))
    lower = {rate: [make(r.id, r.dev["f1"], higher_is_better=False) for r in records]
             for rate, records in runs.items()}  # fmt: skip
    assert search.choose(lower)[0] == 0.1
    broken = {0.1: [make("a", 0.9), None], 0.01: [make("c", 0.2), make("d", 0.2, 1)]}
    rate, dev = search.choose(broken)
    assert rate == 0.01 and math.isnan(dev[0.1])
    ties = {0.1: [make("a", 0.5)], 0.01: [make("b", 0.5)]}
    assert search.choose(ties)[0] == 0.01


def test_a_rate_is_chosen_by_what_chooses_checkpoints() -> None:
    plain = make("a", 1.0, primary="wer", higher_is_better=False)
    runs = {
        rate: [replace(plain, dev={"wer": 1.0, "cer": cer})]
        for rate, cer in ((0.1, 0.6), (0.01, 0.8))
    }
    assert search.choose(runs, "cer") == (0.1, {0.01: 0.8, 0.1: 0.6})


def test_a_run_that_is_the_same_at_every_rate_fails_once() -> None:
    cell = Cell("fbank", "valence")
    work = Bench(RunGrid((cell,), (0,), (0.1, 0.01)), lambda line: None)
    for rate in (0.1, 0.01):
        work.take(cell, Outcome("failed", "", "no such corpus", 0, rate, False))
    ((_, one),) = work.result().failures
    assert (one.reason, one.rate) == ("no such corpus", None)


def test_an_earlier_choice_makes_room_for_the_next(tmp_path: Path) -> None:
    cell = Cell("fbank", "vtc")
    top = tmp_path / "runs"

    def settle(rates: dict[float, float]) -> list[Record]:
        grid = RunGrid((cell,), (0,), tuple(rates), runs=str(top))
        work = Bench(grid, lambda line: None)
        for rate, dev in rates.items():
            folder = top / SEARCH / "vtc" / f"run-{rate:g}"
            save(make(f"r{rate:g}", dev), folder)
            work.take(cell, Outcome("done", str(folder), "", 0, rate, True))
        return list(work.result().records)

    assert [r.id for r in settle({0.1: 0.5, 0.01: 0.4})] == ["r0.1"]
    assert [r.id for r in settle({0.1: 0.5, 0.01: 0.4, 0.001: 0.6})] == ["r0.001"]
    assert [r.id for r in collect(top)[0]] == ["r0.001"]
    assert len(collect(top / SEARCH)[0]) == 3
    source = load(top / SEARCH / "vtc" / "run-0.001")
    assert source.search == {}  # the copy's record is its own


def test_a_job_is_a_cell_and_can_be_taken_apart() -> None:
    cells = (Cell("fbank", "vtc"), Cell("hubert", "vtc"))
    found = grid.jobs(RunGrid(cells, (0, 1), (0.1, 0.2)))
    assert [(job.cell.encoder, job.seeds, job.rates) for job in found] == [
        ("fbank", (0, 1), (0.1, 0.2)),
        ("hubert", (0, 1), (0.1, 0.2)),
    ]
    single = grid.apart(found[0])
    assert [(job.rates, job.seeds) for job in single] == [
        ((rate,), (seed,)) for rate in (0.1, 0.2) for seed in (0, 1)
    ]
    with pytest.raises(BabError, match="TASK"):
        grid.parse_cell("@x")
    assert grid.parse_cell("gender@kaldi:/data/a@b") == ("gender", "kaldi:/data/a@b")


def test_a_file_gives_options_of_encoders_tasks_and_corpora(tmp_path: Path) -> None:
    from bab.benching.asked import asked_grid
    from bab.benching.grid import jobs, request

    path = tmp_path / "grid.yaml"
    path.write_text(
        "encoders: [fbank]\n"
        "tasks:\n"
        "  - {task: {name: classify, labels: [reason]}, corpus: donateacry, train: {steps: 20}}\n"
        "set: {encoder: {cmvn: utterance}}\n"
    )
    grid, _ = asked_grid(path, {}, [], False)
    (job,) = jobs(grid)
    options = request(grid, job)["options"]
    assert options["encoder"] == {"name": "fbank", "cmvn": "utterance"}
    assert options["task"] == {"name": "classify", "labels": ["reason"]}
    assert (options["corpus"], options["train"]) == ("donateacry", {"steps": 20})
    assert job.cell.corpus == "donateacry"
    path.write_text(
        "encoders: [fbank]\n"
        "tasks:\n"
        "  - {task: classify@donateacry, task.labels: [reason], train.steps: 20}\n"
        "set: {encoder.cmvn: utterance}\n"
    )
    dotted, _ = asked_grid(path, {}, [], False)
    assert request(dotted, jobs(dotted)[0])["options"] == options


@pytest.mark.parametrize("text", ["runs=x", "seed=3", "task=vtc", "train.lr=1", "quiet=true"])
def test_what_the_grid_decides_can_not_be_set_for_all_runs(text: str) -> None:
    from bab.benching.asked import asked_grid

    with pytest.raises(ConfigError, match=text.partition("=")[0]):
        asked_grid(None, {"encoders": "fbank", "tasks": "vtc", "lr": "1e-3"}, [text], False)
