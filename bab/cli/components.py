"""`bab list` and `bab info`: what there is, and what one of them is."""

from __future__ import annotations

import click

from bab.core import registry
from bab.core.errors import BabError, PluginError, did_you_mean


@click.command("list")
@click.argument("kind", required=False)
def list_command(kind: str | None) -> None:
    """List components, or the plugins that bring them.

    KIND is encoders, heads, objectives, tasks, datasets, observers, or plugins. Listing components
    imports none of them; `bab list plugins` imports all, and says what fails to load and why.

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
        click.echo(shown)
        here = [entry for entry in entries if entry.kind == shown]
        names = [entry.name for entry in here]
        for entry in here:
            twice = "  (two plugins use this name)" if names.count(entry.name) > 1 else ""
            click.echo(f"  {entry.name:<{width}}  {entry.owner}{twice}")
        if not here:
            click.echo("  none")
    if not kind:
        click.echo("\n`bab info NAME` explains one; `bab list plugins` says what fails to load.")


def _list_plugins() -> None:
    for plugin in registry.plugins(check=True):
        click.echo(f"{plugin.distribution} {plugin.version}".strip())
        failed = {(entry.kind, entry.name): reason for entry, reason in plugin.failures}
        for kind, (word, _) in registry.KINDS.items():
            given = [entry.name for entry in plugin.gives if entry.kind == kind]
            if given:
                click.echo(f"  {word + ':':<10} {', '.join(given)}")
        for (_, name), reason in failed.items():
            click.echo(f"  failed     {name}: {reason}")


@click.command("info")
@click.argument("name")
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
    from bab.core.members import split

    if name == "run":
        click.echo(describe_run())
        return
    if name == "pretrain":
        from bab.core.pretrain_schema import PretrainConfig

        click.echo(describe_run(PretrainConfig, "a pretraining run"))
        return
    if "+" in name:
        each = " and ".join(f"`bab info {m.partition(':')[0]}`" for m in split(name))
        raise PluginError(f"'{name}' is an ensemble, and has no options of its own: see {each}")
    bare = name.partition(":")[0]
    found = [kind for kind in registry.KINDS if bare in registry.names(kind)]
    if not found:
        every = {entry.name for entry in registry.entries()} | {"run", "pretrain"}
        raise PluginError(f"nothing is called '{bare}': {did_you_mean(bare, every)}")
    shown, faults = [], []
    for kind in found:
        try:
            shown.append(describe(kind, bare))
        except BabError as error:
            faults.append(str(error))
    if shown:
        click.echo("\n\n".join(shown))
    if faults:
        raise PluginError("\n".join(faults))
