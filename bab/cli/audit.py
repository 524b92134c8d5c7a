"""`bab audit`: what recording traits alone get on a task."""

from __future__ import annotations

from typing import Any

import click

from bab.cli.complete import named
from bab.cli.echo import echo, echo_table


@click.command("audit")
@click.argument("corpus", metavar="CORPUS[:ROOT]", shell_complete=named("datasets"))
@click.option(
    "--task",
    required=True,
    metavar="NAME",
    help="Task that gives whole clips a class.",
    shell_complete=named("tasks"),
)
@click.option("--protocol", metavar="PROTOCOL", help="given, kfold, leave-one-group-out ...")
@click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key of `bab run` about the data."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "csv", "latex", "json"]),
    default="markdown",
    show_default=True,
    help="How it is written; csv: the traits, one a line.",
)
@click.option("--skip-bad", is_flag=True, default=None, help="Leave out unreadable audio files.")
@click.option(
    "--allow-leakage", is_flag=True, default=None, help="Test on known speakers; marks results."
)
@click.option("--force", is_flag=True, help="Repeat an audit that is finished already.")
@click.option("--runs", metavar="FOLDER", help="Where audits are kept; default: runs.")
@click.option("--quiet", is_flag=True, help="No progress.")
def audit_command(
    corpus: str,
    sets: tuple[str, ...],
    form: str,
    force: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """What do sample rate, level, noise, duration and the like alone get on a task?

    Small boosted trees on some twenty numbers of each clip, none of which is about what is said, on
    the task's own splits and scored with its own metric; beside them file names, the most frequent
    class, and trees on shuffled labels. Where traits get far, a model may, too, without listening.
    docs/audit.md lists the numbers.

    \b
    Examples:
      bab audit donateacry --task classify --set 'task.labels=[reason]'
      bab audit kaldi:/data/speechocean762 --task gender --protocol kfold
      bab audit manifest:/data/cries --task classify --set task.metric=uar --format csv
    """
    from bab.auditing.audit import audit
    from bab.cli.display import ticker
    from bab.config.resolve import run_config
    from bab.results.audit import render

    asked = {"encoder": "fbank", "corpus": corpus, **options}  # the encoder plays no part
    config = run_config(None, asked, sets)
    with ticker(quiet) as display:
        made, path = audit(config, display.tell, force)
    (echo_table if form == "markdown" else echo)(render(made, form).rstrip())
    if form == "markdown":
        echo(f"\nAudit: {path}")
