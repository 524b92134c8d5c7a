"""`bab list`: what there is, and which plugins fail to load."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import click

from bab.cli.echo import echo
from bab.core import registry
from bab.core.errors import BabError
from bab.core.registry import Entry

_SLOW = 1.0  # seconds


@click.command("list")
@click.argument("kind", required=False)
def list_command(kind: str | None) -> None:
    """List components, or the plugins that bring them.

    KIND is encoders, heads, objectives, tasks, datasets, observers, formats, models, launchers,
    or plugins.
    Listing components imports none of them; `bab list plugins` imports all, and says what fails to
    load and why, and what takes long to import; it exits 1 where something fails.

    Two plugins may use one name: both can be named in full, DISTRIBUTION/NAME, and the bare name is
    that of the component that comes with bab.

    \b
    Examples:
      bab list
      bab list encoders
      bab list plugins
    """
    if kind in ("plugin", "plugins"):
        if not _list_plugins():
            raise click.exceptions.Exit(1)
        return
    kinds = [registry.kind_of(kind)] if kind else list(registry.KINDS)
    entries = registry.entries()
    uses = Counter((entry.kind, entry.name) for entry in entries)
    called = {e: e.name if uses[e.kind, e.name] == 1 or e.built_in else e.full for e in entries}
    width = max(map(len, called.values()), default=0)
    lines = []
    for shown in kinds:
        lines.append(shown)
        here = [entry for entry in entries if entry.kind == shown]
        for entry in here:
            lines.append(f"  {called[entry]:<{width}}  {entry.owner}")
        if not here:
            lines.append("  none")
    if not kind:
        lines.append("\n`bab info NAME` explains one; `bab list plugins` says what fails to load.")
    echo("\n".join(lines))


def _list_plugins() -> bool:
    """Print every plugin; whether all of them load."""
    listed = plugins(check=True)
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    for plugin in listed:
        echo(plugin.gives[0].owner)
        for kind, (word, _) in registry.KINDS.items():
            given = [entry.name for entry in plugin.gives if entry.kind == kind]
            if given:
                echo(click.wrap_text(f"  {word + ':':<10} {', '.join(given)}", width, "", " " * 13))
        for entry, seconds in plugin.slow:
            echo(f"  slow       {entry.name}: {seconds:.1f} s to import")
        for entry, reason in plugin.failures:
            echo(f"  failed     {entry.name}: {reason}")
    return not any(plugin.failures for plugin in listed)


class Plugin(NamedTuple):
    """A distribution that contributes, what it gives, what of it failed to load and why, and what
    took long to import, in seconds."""

    distribution: str
    version: str
    gives: tuple[Entry, ...]
    failures: tuple[tuple[Entry, str], ...] = ()
    slow: tuple[tuple[Entry, float], ...] = ()


def plugins(check: bool = False) -> list[Plugin]:
    """Every distribution that contributes, and what it gives.

    check: import everything too, and say what failed and why (slow: torch is imported).
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in registry.entries():
        groups.setdefault((entry.distribution, entry.version), []).append(entry)
    report = []
    for (distribution, version), gives in sorted(groups.items()):
        failures, slow = _checked(gives) if check else ([], [])
        report.append(Plugin(distribution, version, tuple(gives), tuple(failures), tuple(slow)))
    return report


def _checked(
    gives: Iterable[Entry],
) -> tuple[list[tuple[Entry, str]], list[tuple[Entry, float]]]:
    """What of a distribution fails to load, and what is slow. What it prints is kept out of the
    list, also where it goes past Python."""
    from importlib import import_module

    from bab.core.observers import registered

    import_module("bab.core.interfaces")  # torch: what all stand on is nobody's slowness
    failures, slow = [], []
    for entry in gives:
        began = time.perf_counter()
        try:
            with _silenced():
                component = registry.imported(entry)
                if entry.kind == "observers":
                    registered(entry, component)
        except BabError as error:
            failures.append((entry, str(error)))
        seconds = time.perf_counter() - began
        if seconds > _SLOW:
            slow.append((entry, seconds))
    return failures, slow


@contextmanager
def _silenced() -> Iterator[None]:
    """Without standard output and standard error, of libraries in C too."""
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in kept:
                os.dup2(nowhere.fileno(), number)
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
        finally:
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
