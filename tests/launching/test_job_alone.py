"""What a job does with its command: starts it, hands signals on, and writes down how it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import listing
import pytest

from bab.core.registry import FILES, Entry
from bab.launching import code as codes
from bab.launching import job
from bab.launching.job import End


class Process:
    """A command's process that ends with a status; `meanwhile` is done while it is waited for."""

    def __init__(self, status: int, meanwhile: Any) -> None:
        self.status, self.meanwhile = status, meanwhile
        self.terminated = self.killed = 0

    def wait(self) -> int:
        self.meanwhile()
        return self.status

    def terminate(self) -> None:
        self.terminated += 1

    def kill(self) -> None:
        self.killed += 1


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    given = {"name": "j", "argv": ["-c", "x"], "nodes": 1, "processes": 1, "code": {"bab": "1"}}
    path = tmp_path / "j.json"
    path.write_text(json.dumps(given))
    return path


def run(
    file: Path, monkeypatch: pytest.MonkeyPatch, status: int = 0, meanwhile: Any = lambda: None,
    code: str = "1",
) -> tuple[int, Process, dict[str, Any]]:  # fmt: skip
    process, how = Process(status, meanwhile), dict[str, Any]()

    def started(argv: list[str], **more: Any) -> Process:
        how.update(argv=argv, **more)
        return process

    clock = iter([10.0, 12.3456])
    monkeypatch.setattr(job.subprocess, "Popen", started)
    monkeypatch.setattr(job.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(job.socket, "gethostname", lambda: "n7")
    monkeypatch.setattr(codes, "code", lambda: {"bab": code})
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return job.main([str(file)]), process, how
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("status", "said"), [(0, 0), (1, 1), (3, 3), (-9, 137), (-15, 143), (130, 130)]
)
def test_its_status_is_its_commands(
    asked: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: int
) -> None:
    job.end_path(asked).write_text("of an earlier one")
    given, process, how = run(asked, monkeypatch, status)
    assert given == said and how["argv"] == [sys.executable, "-c", "x"]
    assert how["env"]["BAB_CODE_CHANGED"] == "" and how["env"]["PATH"] == os.environ["PATH"]
    assert how["start_new_session"] is True and how["stdin"] == job.subprocess.DEVNULL
    assert job.read_end(asked) == End(status, status == 130, 2.35, "n7", "")
    assert process.terminated == process.killed == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("status", "said"), [(0, 0), (130, 130), (-15, 130), (1, 130)])
def test_a_signal_is_handed_on(
    asked: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, said: int
) -> None:
    given, process, _ = run(asked, monkeypatch, status, lambda: signal.raise_signal(number))
    assert given == said and process.terminated == 1
    end = job.read_end(asked)
    assert end is not None and end.interrupted and end.status == status


