"""`bab predict`: a finished run's model on recordings of any length."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bab.cli.display import DEVICES
from bab.cli.echo import echo
from bab.cli.launched import in_shards, shard_option, takes_launcher
from bab.cli.paths import Place
from bab.core.errors import counted, lasting

if TYPE_CHECKING:
    from bab.cli.display import Ticker


@click.command("predict")
@click.argument("run_folder", type=Place())
@click.argument("files", nargs=-1, required=True)
@click.option("--out", required=True, type=Place(), help="Folder for the predictions.")
@click.option("--preset", metavar="NAME", help="How to decode; `bab info TASK` names the presets.")
@click.option(
    "--threshold",
    "thresholds",
    metavar="CLASS=P",
    multiple=True,
    help="A class's threshold, in place of the tuned one. May repeat.",
)
@click.option(
    "--format",
    "formats",
    metavar="NAME,...",
    help="Annotation files: rttm (default), eaf, textgrid ...; `bab list formats`.",
)
@click.option(
    "--probabilities",
    type=click.Choice(["npy", "parquet"]),
    help="Also write each frame's (or window's) times and probabilities.",
)
@click.option("--device", type=DEVICES, default="auto", show_default=True, help="Where it runs.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the model; auto: half only where scores are known to stay.",
)
@click.option(
    "--overlap",
    type=float,
    metavar="SHARE",
    help="Share of a window that overlaps the next; frames are averaged (VTC 2: .75).",
)
@click.option(
    "--timeline", metavar="png,svg", help="Also draw who speaks when (extra: bab[plots])."
)
@click.option(
    "--enrol",
    type=Place(),
    help="sv: score against the speakers in this folder, a file or a folder each.",
)
@click.option(
    "--set",
    "sets",
    metavar="corpus.KEY=VALUE",
    multiple=True,
    help="An option of the corpora among FILES. May repeat.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Recordings at once, each in a process with a model of its own; or a launcher's jobs.",
)
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@click.option("--trust-code", is_flag=True, help="Let a hub model's code run.")
@click.option("--quiet", is_flag=True, help="Only the result, and what went wrong.")
@shard_option
@takes_launcher
@click.pass_context
def predict_command(
    context: click.Context,
    run_folder: Path,
    files: tuple[str, ...],
    out: Path,
    preset: str | None,
    thresholds: tuple[str, ...],
    formats: str | None,
    probabilities: str | None,
    device: str,
    precision: str,
    overlap: float | None,
    timeline: str | None,
    enrol: Path | None,
    sets: tuple[str, ...],
    jobs: int,
    offline: bool,
    trust_code: bool,
    quiet: bool,
    shard: Any,
    launch: Any,
) -> None:
    """Use a trained model on recordings of any length.

    RUN_FOLDER is a finished run, or a published model, NAME:WHERE (`bab list models`).

    FILES are audio or video files, folders (paths below them are kept), lists of files
    (@files.txt), or a corpus (rttm:/data/homes). Each recording is written as soon as it is done;
    the same command goes on where it was stopped. What can't be read is named at the end, and the
    exit status is 1.

    With --launcher, jobs of a cluster each take a share of the recordings, --jobs at a time
    (docs/clusters.md); then the tables of all are written here.

    \b
    Examples:
      bab predict runs/vtc/rttm-sample/fbank/0123456789ab home1.wav home2.m4a --out predictions
      bab predict RUN_FOLDER /data/homes --out predictions --preset high-precision
      bab predict RUN_FOLDER @files.txt --out predictions --format eaf,textgrid --threshold KCHI=.6
      bab predict segma:VTC-2 /data/homes --out predictions
      bab predict RUN_FOLDER /data/homes --out predictions --launcher slurm --jobs 40
    """
    from bab.cli.display import ticker
    from bab.predicting.maker import PredictOptions
    from bab.predicting.predict import predict

    asked = PredictOptions(
        preset=preset,
        thresholds=dict(_threshold(text) for text in thresholds),
        formats=formats.split(",") if formats else None,
        probabilities=probabilities or "",
        device=device,
        precision=precision,
        overlap=overlap,
        timeline=timeline.split(",") if timeline else (),
        enrol=enrol,
        corpus=sets,
        jobs=jobs,
        offline=offline,
        trust_code=trust_code,
    )
    with ticker(quiet) as display:
        if launch is not None:
            if not _by_jobs(launch, out, jobs, display):
                return
            asked = replace(asked, jobs=1)
        result = predict(run_folder, files, out, asked, display.tell, display.say, shard)
    for line in result.notices:
        echo(f"note: {line}", err=True)
    before = f" ({result.again} done before)" if result.again else ""
    long = lasting(sum(result.files.values()))
    echo(f"{counted(len(result.files), 'recording')}, {long}{before} -> {out}")
    if result.left:
        echo(f"{len(result.left)} left out:", err=True)
        for path, why in result.left.items():
            echo(f"  {why if path in why else f'{path}: {why}'}", err=True)
        context.exit(1)


def _by_jobs(launch: Any, out: Path, jobs: int, display: Ticker) -> bool:
    """Have jobs predict all that they can; False where they were only to be cancelled."""
    from bab.predicting.kept import STATE
    from bab.predicting.predict import SHARDS
    from bab.starting.folders import held

    state = out / STATE
    with held(state):
        done = in_shards(launch, state / "jobs", jobs, [("shard", (), jobs)], display)
        if done:
            shutil.rmtree(state / SHARDS, ignore_errors=True)
        return done


def _threshold(text: str) -> tuple[str, float]:
    """`KCHI=.6` -> ("KCHI", 0.6).

    Raises:
        BabError: no class, or no number.
    """
    from bab.core.errors import BabError

    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise BabError(f"--threshold {text}: expected CLASS=P, for example KCHI=.6") from None
