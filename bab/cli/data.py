"""`bab data check`: find what is wrong with a corpus before a run does."""

from __future__ import annotations

import os

import click

from bab.cli.complete import named
from bab.cli.echo import echo


@click.group("data")
def data_group() -> None:
    """Look at corpora."""


@data_group.command("check")
@click.argument("corpus", metavar="CORPUS[:ROOT]", shell_complete=named("datasets"))
@click.option(
    "--set",
    "sets",
    metavar="KEY=VALUE",
    multiple=True,
    help="Options: corpus.*, task.*",
)
@click.option(
    "--task",
    help="Also try what a run of it needs; default: vtc, of segments.",
    shell_complete=named("tasks"),
)
@click.option("--deep", is_flag=True, help="Also look for re-encoded copies, by sound.")
@click.option("--jobs", type=click.IntRange(1), help="Files read at once; default: one per core.")
@click.pass_context
def check_command(
    context: click.Context,
    corpus: str,
    sets: tuple[str, ...],
    task: str | None,
    deep: bool,
    jobs: int | None,
) -> None:
    """Read every file of a corpus and report what is broken.

    All that is wrong is listed: files, lines of lists and annotations, splits. The exit status is 1
    where a run on the corpus's splits would stop.

    \b
    Examples:
      bab data check rttm:/data/homes --deep
      bab data check childproject:/data/corpus --set corpus.set=eaf
    """
    from bab.cli.display import ticker
    from bab.config.corpora import open_corpus, place_of, refuse_other_sets, sets_of, tasks_for
    from bab.config.resolve import corpus_config
    from bab.core.errors import CorpusError
    from bab.data import check

    refuse_other_sets(("corpus", "task"), sets)
    config = corpus_config(corpus, sets_of("corpus", sets))
    place = place_of(config)
    with ticker() as display:

        def listen(done: float, total: float) -> None:
            display.tell("listening", done, total, "files")

        try:
            opened = open_corpus(config)
        except CorpusError as error:
            report = check.unopened(config.name, place, error)
        else:
            report = check.check_corpus(
                opened,
                jobs or os.cpu_count() or 1,
                lambda done, total: display.tell("checking", done, total, "files"),
                tasks_for(task, sets_of("task", sets), opened.provides),
                listen if deep else None,
            )
    echo(check.render(report))
    if report.fatal:
        context.exit(1)
