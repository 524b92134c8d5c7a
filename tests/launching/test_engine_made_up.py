"""Jobs under an engine that is made up: what stands in files, when it is asked, what is said."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bab.core.errors import BabError
from bab.core.launchers import Launcher, Standing, Work
from bab.launching import fleet as module
from bab.launching import job, jobs
from bab.launching.asked import Launch
from bab.launching.fleet import Ended, Fleet
from bab.launching.jobs import Wanted, folder_of, run_jobs


class Engine(Launcher):
    """Knows of each job what it is told."""

    def __init__(self, layout: tuple[int, int] = (1, 1)) -> None:
        super().__init__(None)
        self._layout = layout
        self.submitted: list[Work] = []
        self.standing: dict[str, Standing] = {}
        self.polled: list[list[str]] = []
        self.cancelled: list[str] = []
        self.refusing = False

    @property
    def layout(self) -> tuple[int, int]:
        return self._layout

    def submit(self, work: Work) -> str:
        if self.refusing:
            raise BabError("the queue is full")
        self.submitted.append(work)
        self.standing[f"#{len(self.submitted)}"] = Standing("queued")
        return f"#{len(self.submitted)}"

    def poll(self, ids: Sequence[str]) -> Mapping[str, Standing]:
        self.polled.append(list(ids))
        return self.standing

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes where somebody sleeps."""
    clock = [1000.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    made = SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep)
    for one in (module, jobs, job):
        monkeypatch.setattr(one, "time", made)
    monkeypatch.setattr(module, "code", lambda: {"bab": "1"})
    return clock


@pytest.fixture
def made(tmp_path: Path, now: list[float]) -> tuple[Fleet, Engine]:
    engine = Engine()
    return Fleet(engine, "made", tmp_path / "jobs"), engine


def over(fleet: Fleet, name: str, status: int = 0, **changes: Any) -> None:
    """Write down how a job ended."""
    values = {"status": status, "interrupted": False, "seconds": 12.4, "host": "n1", "note": ""}
    path = fleet.folder / f"{name}.end.json"
    path.write_text(json.dumps(values | changes))


