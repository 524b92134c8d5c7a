"""A bench's worker as a process: its streams and its end."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bab.benching import worker
from bab.core.errors import InterruptedRunError


class Gone(io.TextIOBase):
    """Standard input: lines, and its end."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.lines)


@pytest.fixture
def streams() -> Iterator[None]:
    out, handler = os.dup(1), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    os.dup2(out, 1)
    os.close(out)
    for thread in threading.enumerate():
        if thread.name == "bab-requests":  # its last act is a SIGTERM, which may be late
            thread.join(30)
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("stopped", [False, True])
def test_requests_come_in_as_lines_and_events_go_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], stopped: bool
) -> None:
    def act(asked: Any, say: Any) -> None:
        os.write(1, b"printed by a library\n")
        say({"event": "ended", "of": asked["number"]})
        if stopped:
            raise InterruptedRunError("saved at step 3")

    monkeypatch.setattr(worker, "serve", act)
    monkeypatch.setattr(sys, "stdin", Gone([json.dumps({"number": n}) + "\n" for n in (1, 2)]))
    assert worker.main() == (130 if stopped else 0)
    said = capfd.readouterr()
    events = [json.loads(line) for line in said.out.splitlines()]
    assert events == [{"event": "ended", "of": n} for n in ((1,) if stopped else (1, 2))]
    assert "printed by a library" in said.err
    assert ("saved at step 3" in said.err) == stopped
