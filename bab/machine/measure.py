"""What a run took of the machine, and what the machine has."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

import torch

_DRIVER = Path("/proc/driver/nvidia/version")  # Linux has it while NVIDIA's driver is loaded


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


def peaks(device: torch.device) -> dict[str, float]:
    """Of this run so far: `peak_memory_gb` (of the process), and of a GPU `peak_gpu_memory_gb`."""
    told = {"peak_memory_gb": round(peak_memory() / 1e9, 3)}
    if device.type == "cuda":
        told["peak_gpu_memory_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    return told


def named(device: torch.device, processes: int = 1) -> str:
    """The device as records have it: `cuda (NVIDIA H100) x 2 processes`, `cpu (x86_64)`."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} ({name})" + (f" x {processes} processes" if processes > 1 else "")


def visible_gpus() -> list[str]:
    """The CUDA devices that a process may use, as CUDA_VISIBLE_DEVICES names them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [one.strip() for one in told.split(",") if one.strip() not in ("", "-1")]
    return [str(number) for number in range(torch.cuda.device_count())]


def overlooked(device: torch.device) -> str:
    """Why a GPU that seems to be here isn't used; "" where one is, or there is none.

    torch says nothing, or warns once, where its CUDA is newer than the driver can run.
    """
    there = _DRIVER.exists() or shutil.which("nvidia-smi") is not None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if device.type != "cpu" or hidden or not there or torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        why = f"torch {torch.__version__} is built without CUDA: install a CUDA build"
    else:
        why = (
            f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, which the driver "
            "may be too old for (nvidia-smi names the newest it can run): install a build for that "
            "CUDA, or a newer driver"
        )
    return f"computing on the CPU, though this machine has NVIDIA's driver: {why}"


def room(device: torch.device) -> int:
    """Bytes of a GPU's memory that may be taken for keeping things: a quarter of what is free."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else 0
