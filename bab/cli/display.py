"""What several commands share: progress on standard error, who prints, the devices."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from bab.core.types import Tell

DEVICES = click.Choice(["auto", "cpu", "cuda", "mps"])


@contextmanager
def ticker() -> Iterator[Tell]:
    """A function that is told (stage, done, total, unit); bars on a terminal, else plain lines."""
    from bab.plugins.observers.progress import Display, Live, Plain, moving

    display: Display = Live() if moving(sys.stderr) else Plain(sys.stderr, time.monotonic)
    try:
        yield lambda stage, done, total, unit: display.stage(stage, done, total, unit, "")
    finally:
        display.close()


def leads() -> bool:
    """Whether this process is the one of several (torchrun) that prints."""
    return os.environ.get("RANK", "0") == "0"
