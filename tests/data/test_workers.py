"""Worker processes end with the process that began them, whatever ended it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bab.data import workers as module
from bab.data.workers import workers

SCRIPT = """
import os, sys, time
sys.path.insert(0, {place!r})
from bab.data.workers import workers
import sleeper

if __name__ == "__main__":
    with workers(2, sleeper.begin, {place!r}) as pool:
        pool.submit(sleeper.sleep)
        pool.submit(sleeper.sleep)
        while len(list(os.scandir({place!r} + "/pids"))) < 2:
            time.sleep(0.05)
        print("ready", flush=True)
        time.sleep({rest})
        raise SystemExit(3)
"""
SLEEPER = """
import os, time

def begin(place):
    open(os.path.join(place, "pids", str(os.getpid())), "w").close()

def sleep():
    time.sleep(120)
"""


@pytest.mark.parametrize("how", ["killed", "an error"])
def test_no_worker_outlives_its_parent(tmp_path: Path, how: str) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    (tmp_path / "pids").mkdir()
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT.format(place=str(tmp_path), rest=60 if how == "killed" else 0))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
        assert len(pids) == 2
        if how == "killed":
            parent.send_signal(signal.SIGKILL)
        assert parent.wait(30) == (-signal.SIGKILL if how == "killed" else 3)
    limit = time.monotonic() + 20
    while any(map(_alive, pids)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not any(map(_alive, pids))


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _mark(name: str, value: str) -> None:
    os.environ[name] = value


def test_workers_begin_as_they_are_told_and_end_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forked = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: forked)
    before = set(multiprocessing.active_children())
    began = time.monotonic()
    with pytest.raises(KeyError), workers(2, _mark, "BAB_MARK", "here") as pool:
        assert pool.submit(os.getenv, "BAB_MARK").result(30) == "here"
        assert pool.submit(signal.getsignal, signal.SIGINT).result(30) == signal.SIG_IGN
        pool.submit(time.sleep, 60)
        own = set(multiprocessing.active_children()) - before
        raise KeyError
    for worker in own:
        worker.join(20)
    # The pool's own thread may have been told of an end first, and is about to write it down.
    while None in (ends := {worker.exitcode for worker in own}) and time.monotonic() - began < 30:
        time.sleep(0.01)
    # An idle one may end by itself.
    assert -signal.SIGTERM in ends and ends <= {0, -signal.SIGTERM}
    assert time.monotonic() - began < 30 and "BAB_MARK" not in os.environ
    with workers(1, _mark, "BAB_MARK", "here") as pool:
        asked = [pool.submit(abs, -i) for i in range(5)]
    assert [one.result(0) for one in asked] == list(range(5))  # all is done before it ends
    assert set(multiprocessing.active_children()) <= before


def test_a_worker_watches_its_parent_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, replaced: Callable[..., list[Any]]
) -> None:
    """It takes no Ctrl-C, and ends with status 1 when its parent does."""
    gone, ended, statuses = threading.Event(), threading.Event(), list[int]()
    parent = SimpleNamespace(join=lambda: gone.wait(20))
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)
    monkeypatch.setattr(os, "_exit", lambda status: statuses.append(status) or ended.set())
    handled = replaced("signal.signal", None)
    begun: list[Any] = []

    def begin(*given: Any) -> None:
        begun.append((given, [t for t in threading.enumerate() if t.name == "bab-parent"]))

    module._begin(begin, ("a", 2))
    assert handled == [((signal.SIGINT, signal.SIG_IGN), {})]
    ((given, (watcher,)),) = begun
    assert given == ("a", 2) and watcher.daemon and statuses == []
    gone.set()
    assert ended.wait(20) and statuses == [1]
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: None)
    module._end_with_parent()  # the first process has none to wait for
    assert statuses == [1]
