"""`bab pretrain`: make or continue an encoder, from audio alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from bab.cli.complete import named
from bab.cli.display import leads
from bab.cli.echo import echo
from bab.cli.launched import as_job, takes_launcher
from bab.cli.paths import Place


@click.command("pretrain")
@click.argument("recipe", required=False, type=Place())
@click.option(
    "--encoder",
    metavar="NAME[:WEIGHTS]",
    help="Encoder; `random` weights begin afresh.",
    shell_complete=named("encoders"),
)
@click.option(
    "--objective",
    metavar="NAME",
    help="contrastive (wav2vec 2.0) or masked (HuBERT).",
    shell_complete=named("objectives"),
)
@click.option(
    "--corpus",
    "corpora",
    metavar="NAME[:ROOT]",
    multiple=True,
    help="Corpus with the audio; labels aren't read. May repeat.",
    shell_complete=named("datasets"),
)
@click.option("--targets", metavar="FOLDER", help="Frame labels made by `bab targets` (masked).")
@click.option("--seed", type=int, help="Seed of everything random.")
@click.option("--steps", type=int, help="Optimizer steps.")
@click.option("--lr", type=float, help="Learning rate.")
@click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key; see `bab info pretrain`."
)
@click.option("--device", metavar="DEVICE", help="auto (default), cpu, cuda or mps.")
@click.option("--offline", is_flag=True, default=None, help="Never ask a model hub.")
@click.option("--skip-bad", is_flag=True, default=None, help="Leave out unreadable audio files.")
@click.option("--trust-code", is_flag=True, default=None, help="Let a hub model's code run.")
@click.option("--force", is_flag=True, help="Repeat a run that is finished already.")
@click.option("--runs", metavar="FOLDER", help="Where runs are kept; default: runs.")
@click.option("--observer", "observers", metavar="NAME", multiple=True, help="Add an observer.")
@click.option("--quiet", is_flag=True, default=None, help="Progress as a few plain lines.")
@takes_launcher
def pretrain_command(
    recipe: Path | None,
    sets: tuple[str, ...],
    observers: tuple[str, ...],
    force: bool,
    targets: str | None,
    corpora: tuple[str, ...],
    launch: Any,
    **options: Any,
) -> None:
    """Pretrain an encoder, from scratch or from a checkpoint, on audio without labels.

    The encoder is written to the run's `model` folder, in transformers' format with all that the
    objective needs to go on: name that folder after the colon in any other command. An interrupted
    run goes on where it stopped; `torchrun -m bab pretrain ...` uses several processes. With
    --launcher it is one job of a cluster, over launcher.nodes machines (docs/clusters.md), and
    what it prints is shown here.

    \b
    Examples:
      bab pretrain --encoder wav2vec2:base --objective contrastive --corpus hindibabynet:/data/hbn
      bab targets --corpus hindibabynet:/data/hbn --clusters 500 --out targets/mfcc
      bab pretrain --encoder hubert:random --objective masked --corpus hindibabynet:/data/hbn \\
        --targets targets/mfcc
      bab pretrain recipe.yaml --launcher slurm --set launcher.nodes=2 --set launcher.gpus=4
      bab run --encoder hubert:runs/pretrain/hbn/hubert-random/0123456789ab/model --task vtc
    """
    from bab.api.runs import pretrain_keys
    from bab.config.resolve import pretrain_config

    options |= pretrain_keys(corpora, targets)
    config = pretrain_config(recipe, options, sets, observers)
    if launch is not None:
        as_job(launch, Path(config.runs) / ".jobs")
        return
    report(config, force)


def report(config: Any, force: bool) -> None:
    """Do the run and say what came of it. config: a `PretrainConfig`."""
    from bab.api.runs import pretrained
    from bab.pretraining.runner import pretrain

    done = pretrained(config, *pretrain(config, force))
    if leads():
        echo("\n".join(lines(done.result)))
        echo(f"\nEncoder: {done.encoder}")


def lines(result: Mapping[str, Any]) -> list[str]:
    """The end of a run in a few lines."""
    hours, seconds = result["audio_hours"], result["train_seconds"]
    speed = f", {hours * 3600 / seconds:.1f} s of audio per second" if seconds else ""
    told = [f"{result['steps']} steps, {hours:.2f} h of audio{speed}"]
    if result["dev"]:
        told.append("dev: " + ", ".join(f"{k} {v:.4g}" for k, v in result["dev"].items()))
    return told
