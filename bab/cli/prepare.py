"""`bab prepare`: long recordings -> a manifest of speech segments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from bab.cli.complete import named
from bab.cli.echo import echo
from bab.cli.launched import in_shards, shard_option, takes_launcher
from bab.cli.paths import Place


def _renamed(context: click.Context, param: click.Parameter, value: str | None) -> None:
    """Refuse an option by its old name."""
    if value is not None:
        raise click.UsageError(f"--hear is called --use now: --use {value}")


@click.command("prepare")
@click.option(
    "--corpus",
    "corpora",
    metavar="NAME[:ROOT]",
    multiple=True,
    required=True,
    help="May repeat.",
    shell_complete=named("datasets"),
)
@click.option(
    "--out",
    required=True,
    metavar="FILE.parquet",
    type=Place(dir_okay=False),
    help="The manifest.",
)
@click.option(
    "--vad",
    type=click.Choice(["silero", "energy"]),
    default="silero",
    show_default=True,
    help="What finds speech: a model, or a rule on energy.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Processes, default: one per core; or a launcher's jobs, default: 1.",
)
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="The corpora's options.")
@click.option(
    "--use",
    type=click.Choice(["train", "all"]),
    default="train",
    show_default=True,
    help="Of a corpus that names no splits: what bab run would train on (train), or all.",
)
@click.option("--hear", hidden=True, expose_value=False, callback=_renamed, help="Now --use.")
@click.option("--skip-bad", is_flag=True, help="Leave out unreadable audio files.")
@shard_option
@takes_launcher
def prepare_command(
    corpora: tuple[str, ...],
    out: Path,
    vad: str,
    jobs: int | None,
    sets: tuple[str, ...],
    use: str,
    skip_bad: bool,
    shard: Any,
    launch: Any,
) -> None:
    """Find the speech in long recordings and list it in segments of 2 to 30 s.

    No audio is written: pretraining reads the segments from the recordings. Gaps under 2 s are
    filled, shorter segments widened to 2 s, longer ones than 30 s cut at their longest pause. An
    interrupted command goes on where it stopped.

    \b
    Examples:
      bab prepare --corpus hindibabynet:/data/homes --out segments.parquet
      bab prepare --corpus childproject:/data/a --corpus rttm:/data/b --vad energy --out ab.parquet
      bab prepare --corpus rttm:/data/b --out segments.parquet --launcher slurm --jobs 40
      bab pretrain --corpus manifest:segments.parquet --encoder wav2vec2:base \\
          --objective contrastive
    """
    from typing import Literal, cast

    from bab.cli.display import ticker
    from bab.config.corpora import open_corpora, refuse_other_sets, sets_of
    from bab.core.errors import InterruptedRunError
    from bab.data import prepare
    from bab.data.vad import Name

    refuse_other_sets(("corpus",), sets)
    if jobs is None:  # a job has as many cores as its launcher was asked for
        one = int(os.environ.get("OMP_NUM_THREADS", "1"))
        jobs = 1 if launch else one if shard else os.cpu_count() or 1
    with ticker() as display:
        if launch is not None:
            place = prepare.parts_of(out) / "jobs"
            if not in_shards(launch, place, jobs, [("shard", (), jobs)], display):
                return
        try:
            prepared = prepare.prepare(
                open_corpora(corpora, sets_of("corpus", sets)),
                out,
                cast(Name, vad),
                1 if launch else jobs,
                skip_bad,
                display.tell,
                cast(Literal["train", "all"], use),
                shard,
            )
        except (KeyboardInterrupt, click.Abort):
            raise InterruptedRunError(
                f"stopped; the same command goes on where it stopped ({out}.parts)"
            ) from None
    echo(prepare.describe(prepared))
    echo(f"Manifest: {out}" if shard is None else f"Shard {shard}: {prepare.parts_of(out)}")
