"""What every command prints with."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from bab.results.printable import printable


class Place(click.Path):
    """A path as somebody means it: `--out=~/x`, which no shell expands, is below their home."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)  # noqa: PTH111


def echo(text: str, err: bool = False) -> None:
    """A line on standard output, or on standard error, without control characters."""
    click.echo(printable(text), err=err)


def echo_table(text: str) -> None:
    """Markdown on standard output; on a narrow terminal, folded."""
    from bab.results.folding import folded

    width = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
    echo(folded(text, width))
