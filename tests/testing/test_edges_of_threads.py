"""Encoders that say that threads may call them at once: what is tried, and what is found."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from good_parts import GoodEncoder

from bab.testing.threads import check_concurrent

SEEN: list[tuple[list[int], bool]] = []


class Shared(GoodEncoder):
    """Says that it may be called by several threads."""

    concurrent = True
    seconds = 20.0

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.max_seconds = self.seconds

    def forward(self, waves: Any, mask: Any = None, layers: str = "all") -> Any:
        own = threading.current_thread() is threading.main_thread()
        SEEN.append((waves.lengths.tolist(), own))
        out = super().forward(waves, mask, layers)
        return out if own else self.beside(out)

    def beside(self, out: Any) -> Any:
        return out


def check(**members: Any) -> str:
    cls = type("It", (Shared,), {"__doc__": "x", **members})
    SEEN.clear()
    try:
        return check_concurrent(lambda: cls.load("random", cls.Options())) or ""
    except AssertionError as error:
        return str(error)


@pytest.mark.parametrize(
    ("seconds", "sizes"),
    [(20.0, [1360, 13200, 4240, 8400, 2640, 19600]), (0.5, [1360, 8000, 4240, 8000, 2640, 8000])],
)
def test_six_clips_alone_and_then_twice_by_threads(seconds: float, sizes: list[int]) -> None:
    before = sys.getswitchinterval()
    assert check(seconds=seconds) == "" and sys.getswitchinterval() == before
    assert SEEN[:6] == [([size], True) for size in sizes]
    assert sorted(SEEN[6:]) == sorted([([size], False) for size in sizes] * 2)


def test_one_that_does_not_say_so_is_not_tried() -> None:
    assert check(concurrent=False) == "it doesn't say that it is concurrent" and SEEN == []


def layer(self: Any, out: Any) -> Any:
    out.layers[1].add_(1.0)
    return out


def local(self: Any, out: Any) -> Any:
    out.local.add_(1.0)
    return out


def length(self: Any, out: Any) -> Any:
    out.lengths.add_(1)
    return out


def deaf(self: Any, out: Any) -> Any:
    out.local = None
    return out


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        (layer, "layer 1: they differ by 1, more than 0.0001"),
        (local, "local features: they differ by 1, more than 0.0001"),
        (length, "[5] frames, not [4]"),
        (deaf, ""),
    ],
)
def test_what_comes_out_otherwise_beside_other_threads(beside: Any, told: str) -> None:
    before = sys.getswitchinterval()
    got = check(beside=beside)
    assert sys.getswitchinterval() == before
    head = "clip 0 while other threads encode others"
    wanted = f"{head}: {told}" if beside is length else f"{head}, {told}" if told else ""
    assert got == wanted
