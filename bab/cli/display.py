"""What several commands share: progress on standard error, who prints, the devices."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:  # the commands' help needs no values of the core
    from bab.core.types import Tell

DEVICES = click.Choice(["auto", "cpu", "cuda", "mps"])


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


def leads() -> bool:
    """Whether this process is the one of several (torchrun) that prints."""
    return os.environ.get("RANK", "0") == "0"
