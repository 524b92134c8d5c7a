"""A bench whose runs are made by a launcher's jobs: the same records, whatever becomes of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_scene import request

import bab
from bab.benching.grid import Cell, RunGrid, apart, jobs
from bab.benching.grid import request as request_of
from bab.benching.launched import Launched
from bab.benching.pulling import Puller
from bab.benching.requests import Request, Requests, uncovered
from bab.benching.worker import serve
from bab.cli import main
from bab.core.atomic import write_json
from bab.core.errors import BabError, InterruptedRunError
from bab.launching.asked import Launch
from bab.launching.fleet import Fleet
from bab.launching.job import End, end_path

FAKE = '''
from bab.plugins.launchers.local import Local


class Fake(Local):
    """Processes of this machine, by a launcher of a stranger's."""

    name = "fake"
'''
STEPS = ["--set", "train.steps=8", "--set", "train.eval_every=8"]
TASKS = "gender,vtc"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("BAB_PLUGIN_FILES", "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fake.py").write_text(FAKE)
    return tmp_path


def results(runs: Path) -> dict[str, Any]:
    """What a bench left, but for times: records, and other files to the byte."""
    kept: dict[str, Any] = {}
    for path in sorted(runs.rglob("*")):
        if path.is_dir() or ".bench" in path.parts or path.name in (".lock", "log.jsonl"):
            continue
        if path.name != "record.json":
            kept[str(path.relative_to(runs))] = path.read_bytes()
            continue
        record = json.loads(path.read_text())
        for key in ("created", "cost", "checksum"):
            del record[key]
        del record["config"]["runs"]
        kept[str(path.relative_to(runs))] = record
    return kept


def test_requests_come_to_the_same_as_without_them(here: Path) -> None:
    """In this process: the jobs themselves are the slow test's."""

    class Here(bab.load("launchers", "local")):  # type: ignore[misc]
        def submit(self, work: bab.Work) -> str:
            asked = json.loads(Path(work.argv[-1]).read_text())
            assert asked["argv"][:2] == ["-m", "bab.benching.pulling"]
            status = Puller(*map(Path, asked["argv"][2:3]), asked["argv"][3]).work()
            end = End(status, False, 1.0, "here", "")
            write_json(end_path(Path(work.argv[-1])), end._asdict())
            return "1"

    class Asked(Launch):
        def open(self) -> Any:
            return Here(Here.Options())

    keys = {"train": {"steps": 4, "eval_every": 4}}
    alone = {"train": {"patience": 9}}  # trained one by one
    cells = (Cell("fbank", "gender"), Cell("fbank", "vtc", None, alone))
    one, two = (RunGrid(cells, (0, 1), (), keys, runs=runs) for runs in ("one", "two"))
    for job in jobs(one):
        said: list[str] = []
        serve(request_of(one, job), lambda event, said=said: said.append(event["event"]))
        for part in apart(job) if "apart" in said else []:
            serve(request_of(one, part), lambda event: None)
    told: list[str] = []
    done = Launched(two, 1, told.append, Asked("here")).run(
        lambda slot, job, event: told.append(f"{job.label} {event.get('status')}")
    )
    first, second = results(here / "one"), results(here / "two")
    assert first.keys() == second.keys() and not done.failures
    for name, value in first.items():
        if isinstance(value, dict):  # a record: what differs is said
            assert {k: v for k, v in value.items() if second[name][k] != v} == {}, name
        assert value == second[name], name
    assert len(done.records) == 4 and told.count("fbank vtc, seed 1 done") == 1


@pytest.mark.slow
def test_records_are_those_of_the_workers_here(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "bench",
        "--encoders",
        "fbank",
        "--tasks",
        TASKS,
        "--seeds",
        "0,1",
        *STEPS,
        "--quiet",
    ]
    assert main([*command, "--runs", "one"]) == 0
    plain = capsys.readouterr()
    launched = ["--launcher", "fake", "--plugin", "fake.py", "--jobs", "2", "--runs", "two"]
    assert main([*command, *launched]) == 0
    said = capsys.readouterr()
    assert results(here / "two") == results(here / "one")
    assert len(list((here / "two").rglob("record.json"))) == 4
    rows = [line.rpartition("|")[0].rpartition("|")[0] for line in plain.out.splitlines()]
    theirs = [line.rpartition("|")[0].rpartition("|")[0] for line in said.out.splitlines()]
    assert [r for r in rows if r] == [r for r in theirs if r]  # but for the encoder's speed
    done = [line.partition("] ")[2] for line in plain.err.splitlines() if "done: " in line]
    assert sorted(done) == sorted(
        line.partition("] ")[2] for line in said.err.splitlines() if "done: " in line
    )
    (state,) = (here / "two").glob(".bench/*")
    assert {p.name for p in state.iterdir()} == {"jobs", ".lock"}


SICK = '''
import os, signal, sys
from pathlib import Path
from bab.plugins.encoders.fbank import Fbank


class Sick(Fbank):
    """Kills its process, as often as the file says."""

    name = "sick"

    @classmethod
    def load(cls, weights, options, **more):
        tries = Path(os.environ["BAB_SICK"])
        left = int(tries.read_text())
        tries.write_text(str(left - 1))
        if left > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        made = super().load(weights, options, **more)
        made.resolved = "sick"
        return made
