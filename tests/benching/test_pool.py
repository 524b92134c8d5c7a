"""How a bench's queue feeds its workers, which are stand-ins; what a real one is started with."""

from __future__ import annotations

import io
import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bab.benching import pool
from bab.benching.grid import Cell, Job, Outcome, Result, RunGrid
from bab.benching.pool import Pool, Worker
from bab.core.errors import InterruptedRunError

A, B = Cell("fbank", "vtc"), Cell("fbank", "gender")
Act = Callable[["Fake", Mapping[str, Any]], None]


class Process:
    """What a pool wants of a worker's process."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.late = False

    def kill(self) -> None:
        self.calls.append("kill")

    def wait(self, timeout: float | None = None) -> int:
        self.calls.append(("wait", timeout))
        if self.late and timeout is not None:
            raise subprocess.TimeoutExpired("worker", timeout)
        return 0


class Fake:
    """A worker that does at once what the test says."""

    made: ClassVar[list[Fake]]
    act: ClassVar[Act]

    def __init__(
        self, slot: int, logs: Path, threads: int, heard: queue.SimpleQueue[Any], gpus: Any
    ) -> None:
        self.slot, self.logs, self.threads, self.heard, self.gpus = slot, logs, threads, heard, gpus
        self.process = Process()
        self.job: Job | None = None
        self.todo: set[tuple[int, float | None]] = set()
        self.left = False
        self.requests: list[Mapping[str, Any]] = []
        type(self).made.append(self)

    def start(self, job: Job, request: Mapping[str, Any]) -> None:
        self.job = job
        self.todo = {(seed, rate) for seed in job.seeds for rate in job.rates}
        self.requests.append(request)
        type(self).act(self, request)

    def say(self, **event: Any) -> None:
        self.heard.put((self, event))

    def end(self, status: str = "failed", reason: str = "x", only: Any = None) -> None:
        assert self.job is not None
        for rate in self.job.rates:
            for seed in self.job.seeds:
                if only is None or seed in only:
                    self.say(
                        event="ended", status=status, folder="", reason=reason, seed=seed,
                        rate=rate, searched=rate is not None, select="",
                    )  # fmt: skip

    def die(self) -> None:
        self.heard.put((self, None))

    def leave(self) -> None:
        self.left = True

    def epitaph(self) -> str:
        return f"worker {self.slot} died"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    class Own(Fake):
        made: ClassVar[list[Fake]] = []

        @staticmethod
        def act(self: Fake, request: Mapping[str, Any]) -> None:
            self.end()

    monkeypatch.setattr(pool, "Worker", Own)
    return Own


def make(tmp_path: Path, *cells: Cell, count: int = 2, **more: Any) -> Pool:
    return Pool(RunGrid(cells, runs=str(tmp_path), **more), count, lambda line: None)


def run(work: Pool) -> tuple[Result, list[tuple[int, str, Any]]]:
    told: list[tuple[int, str, Any]] = []
    done = work.run(
        lambda slot, job, e: told.append((slot, job.label, e.get("status", e["event"])))
    )
    return done, told


def asked(fake: type[Fake]) -> list[tuple[int, str, list[int]]]:
    return [(one.slot, r["options"]["task"], r["seeds"]) for one in fake.made for r in one.requests]


def test_there_are_no_more_workers_than_jobs(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    monkeypatch.setattr("bab.machine.measure.visible_gpus", lambda: ["4", "5"])
    done, told = run(make(tmp_path, A, B, count=3))
    assert [(one.slot, one.threads, one.gpus) for one in fake.made] == [
        (0, 3, ["4", "5"]),
        (1, 3, ["4", "5"]),
    ]
    assert {one.logs for one in fake.made} == {tmp_path / ".bench"}
    assert told == [(0, "fbank vtc, seed 0", "failed"), (1, "fbank gender, seed 0", "failed")]
    assert [cell for cell, _ in done.failures] == [A, B]
    assert [one.process.calls for one in fake.made] == [["kill", ("wait", None)]] * 2


@pytest.mark.parametrize(("cpus", "count", "threads"), [(None, 1, 1), (2, 3, 1), (4, 2, 2)])
def test_workers_share_the_cores(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch, cpus: Any, count: int,
    threads: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    monkeypatch.setattr("bab.machine.measure.visible_gpus", lambda: ["4", "5"])
    run(make(tmp_path, A, count=count))
    assert fake.made[0].threads == threads
    assert fake.made[0].gpus == (() if count == 1 else ["4", "5"])


def test_one_alone_makes_the_features_that_several_need(tmp_path: Path, fake: type[Fake]) -> None:
    """The first job is taken apart; its other runs wait until the first of them has ended."""

    def act(self: Fake, request: Mapping[str, Any]) -> None:
        if request["options"]["task"] == "gender":
            return  # ended below
        if len(request["seeds"]) > 1:
            self.say(event="apart")
        elif request["seeds"] == [0]:
            fake.made[1].end()
        else:
            self.end()

    def tell(slot: int, job: Job, event: Mapping[str, Any]) -> None:
        told.append(job.label)
        if job.cell is B and event["seed"] == 2:
            fake.made[0].say(event="progress")
        if event["event"] == "progress":  # the other had its chance
            fake.made[0].end()

    told: list[str] = []
    fake.act = act  # type: ignore[assignment]
    make(tmp_path, A, B, seeds=(0, 1, 2)).run(tell)
    assert asked(fake) == [
        (0, "vtc", [0, 1, 2]),
        (0, "vtc", [0]),
        (0, "vtc", [1]),
        (1, "gender", [0, 1, 2]),
        (1, "vtc", [2]),
    ]
    runs = [f"fbank vtc, seed {seed}" for seed in (0, 0, 1, 2)]
    assert told == ["fbank gender, seeds 0 1 2"] * 3 + runs


def test_a_dead_worker_is_replaced_and_what_it_was_at_recorded(
    tmp_path: Path, fake: type[Fake]
) -> None:
    """The next worker only writes down that the run failed, and why."""

    def act(self: Fake, request: Mapping[str, Any]) -> None:
        if request["failed"]:
            self.end(reason=request["failed"])
        elif request["options"]["task"] == "vtc":
            self.die()
        else:
            self.end("not-applicable")

    fake.act = act  # type: ignore[assignment]
    done, told = run(make(tmp_path, A, B, count=1))
    assert [(r["options"]["task"], r["failed"]) for one in fake.made for r in one.requests] == [
        ("vtc", ""),
        ("vtc", "worker 0 died"),
        ("gender", ""),
    ]
    assert [one.slot for one in fake.made] == [0, 0]
    assert [(cell, one.reason) for cell, one in done.failures] == [(A, "worker 0 died")]
    assert [status for *_, status in told] == ["failed", "not-applicable"]


def test_one_that_dies_again_at_that_is_told_of_here(tmp_path: Path, fake: type[Fake]) -> None:
    fake.act = lambda self, request: self.die()  # type: ignore[assignment]
    events: list[Any] = []
    work = make(tmp_path, A, rates=(0.5,), count=1)
    done = work.run(lambda slot, job, event: events.append((slot, job.rates, event)))
    said = {
        "event": "ended", "status": "failed", "folder": "", "reason": "worker 0 died", "seed": 0,
        "rate": 0.5, "searched": True, "select": "",
    }  # fmt: skip
    assert events == [(0, (0.5,), said)] and len(fake.made) == 2
    outcome = Outcome("failed", "", "worker 0 died", 0, 0.5, True)
    assert done.failures == ((A, outcome),)


def test_of_runs_that_died_together_those_left_are_tried_apart(
    tmp_path: Path, fake: type[Fake]
) -> None:
    def act(self: Fake, request: Mapping[str, Any]) -> None:
        if len(request["seeds"]) > 1:
            self.end("not-applicable", only=(4,))
            self.die()
        else:
            self.end("not-applicable")

    fake.act = act  # type: ignore[assignment]
    _, told = run(make(tmp_path, A, B, seeds=(3, 4, 5), count=1))
    assert [seeds for _, _, seeds in asked(fake)] == [[3, 4, 5], [3], [5], [3, 4, 5], [3], [5]]
    tails = [label.partition(", ")[2] for _, label, _ in told]
    assert tails == ["seeds 3 4 5", "seed 3", "seed 5"] * 2


@pytest.mark.parametrize("how", ["apart", "dies"])
def test_what_comes_apart_goes_before_what_waits_and_takes_nobodys_place(
    tmp_path: Path, fake: type[Fake], how: str
) -> None:
    def act(self: Fake, request: Mapping[str, Any]) -> None:
        if len(request["seeds"]) == 1:
            self.end()
        elif how == "apart":
            self.say(event="apart")
        else:
            self.die()

    fake.act = act  # type: ignore[assignment]
    cells = (A, B, Cell("fbank", "valence"))
    done, _ = run(make(tmp_path, *cells, count=1, seeds=(1, 2)))
    assert [(task, seeds) for _, task, seeds in asked(fake)] == [
        (cell.task, seeds) for cell in cells for seeds in ([1, 2], [1], [2])
    ]
    runs = [(cell, one.seed) for cell, one in done.failures]
    assert runs == [(cell, seed) for cell in cells for seed in (1, 2)]


def test_progress_is_handed_on_and_the_worker_stays_at_work(
    tmp_path: Path, fake: type[Fake]
) -> None:
    def act(self: Fake, request: Mapping[str, Any]) -> None:
        self.say(event="progress", stage="training")
        self.end()

    fake.act = act  # type: ignore[assignment]
    _, told = run(make(tmp_path, A, count=1, seeds=(0, 1)))
    assert [status for *_, status in told] == ["progress", "failed", "failed"]
    assert len(asked(fake)) == 1


@pytest.mark.parametrize("late", [False, True])
def test_stopped_it_asks_each_to_save_and_waits(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    def act(self: Fake, request: Mapping[str, Any]) -> None:
        self.process.late = late
        self.say(event="progress")

    monkeypatch.setattr("time.monotonic", lambda: 50.0)
    fake.act = act  # type: ignore[assignment]

    def tell(slot: int, job: Job, event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError) as raised:
        make(tmp_path, A, B).run(tell)
    assert str(raised.value) == (
        "stopped; what was finished stands, and the same command goes on from here"
    )
    first, second = fake.made
    assert first.left and second.left
    end = ["kill", ("wait", None)]
    assert first.process.calls == [("wait", 120.0), *end]
    assert second.process.calls == [*([] if late else [("wait", 120.0)]), *end]


# --- a process


class Started:
    """In subprocess.Popen's place."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.command, self.options = command, options
        self.stdin, self.stdout = io.BytesIO(), io.BytesIO(b'{"event": "a"}\n{"event": "b"}\n{"ha')
        self.code, self.calls = 0, []  # type: ignore[var-annotated]

    def wait(self) -> int:
        return self.code

    def terminate(self) -> None:
        self.calls.append("terminate")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Started)


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("gpus", "given", "device", "threads"),
    [
        ((), None, "7", "3"),
        (("4",), None, "7", "3"),
        (("4", "5"), None, "5", "3"),
        (("4", "5", "6"), "9", "4", "9"),
    ],
)
def test_a_worker_is_started_with_its_share_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: tuple[str, ...], given: str | None,
    device: str, threads: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    one = Worker(3, tmp_path / "logs" / "here", 3, heard, gpus)
    process: Any = one.process
    assert process.command == [sys.executable, "-m", "bab.benching.worker"]
    environment = process.options["env"]
    assert environment["CUDA_VISIBLE_DEVICES"] == device
    assert environment["OMP_NUM_THREADS"] == threads
    assert process.options["start_new_session"]
    assert one.log == tmp_path / "logs" / "here" / "worker-3.log" and one.log.exists()
    # Half a line, of one that was killed, ends it.
    assert [heard.get(timeout=5) for _ in range(3)] == [
        (one, {"event": "a"}),
        (one, {"event": "b"}),
        (one, None),
    ]
    job = Job(A, (0, 1), (0.1, None))
    one.start(job, {"a": 1})
    assert one.job is job
    assert one.todo == {(0, 0.1), (0, None), (1, 0.1), (1, None)}
    assert process.stdin.getvalue() == json.dumps({"a": 1}).encode() + b"\n"
    one.leave()
    assert process.calls == ["terminate"]


@pytest.mark.usefixtures("started")
def test_one_that_is_gone_already_is_found_out_later(tmp_path: Path) -> None:
    one = Worker(0, tmp_path, 1, queue.SimpleQueue())

    def broken(data: bytes) -> int:
        raise BrokenPipeError

    one.process.stdin.write = broken  # type: ignore[union-attr,method-assign,assignment]
    one.start(Job(A, (0,), (None,)), {})
    assert one.todo == {(0, None)}


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-9, "the worker was killed (out of memory?)"),
        (-15, "the worker died (signal 15): see {log}"),
        (1, "the worker died (status 1): see {log}"),
        (0, "the worker died (status 0): see {log}"),
    ],
)
def test_why_a_worker_died_is_told_as_far_as_it_can_be(
    tmp_path: Path, code: int, said: str
) -> None:
    one = Worker(0, tmp_path, 1, queue.SimpleQueue())
    one.process.code = code  # type: ignore[attr-defined]
    assert one.epitaph() == said.format(log=tmp_path / "worker-0.log")
