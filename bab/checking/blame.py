"""Whose code an exception came out of: one message that names the plugin, and no traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from types import FrameType

from bab.core import registry
from bab.core.errors import BabError, PluginError
from bab.core.registry import Entry


@contextmanager
def naming() -> Iterator[None]:
    """Turn what a stranger's code raises into a PluginError that names it (see `blamed`)."""
    try:
        yield
    except (Exception, SystemExit) as error:
        told = blamed(error)
        if told is error:
            raise
        raise told from error


def blamed(error: BaseException) -> BaseException:
    """The error as a PluginError with kind, name, distribution, version and method of the stranger
    whose code raised it, SystemExit too. What a plugin raises on purpose (a BabError) stays what it
    is, and so does what bab's own code raises, and want of memory."""
    entry, method = culprit(error)
    own = isinstance(error, (BabError, MemoryError)) or type(error).__name__ == "OutOfMemoryError"
    if own or entry is None or entry.built_in:
        return error
    return PluginError(
        f"{entry.described} failed in {method}: {type(error).__name__}: {error}. Tell its authors "
        "(`bab --debug ...` shows the traceback), or do without it"
    )


def culprit(error: BaseException) -> tuple[Entry | None, str]:
    """The component whose method raised, or called what did, and that method."""
    entry, method = None, ""
    for frame, _ in walk_tb(error.__traceback__):
        one = _owner(frame, entry)
        if one is not None and one != entry:
            name = frame.f_code.co_name
            entry, method = one, "forward" if name.endswith("_call_impl") else name
    # A call that doesn't fit has no frame of the function that was called.
    named = re.match(r"([\w.]+)\.(\w+)\(\) ", str(error)) if isinstance(error, TypeError) else None
    if named and (one := registry.called(named[1])):
        return one, named[2]
    return entry, method


def _owner(frame: FrameType, before: Entry | None) -> Entry | None:
    """The component whose method a frame is of, or whose package its function stands in; `before`
    where that is the package of the component that was called before."""
    own = frame.f_code.co_varnames[:1] in (("self",), ("cls",))
    if own and (one := registry.owner(frame.f_locals.get(frame.f_code.co_varnames[0]))) is not None:
        return one
    one = registry.of_module(str(frame.f_globals.get("__name__", "")))
    same = one is not None and before is not None and one.distribution == before.distribution
    return before if same else one
