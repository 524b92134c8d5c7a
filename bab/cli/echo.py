"""What every command prints with."""

from __future__ import annotations

import shutil
import sys

import click

from bab.results.printable import printable


def echo(text: str, err: bool = False) -> None:
    """A line on standard output, or on standard error, without control characters."""
    click.echo(printable(text), err=err)


def echo_table(text: str) -> None:
    """Markdown on standard output; on a narrow terminal, folded."""
    from bab.results.folding import folded

    width = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
    echo(folded(text, width))
