"""Progress of commands and functions: bars, plain lines, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from bab.api.progress import ticker
from bab.plugins.observers import progress


class Shown:
    """A display, and how it was made."""

    def __init__(self, *made: Any) -> None:
        self.told: list[Any] = [made]

    def stage(self, *given: Any) -> None:
        self.told.append(given)

    def say(self, line: str) -> None:
        self.told.append(line)

    def close(self) -> None:
        self.told.append("closed")


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_shown_of_progress(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    made: list[Shown] = []

    def display(*given: Any) -> Shown:
        made.append(Shown(*given))
        return made[-1]

    def wrong(*given: Any) -> Shown:
        raise AssertionError("the other display")

    monkeypatch.setattr(progress, "moving", lambda stream: terminal and stream is sys.stderr)
    monkeypatch.setattr(progress, "Live", display if terminal else wrong)
    monkeypatch.setattr(progress, "Plain", wrong if terminal else display)
    with pytest.raises(ZeroDivisionError), ticker() as shown:
        shown.tell("stage", 1, 2, "files")
        shown.say("a line")
        raise ZeroDivisionError
    first = () if terminal else (sys.stderr, time.monotonic)
    assert [one.told for one in made] == [[first, ("stage", 1, 2, "files", ""), "a line", "closed"]]
    with ticker(quiet=True) as shown:
        shown.tell("stage", 1, 2, "files")
        shown.say("a line")
    assert len(made) == 1
