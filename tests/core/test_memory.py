"""Memory that is kept between steps."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from bab.machine.memory import keep_memory

FAULTS = """
import resource, torch
from bab.machine.memory import keep_memory
kept = {keep} and keep_memory()
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(16_000_000)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(int(kept), min(faults() for _ in range(5)))  # it may take a while until all have a place
"""


def run(keep: bool) -> tuple[int, int]:
    """Whether memory was kept; page faults of four 64 MB tensors, one after another, at best."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True
    )
    kept, faults = map(int, done.stdout.split())
    return kept, faults


def test_freed_memory_is_used_again() -> None:
    kept, few = run(True)
    _, many = run(False)
    assert bool(kept) == (platform.libc_ver()[0] == "glibc")
    assert few * 20 < many or not kept


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_memory() is False
