"""Progress on standard error, as commands and functions show it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # a command's help needs no values of the core
    from bab.core.types import Tell


class Ticker(NamedTuple):
    """tell: is told (stage, done, total, unit); say: prints a line above the bars."""

    tell: Tell
    say: Callable[[str], None]


@contextmanager
def ticker(quiet: bool = False) -> Iterator[Ticker]:
    """Progress on standard error: bars on a terminal, else plain lines. quiet: nothing at all."""
    if quiet:
        yield Ticker(lambda stage, done, total, unit: None, lambda line: None)
        return
    from bab.plugins.observers.progress import Display, Live, Plain, moving

    display: Display = Live() if moving(sys.stderr) else Plain(sys.stderr, time.monotonic)
    try:
        yield Ticker(
            lambda stage, done, total, unit: display.stage(stage, done, total, unit, ""),
            display.say,
        )
    finally:
        display.close()
