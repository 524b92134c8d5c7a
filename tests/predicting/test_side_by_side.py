"""Several recordings at once: workers, their places, how they end, and what is said of it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from bab.core import registry
from bab.core.errors import (
    AudioError,
    BabError,
    DiskFullError,
    InterruptedRunError,
    PluginError,
)
from bab.predicting import jobs
from bab.predicting.jobs import Answer
from bab.predicting.maker import PredictOptions
from bab.predicting.recordings import Recording


def test_what_stops_a_folder_and_what_a_recording(tmp_path: Path) -> None:
    maker: Any = SimpleNamespace(out=tmp_path)
    recording = Recording("home", "/x/home.wav")

    def tried(error: BaseException) -> Any:
        def work() -> Any:
            raise error

        return jobs._tried(maker, recording, work)

    assert jobs._tried(maker, recording, lambda: 5) == 5
    replace = "get it again, look with `bab data check`, or leave such files out with `--skip-bad`"
    assert tried(AudioError(f"x.wav is cut; {replace}")) == Answer(
        None, "x.wav is cut; get it again"
    )
    full = DiskFullError("no space")
    with pytest.raises(DiskFullError) as kept:
        tried(full)
    assert kept.value is full
    with pytest.raises(BabError) as error:
        tried(OSError(30, "Read-only file system"))
    assert str(error.value) == (
        f"{tmp_path} can't be written to (Read-only file system), at home: make room, or name "
        "another --out; the same command goes on where it stopped"
    )
    with pytest.raises(BabError, match=r"can't be written to \(odd\), at home"):
        tried(OSError("odd"))
    with pytest.raises(KeyError):
        tried(KeyError("x"))


def test_what_a_plugin_raises_isnt_said_of_the_disk(
    install: Callable[..., Path], tmp_path: Path
) -> None:
    source = """
        import bab

        class Fails(bab.Head):
            level = ("clip",)

            def forward(self, x, lengths):
                raise OSError(5, "no such device")
    """
    install("odd-dist", {"heads": {"fails": "odd_mod:Fails"}}, {"odd_mod": source})
    head = registry.load("heads", "fails")(2, 2, None)
    maker: Any = SimpleNamespace(out=tmp_path)
    with pytest.raises(PluginError, match=r"the head 'fails' of odd-dist .* failed in forward"):
        jobs._tried(maker, Recording("home"), lambda: head(None, None))


class Maker:
    def __init__(self, *plan: Any) -> None:
        self.plan = plan

    def hear(self, recording: Recording, tell: Any, stop: Any) -> Any:
        tell(7.0)
        jobs._here["seen"] = list(jobs._here["seconds"])
        if stop():
            raise InterruptedRunError("stopped")
        if recording.name == "bad":
            raise AudioError("bad")
        return SimpleNamespace(recording=recording)

    def finish(self, heard: Any) -> Any:
        return SimpleNamespace(name=heard.recording.name)


def test_a_worker_has_a_place_and_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("fork")
    shared = (context.Array("d", 3, lock=False), context.Value("i", 1), context.Event())
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(jobs, "Maker", Maker)
    monkeypatch.setattr(jobs, "_here", {})
    plan: Any = ("run", PredictOptions(), Path("out"))
    jobs._begin(plan, 4, shared)
    assert threads == [4] and shared[1].value == 2 and jobs._here["maker"].plan == plan
    answer = jobs._work(Recording("a"))
    assert cast(Any, answer.made).name == "a" and 0 <= answer.seconds < 5 and answer.why == ""
    assert jobs._here["seen"] == [0.0, 7.0, 0.0] and list(shared[0]) == [0.0] * 3
    assert jobs._work(Recording("bad")) == Answer(None, "bad")
    shared[2].set()
    with pytest.raises(InterruptedRunError):
        jobs._work(Recording("a"))
    assert list(shared[0]) == [0.0] * 3


class Pool:
    """Workers that are done when they are waited for, or have died."""

    def __init__(self, died: bool = False) -> None:
        self.died, self.asked = died, list[str]()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *given: object) -> None: ...

    def submit(self, work: Any, recording: Recording) -> Future[Any]:
        self.asked.append(recording.name)
        future: Future[Any] = Future()
        if self.died:
            future.set_exception(jobs.BrokenProcessPool("gone"))
        elif recording.name != "slow":
            future.set_result(Answer(None, recording.name))
        return future


def side_by_side(
    monkeypatch: pytest.MonkeyPatch, pool: Pool, names: str, stop: Any = lambda: False
) -> tuple[Any, list[Any], list[float]]:
    begun: list[Any] = []
    told: list[float] = []
    monkeypatch.setattr(jobs, "workers", lambda *given: begun.append(given) or pool)
    monkeypatch.setattr(jobs.os, "cpu_count", lambda: 7)
    plan: Any = ("run", PredictOptions(), Path("out"))
    listed = [Recording(name) for name in names.split()]
    return jobs.side_by_side(listed, 2, plan, told.append, stop), begun, told


def test_recordings_come_as_they_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    answers, begun, told = side_by_side(monkeypatch, pool, "a b c")
    assert sorted((r.name, a.why) for r, a in answers) == [("a", "a"), ("b", "b"), ("c", "c")]
    ((count, start, plan, threads, shared),) = begun
    assert (count, start, plan[0], threads) == (2, jobs._begin, "run", 3) and told == [0.0]
    assert len(shared[0]) == 2 and shared[1].value == 0 and pool.asked == ["a", "b", "c"]


def test_stopped_it_waits_for_those_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[Any] = []
    real = jobs.wait

    def wait(futures: Any, timeout: float, *how: Any) -> Any:
        waits.append((len([*futures]), timeout))
        return real(futures, 0.01, *how)

    monkeypatch.setattr(jobs, "wait", wait)
    answers, begun, told = side_by_side(monkeypatch, Pool(), "a slow", lambda: bool(told))
    got = []
    with pytest.raises(InterruptedRunError) as error:
        for recording, _ in answers:
            got.append(recording.name)
    assert got == ["a"] and begun[0][4][2].is_set()
    assert str(error.value) == "stopped; what is done is in out, and the same command goes on"
    assert waits[0] == (2, 0.5) and waits[-1][1] == 60.0


def test_a_process_that_died_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, _, _ = side_by_side(monkeypatch, Pool(died=True), "a b")
    with pytest.raises(BabError) as error:
        list(answers)
    assert str(error.value) == (
        "a process of --jobs died (was it out of memory?). Use fewer --jobs; the same command goes "
        "on where it stopped"
    )
