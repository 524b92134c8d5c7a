"""`bab run`: make a record."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import click

from bab.cli.complete import named
from bab.cli.display import leads
from bab.cli.echo import echo, echo_table
from bab.cli.launched import in_shards, jobs_of, shard_option, takes_launcher
from bab.cli.paths import Place


@click.command("run")
@click.argument("recipe", required=False, type=Place())
@click.option(
    "--encoder",
    metavar="NAME[:WEIGHTS]",
    help="Encoder, e.g. hubert or fbank.",
    shell_complete=named("encoders"),
)
@click.option("--task", metavar="NAME", help="Task, e.g. vtc.", shell_complete=named("tasks"))
@click.option(
    "--corpus",
    metavar="NAME[:ROOT]",
    help="Corpus and its folder; default: a sample.",
    shell_complete=named("datasets"),
)
@click.option(
    "--model", metavar="MODEL", help="Begin from a trained model: a run's folder or NAME:WHERE."
)
@click.option("--evaluate", is_flag=True, help="Train nothing: score --model on the test split.")
@click.option(
    "--test-corpus",
    metavar="NAME[:ROOT]",
    help="Test on another corpus.",
    shell_complete=named("datasets"),
)
@click.option(
    "--head", metavar="NAME", help="Head; default: the task's.", shell_complete=named("heads")
)
@click.option(
    "--objective",
    metavar="NAME",
    help="Loss; default: the task's.",
    shell_complete=named("objectives"),
)
@click.option("--mode", metavar="MODE", help="probe (frozen encoder; default) or finetune.")
@click.option("--freeze", metavar="WHAT", help="In finetune mode, what stays: none, conv, all.")
@click.option("--layers", metavar="LAYERS", help="mix (default), last, or a layer's number.")
@click.option("--protocol", metavar="PROTOCOL", help="given, kfold, leave-one-group-out ...")
@click.option("--seed", type=int, help="Seed of everything random.")
@click.option("--steps", type=int, help="Optimizer steps; default: the task's for the mode.")
@click.option("--lr", type=float, help="Learning rate; default: the task's for the mode.")
@click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key; see `bab info run`."
)
@click.option("--device", metavar="DEVICE", help="auto (default), cpu, cuda or mps.")
@click.option("--offline", is_flag=True, default=None, help="Never ask a model hub.")
@click.option("--skip-bad", is_flag=True, default=None, help="Leave out unreadable audio files.")
@click.option("--trust-code", is_flag=True, default=None, help="Let a hub model's code run.")
@click.option(
    "--allow-leakage", is_flag=True, default=None, help="Test on known speakers; marks results."
)
@click.option("--force", is_flag=True, help="Repeat a run that is finished already.")
@click.option("--smoke", is_flag=True, help="A few steps of RECIPE on samples, untrained weights.")
@click.option("--runs", metavar="FOLDER", help="Where runs are kept; default: runs.")
@click.option("--observer", "observers", metavar="NAME", multiple=True, help="Add an observer.")
@click.option("--quiet", is_flag=True, default=None, help="Progress as a few plain lines.")
@click.option("--jobs", type=click.IntRange(1), help="Of a launcher; default: 1.")
@shard_option
@takes_launcher
def run_command(
    recipe: Path | None,
    sets: tuple[str, ...],
    observers: tuple[str, ...],
    force: bool,
    smoke: bool,
    evaluate: bool,
    jobs: int | None,
    shard: Any,
    launch: Any,
    **options: Any,
) -> None:
    """Train, tune on dev, score on test, and write a record.

    RECIPE is a YAML file of a run's keys. The command line goes before the recipe, the recipe
    before bab.toml in the current folder, and that before the task's defaults. A finished run is
    found and not repeated; an interrupted one goes on where it stopped. A recipe that says
    `kind: pretrain` is handed to `bab pretrain`.

    With --launcher, jobs of a cluster compute the features of a probe, --jobs at a time, and
    another one makes the run of them (docs/clusters.md). --shard is one such share of features.

    \b
    Examples:
      bab run --encoder hubert --task vtc
      bab run --encoder hubert --task vtc --corpus rttm:/data/homes
      bab run --encoder fbank --task vtc --set head.rnn=bilstm --set train.steps=300
      bab run --encoder hubert:base --task vtc --mode finetune --device cuda
      bab run recipes/my.yaml --seed 1 --observer tensorboard
      bab run recipes/vtc2.yaml --smoke
      bab run --model segma:VTC-2 --task vtc --corpus rttm:/data/homes --evaluate
      bab run --model hf:anton-l/wav2vec2-base-superb-sv --task sv --evaluate
      bab run --encoder hubert:base --task vtc --corpus rttm:/data/homes --launcher slurm --jobs 40
    """
    from bab.api.runs import configured, recipe_kind, recipe_path, smoke_keys

    began = time.time()
    most = jobs_of(launch, jobs)
    place = recipe_path(recipe)
    if smoke:
        echo("smoke: " + "; ".join(smoke_keys(place)[1]), err=True)
    if place is not None and recipe_kind(place) == "pretrain":
        if launch is not None or shard is not None:
            raise click.UsageError(f"{place} pretrains an encoder: `bab pretrain` takes --launcher")
        _pretrain(place, options, sets, observers, force or smoke, smoke)
        return
    config = configured(place, options, sets, observers, evaluate=evaluate, smoke=smoke)
    from bab.results.detail import detail
    from bab.running.runner import fill, run

    if shard is not None:
        hours = fill(config, shard.number - 1, shard.count)
        echo(f"Features: share {shard} of {hours:.2f} h of audio")
        return
    if launch is not None and not _by_jobs(launch, Path(config.runs), config.mode, most):
        return
    # What a job has made, with --force if that was asked, is found here.
    record, folder = run(config, (force or smoke) and launch is None)
    if not leads():
        return
    echo_table(detail(record, matrices=False).rstrip())
    echo(f"\nRun folder: {folder}")
    if record.confusion:
        echo(f"What was taken for what: bab table {shlex.quote(str(folder))} --detail")
    if (folder / "record.json").stat().st_mtime < began:
        echo("It was done before; --force repeats it.")


def _by_jobs(launch: Any, runs: Path, mode: str, jobs: int) -> bool:
    """Have the features computed and the run made by jobs; False: they were only cancelled."""
    from bab.cli.display import ticker

    stages = [("features", (), jobs)] if mode == "probe" else []
    with ticker() as display:
        return in_shards(launch, runs / ".jobs", jobs, [*stages, ("run", (), 0)], display, (0,))


def _pretrain(
    recipe: Path,
    options: dict[str, Any],
    sets: tuple[str, ...],
    observers: tuple[str, ...],
    force: bool,
    smoke: bool,
) -> None:
    """Hand a pretraining recipe on; what only a run has is refused."""
    from bab.api.runs import smoke_keys
    from bab.cli.pretrain import report
    from bab.config.pretrain import PretrainConfig
    from bab.config.resolve import pretrain_config
    from bab.core.errors import ConfigError

    known = {*PretrainConfig.model_fields, "steps", "lr"}
    foreign = [k for k, v in options.items() if v is not None and k not in known]
    if foreign:
        name = foreign[0].replace("_", "-")
        raise ConfigError(f"{recipe} pretrains an encoder: --{name} has no meaning there")
    over = smoke_keys(recipe)[0] if smoke else None
    report(pretrain_config(recipe, options, sets, observers, over=over), force)
