"""`bab table`: the results of all runs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bab.cli.echo import echo, echo_table
from bab.cli.paths import Place

if TYPE_CHECKING:
    from bab.results.audit import Audit


@click.command("table")
@click.argument("runs", nargs=-1, metavar="[RUNS]")
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
    type=Place(),
    help="No runs: a leaderboard of SUPERB's ten tasks, each model with its superb_s.",
)
@click.option(
    "--compare",
    nargs=2,
    metavar="A B [C ...]",
    help="Two encoders or more, as for --encoder: every two of them, paired, per task.",
)
@click.option(
    "--subgroups", "view", flag_value="subgroups", help="Scores by subgroup (age, gender)."
)
@click.option(
    "--per-recording", "view", flag_value="recordings", help="Scores by recording or group."
)
@click.option(
    "--baseline",
    metavar="ENCODER",
    default="fbank",
    show_default=True,
    help="Where relative scores start.",
)
@click.option("--audit", is_flag=True, help="Beside results, what `bab audit` found on their data.")
@click.option("--per-layer", "view", flag_value="layers", help="Runs of single layers, as curves.")
@click.option(
    "--verify",
    is_flag=True,
    help="Score the written predictions again, and say which records don't hold.",
)
def table_command(
    runs: tuple[str, ...],
    form: str,
    detail: bool,
    superb: Path | None,
    compare: tuple[str, str] | None,
    audit: bool,
    baseline: str,
    view: Literal["subgroups", "recordings", "layers"] | None,
    verify: bool,
) -> None:
    """Print the results of all runs in the folder RUNS (default: runs), side by side.

    Different versions of a task or a corpus never share a table. What the marks and intervals say,
    and what they can't, is in docs/intervals.md.

    \b
    Examples:
      bab table
      bab table runs/vtc --format csv > vtc.csv
      bab table --baseline hubert:random
      bab table --verify
      bab table --compare hubert:base fbank
      bab table runs/vtc --compare hubert:base wavlm:base fbank
      bab table runs/vtc/rttm-sample/fbank/0123456789ab --detail
    """
    show = echo_table if form == "markdown" else echo
    from bab.core.errors import BabError
    from bab.results import record
    from bab.results.detail import detail as whole
    from bab.results.table import table

    if superb is not None:
        from bab.results.superb import leaderboard

        show(leaderboard(superb, form))
        return
    folder, more = _folder(runs, comparing=bool(compare))
    if verify:
        _verify(folder)
        return
    if compare or view:
        from bab.results import breakdown

        records, _ = record.collect(folder)
        if compare:
            show(breakdown.versus(records, [*compare, *more], form))
        if view:
            show(breakdown.show(records, view, form))
        return
    if not detail:
        audits = _audits(folder) if audit else ()
        with record.uncollected():
            text = table(folder, form, audits, baseline)
        show(text)
        return
    path = folder / "record.json" if folder.is_dir() else folder
    if not path.is_file():
        raise BabError(f"{folder} holds no record.json: name the folder of one finished run")
    show(whole(record.load(path), form))


def _verify(folder: Path) -> None:
    """Say which records hold; the status is 1 where one doesn't, or that can't be told."""
    from bab.cli.display import ticker
    from bab.running.verify import verify

    with ticker() as shown:
        verdicts = verify(folder, lambda n, of: shown.tell("scoring again", n, of, "runs"))
    for one in verdicts:
        for line in one.wrong:
            echo(f"doesn't hold: {one.path}: {line}")
        if one.untold:
            echo(f"can't be told: {one.path}: {one.untold}")
    good = sum(one.holds for one in verdicts)
    echo(f"{good} of {len(verdicts)} records hold")
    if good < len(verdicts):
        click.get_current_context().exit(1)


def _audits(folder: Path) -> Sequence[Audit]:
    """The audits of a folder of runs.

    Raises:
        BabError: there are none.
    """
    from bab.core.errors import BabError
    from bab.results.audit import collect

    audits = collect(folder)
    if not audits:
        raise BabError(
            f"{folder} holds no audit: `bab bench --audit` makes those of its results, and `bab "
            f"audit CORPUS --task TASK --runs {folder}` one"
        )
    return audits


def _folder(given: tuple[str, ...], comparing: bool) -> tuple[Path, list[str]]:
    """The folder of runs, and what else was given: the third and further encoders of --compare.

    Raises:
        BabError: no such folder, or several.
    """
    from bab.core.errors import BabError

    folders = [name for name in given if not comparing or Path(name).exists()]
    if len(folders) > 1:
        raise BabError(f"one folder of runs at a time: {' '.join(folders)}")
    folder = Path(folders[0] if folders else "runs")
    if not folder.exists():
        raise BabError(f"{folder}: there is no such folder. `bab run` makes it; `--runs` names it")
    return folder, [name for name in given if name not in folders]
