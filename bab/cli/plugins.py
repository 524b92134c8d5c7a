"""`--plugin FILE`, which every command that takes components has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from bab.cli.echo import echo
from bab.core.registry import FILES


def takes_plugins(command: click.Command) -> None:
    """Give a command the option, and let it heed `plugin` in bab.toml."""
    command.params.append(
        click.Option(
            ["--plugin", "plugins"],
            multiple=True,
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=_use,
            help="A Python file with components of your own; also `plugin` in bab.toml.",
        )
    )


def _use(context: click.Context, option: click.Parameter, files: tuple[str, ...]) -> None:
    from bab.config.plugins import named_in_toml, use_plugin

    if context.resilient_parsing:  # a shell asks for completions
        return
    here = [file for file in named_in_toml() if file not in files]
    if here:
        echo(f"plugin {', '.join(here)}, as bab.toml says", err=True)
    if here or files:
        use_plugin(*here, *files)


@contextmanager
def forgotten_after() -> Iterator[None]:
    """What a command names holds for that command, and for the processes that it starts."""
    before = os.environ.get(FILES)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(FILES, None)
        else:
            os.environ[FILES] = before
