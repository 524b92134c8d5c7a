"""Memory that is kept between steps."""

from __future__ import annotations

import platform
import sys

import forks
import pytest

from bab.machine.memory import keep_memory

FAULTS = """
import resource, torch
from bab.machine.memory import keep_memory
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(16_000_000)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def best():
    return min(faults() for _ in range(5))  # it may take a while until all have a place
print(best(), int(keep_memory()), best())
"""


def test_freed_memory_is_used_again() -> None:
    """Page faults of four 64 MB tensors, one after another, before and after."""
    done = forks.run([sys.executable, "-c", FAULTS])
    many, kept, few = map(int, done.stdout.split())
    assert bool(kept) == (platform.libc_ver()[0] == "glibc")
    assert few * 20 < many or not kept


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_memory() is False
