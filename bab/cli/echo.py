"""What every command prints with."""

from __future__ import annotations

import click

from bab.results.printable import printable


def echo(text: str, err: bool = False) -> None:
    """A line on standard output, or on standard error, without control characters."""
    click.echo(printable(text), err=err)
