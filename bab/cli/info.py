"""`bab info`: what a component is."""

from __future__ import annotations

import click

from bab.cli.complete import named
from bab.cli.echo import echo
from bab.core import registry
from bab.core.errors import BabError, PluginError, did_you_mean


@click.command("info")
@click.argument("name", shell_complete=named())
def info_command(name: str) -> None:
    """Say what a component is: its options, defaults, named weights and source.

    NAME is a component of any kind, `run` for the keys of a run, or `pretrain` for those of a
    pretraining run.

    \b
    Examples:
      bab info hubert
      bab info vtc
      bab info run
    """
    from bab.cli.describe import describe, describe_run
    from bab.core.names import members

    if name == "run":
        echo(describe_run())
        return
    if name == "pretrain":
        from bab.config.pretrain import PretrainConfig

        echo(describe_run(PretrainConfig, "a pretraining run"))
        return
    if "+" in name:
        each = " and ".join(f"`bab info {member.name}`" for member in members(name))
        raise PluginError(f"'{name}' is an ensemble, and has no options of its own: see {each}")
    bare = name.partition(":")[0]
    kinds = [kind for kind in registry.KINDS if registry.known(kind, bare)]
    if not kinds:
        every = {e.full if "/" in bare else e.name for e in registry.entries()}
        every |= {"run", "pretrain"}
        raise PluginError(f"nothing is called '{bare}': {did_you_mean(bare, every)}")
    shown, faults = [], []
    for kind in kinds:
        try:
            shown.append(describe(kind, bare))
        except BabError as error:
            faults.append(str(error))
    if shown:
        echo("\n\n".join(shown))
    if faults:
        raise PluginError("\n".join(faults))
