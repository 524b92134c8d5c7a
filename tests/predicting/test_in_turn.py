"""Recordings one after the other: what is short is written while the model hears the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bab.core.errors import AudioError, BabError, InterruptedRunError
from bab.predicting.jobs import in_turn
from bab.predicting.recordings import Recording


@dataclass
class Heard:
    recording: Recording
    brief: bool


class Maker:
    """What `in_turn` asks of one. finishing: is called with a name, in whatever thread it is."""

    def __init__(self, finishing: Callable[[str], object], long: Sequence[str] = ()) -> None:
        self.out, self.finishing, self.long = Path("out"), finishing, long
        self.heard: list[str] = []

    def hear(self, recording: Recording, tell: object, stop: Callable[[], bool]) -> Heard:
        if stop():
            raise InterruptedRunError("stopped")
        if recording.name == "broken":
            raise AudioError("broken.wav: no audio")
        self.heard.append(recording.name)
        return Heard(recording, recording.name not in self.long)

    def finish(self, heard: Heard) -> Any:
        self.finishing(heard.recording.name)
        return heard.recording.name


def gone_through(maker: Any, names: str, stop: Callable[[], bool] = lambda: False) -> list[Any]:
    listed = [Recording(name, f"{name}.wav") for name in names.split()]
    answers = list(in_turn(maker, listed, lambda seconds: None, stop))
    assert all(0 <= answer.seconds < 120 for _, answer in answers)
    return [(recording.name, answer.made or answer.why) for recording, answer in answers]


def test_the_next_is_heard_meanwhile_and_what_comes_is_in_order() -> None:
    def finishing(name: str) -> None:
        if name == "a":
            assert later.wait(20)  # it would wait for ever, were the next heard only then
        if name == "b":
            later.set()

    class Ahead(Maker):
        def hear(self, *asked: Any) -> Heard:
            if asked[0].name == "c":
                later.set()
            return super().hear(*asked)

    later = threading.Event()
    said = gone_through(Ahead(finishing), "a broken b c")
    assert said == [("a", "a"), ("broken", "broken.wav: no audio"), ("b", "b"), ("c", "c")]


def test_a_long_one_is_written_before_the_next_is_heard() -> None:
    heard_by_then = {}

    def finishing(name: str) -> None:
        heard_by_then[name] = list(maker.heard)

    maker = Maker(finishing, long="ab")
    gone_through(maker, "a b c")
    assert heard_by_then == {"a": ["a"], "b": ["a", "b"], "c": ["a", "b", "c"]}


def test_no_more_than_a_few_wait() -> None:
    most, waiting = 0, threading.Semaphore(0)

    def finishing(name: str) -> None:
        nonlocal most
        waiting.acquire(timeout=0.05)
        most = max(most, len(maker.heard) - int(name))

    maker = Maker(finishing)
    gone_through(maker, " ".join(map(str, range(12))))
    assert 1 <= most <= 5


def test_stopped_what_was_heard_is_written_and_told() -> None:
    written: list[str] = []
    maker = Maker(written.append)
    said = []
    answers = in_turn(
        maker,  # type: ignore[arg-type]
        [Recording(name, f"{name}.wav") for name in "abc"],
        lambda seconds: None,
        lambda: len(maker.heard) == 2,
    )
    with pytest.raises(InterruptedRunError):
        for recording, _ in answers:
            said.append(recording.name)
    assert said == written == ["a", "b"]


def test_what_goes_wrong_with_the_disk_ends_it() -> None:
    def finishing(name: str) -> None:
        if name == "b":
            raise OSError(30, "Read-only file system")

    with pytest.raises(BabError, match=r"Read-only file system.*at b"):
        gone_through(Maker(finishing), "a b c d e f g")


def test_left_alone_in_the_middle_it_has_written_what_it_heard() -> None:
    """The folder's lock is given back then: nothing may be written after."""
    written: list[str] = []
    maker = Maker(written.append)
    answers = in_turn(
        maker,  # type: ignore[arg-type]
        [Recording(name, f"{name}.wav") for name in "abcdef"],
        lambda seconds: None,
        lambda: False,
    )
    next(answers)
    answers.close()
    assert written == maker.heard
