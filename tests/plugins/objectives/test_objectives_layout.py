"""Both pretraining objectives: one update, however processes and micro-batches cut the batch."""

from __future__ import annotations

import sys
from pathlib import Path

import forks
import pytest
import torch
from places import TESTS
from safetensors.torch import load_file

WORKER = TESTS / "objectives_worker.py"


def train(
    kind: str, out: Path, accumulation: int = 1, processes: int = 1
) -> dict[str, torch.Tensor]:
    """20 steps; the weights after them, and as `before.NAME` those from before."""
    out.mkdir()
    command = [sys.executable, str(WORKER), kind, str(out), "--accumulation", str(accumulation)]
    done = forks.run(command) if processes == 1 else forks.ranks(processes, command)
    assert done.returncode == 0, done.stderr
    return load_file(out / "final.safetensors")


@pytest.mark.parametrize(
    ("kind", "layouts"),
    [
        ("masked", [(3, 2)]),
        ("contrastive", [(1, 2)]),  # code diversity is of a micro-batch, over all processes
        pytest.param("plain", [(3, 1)], marks=pytest.mark.slow),  # also in test_trainer
    ],
)
def test_the_update_does_not_depend_on_the_layout(
    kind: str, layouts: list[tuple[int, int]], tmp_path: Path
) -> None:
    """To 1e-4 after 20 steps, in which weights move a hundred times as far. (accumulation,
    processes): 3 micro-batches, of 8 examples or of 4, are of unequal sizes."""
    one = train(kind, tmp_path / "one")
    names = [name for name in one if not name.startswith("before.")]
    moved = [float((one[name] - one[f"before.{name}"]).abs().max()) for name in names]
    assert sorted(moved)[len(moved) // 2] > 0.01
    for accumulation, processes in layouts:
        other = train(kind, tmp_path / f"{accumulation}x{processes}", accumulation, processes)
        for name in names:
            torch.testing.assert_close(other[name], one[name], atol=1e-4, rtol=0, msg=name)
