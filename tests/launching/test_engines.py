"""Slurm and Ray themselves, started on this machine: contract, records, shards, lost workers.

Needs Debian's slurmctld, slurmd and munge, and root; for Ray the extra bab[ray].
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from places import ROOT, SAMPLES

from bab.launching.asked import open_launcher
from bab.testing.launchers import CHECKS, LauncherCase
from bab.testing.suite import run_checks

pytestmark = pytest.mark.slow
BAB = [sys.executable, "-m", "bab"]
HOMES = f"rttm:{SAMPLES / 'rttm'}"
GRID = ["bench", "--encoders", "fbank", "--tasks", "vtc,gender", "--jobs", "2", "--set"]
GRID += ["train.steps=20", "--set", "train.eval_every=20", "--seeds", ",".join(map(str, range(4)))]


def script(name: str, *arguments: str, **env: str) -> None:
    command = ["bash", str(ROOT / "scripts" / name), *arguments]
    subprocess.run(command, env={**os.environ, **env}, check=True, timeout=180)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    if os.geteuid() or not all(map(shutil.which, ("munged", "slurmctld", "slurmd"))):
        pytest.skip("no Slurm here, or not root: apt-get install slurmctld slurmd munge")
    here = tmp_path_factory.mktemp("slurm")
    env = {"BAB_SLURM": str(here / "s"), "BAB_SLURM_PORT": "18900"}
    before = os.environ.get("SLURM_CONF")
    script("slurm.sh", "start", "2", **env)
    os.environ["SLURM_CONF"] = str(here / "s" / "slurm.conf")
    yield ["--launcher", "slurm"]
    script("slurm.sh", "stop", **env)
    os.environ.pop("SLURM_CONF")
    if before is not None:
        os.environ["SLURM_CONF"] = before


@pytest.fixture(scope="module")
def ray() -> Iterator[list[str]]:
    pytest.importorskip("ray", reason="no Ray here: pip install 'bab[ray]'")
    where = Path("/tmp") / f"bab-ray-{os.getpid()}"  # its sockets' paths have to be short
    env = {"BAB_RAY": str(where), "BAB_RAY_PORT": "28900"}
    env["RAY"] = str(Path(sys.executable).parent / "ray")
    script("ray.sh", "start", "2", **env)
    yield ["--launcher", "ray", "--set", "launcher.address=127.0.0.1:28900"]
    script("ray.sh", "stop", **env)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.fixture(params=["slurm", "ray"])
def engine(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def run(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*BAB, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def wait_for(done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 120
    while not (value := done()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return value


def results(runs: Path) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for path in sorted(runs.rglob("*")):
        if path.is_dir() or ".bench" in path.parts or path.name in (".lock", "log.jsonl"):
            continue
        kept[str(path.relative_to(runs))] = path.read_bytes()
        if path.name == "record.json":
            record = json.loads(path.read_text())
            for key in ("created", "cost", "checksum"):  # times, and what is made of them
                del record[key]
            del record["config"]["runs"]
            kept[str(path.relative_to(runs))] = record
    return kept


def test_contract(engine: list[str], tmp_path: Path) -> None:
    made = open_launcher(engine[1], engine[3:])
    case = LauncherCase(type(made), made.options, tmp_path)
    failed = [f"{o.name}: {o.told}" for o in run_checks(CHECKS, case) if o.verdict == "failed"]
    assert not failed, failed


def test_a_grids_records_are_those_of_one_machine(engine: list[str], here: Path) -> None:
    run([*GRID, "--runs", "one"], here)
    run([*GRID, "--runs", "two", *engine], here)
    assert results(here / "one") == results(here / "two")
    assert len(list((here / "two").rglob("record.json"))) == 8


def test_predictions_are_those_of_one_machine(engine: list[str], model: Path, here: Path) -> None:
    command = ["predict", str(model), HOMES, "--out"]
    run([*command, "one"], here)
    if "launcher.address=127.0.0.1:28900" in engine:
        engine = [*engine, "--set", "launcher.cpus=1"]
    run([*command, "two", "--jobs", "3", *engine], here)
    for path in (here / "one").rglob("*.*"):
        if ".bab" not in path.parts and path.name != "prediction.json":
            assert (here / "two" / path.relative_to(here / "one")).read_bytes() == path.read_bytes()
    assert not (here / "two" / ".bab" / "jobs").exists()


@pytest.mark.parametrize("how", ["killed", "cancelled"])
def test_a_run_goes_on_within_a_minute_of_its_workers_end(
    engine: list[str], here: Path, how: str
) -> None:
    if how == "cancelled" and "ray" in engine:
        pytest.skip("scancel is Slurm's")
    command = [*BAB, "bench", "--encoders", "fbank", "--tasks", "vtc", "--set", "train.steps=600"]
    command += ["--set", "train.save_every=20", "--set", "train.eval_every=300", *engine]
    process = subprocess.Popen(command, cwd=here, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(here.glob("runs/vtc/*/*/*/checkpoints/step-*")))
    if how == "killed":
        (worker,) = [p for p in psutil.process_iter(["cmdline"])
                     if f"{here}/" in " ".join(p.info["cmdline"] or ())
                     and "bab.benching.pulling" in (p.info["cmdline"] or ())]  # fmt: skip
        worker.kill()
    else:
        subprocess.run(["scancel", "--me"], check=True)
    began = time.monotonic()
    (log,) = here.glob("runs/vtc/*/*/*/log.jsonl")
    wait_for(lambda: '"resumed"' in log.read_text())
    assert time.monotonic() - began < 60
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def test_slurm_jobs_are_left_and_picked_up(slurm: list[str], here: Path) -> None:
    command = [*BAB, *GRID, *slurm]
    process = subprocess.Popen(command, cwd=here, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(here.glob("runs/*/*/*/*/log.jsonl")))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "left at work under slurm" in said
    assert subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout.strip()
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0 and "8 done" in done.stdout, done.stderr


def test_pretraining_over_two_nodes_is_that_of_two_processes(slurm: list[str], here: Path) -> None:
    command = ["pretrain", "--encoder", "wav2vec2:random-tiny", "--objective", "contrastive"]
    command += ["--corpus", HOMES, "--steps", "4", "--set", "train.batch=4"]
    more = ["--set", "launcher.nodes=2", "--set", "launcher.processes=1"]
    done = run([*command, "--runs", "two", *slurm, *more], here)
    assert "Encoder: wav2vec2:two/" in done.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node=2", "-m", "bab", *command, "--runs", "one"]
    subprocess.run(torchrun, cwd=here, check=True, capture_output=True)
    (one,), (two,) = (list((here / n).rglob("model.safetensors")) for n in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
