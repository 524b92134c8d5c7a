"""What a job's results may depend on, of code: told apart when a job starts later than its command.

Digests of files, so that an edit that changes no version is seen too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from bab import __version__
from bab.core import registry

_PACKAGE = Path(__file__).resolve().parents[1]


def code() -> dict[str, str]:
    """bab, each plugin's distribution and each plugin file: what it is called -> version and digest
    of its Python files."""
    parts = {"bab": f"{__version__} {_digest(_PACKAGE.rglob('*.py'), _PACKAGE)}"}
    for entry in _installed():
        if not entry.built_in and not entry.distribution.endswith(".py"):
            parts.setdefault(entry.distribution, f"{entry.version} {_of_module(entry.value)}")
    for file in filter(None, os.environ.get(registry.FILES, "").split(os.pathsep)):
        path = Path(file)
        parts[path.name] = _digest([path], path.parent)
    return parts


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What is said of code that is other than it was; "" where it is the same."""
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if not names:
        return ""
    told = [
        f"{name} ({before.get(name, 'not there')} → {now.get(name, 'not there')})" for name in names
    ]
    return f"the code changed between submission and start: {', '.join(told)}"


def _installed() -> Sequence[registry.Entry]:
    """What distributions offer. Files of plugins are not run for it: they may take long."""
    files = os.environ.pop(registry.FILES, None)
    try:
        return registry.entries()
    finally:
        if files is not None:
            os.environ[registry.FILES] = files


def _of_module(value: str) -> str:
    """The digest of an entry point's top module or package, which isn't imported."""
    with suppress(ImportError, ValueError, AttributeError):
        spec = find_spec(value.partition(":")[0].strip().partition(".")[0])
        if spec is not None and spec.submodule_search_locations:
            top = Path(next(iter(spec.submodule_search_locations)))
            return _digest(top.rglob("*.py"), top)
        if spec is not None and spec.origin:
            return _digest([Path(spec.origin)], Path(spec.origin).parent)
    return ""


def _digest(paths: Iterable[Path], top: Path) -> str:
    state = hashlib.blake2b(digest_size=6)
    for name, path in sorted(_named(paths, top)):
        with suppress(OSError):
            state.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


def _named(paths: Iterable[Path], top: Path) -> Iterator[tuple[str, Path]]:
    for path in paths:
        yield path.relative_to(top).as_posix(), path
