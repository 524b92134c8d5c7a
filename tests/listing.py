"""Folders listed in an order of their own, as file systems do: nothing may hang on it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest


def mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on folders are listed neither by name nor in the order in which they were filled."""
    listdir, scandir = os.listdir, os.scandir

    def place(name: str | bytes) -> int:
        return zlib.crc32(os.fsencode(name))

    class Listed:
        def __init__(self, *where: Any) -> None:
            with scandir(*where) as there:
                entries = sorted(there, key=lambda entry: place(entry.name))
            self.left: Iterator[os.DirEntry[Any]] = iter(entries)

        def __iter__(self) -> Iterator[os.DirEntry[Any]]:
            return self.left

        def __next__(self) -> os.DirEntry[Any]:
            return next(self.left)

        def __enter__(self) -> Listed:
            return self

        def __exit__(self, *error: object) -> None:
            """Closed already."""

        def close(self) -> None:
            """Closed already."""

    monkeypatch.setattr(os, "listdir", lambda *where: sorted(listdir(*where), key=place))
    monkeypatch.setattr(os, "scandir", Listed)
