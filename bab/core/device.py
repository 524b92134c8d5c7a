"""Where a run computes, and in which arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

from bab.core.errors import ConfigError


def accelerator(device: str, precision: str, unused: bool) -> Any:
    """Accelerate's handle on device, precision and processes.

    unused: some steps leave weights without a gradient, and DDP must be told to look for them.

    Raises:
        ConfigError: a device that isn't there, or a precision that would only be slower on it.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState

    device = resolve_device(device)
    precision = resolve_precision(device, precision)
    refuse_precision(device, precision)
    # A second run in one process (a bench, a notebook) may ask for another precision or device.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    if device == "cuda":  # what is asked for in fp32 is fp32, in products and convolutions alike
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.cuda.reset_peak_memory_stats()
    ddp = DistributedDataParallelKwargs(find_unused_parameters=unused)
    # The first process lists and checks the corpus, and probes, while the others wait.
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=12))
    mixed = precision if precision in ("fp16", "bf16") else "no"
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed, kwargs_handlers=[ddp, patient])


@contextmanager
def one_thread(small: bool) -> Iterator[None]:
    """Compute on a single thread of the CPU where what is computed is `small`.

    The products of a head on one frame per clip take microseconds: threads only wait for each
    other then, and where another process has the second core, for milliseconds.
    """
    before = torch.get_num_threads()
    if not small or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resolve_device(name: str) -> str:
    """auto -> the first of cuda, mps and cpu that this machine has.

    Raises:
        ConfigError: a device that was named and isn't there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, ok in there.items() if ok)
    if not there[name]:
        named = ", ".join(device for device, ok in there.items() if ok)
        raise ConfigError(
            f"device '{name}' is not available here (there is {named}): --device auto"
        )
    return name


def resolve_precision(device: str, name: str) -> str:
    """auto -> bf16 on a GPU that computes in it, else fp32. device: auto, or any."""
    if name != "auto":
        return name
    gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    return "bf16" if gpu and torch.cuda.is_bf16_supported(False) else "fp32"


def refuse_precision(device: str, precision: str) -> None:
    """Half precision only where the hardware computes in it.

    On a CPU without AVX512-bf16 or AMX, bf16 was measured 3 to 500 times slower than fp32, and
    fp16 has no CPU kernels worth the name (docs/decisions.md).

    Raises:
        ConfigError: with the reason.
    """
    if precision == "fp32":
        return
    if device == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        if precision == "bf16" and fast:
            return
        units = f"{precision} units" + (" (AVX512-bf16, AMX)" if precision == "bf16" else "")
        raise ConfigError(
            f"precision {precision}: this CPU has no {units}, so it would only be slower; use fp32"
        )
    if precision == "tf32" and device != "cuda":
        raise ConfigError(f"precision tf32: {device} doesn't compute in it; use fp32")
    if device == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(False):
        raise ConfigError("precision bf16: this GPU has no bf16 units; use fp16 or fp32")