def test_what_a_job_is_asked_stands_beside_it(
    made: tuple[Fleet, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, engine = made
    for name in list(os.environ):
        if name.startswith(("BAB_", "HF_", "OMP_", "MKL_", "TORCH", "TRANSFORMERS_", "XDG_")):
            monkeypatch.delenv(name)
    for name in ("PYTHONPATH", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)
    given = {"BAB_CACHE": "/c", "HF_HOME": "/h", "PYTHONPATH": "/p", "XDG_CACHE_HOME": "/x"}
    left = {
        "BAB_LEASH": "1",
        "BAB_CODE_CHANGED": "x",
        "BAB_HEAD": "n",
        "BAB_NODE": "1",
        "ALOHA": "x",
    }
    for name, value in (given | left).items():
        monkeypatch.setenv(name, value)
    fleet.folder.mkdir()
    over(fleet, "a")
    fleet.submit("a", ["-m", "bab", "x"])
    (work,) = engine.submitted
    file = fleet.folder / "a.json"
    assert work.argv == (sys.executable, "-m", "bab.launching.job", str(file.absolute()))
    assert (work.name, work.folder, work.spread) == ("a", Path.cwd(), False)
    assert work.log == fleet.log("a").absolute() == (fleet.folder / "a.log").absolute()
    assert dict(work.env) == given
    assert json.loads(file.read_text()) == {
        "name": "a", "argv": ["-m", "bab", "x"], "nodes": 1, "processes": 1, "code": {"bab": "1"},
    }  # fmt: skip
    assert not (fleet.folder / "a.end.json").exists()  # of an earlier one of this name
    assert json.loads(fleet.state.read_text()) == {
        "launcher": "made", "made": 1, "jobs": {"a": "#1"},
    }  # fmt: skip
    assert fleet.ids == ["#1"] and (fleet.count("queued"), fleet.count("running")) == (1, 0)


def test_work_that_is_spread_takes_the_launchers_layout(tmp_path: Path, now: list[float]) -> None:
    engine = Engine((2, 4))
    fleet = Fleet(engine, "made", tmp_path)
    fleet.submit("wide", ["x"], spread=True)
    fleet.submit("one", ["x"])
    shapes = [json.loads((tmp_path / f"{n}.json").read_text()) for n in ("wide", "one")]
    assert [(s["nodes"], s["processes"]) for s in shapes] == [(2, 4), (1, 1)]
    assert [work.spread for work in engine.submitted] == [True, False] and fleet.made == 2


def test_a_job_that_is_refused_is_no_job(made: tuple[Fleet, Engine]) -> None:
    fleet, engine = made
    engine.refusing = True
    with pytest.raises(BabError, match="the queue is full"):
        fleet.submit("a", ["x"])
    assert not fleet.jobs and json.loads(fleet.state.read_text())["jobs"] == {}
    assert fleet.made == 1  # its number isn't given again


def test_the_engine_is_asked_now_and_then(made: tuple[Fleet, Engine], now: list[float]) -> None:
    fleet, engine = made
    assert fleet.look() == [] and engine.polled == []  # there is no job
    fleet.submit("a", ["x"])
    assert fleet.look() == [] and engine.polled == [["#1"]]
    now[0] += 0.9
    fleet.look()
    assert len(engine.polled) == 1
    now[0] += 0.1
    fleet.look()
    assert len(engine.polled) == 2
    poll = engine.poll

    def slow(ids: Sequence[str]) -> Mapping[str, Standing]:
        now[0] += 2.0
        return poll(ids)

    engine.poll = slow  # type: ignore[method-assign]
    now[0] += 1.0
    fleet.look()
    now[0] += 39.9  # twenty times what it took
    fleet.look()
    assert len(engine.polled) == 3
    now[0] += 0.2
    fleet.look()
    assert len(engine.polled) == 4


@pytest.mark.parametrize(
    ("written", "engine", "expected"),
    [
        ({}, "running", "status 0 on n1"),
        ({"status": 3}, "running", "status 3 on n1"),
        ({"status": -15}, "running", "killed by signal 15 on n1"),
        ({"status": -9}, "queued", "killed by signal 9 on n1 (out of memory?)"),
        ({"status": 130, "interrupted": True}, "running", None),  # it may come back by itself
        ({"status": 130, "interrupted": True}, "ended", "stopped after 12 s on n1"),
        (None, "running", None),
        (None, "ended", None),
    ],
)
def test_a_jobs_own_file_is_believed_first(
    made: tuple[Fleet, Engine], written: dict[str, Any] | None, engine: str, expected: str | None
) -> None:
    fleet, known = made
    fleet.submit("a", ["x"])
    known.standing["#1"] = Standing(engine)  # type: ignore[arg-type]
    if written is not None:
        over(fleet, "a", **written)
    ended = fleet.look()
    if expected is None:
        assert ended == [] and "a" in fleet.jobs
        return
    (one,) = ended
    assert (one.name, one.why) == ("a", expected) and one.end is not None and one.end.host == "n1"
    assert not fleet.jobs and json.loads(fleet.state.read_text())["jobs"] == {}
    assert fleet.look() == []


def test_one_that_the_engine_forgot_is_lost_after_a_while(
    made: tuple[Fleet, Engine], now: list[float]
) -> None:
    fleet, engine = made
    fleet.submit("a", ["x"])
    fleet.submit("b", ["x"])
    del engine.standing["#1"]
    assert fleet.look() == []  # its file may be late
    now[0] += 9.9
    assert fleet.look() == []
    engine.standing["#1"] = Standing("running")
    now[0] += 1.0
    assert fleet.look() == []  # it came back: the clock begins anew
    engine.standing["#1"] = Standing("ended")
    now[0] += 1.0
    assert fleet.look() == []
    now[0] += 10.0
    assert fleet.look() == [Ended("a", None, "it was lost")]
    engine.standing["#2"] = Standing("ended", "OUT_OF_MEMORY")
    now[0] += 1.0
    assert fleet.look() == [Ended("b", None, "OUT_OF_MEMORY")]  # the engine knows why


def test_cancelled_ones_are_waited_for_until_patience_ends(
    made: tuple[Fleet, Engine], now: list[float]
) -> None:
    fleet, engine = made
    for name in ("a", "b"):
        fleet.submit(name, ["x"])
    engine.standing["#2"] = Standing("ended")
    began = now[0]
    fleet.cancel(5.0)
    assert engine.cancelled == ["#1", "#2"] and list(fleet.jobs) == ["a"]
    assert now[0] - began == 5.0 and json.loads(fleet.state.read_text())["jobs"] == {"a": "#1"}
    engine.standing.clear()
    began = now[0]
    fleet.cancel()
    assert not fleet.jobs and now[0] == began
    engine.standing["#1"] = Standing("running")
    fleet.submit("c", ["x"])
    began = now[0]
    fleet.cancel()
    assert now[0] - began == 60.0


def test_the_end_of_what_a_job_printed(made: tuple[Fleet, Engine]) -> None:
    fleet, _ = made
    assert fleet.tail("a") == ""
    fleet.folder.mkdir()
    fleet.log("a").write_bytes(b"".join(b"%d\n" % i for i in range(20)) + b"\xff\n\n")
    assert fleet.tail("a").splitlines() == [*map(str, range(9, 20)), "\ufffd"]
    assert fleet.tail("a", 2) == "19\n\ufffd"


def test_jobs_of_an_earlier_call_are_found(tmp_path: Path, now: list[float]) -> None:
    engine = Engine()
    state = tmp_path / "jobs.json"
    state.write_text(json.dumps({"launcher": "made", "made": 5, "jobs": {"a": "#7", "b": ""}}))
    engine.standing["#7"] = Standing("running", "why")
    fleet = Fleet(engine, "made", tmp_path)
    assert (fleet.made, fleet.ids, fleet.count("running")) == (5, ["#7"], 1)
    assert engine.polled == [["#7"]] and fleet.count("queued") == 0
    with pytest.raises(BabError) as error:
        Fleet(engine, "other", tmp_path)
    assert str(error.value) == (
        "jobs of launcher 'made' may still be at work on this (ids #7): give the command with "
        f"--launcher made, or delete {state} if they are gone"
    )
    state.write_text(json.dumps({"launcher": "made", "made": 5, "jobs": {"b": ""}}))
    engine.polled.clear()
    assert not Fleet(engine, "other", tmp_path).jobs and engine.polled == []
    state.write_text("{")
    with pytest.raises(BabError) as error:
        Fleet(engine, "made", tmp_path)
    assert str(error.value).startswith(f"{state} can't be read (")
    assert str(error.value).endswith("): delete it")


# ------------------------------------------------------------------------------- commands


class Playing(Engine):
    """Ends each job as it is told, at the next look; one that is told None runs on."""

    def __init__(self, folder: Path, ends: dict[str, list[dict[str, Any] | str | None]]) -> None:
        super().__init__()
        self.folder, self.ends, self.most = folder, ends, 0

    def poll(self, ids: Sequence[str]) -> Mapping[str, Standing]:
        self.most = max(self.most, len(ids))
        for number in ids:
            work = self.submitted[int(number[1:]) - 1]
            told = self.ends[work.name].pop(0) if self.ends[work.name] else {}
            if told is None or isinstance(told, str):
                self.standing[number] = Standing("ended" if told else "running", told or "")
                continue
            values = {"status": 0, "interrupted": False, "seconds": 7.6, "host": "n1", "note": ""}
            (self.folder / f"{work.name}.end.json").write_text(json.dumps(values | told))
            with (self.folder / f"{work.name}.log").open("ab") as file:
                file.write(b"line of %s\nhalf" % work.name.encode())
            self.standing[number] = Standing("ended")
        return super().poll(ids)


def played(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ends: dict[str, Any], **wanted: Any
) -> tuple[bool, list[str], list[Any], Playing]:
    engine = Playing(folder, {name: list(each) for name, each in ends.items()})
    return (*ran(engine, folder, monkeypatch, ends, **wanted), engine)


def ran(
    engine: Playing, folder: Path, monkeypatch: pytest.MonkeyPatch, ends: Any, **wanted: Any
) -> tuple[bool, list[str], list[Any]]:
    monkeypatch.setattr(Launch, "open", lambda self: engine)
    said: list[str] = []
    told: list[Any] = []
    commands = {name: ["-c", name] for name in ends}
    done = run_jobs(
        Launch("made"), folder, Wanted(commands, **({"most": 2} | wanted)),
        lambda *given: told.append(given), said.append,
    )  # fmt: skip
    return done, said, told


def test_so_many_at_a_time_until_all_are_done(
    tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = {"a": [{"note": "other code"}], "b": [{"status": 1}], "c": [], "d": []}
    done, said, told, engine = played(tmp_path / "s" / "x", monkeypatch, ends)
    assert done and engine.most == 2 and [w.name for w in engine.submitted] == ["a", "b", "c", "d"]
    assert said == [
        "[1/4] a: done in 8 s", "a: other code", "[2/4] b: done in 8 s", "[3/4] c: done in 8 s",
        "[4/4] d: done in 8 s",
    ]  # fmt: skip
    assert [*dict.fromkeys(told)] == [("shards", n, 4, "jobs") for n in (0, 2, 4)]
    assert not (tmp_path / "s").exists()
    other = tmp_path / "t" / "y"
    (tmp_path / "t" / "other").mkdir(parents=True)
    assert [*dict.fromkeys(played(other, monkeypatch, {"a": []}, what="run")[2])] == [
        ("runs", 0, 1, "jobs"), ("runs", 1, 1, "jobs"),
    ]  # fmt: skip
    assert (tmp_path / "t").exists() and not other.exists()


def test_a_job_may_be_lost_twice_and_stopped_as_often_as_it_is(
    tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = {"status": 130, "interrupted": True}
    ends = {"a": ["NODE_FAIL", stopped, stopped, {"status": -9}, stopped]}
    done, said, _, _ = played(tmp_path / "x", monkeypatch, ends)
    again = "; it begins again"
    assert done and said == [
        f"a: NODE_FAIL{again}", f"a: stopped after 8 s on n1{again}",
        f"a: stopped after 8 s on n1{again}",
        f"a: killed by signal 9 on n1 (out of memory?){again}",
        f"a: stopped after 8 s on n1{again}", "[1/1] a: done in 8 s",
    ]  # fmt: skip
    with pytest.raises(BabError) as error:
        played(tmp_path / "x", monkeypatch, {"a": ["NODE_FAIL"] * 3})
    log = tmp_path / "x" / "a.log"
    assert str(error.value) == f"the job a failed: NODE_FAIL. The last lines of {log}:\n(empty)"


@pytest.mark.parametrize(("status", "fine"), [(1, (0,)), (2, (0, 1))])
def test_a_status_that_isnt_fine_fails_at_once(
    tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch, status: int, fine: Any
) -> None:
    with pytest.raises(BabError) as error:
        played(tmp_path / "x", monkeypatch, {"a": [{"status": status}], "b": []}, fine=fine)
    assert str(error.value) == (
        f"the job a failed: status {status} on n1. The last lines of {tmp_path / 'x' / 'a.log'}:\n"
        "line of a\nhalf"
    )


@pytest.mark.parametrize(("ends", "cancelled"), [({"a": [{"status": 1}], "b": [None]}, ["#2"]),
                                                ({"a": [{"status": 1}]}, [])])  # fmt: skip
def test_where_one_fails_the_others_are_cancelled(
    tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch, ends: Any, cancelled: Any
) -> None:
    folder = tmp_path / "x"
    engine = Playing(folder, {name: list(each) for name, each in ends.items()})
    with pytest.raises(BabError, match=r"the job a failed: status 1 on n1\."):
        ran(engine, folder, monkeypatch, ends, fine=(0,))
    assert engine.cancelled == cancelled
    assert Fleet(engine, "made", folder).jobs == {}  # what is cancelled isn't found again


def test_a_job_of_an_earlier_call_that_is_not_wanted_any_more_fails_nobody(
    tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "x"
    engine = Playing(folder, {"old": [{"status": 1}], "a": []})
    Fleet(engine, "made", folder).submit("old", ["-c", "old"])
    done, said, told = ran(engine, folder, monkeypatch, {"a": []})
    assert done and said == ["1 job of an earlier call still at work", "[1/1] a: done in 8 s"]
    assert {total for _, _, total, _ in told} == {1} and not folder.exists()


def test_what_jobs_print_is_followed_in_whole_lines(
    tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = {"status": 130, "interrupted": True}
    done, said, told, _ = played(tmp_path / "x", monkeypatch, {"a": [stopped]}, follow=True)
    assert done and told == []
    assert said == [
        "line of a", "a: stopped after 8 s on n1; it begins again", "halfline of a",
    ]  # fmt: skip


def test_a_command_finds_its_jobs_by_its_words(tmp_path: Path) -> None:
    one = folder_of(tmp_path, ["predict", "a b"])
    assert one.parent == tmp_path and len(one.name) == 12
    assert one == folder_of(tmp_path, ("predict", "a b")) != folder_of(tmp_path, ["predict a", "b"])
