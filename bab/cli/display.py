"""What several commands share: progress on standard error, who prints, the devices."""

from __future__ import annotations

import os

import click

from bab.api.progress import Ticker as Ticker
from bab.api.progress import ticker as ticker

DEVICES = click.Choice(["auto", "cpu", "cuda", "mps"])


def leads() -> bool:
    """Whether this process is the one of several (torchrun) that prints."""
    return os.environ.get("RANK", "0") == "0"
