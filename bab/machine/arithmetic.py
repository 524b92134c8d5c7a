"""Half precision where no gradient is taken, and computing that repeats to the bit."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from bab.core.device import resolve_device

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d)


def arithmetic(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """In which a model runs: as it is (fp32, tf32), or under autocast."""
    if precision not in HALF:
        return nullcontext()
    return torch.autocast(device.type, HALF[precision])


def halve(model: nn.Module, precision: str) -> None:
    """Round once, and keep, what autocast would round at every pass: the weights of products and
    convolutions. The results are the same bits; half the memory, and 3 to 15 % of the time."""
    if precision not in HALF:
        return
    for module in model.modules():
        if isinstance(module, _ROUNDED) and not nn.utils.parametrize.is_parametrized(module):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(HALF[precision])


def reproducible(device: str, wanted: bool) -> None:
    """Have a GPU compute to the same bits each time, as a CPU does anyway, or no longer.

    Call it before the GPU is first used: cuBLAS takes its workspace then. What has no such kernel
    (the gradient of CTC) is computed all the same, and torch warns.
    https://pytorch.org/docs/stable/notes/randomness.html
    """
    on = wanted and resolve_device(device) != "cpu"
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # What use_deterministic_algorithms does, less torch.compile's own setting: to set that one, it
    # imports the whole compiler, 1.4 s in every process.
    torch.set_deterministic_debug_mode("warn" if on else "default")
    torch.backends.cudnn.deterministic = on
