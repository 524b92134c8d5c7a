"""`bab new`: a plugin's package that works as it stands."""

from __future__ import annotations

from pathlib import Path

import click

from bab.cli.echo import echo
from bab.cli.paths import Place


@click.command("new")
@click.argument("kind")
@click.argument("name")
@click.option(
    "--in",
    "parent",
    type=Place(file_okay=False, exists=True),
    default=Path(),
    help="Folder to write it in; default: here.",
)
def new_command(kind: str, name: str, parent: Path) -> None:
    """Write a small package with a component of your own.

    KIND is encoder, head, objective, task, corpus, observer, format, launcher or model. NAME is
    what people will type, such as my-encoder, and the folder's name. The package holds one source
    file, a test that runs its contract suite, packaging metadata with the one line that makes it
    known, a README and a CI file. It can be installed and run at once: change it step by step. For
    an experiment in one file, without a package, there is the option --plugin of `bab run` and
    other commands.

    \b
    Examples:
      bab new encoder my-encoder
      bab new task baby-talk --in ../plugins
      bab new corpus our-homes
    """
    from bab.scaffold.package import commands, kind_named, names_of, write_package

    there = kind_named(kind)
    names = names_of(there, name)
    folder = parent / name
    for path in write_package(there, names, folder):
        if "wav" not in path.parts:
            echo(f"  {folder / path}")
    echo("\nIt works as it stands:\n")
    for command in commands(there, names, folder):
        echo(f"  {command}")
