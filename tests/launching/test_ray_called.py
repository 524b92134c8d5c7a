"""What launcher `ray` asks of Ray, by its documented calls, answered by a made-up cluster."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import bab
from bab.plugins.launchers import ray as launcher
from bab.plugins.launchers.ray import Ray, RayOptions


class LostError(Exception):
    """Stands for ray.exceptions.RayActorError."""


class Actor:
    """One of a cluster's: how it is, and what was asked of it."""

    def __init__(self, cluster: Cluster, given: dict[str, Any], arguments: tuple[Any, ...]) -> None:
        self.cluster, self.given, self.arguments = cluster, given, arguments
        self.state = "running"
        self.asked: list[str] = []
        for name in ("leave", "running", "stop"):
            setattr(self, name, SimpleNamespace(remote=self._answers(name)))

    def _answers(self, name: str) -> Callable[[], tuple[Actor, str]]:
        return lambda: (self.asked.append(name), (self, name))[1]


class Cluster(ModuleType):
    """The module `ray`, with the signatures of its documentation (ray 2)."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.actors: dict[str, Actor] = {}
        self.begun: list[tuple[Any, ...]] = []
        self.waited: list[tuple[int, int, float | None]] = []
        self.killed: list[str] = []
        self.exceptions = SimpleNamespace(RayActorError=LostError)
        self.left = 0
        self.actor = SimpleNamespace(exit_actor=self._exit)

    def _exit(self) -> None:
        self.left += 1

    def init(self, address: str | None = None, **more: Any) -> None:
        self.begun.append((address, more))

    def remote(self, cls: type) -> Any:
        def made(given: dict[str, Any]) -> Any:
            def remote(*arguments: Any) -> Actor:
                self.actors[given["name"]] = Actor(self, {**given, "cls": cls}, arguments)
                return self.actors[given["name"]]

            return SimpleNamespace(remote=remote)

        return SimpleNamespace(options=lambda **given: made(given))

    def get_actor(self, name: str, namespace: str | None = None) -> Actor:
        actor = self.actors.get(name)
        if actor is None or actor.given["namespace"] != namespace:
            raise ValueError(f"no actor {name}")
        return actor

    def wait(
        self, refs: Sequence[Any], *, num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Any], list[Any]]:
        if not 0 < num_returns <= len(refs):
            raise ValueError(f"num_returns {num_returns} of {len(refs)}")
        self.waited.append((len(refs), num_returns, timeout))
        ready = [ref for ref in refs if ref[0].state != "queued"]
        return ready, [ref for ref in refs if ref not in ready]

    def get(self, ref: Any) -> Any:
        actor, _ = ref
        if isinstance(actor.state, Exception):
            raise actor.state
        return actor.state == "running"

    def kill(self, actor: Actor, *, no_restart: bool = True) -> None:
        self.killed.append(actor.given["name"])
        del self.actors[actor.given["name"]]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setitem(sys.modules, "ray", made)
    return made


def work(here: Path, name: str = "w1") -> bab.Work:
    return bab.Work(name, ("python", "-c", "1"), here, here / "log", {"BAB_X": "y"})


def plain(told: Any) -> dict[str, tuple[str, str]]:
    return {one: (standing.state, standing.why) for one, standing in told.items()}


def test_a_cluster_is_connected_once_and_quietly(cluster: Cluster) -> None:
    made = Ray(RayOptions(address="auto"))
    assert cluster.begun == [] and plain(made.poll(["x"])) == {"x": ("ended", "")}
    made.poll(["x"])
    made.cancel([])
    assert cluster.begun == [
        ("auto", {"namespace": "bab", "log_to_driver": False, "logging_level": "ERROR",
                  "configure_logging": False, "ignore_reinit_error": True})
    ]  # fmt: skip


def test_a_job_is_an_actor_that_outlives_the_command(cluster: Cluster, tmp_path: Path) -> None:
    options = RayOptions(cpus=3, gpus=0.5, memory=1.5, resources={"big": 1})
    number = Ray(options).submit(work(tmp_path))
    assert number.startswith("w1-") and len(number) == len("w1-") + 8
    (actor,) = cluster.actors.values()
    assert actor.given == {
        "name": number, "namespace": "bab", "lifetime": "detached", "max_concurrency": 3,
        "num_cpus": 3, "num_gpus": 0.5, "resources": {"big": 1.0}, "memory": 1_500_000_000,
        "cls": launcher._Holder,
    }  # fmt: skip
    environment = {"OMP_NUM_THREADS": "3", "BAB_X": "y"}
    log = str(tmp_path / "log")
    assert actor.arguments == (("python", "-c", "1"), str(tmp_path), log, environment)
    assert actor.asked == ["leave"]
    again = Ray(RayOptions()).submit(work(tmp_path))
    assert again != number and "memory" not in cluster.actors[again].given
    assert cluster.actors[again].given["num_gpus"] == 0
    own = bab.Work("w", ("x",), tmp_path, tmp_path / "log", {"OMP_NUM_THREADS": "7"})
    assert cluster.actors[Ray(options).submit(own)].arguments[3] == {"OMP_NUM_THREADS": "7"}


@pytest.mark.parametrize(
    ("processes", "gpus", "layout"),
    [(0, 0, (1, 1)), (0, 0.5, (1, 1)), (0, 4, (1, 4)), (2, 4, (1, 2)), (1, 0, (1, 1))],
)
def test_processes_are_those_asked_for_or_one_for_each_gpu(
    processes: int, gpus: float, layout: tuple[int, int]
) -> None:
    assert Ray(RayOptions(processes=processes, gpus=gpus)).layout == layout


def test_jobs_are_as_their_actors_say(cluster: Cluster, tmp_path: Path) -> None:
    made = Ray(RayOptions())
    at_work, waits, over, fell, gone = (made.submit(work(tmp_path)) for _ in range(5))
    cluster.actors[waits].state = "queued"
    cluster.actors[over].state = "over"
    cluster.actors[fell].state = LostError("The actor died: its NODE has died")
    cluster.actors[gone].state = LostError("The actor died: its worker process has died")
    ids = [at_work, waits, over, fell, gone, "never"]
    assert plain(made.poll(ids)) == {
        at_work: ("running", ""), waits: ("queued", ""), over: ("ended", ""),
        fell: ("ended", "its node was lost"), gone: ("ended", ""), "never": ("ended", ""),
    }  # fmt: skip
    assert list(made.poll(ids)) == ids
    assert cluster.killed == [over]  # its cores are free again
    assert cluster.waited[0] == (5, 5, 2.0)
    # One that waits is asked once, and answers when it has a place.
    assert cluster.actors[waits].asked == ["leave", "running"]
    assert cluster.actors[at_work].asked == ["leave", "running", "running"]
    cluster.actors[waits].state = "running"
    assert plain(made.poll([waits])) == {waits: ("running", "")}
    assert made.poll([]) == {} and cluster.waited[-1] == (1, 1, 2.0)


def test_cancelled_jobs_save_and_queued_ones_go(cluster: Cluster, tmp_path: Path) -> None:
    made = Ray(RayOptions())
    at_work, waits, last = (made.submit(work(tmp_path)) for _ in range(3))
    cluster.actors[waits].state = "queued"
    made.cancel(["never", at_work, waits, last])
    assert cluster.killed == [waits] and waits not in cluster.actors
    assert all(cluster.actors[one].asked == ["leave", "stop"] for one in (at_work, last))
    assert cluster.waited == [(1, 1, 2.0)] * 3


def test_an_actor_that_dies_meanwhile_is_no_error(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Ray(RayOptions())
    first, last = (made.submit(work(tmp_path)) for _ in range(2))

    def wait(refs: Any, **more: Any) -> Any:
        if refs[0][0].given["name"] == first:
            raise LostError("died")
        return refs, []

    monkeypatch.setattr(cluster, "wait", wait)
    made.cancel([first, last])
    assert cluster.actors[last].asked == ["leave", "stop"] and cluster.killed == []


@pytest.mark.parametrize(
    ("address", "reached"),
    [("auto", None), ("n1:6379", ("n1", 6379)), ("ray://n1:10002", ("n1", 10002)),
     ("ray://n1", ("n1", 10001)), ("n1:port", None), ("local", None)],
)  # fmt: skip
def test_an_address_is_tried_before_ray_waits_for_minutes(
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    reached: tuple[str, int] | None,
) -> None:
    tried: list[Any] = []

    def connect(place: tuple[str, int], timeout: float) -> Any:
        tried.append(place)
        assert timeout == 5
        return SimpleNamespace(close=lambda: tried.append("closed"))

    monkeypatch.setattr(launcher.socket, "create_connection", connect)
    Ray(RayOptions(address=address)).poll([])
    assert tried == ([reached, "closed"] if reached else [])
    assert cluster.begun[0][0] == address


def test_no_cluster_and_no_ray_are_said(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: Any, **more: Any) -> Any:
        raise ConnectionError("nobody\n  there " + "x" * 400)

    monkeypatch.setattr(cluster, "init", refused)
    with pytest.raises(bab.BabError) as caught:
        Ray(RayOptions(address="auto")).poll(["x"])
    told = ("nobody there " + "x" * 400)[:300]
    assert str(caught.value) == (
        f"no Ray cluster at launcher.address=auto: {told}. Start one (`ray start --head`), or name "
        "its address"
    )
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(bab.BabError, match=r"^--launcher ray needs Ray: pip install 'bab\[ray\]'$"):
        Ray(RayOptions()).poll(["x"])


def test_the_actor_holds_its_process(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, slept, statuses = threading.Event(), [], []
    monkeypatch.setattr(launcher, "time", SimpleNamespace(sleep=slept.append))
    leaves = lambda status: (statuses.append(status), ended.set())  # noqa: E731
    monkeypatch.setattr(launcher, "os", SimpleNamespace(environ=os.environ, _exit=leaves))
    monkeypatch.setenv("BAB_Y", "kept")
    (tmp_path / "log").write_text("before\n")
    code = (
        "import os, sys; print(os.environ['BAB_LEASH'], os.environ['BAB_X'], os.environ['BAB_Y'],"
        "os.path.realpath('.'), os.getsid(0) == os.getpid(), flush=True);"
        "print('err', file=sys.stderr, flush=True); sys.stdin.read()"
    )
    holder = launcher._Holder(
        (sys.executable, "-c", code), str(tmp_path), str(tmp_path / "log"), {"BAB_X": "y"}
    )
    assert holder.running() is True and not statuses
    holder.process.stdin.close()  # as when the actor ends
    holder.leave()
    assert cluster.left == 1 and holder.running() is False
    assert ended.wait(30) and (slept, statuses) == ([30], [0])
    here = os.path.realpath(tmp_path)
    told = (tmp_path / "log").read_text()
    assert told == f"before\n1 y kept {here} True\nerr\n"


def test_the_actor_stops_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(launcher, "time", SimpleNamespace(sleep=lambda seconds: None))
    leaves = lambda status: ended.set()  # noqa: E731
    monkeypatch.setattr(launcher, "os", SimpleNamespace(environ=os.environ, _exit=leaves))
    holder = launcher._Holder(("sleep", "60"), str(tmp_path), str(tmp_path / "log"), {})
    assert holder.running()
    holder.stop()
    assert holder.process.wait(30) == -15 and ended.wait(30)
