"""What any output must be before it is decoded: finite numbers."""

from __future__ import annotations

import numpy as np

from bab.core.errors import DivergedError
from bab.core.types import Output


def refuse_diverged(output: Output) -> None:
    """Stop at an output that is not finite (DivergedError): it would decode to something."""
    if not np.isfinite(output.values).all():
        raise DivergedError(f"{output.clip.id}: the model's output is not finite")
