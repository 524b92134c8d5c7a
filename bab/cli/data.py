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
    from bab.config.corpora import open_corpus
    from bab.config.resolve import corpus_config
    from bab.data import check

    config = corpus_config(corpus, sets)
    with ticker() as display:
        report = check.check_corpus(
            open_corpus(config),
            jobs or os.cpu_count() or 1,
            lambda done, total: display.tell("checking", done, total, "files"),
        )
    click.echo(check.render(report))
    if report.fatal:
        context.exit(1)
