"""Passes of one encoder in several threads at once."""

from __future__ import annotations

import threading

from torch import Tensor


class Kept(threading.local):
    """What hooks are told, and what they saw, of the pass that this thread is in."""

    mask: Tensor | None = None
    local: Tensor | None = None
    normed: Tensor | None = None

    def taken(self) -> tuple[Tensor | None, Tensor | None]:
        """What was seen; all is forgotten."""
        both = self.local, self.normed
        self.mask = self.local = self.normed = None
        return both


def threads_are_safe() -> bool:
    """Whether transformers collects hidden states for each thread by itself. Its first versions to
    collect them by hooks put other methods into the model for the time of a pass."""
    try:
        from transformers.utils import output_capturing
    except ImportError:
        return False
    return hasattr(output_capturing, "capture_outputs")