'''


@pytest.mark.slow
@pytest.mark.parametrize(("deaths", "status"), [(2, 0), (9, 1)])
def test_a_run_whose_worker_is_lost_begins_again_twice(
    here: Path, deaths: int, status: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (here / "sick.py").write_text(SICK)
    (here / "left").write_text(str(deaths))
    monkeypatch.setenv("BAB_SICK", str(here / "left"))
    command = ["bench", "--encoders", "sick", "--tasks", "vtc", "--seeds", "0", *STEPS]
    command += ["--launcher", "fake", "--plugin", "fake.py", "--plugin", "sick.py"]
    assert main(command) == status
    said = capsys.readouterr()
    assert "killed by signal 9" in said.err and "its run begins again" in said.err
    if status:
        assert "its worker was lost 3 times" in said.err
    else:
        assert "1 done" in said.out


def wait_for(done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := done()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


@pytest.mark.slow
def test_left_at_work_jobs_go_on_and_are_found_again(here: Path) -> None:
    command = [sys.executable, "-m", "bab", "bench", "--encoders", "fbank", "--tasks", "vtc"]
    command += ["--seeds", "0,1", "--set", "train.steps=80", "--set", "train.eval_every=80"]
    command += ["--launcher", "fake", "--plugin", "fake.py"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(here.glob("runs/vtc/*/*/*/log.jsonl")))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "1 job left at work under fake (" in said
    wait_for(lambda: len(list(here.glob("runs/vtc/*/*/*/record.json"))) == 2)
    before = {p: p.stat().st_mtime_ns for p in here.glob("runs/vtc/*/*/*/record.json")}
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0 and "2 done" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_jobs_that_never_begin_are_an_error_with_their_last_lines(here: Path) -> None:
    class Broken(bab.load("launchers", "local")):  # type: ignore[misc]
        def submit(self, work: bab.Work) -> str:
            argv = (work.argv[0], "-c", "print('no module'); raise SystemExit(1)")
            return str(super().submit(bab.Work(work.name, argv, work.folder, work.log)))

    class Asked(Launch):
        def open(self) -> Any:
            return Broken(Broken.Options())

    grid = RunGrid((Cell("fbank", "vtc"),), runs=str(here / "runs"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bab.launching.fleet._LATE", 0.0)
        with pytest.raises(BabError, match=r"3 jobs in turn ended(.|\n)*no module"):
            Launched(grid, 1, lambda line: None, Asked("broken")).run(lambda *told: None)


def test_ctrl_c_cancels_and_the_requests_stay(here: Path, monkeypatch: Any) -> None:
    class Waiting(bab.load("launchers", "local")):  # type: ignore[misc]
        def submit(self, work: bab.Work) -> str:
            argv = (work.argv[0], "-c", "import time; time.sleep(60)")
            return str(super().submit(bab.Work(work.name, argv, work.folder, work.log)))

    class Asked(Launch):
        def open(self) -> Any:
            return Waiting(Waiting.Options())

    grid = RunGrid((Cell("fbank", "vtc"),), (0, 1), runs=str(here / "runs"))
    bench = Launched(grid, 3, lambda line: None, Asked("w", (), "cancel"))
    fleets: list[Fleet] = []

    def watch(fleet: Fleet, tell: Any) -> None:
        bench._hire(fleet)
        fleets.append(fleet)
        assert len(fleet.jobs) == 1  # the cell's features are to be made by one
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_watch", watch)
    with pytest.raises(InterruptedRunError, match="1 job cancelled; what was finished stands"):
        bench.run(lambda *told: None)
    assert not fleets[0].jobs and len(bench.requests.open()) == 1


# --- requests, without jobs


def ended(made: Requests, one: Request) -> None:
    for run in one.runs:
        made.end_run(one, {"seed": run.seed, "rate": run.rate, "status": "done"})


def test_what_one_has_taken_another_has_not(requests: Requests) -> None:
    requests.ask(request(1))
    one = requests.take("w1")
    assert one == request(1) and requests.take("w2") is None and not requests.waiting()
    requests.back(one, "w1")
    assert requests.take("w2") == one and requests.taken() == [(one, "w2")]
    ended(requests, one)
    requests.finish(one, "w2")
    assert requests.open() == [] and len(requests.events(set())) == 1


def test_nobody_computes_the_features_that_another_is_computing(requests: Requests) -> None:
    for number, label in enumerate("aab"):
        requests.ask(request(number, label=label))
    assert requests.employed() == 2
    first = requests.take("w1")
    second = requests.take("w2")
    assert first and second and (first.name, second.name) == ("00000", "00002")
    assert requests.take("w3") is None and requests.waiting() and requests.employed() == 2
    requests.heat(first)  # it is training: they are there
    assert requests.employed() == 3
    third = requests.take("w3")
    assert third and third.name == "00001"


def test_a_request_that_is_split_is_covered_at_every_moment(requests: Requests) -> None:
    wanted = [request(0, (3, 4))]
    assert uncovered(wanted, requests) == wanted
    requests.ask(wanted[0])
    assert uncovered(wanted, requests) == []
    one = requests.take("w1")
    assert one is not None
    requests.split(one, "w1")
    assert [r.body["seeds"] for r in requests.open()] == [[3], [4]]
    assert uncovered(wanted, requests) == []
    part = requests.take("w1")
    assert part is not None
    ended(requests, part)
    requests.finish(part, "w1")
    (other,) = requests.open()
    (requests.todo / f"{other.name}.json").unlink()  # somebody deleted it
    (lacking,) = uncovered(wanted, requests)
    assert lacking.runs == other.runs


def test_what_a_lost_worker_had_is_given_back(requests: Requests) -> None:
    requests.ask(request(0))
    taken = requests.take("w1")
    requests.ask(request(1, label="b"))
    requests.take("w2")
    assert requests.drop("w1") == [taken] and [who for _, who in requests.taken()] == ["w2"]
    (requests.todo / ".tmp-1-a.tmp").write_text("{")  # one that is just being written
    (requests.at / "00009@w3.json").write_text("{")  # and one that is damaged
    assert [r.name for r in requests.open()] == ["00001"]
