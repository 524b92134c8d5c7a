"""`bab bench`: many runs, and their table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bab.cli.echo import echo, echo_table
from bab.cli.launched import takes_launcher
from bab.cli.paths import Place


@click.command("bench")
@click.argument("grid", required=False, type=Place())
@click.option("--encoders", metavar="NAME[:WEIGHTS],...", help="Encoders, e.g. fbank,hubert.")
@click.option("--tasks", metavar="TASK[@CORPUS[:ROOT]],...", help="Cells: tasks and corpora.")
@click.option("--seeds", metavar="N,...", help="Seeds; default: 0.")
@click.option("--lr", metavar="RATE,...", help="Learning rates; the best on dev is kept.")
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key, for all runs.")
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time; default: 1.")
@click.option("--runs", metavar="FOLDER", help="Where runs are kept; default: runs.")
@click.option("--force", is_flag=True, help="Repeat runs that are finished already.")
@click.option("--audit", is_flag=True, help="Beside results, what recording traits alone get.")
@click.option("--quiet", is_flag=True, help="Progress as plain lines.")
@takes_launcher
def bench_command(
    grid: Path | None,
    sets: tuple[str, ...],
    force: bool,
    audit: bool,
    quiet: bool,
    launch: Any,
    **given: Any,
) -> None:
    """Run every encoder on every task, and print the table.

    GRID is a YAML file with the same keys (encoders, tasks, seeds, lr, jobs, runs; `set` holds keys
    of all runs). There a task may be a mapping: `task`, and any keys of its runs. The command line
    goes before the file. A run that fails is recorded with its reason while the others go on; what
    is finished is not repeated; Ctrl-C saves what is at work, and the same command goes on.

    With --launcher, runs are made by jobs of a cluster, --jobs at a time (docs/clusters.md); the
    same command picks up what it left there.

    \b
    Examples:
      bab bench --encoders fbank,hubert --tasks vtc --seeds 0,1,2
      bab bench --encoders fbank,wavlm:base --tasks vtc,gender@kaldi:/data/x --lr 1e-4,1e-3,1e-2
      bab bench grid.yaml --jobs 4
      bab bench --encoders fbank,hubert --tasks gender@donateacry --audit
      bab bench grid.yaml --launcher slurm --jobs 40 --set launcher.partition=gpu
    """
    from bab.api.bench import bench

    done = bench(grid, set=sets, force=force, audit=audit, quiet=quiet, launcher=launch, **given)
    if launch is not None and launch.cancel:
        return
    if done.records:
        echo_table(done.markdown())
    for line in done.failures:
        echo(line, err=True)
    echo(f"\n{done.summary}. Runs: {done.runs}")
    if done.failures:
        click.get_current_context().exit(1)
