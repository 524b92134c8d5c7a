"""Progress of commands that are not runs, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def ticker(unit: str) -> Iterator[Callable[..., None]]:
    """A function that is told (stage, done, total), and the unit of a stage that has another;
    bars on a terminal, else plain lines."""
    from bab.plugins.observers.progress import Display, Live, Plain, moving

    display: Display = Live() if moving(sys.stderr) else Plain(sys.stderr, time.monotonic)
    try:
        yield lambda stage, done, total, unit=unit: display.stage(stage, done, total, unit, "")
    finally:
        display.close()
