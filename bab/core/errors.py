"""Errors that a user can act on: printed as one message, never as a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache

_MANY = 16  # names that one message may list


class BabError(Exception):
    """A user's mistake or a missing thing: the message names the file or value and the remedy."""

    exit_code = 2


class AudioError(BabError):
    """An audio file that can't be read as asked: the message names the file."""


class CorpusError(BabError):
    """A corpus whose files disagree with each other or with its layout."""


class ConfigError(BabError):
    """A key or value of the run's configuration that can't be used."""


class NotApplicableError(ConfigError):
    """A combination that can't be: a corpus that lacks what the task needs."""


class BusyError(BabError):
    """Another process is at work in the run's folder."""


class PluginError(BabError):
    """A plugin that is unknown, fails to import, or breaks its contract."""


class LeakageError(CorpusError):
    """A recording, voice or group that stands in two splits."""


class DiskFullError(BabError, OSError):
    """A file for which there is no space: the message says how much is missing."""


class DivergedError(BabError):
    """A loss that is not finite: training stopped, the last good checkpoint is kept."""

    exit_code = 3


class InterruptedRunError(BabError):
    """Ctrl-C or SIGTERM: state was saved, the same command resumes."""

    exit_code = 130


def counted(number: int, noun: str) -> str:
    """`1 recording`, `2 recordings`."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def sized(number: int, noun: str) -> str:
    """`94.4 million parameters`, `33,984 parameters`."""
    return counted(number, noun) if number < 1e5 else f"{number / 1e6:.1f} million {noun}s"


def lasting(seconds: float) -> str:
    """Seconds under two minutes, minutes under two hours, then hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known names; all, or the five nearest of many.

    Returns e.g. ``did you mean 'hubert'?`` or ``known: fbank, hubert``.
    """
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(wrong, names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(f"'{name}'" for name in near) + "?"
    if len(names) > _MANY:
        return "nearest: " + ", ".join(get_close_matches(wrong, names, n=5, cutoff=0.0))
    return "known: " + (", ".join(names) if names else "none")


@cache
def warn(message: str) -> None:
    """A line on standard error that stops nothing, once a process."""
    print(f"bab: warning: {message}", file=sys.stderr, flush=True)
