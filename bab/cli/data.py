"""`bab data check`: find what is wrong with a corpus before a run does."""

from __future__ import annotations

import os

import click


@click.group("data")
def data_group() -> None:
    """Look at corpora."""


@data_group.command("check")
@click.argument("corpus", metavar="CORPUS[:ROOT]")
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="The corpus's options.")
@click.option("--jobs", type=click.IntRange(1), help="Files read at once; default: one per core.")
@click.pass_context
def check_command(
    context: click.Context, corpus: str, sets: tuple[str, ...], jobs: int | None
) -> None:
    """Read every file of a corpus and report what is broken.

    The exit status is 1 where a run would stop.

    \b
    Examples:
      bab data check rttm:/data/homes
      bab data check childproject:/data/corpus --set corpus.labels.CHI=KCHI
    """
    from bab.cli.display import ticker
    from bab.core import datacheck
    from bab.core.build import build_corpus
    from bab.core.config import CorpusConfig, component

    _, keys, options = component("corpus", corpus, sets)
    config = CorpusConfig(**keys, options=options.model_dump(mode="json"))
    with ticker("files") as tell:
        report = datacheck.check_corpus(
            build_corpus(config),
            jobs or os.cpu_count() or 1,
            lambda done, total: tell("checking", done, total),
        )
    click.echo(datacheck.render(report))
    if report.fatal:
        context.exit(1)
