"""Completion of components' names at the Tab key; click asks for it, and nothing is imported."""

from __future__ import annotations

from collections.abc import Callable

import click

from bab.core import registry

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def named(*kinds: str) -> Complete:
    """Completes the names of components of these kinds; none: of all."""

    def complete(context: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        known = {name for kind in kinds or registry.KINDS for name in registry.names(kind)}
        return sorted(name for name in known if name.startswith(incomplete))

    return complete
