"""`bab list`: what there is, and which plugins fail to load."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import click

from bab.cli.echo import echo
from bab.core import registry
from bab.core.errors import BabError
from bab.core.registry import Entry


@click.command("list")
@click.argument("kind", required=False)
def list_command(kind: str | None) -> None:
    """List components, or the plugins that bring them.

    KIND is encoders, heads, objectives, tasks, datasets, observers, formats, models, or plugins.
    Listing components imports none of them; `bab list plugins` imports all, and says what fails to
    load and why.

    \b
    Examples:
      bab list
      bab list encoders
      bab list plugins
    """
    if kind in ("plugin", "plugins"):
        _list_plugins()
        return
    kinds = [registry.kind_of(kind)] if kind else list(registry.KINDS)
    entries = registry.entries()
    width = max((len(entry.name) for entry in entries), default=0)
    for shown in kinds:
        echo(shown)
        here = [entry for entry in entries if entry.kind == shown]
        names = [entry.name for entry in here]
        for entry in here:
            twice = "  (two plugins use this name)" if names.count(entry.name) > 1 else ""
            echo(f"  {entry.name:<{width}}  {entry.owner}{twice}")
        if not here:
            echo("  none")
    if not kind:
        echo("\n`bab info NAME` explains one; `bab list plugins` says what fails to load.")


def _list_plugins() -> None:
    for plugin in plugins(check=True):
        echo(f"{plugin.distribution} {plugin.version}".strip())
        failed = {(entry.kind, entry.name): reason for entry, reason in plugin.failures}
        for kind, (word, _) in registry.KINDS.items():
            given = [entry.name for entry in plugin.gives if entry.kind == kind]
            if given:
                echo(f"  {word + ':':<10} {', '.join(given)}")
        for (_, name), reason in failed.items():
            echo(f"  failed     {name}: {reason}")


class Plugin(NamedTuple):
    """A distribution that contributes, what it gives, and what of it failed to load and why."""

    distribution: str
    version: str
    gives: tuple[Entry, ...]
    failures: tuple[tuple[Entry, str], ...] = ()


def plugins(check: bool = False) -> list[Plugin]:
    """Every distribution that contributes, and what it gives.

    check: import everything too, and say what failed and why (slow: torch is imported).
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in registry.entries():
        groups.setdefault((entry.distribution, entry.version), []).append(entry)
    report = []
    for (distribution, version), gives in sorted(groups.items()):
        failures = tuple(_failures(gives)) if check else ()
        report.append(Plugin(distribution, version, tuple(gives), failures))
    return report


def _failures(gives: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
    from bab.core.observers import registered

    for entry in gives:
        try:
            registry.find(entry.kind, entry.name)
            component = registry.imported(entry)
            if entry.kind == "observers":
                registered(entry, component)
        except BabError as error:
            yield entry, str(error)