def test_other_machines_of_a_job_write_nothing(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.end_path(asked).write_text("of the first machine")
    monkeypatch.setenv("BAB_NODE", "1")
    assert run(asked, monkeypatch, 4)[0] == 4
    assert job.end_path(asked).read_text() == "of the first machine"
    assert job.read_end(asked) is None and job.end_path(asked).name == "j.end.json"
    monkeypatch.setenv("BAB_NODE", "0")
    run(asked, monkeypatch, 4)
    assert job.read_end(asked) is not None


def test_code_that_changed_goes_with_it(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, how = run(asked, monkeypatch, code="2")
    note = "the code changed between submission and start: bab (1 → 2)"
    assert how["env"]["BAB_CODE_CHANGED"] == note and job.read_end(asked).note == note  # type: ignore[union-attr]
    assert capsys.readouterr().err == f"bab: note: {note}\n"


@pytest.mark.parametrize("leash", ["", "1"])
def test_on_a_leash_it_ends_with_its_holder(
    asked: Path, monkeypatch: pytest.MonkeyPatch, leash: str
) -> None:
    held: list[Any] = []

    class Thread:
        def __init__(self, target: Any, args: Any, daemon: bool) -> None:
            held.append((target, args, daemon))

        def start(self) -> None:
            held.append("started")

    monkeypatch.setattr(job.threading, "Thread", Thread)
    monkeypatch.setenv("BAB_LEASH", leash)
    _, process, _ = run(asked, monkeypatch)
    if not leash:
        assert held == []
        return
    (target, args, daemon), started = held
    assert args == (process,) and daemon is True and started == "started"
    pieces, slept = iter([b"x", b"y", b""]), list[float]()
    monkeypatch.setattr(job, "os", SimpleNamespace(read=lambda number, size: next(pieces)))
    monkeypatch.setattr(job, "time", SimpleNamespace(sleep=slept.append))
    target(*args)
    assert (process.terminated, process.killed, slept) == (1, 1, [30]) and not list(pieces)


@pytest.mark.parametrize(
    ("nodes", "processes", "environment", "words"),
    [
        (1, 1, {}, []),
        (1, 2, {}, ["--standalone", "--nproc-per-node=2"]),
        (2, 1, {"BAB_HEAD": "n1"}, ["--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=n1:29606",
         "--rdzv-conf=is_host=true", "--rdzv-id=j", "--nproc-per-node=1"]),
        (2, 4, {"BAB_NODE": "1"}, ["--nnodes=2", "--rdzv-backend=c10d",
         "--rdzv-endpoint=localhost:29606", "--rdzv-conf=is_host=false", "--rdzv-id=j",
         "--nproc-per-node=4"]),
    ],
)  # fmt: skip
def test_processes_and_machines_of_a_job(
    nodes: int, processes: int, environment: dict[str, str], words: list[str]
) -> None:
    asked = {"name": "j", "argv": ["-m", "bab"], "nodes": nodes, "processes": processes}
    torchrun = ["-m", "torch.distributed.run"] if words else []
    expected = [sys.executable, *torchrun, *words, "-m", "bab"]
    assert job.command(asked, environment) == expected
    odd = job.command({**asked, "name": "zzzzz", "nodes": 2}, {})
    assert f"--rdzv-endpoint=localhost:{29500 + 5 * 122 % 500}" in odd


# ------------------------------------------------------------------------------- its code


def test_code_is_babs_each_distributions_and_each_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "strange"
    package.mkdir()
    (package / "__init__.py").write_text("A = 1\n")
    (package / "b.py").write_text("B = 1\n")
    single = tmp_path / "single_strange.py"
    single.write_text("C = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    offered = (
        Entry("own", "tasks", "bab.x:Y", "bab", "1"),
        Entry("one", "tasks", "strange.b:Y", "strange-plugin", "2"),
        Entry("two", "heads", "none.b:Y", "strange-plugin", "3"),  # a distribution counts once
        Entry("three", "heads", "single_strange:Y", "single", "4"),
        Entry("four", "heads", "not_there_at_all:Y", "gone", "5"),
        Entry("five", "heads", "x:Y", "mine.py", "6"),
    )
    asked: list[str | None] = []

    def entries() -> Any:
        asked.append(os.environ.get(FILES))
        return offered

    monkeypatch.setattr(codes.registry, "entries", entries)
    files = [tmp_path / "one.py", tmp_path / "two.py"]
    for path in files:
        path.write_text(path.name)
    monkeypatch.setenv(FILES, os.pathsep.join(["", *map(str, files)]))
    first = codes.code()
    assert list(first) == ["bab", "strange-plugin", "single", "gone", "one.py", "two.py"]
    assert asked == [None] and os.environ[FILES].endswith("two.py")  # no file is run for it
    assert first["gone"] == "5 " and first["strange-plugin"].startswith("2 ")
    assert len(first["one.py"]) == 12 and first["one.py"] != first["two.py"]
    assert len(first["single"]) == len(first["strange-plugin"]) == 14
    with monkeypatch.context() as other:  # as another machine may list the folder
        listing.mixed(other)
        assert codes.code() == first
    (package / "b.py").write_text("B = 2\n")
    single.write_text("C = 2\n")
    second = codes.code()
    assert {n for n in first if first[n] != second[n]} == {"strange-plugin", "single"}
    (package / "b.py").rename(package / "c.py")
    assert codes.code()["strange-plugin"] != second["strange-plugin"]  # names count, too
    monkeypatch.delenv(FILES)
    assert "one.py" not in codes.code() and FILES not in os.environ


def test_what_is_said_of_code_that_changed() -> None:
    assert codes.changed({"a": "1"}, {"a": "1"}) == ""
    told = codes.changed({"b": "1", "a": "1", "c": "3"}, {"b": "2", "c": "3", "d": "4"})
    assert told == (
        "the code changed between submission and start: a (1 → not there), b (1 → 2), "
        "d (not there → 4)"
    )
