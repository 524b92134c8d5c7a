"""Before a run: the memory of this process, kept for itself, and how a GPU computes."""

from __future__ import annotations

import ctypes
import sys

from bab.core.device import resolve_device
from bab.machine.arithmetic import reproducible

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
    first large tensor; it lasts until the process ends. kept=False: until then, blocks of 1 MB and
    more go back, which glibc otherwise learns not to do.
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


def set_up(device: str, deterministic: bool) -> None:
    """What a run asks of the process before anything is computed. device: auto, cpu, cuda, mps."""
    reproducible(device, deterministic)
    if resolve_device(device) == "cpu":
        keep_memory()
