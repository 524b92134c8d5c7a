"""Where a run computes, and in which arithmetic."""

from __future__ import annotations

import ctypes
import sys
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
    from accelerate import (
        Accelerator,
        DistributedDataParallelKwargs,
        InitProcessGroupKwargs,
    )
    from accelerate.state import AcceleratorState

    device = resolve_device(device)
    refuse_precision(device, precision)
    # A second run in one process (a bench, a notebook) may ask for another precision.
    AcceleratorState._reset_state(reset_partial_state=False)
    ddp = DistributedDataParallelKwargs(find_unused_parameters=unused)
    # The first process lists and checks the corpus, and probes, while the others wait.
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=12))
    mixed = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}[precision]
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
        reason = (
            "has no bf16 units (AVX512-bf16, AMX)" if precision == "bf16" else "has no fp16 units"
        )
        raise ConfigError(
            f"precision {precision}: this CPU {reason}, so it would only be slower; use fp32"
        )
    if device == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(False):
        raise ConfigError("precision bf16: this GPU has no bf16 units; use fp16 or fp32")


def peak_memory() -> int:
    """The most bytes that this process has had in memory."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    # Linux counts kilobytes, macOS bytes (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# Of glibc's malloc.h; -1 as a threshold means never.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4


def keep_memory(kept: bool = True) -> bool:
    """Have this process keep the memory that it frees, for itself. Whether that could be arranged.

    glibc gets large blocks (32 MB and more, always) from the system one by one and gives them back
    at once; the system fills each with zeros, page by page, at every step of training. Kept, a step
    of a wav2vec 2.0 on 8 s clips took a sixth (base) to a fifth (tiny) less CPU time on 2 cores.
    The price is memory: the process stays as large as it once was, and blocks of changing sizes fit
    less well (14 batches of 60 s, of clips of 2 to 15 s: a peak of 3.4 GB instead of 2.4, and a
    quarter less CPU time). Linux with glibc only; elsewhere nothing happens. Call it before the
    first large tensor; it lasts until the process ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    if not kept:
        return bool(mallopt(_MMAP_THRESHOLD, 1 << 20))
    return bool(mallopt(_TRIM_THRESHOLD, -1)) and bool(mallopt(_MMAP_MAX, 0))
