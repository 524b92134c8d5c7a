"""Steps with fp16's loss scale, and beside another process, as Accelerate would take them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from train_worker import make_job

from bab.core import checkpoint
from bab.core.options import TrainConfig
from bab.core.trainer import Trainer

CONFIG = TrainConfig(steps=4, batch=12, accumulation=2, save_every=2, clip=0.5, lr=0.01)


class Handle:
    """What a Trainer asks of Accelerate, for a process on its CPU."""

    device = torch.device("cpu")
    num_processes, process_index, is_main_process, scaler = 1, 0, True, None
    mixed_precision = "no"

    def __init__(self) -> None:
        self.freed = 0

    def prepare(self, bundle: nn.Module, optimizer: Any) -> tuple[nn.Module, Any]:
        self.optimizer = optimizer
        return bundle, SimpleNamespace(step=self.step)

    def step(self) -> None:
        self.optimizer.step()

    def no_sync(self, model: Any) -> Any:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def clip_grad_norm_(self, parameters: Any, limit: float) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, limit)

    def wait_for_everyone(self) -> None:
        """Alone."""

    def free_memory(self) -> None:
        self.freed += 1


class Scaled(Handle):
    """In fp16: the loss is multiplied by a scale, which is doubled every third update."""

    mixed_precision = "fp16"

    def __init__(self, scale: float = 2.0**16) -> None:
        super().__init__()
        self.scaler: Any = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def clip_grad_norm_(self, parameters: Any, limit: float) -> Tensor:
        self.scaler.unscale_(self.optimizer)
        return nn.utils.clip_grad_norm_(parameters, limit)

    def step(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()


class Twin(Handle):
    """One of two processes that hold the same: sums over both are twice its own."""

    num_processes = 2

    def reduce(self, values: Tensor, reduction: str) -> Tensor:
        assert (values.dtype, reduction) == (torch.float64, "sum")
        return 2 * values


def trained(folder: Path, handle: Any = None, **changes: Any) -> dict[str, Tensor]:
    """The weights after all steps."""
    job = make_job(folder, CONFIG, evaluate=None, **changes)
    job.accelerator = handle or job.accelerator
    Trainer(job).fit()
    return job.model.state_dict()


@pytest.mark.parametrize("kind", [Scaled, Twin])
def test_neither_a_scale_nor_a_twin_changes_the_update(
    tmp_path: Path, kind: Callable[[], Handle]
) -> None:
    handle, plain = kind(), trained(tmp_path / "plain")
    for name, value in trained(tmp_path / "other", handle).items():
        torch.testing.assert_close(value, plain[name], rtol=1e-5, atol=1e-6)
    assert handle.freed == 1  # once, at the end


def test_a_run_goes_on_with_the_scale_that_it_had(tmp_path: Path) -> None:
    handle = Scaled()
    trained(tmp_path, handle)
    assert handle.scaler.get_scale() == 2.0**17
    newest = checkpoint.latest(tmp_path / "checkpoints")
    assert newest is not None and newest.name == "step-000000004.safetensors"
    job = make_job(tmp_path, CONFIG)
    job.accelerator = Scaled(scale=8.0)
    trainer = Trainer(job)
    assert trainer.state.scaler == handle.scaler.state_dict()
    assert job.accelerator.scaler.state_dict() == handle.scaler.state_dict()
    job.accelerator = Handle()  # in fp32 it goes on without
    assert Trainer(job).state.step == 4


def test_another_process_writes_no_checkpoint(tmp_path: Path) -> None:
    class Second(Twin):
        process_index, is_main_process = 1, False

    trained(tmp_path, Second())
    assert checkpoint.latest(tmp_path / "checkpoints") is None


def test_a_step_draws_from_its_seed_on_any_device(
    tmp_path: Path, replaced: Callable[..., list[Any]]
) -> None:
    trainer = Trainer(make_job(tmp_path, CONFIG))
    calls = replaced("torch.manual_seed", None)
    trainer._seed(123)
    assert torch.initial_seed() == 123 and calls == []
    trainer.accelerator = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    trainer._seed(456)
    assert calls == [((456,), {})]
