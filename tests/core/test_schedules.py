"""Learning rates by hand, at their borders; and when a checkpoint is due by the clock."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from train_worker import make_job

from bab import hookimpl
from bab.core import trainer as module
from bab.core.options import TrainConfig
from bab.core.trainer import Trainer, schedule


def test_tri_stage_is_fairseqs() -> None:
    """Warm-up, hold, then exp(-ln(100) t / T): fairseq's `tri_stage` with a final scale of .01."""
    config = TrainConfig(steps=10, warmup=2, hold=3, schedule="tri-stage")
    said = [schedule(config, step) for step in range(12)]
    decay = [math.exp(math.log(0.01) * t / 5) for t in range(6)]
    assert said == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, *decay, 0.01], rel=1e-12)
    all_held = TrainConfig(steps=5, warmup=2, hold=3, schedule="tri-stage")
    assert [schedule(all_held, step) for step in (4, 5, 6)] == pytest.approx([1.0, 1.0, 0.01])


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_decay_of_one_step_or_of_none(name: str) -> None:
    one = TrainConfig(steps=10, warmup=9, schedule=name)
    assert [schedule(one, step) for step in (8, 9, 10, 11)] == pytest.approx([1.0, 1.0, 0.0, 0.0])
    none = TrainConfig(steps=9, warmup=9, schedule=name)
    assert schedule(none, 9) == 1.0 and schedule(TrainConfig(steps=9), 0) == 1.0


def test_minutes_are_of_sixty_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(steps=8, batch=12, eval_every=100, save_every=100, save_minutes=2)
    now, saved = [1000.0], list[int]()

    class Late:
        @hookimpl
        def bab_checkpoint(self, step: int) -> None:
            saved.append(step)

        @hookimpl
        def bab_step(self, step: int) -> None:
            now[0] += {2: 119.9, 5: 0.1}.get(step, 0.0)

    job = make_job(tmp_path, config)
    job.watchers.join(Late())
    monkeypatch.setattr(module, "time", Clock(now))
    Trainer(job).fit()
    assert saved[0] in (5, 6)  # 119.9 s are no two minutes


class Clock:
    """The time of a test."""

    def __init__(self, now: list[float]) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
