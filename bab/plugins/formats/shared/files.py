"""Text files and libraries as every format meets them: mistakes end as a BabError."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from bab import BabError

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_ENDS = re.compile(r"\r\n|[\t\r\n\v\f\x85\u2028\u2029]")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_of(path: Path) -> str:
    """A whole file: UTF-8, with or without a mark, or UTF-16 with one (Praat writes both).

    Raises:
        BabError: it isn't there, or no such text.
    """
    try:
        data = path.read_bytes()
        return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BabError(
            f"{path}: can't be read as UTF-8 or UTF-16 text ({error}). Save it as UTF-8"
        ) from error


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of a text file; see `text_of`."""
    yield from enumerate(re.split(r"\r\n|\n|\r", text_of(path)), 1)


def seconds(start: str, end: str, place: str, unit: float = 1.0) -> tuple[float, float]:
    """Two cells as a stretch of time. place: "file:line"; unit: seconds in 1.

    Raises:
        BabError: they are no numbers, negative, or the end is before the start.
    """
    try:
        span = float(start) * unit, float(end) * unit
    except ValueError:
        raise BabError(f"{place}: times must be numbers: {start!r}, {end!r}") from None
    return check_span(*span, place)


def stretch(onset: str, duration: str, place: str) -> tuple[float, float]:
    """Two cells as a stretch of time, the second of them its length. place: "file:line".

    Raises:
        BabError: they are no numbers, or negative.
    """
    try:
        start, length = float(onset), float(duration)
    except ValueError:
        raise BabError(
            f"{place}: onset and duration must be numbers: {onset!r}, {duration!r}"
        ) from None
    if not (0 <= start < math.inf and 0 <= length < math.inf):
        raise BabError(f"{place}: {length:g} s from {start:g} s is no stretch of time: correct it")
    return start, start + length


def check_span(start: float, end: float, place: str) -> tuple[float, float]:
    """The same, of numbers."""
    if not 0 <= start <= end < math.inf:
        raise BabError(f"{place}: {start:g} to {end:g} s is no stretch of time: correct it")
    return start, end


def milliseconds(time: float) -> int:
    """Seconds, already rounded by `bab.fit_annotations`, as a whole number."""
    return round(time * 1000)


def printable(text: str) -> str:
    """A text less the control characters that no XML may hold."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """Line ends and tabs as spaces, for formats of one line a mark."""
    return printable(_ENDS.sub(" ", text))


def library(name: str, package: str) -> Any:
    """A library of the extra `formats`.

    Raises:
        BabError: it isn't installed; with the command.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise BabError(
            f"this format needs the package {package} ({error}): pip install 'bab[formats]'"
        ) from None
