"""A worker that takes requests from a bench's folder; what makes their runs is a stand-in."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from bench_scene import request

from bab.benching import pulling, worker
from bab.benching.pulling import Puller
from bab.benching.requests import Requests, features_key
from bab.core.errors import InterruptedRunError

Say = Callable[[Mapping[str, Any]], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says; naps are counted, and none is taken."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def served(monkeypatch: pytest.MonkeyPatch, act: Callable[[Mapping[str, Any], Say], None]) -> None:
    monkeypatch.setattr(worker, "serve", act)


def end(body: Mapping[str, Any], say: Say, **more: Any) -> None:
    for seed in body["seeds"]:
        say({"event": "ended", "status": "done", "seed": seed, "rate": None, **more})


def test_it_takes_request_after_request_until_there_are_none(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[Mapping[str, Any]] = []

    def act(body: Mapping[str, Any], say: Say) -> None:
        ((one, who),) = requests.taken()
        assert (one.body, who) == (body, "w1")
        bodies.append(body)
        end(body, say, folder=f"run-{len(bodies)}")

    served(monkeypatch, act)
    for number, seeds in ((2, (5,)), (1, (3, 4))):
        requests.ask(request(number, seeds, f"label {number}"))
    assert Puller(requests.folder, "w1").work() == 0
    assert [body["seeds"] for body in bodies] == [[3, 4], [5]]
    event = {"event": "ended", "status": "done", "rate": None}
    assert requests.events(set()) == [
        ("1_3_None.json", {**event, "seed": 3, "folder": "run-1", "cell": 1}),
        ("1_4_None.json", {**event, "seed": 4, "folder": "run-1", "cell": 1}),
        ("2_5_None.json", {**event, "seed": 5, "folder": "run-2", "cell": 2}),
    ]
    assert requests.open() == [] and requests.progress() == {}
    hot = {path.name for path in requests.warm.iterdir()}
    assert hot == {features_key("label 1"), features_key("label 2")}


def test_runs_that_gain_nothing_from_one_another_are_made_one_by_one(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []

    def act(body: Mapping[str, Any], say: Say) -> None:
        asked.append(body["seeds"])
        if len(body["seeds"]) > 1:
            say({"event": "apart"})
        else:
            end(body, say)

    served(monkeypatch, act)
    requests.ask(request(0, (3, 4)))
    assert Puller(requests.folder, "w1").work() == 0
    assert asked == [[3, 4], [3], [4]]
    assert [name for name, _ in requests.events(set())] == ["0_3_None.json", "0_4_None.json"]


@pytest.mark.parametrize(
    ("stage", "hot"), [("training together", True), ("training", True), ("features", False)]
)
def test_a_run_that_trains_has_its_features(
    requests: Requests, monkeypatch: pytest.MonkeyPatch, clock: list[float], stage: str, hot: bool
) -> None:
    one = request(0)

    def act(body: Mapping[str, Any], say: Say) -> None:
        say({"event": "progress", "stage": stage, "done": 1, "total": 2})
        assert (requests.warm / one.features).exists() == hot
        end(body, say)

    served(monkeypatch, act)
    requests.ask(one)
    assert Puller(requests.folder, "w1").work() == 0


def test_how_far_it_is_stands_in_a_file_every_two_seconds(
    requests: Requests, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    file = requests.now / "w1.json"
    shown: list[int] = []

    def act(body: Mapping[str, Any], say: Say) -> None:
        say({"event": "other", "stage": "features"})
        assert not file.exists()
        for number, seconds in enumerate((100.0, 101.9, 102.0, 103.9, 104.5)):
            clock[0] = seconds
            say({"event": "progress", "stage": "features", "done": number})
            shown.append(json.loads(file.read_text())["done"])
        value = json.loads(file.read_text())
        assert value == {"event": "progress", "stage": "features", "done": 4, "of": "00000"}
        end(body, say)

    served(monkeypatch, act)
    requests.ask(request(0))
    assert Puller(requests.folder, "w1").work() == 0
    assert shown == [0, 0, 2, 2, 4]


@pytest.mark.parametrize(
    ("error", "said"),
    [(InterruptedRunError("stopped at 3"), "stopped at 3"), (KeyboardInterrupt(), "stopped")],
)
def test_stopped_it_gives_back_what_it_was_at(
    requests: Requests,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    said: str,
) -> None:
    def act(body: Mapping[str, Any], say: Say) -> None:
        raise error

    served(monkeypatch, act)
    for number in (0, 1):
        requests.ask(request(number, label=str(number)))
    assert Puller(requests.folder, "w1").work() == 130
    assert capsys.readouterr() == ("", f"{said}\n")
    assert requests.open() == [request(0, label="0"), request(1, label="1")]
    assert requests.taken() == []


def test_what_it_had_in_an_earlier_life_is_asked_for_again(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(monkeypatch, end)
    for number in (0, 1):
        requests.ask(request(number, label=str(number)))
        requests.take("w1" if number else "w2")
    assert Puller(requests.folder, "w1").work() == 0
    assert [name for name, _ in requests.events(set())] == ["1_0_None.json"]
    assert [who for _, who in requests.taken()] == ["w2"]


def test_it_waits_while_another_makes_the_features_that_it_needs(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(monkeypatch, end)
    naps: list[float] = []
    requests.ask(request(0))
    other = requests.take("w2")
    assert other is not None
    requests.ask(request(1))

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            requests.heat(other)

    monkeypatch.setattr("time.sleep", nap)
    assert Puller(requests.folder, "w1").work() == 0
    assert naps == [0.5] * 3
    assert [name for name, _ in requests.events(set())] == ["1_0_None.json"]


@pytest.fixture
def streams() -> Iterator[None]:
    """What `main` changes of this process, as it was."""
    out, handler = os.dup(1), signal.getsignal(signal.SIGTERM)
    yield
    os.dup2(out, 1)
    os.close(out)
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("streams")
def test_as_a_process_it_has_one_log_and_can_be_stopped_at_any_moment(
    requests: Requests, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def act(body: Mapping[str, Any], say: Say) -> None:
        os.write(1, b"printed by a library\n")
        end(body, say)

    served(monkeypatch, act)
    requests.ask(request(7))
    assert pulling.main([str(requests.folder), "w1"]) == 0
    assert [name for name, _ in requests.events(set())] == ["7_0_None.json"]
    said = capfd.readouterr()
    assert "printed by a library" in said.err and said.out == ""

    def idle(seconds: float) -> None:
        signal.raise_signal(signal.SIGTERM)

    requests.ask(request(0, label="b"))
    requests.take("w2")
    requests.ask(request(1, label="b"))
    monkeypatch.setattr("time.sleep", idle)
    assert pulling.main([str(requests.folder), "w1"]) == 130
