"""`bab table`: the results of all runs, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command("table")
@click.argument("runs", default="runs", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "csv", "latex", "json"]),
    default="markdown",
    show_default=True,
    help="How the table is written.",
)
@click.option("--detail", is_flag=True, help="RUNS is one run's folder: show all of its record.")
@click.option(
    "--superb",
    metavar="FILE.csv",
    type=click.Path(path_type=Path),
    help="No runs: a leaderboard of SUPERB's ten tasks, each model with its superb_s.",
)
@click.option("--compare", nargs=2, metavar="A B", help="Encoder A less B, paired, per task.")
@click.option(
    "--subgroups", "view", flag_value="subgroups", help="Scores by subgroup (age, gender)."
)
@click.option(
    "--per-recording", "view", flag_value="recordings", help="Scores by recording or group."
)
@click.option("--per-layer", "view", flag_value="layers", help="Runs of single layers, as curves.")
def table_command(
    runs: Path,
    form: str,
    detail: bool,
    superb: Path | None,
    compare: tuple[str, str] | None,
    view: Literal["subgroups", "recordings", "layers"] | None,
) -> None:
    """Print the results of all runs in a folder, side by side.

    Different versions of a task or a corpus never share a table.

    \b
    Examples:
      bab table
      bab table runs/vtc --format csv > vtc.csv
      bab table --compare hubert:base fbank
      bab table runs/vtc/rttm-sample/fbank/0123456789ab --detail
    """
    from bab.core.errors import BabError
    from bab.results import record
    from bab.results.detail import detail as whole
    from bab.results.table import table

    if superb is not None:
        from bab.results.superb import leaderboard

        click.echo(leaderboard(superb, form))
        return
    if not runs.exists():
        raise BabError(f"{runs}: there is no such folder. `bab run` makes it; `--runs` names it")
    if compare or view:
        from bab.results import breakdown

        records, _ = record.collect(runs)
        if compare:
            click.echo(breakdown.versus(records, *compare, form))
        if view:
            click.echo(breakdown.show(records, view, form))
        return
    if not detail:
        click.echo(table(runs, form))
        return
    path = runs / "record.json" if runs.is_dir() else runs
    if not path.is_file():
        raise BabError(f"{runs} holds no record.json: name the folder of one finished run")
    click.echo(whole(record.load(path), form))
