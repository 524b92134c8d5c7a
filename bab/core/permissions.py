"""What the user allowed a run, for code that is not handed its configuration: corpora above all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permissions:
    """offline: no hub may be asked (`--offline`). leakage: splits may share speakers, groups and
    recordings (`--allow-leakage`); whoever scores on them finds out for itself, and says so."""

    offline: bool = False
    leakage: bool = False


_now: ContextVar[Permissions] = ContextVar("permissions", default=Permissions())  # noqa: B039


def now() -> Permissions:
    """What holds at this moment."""
    return _now.get()


@contextmanager
def allowing(offline: bool = False, leakage: bool = False) -> Iterator[None]:
    """While this lasts, `now()` gives these."""
    token = _now.set(Permissions(offline, leakage))
    try:
        yield
    finally:
        _now.reset(token)
