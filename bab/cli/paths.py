"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class Place(click.Path):
    """A path as somebody means it: `--out=~/x`, which no shell expands, is below their home."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)  # noqa: PTH111
