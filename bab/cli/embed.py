"""`bab embed`: an encoder's states of recordings of any length."""

from __future__ import annotations

from pathlib import Path

import click

from bab.cli.display import DEVICES
from bab.cli.echo import echo
from bab.cli.paths import Place


@click.command("embed")
@click.argument("encoder")
@click.argument("files", nargs=-1, required=True)
@click.option("--out", required=True, type=Place(), help="Folder for the files.")
@click.option(
    "--layer",
    default="last",
    show_default=True,
    metavar="N|mean|last",
    help="Which states; 0 is the input embedding.",
)
@click.option(
    "--per",
    type=click.Choice(["frame", "window", "clip"]),
    default="frame",
    show_default=True,
    help="What a row is; of windows and clips the mean over their frames.",
)
@click.option(
    "--format",
    type=click.Choice(["npy", "parquet", "safetensors"]),
    default="npy",
    show_default=True,
    help="Of the files.",
)
@click.option(
    "--window",
    type=float,
    metavar="SECONDS",
    help="Longest stretch encoded at once; default: 30, or what the encoder takes.",
)
@click.option("--segments", is_flag=True, help="Of a corpus: its annotated segments, not clips.")
@click.option("--set", "sets", metavar="encoder.KEY=VALUE", multiple=True, help="Its options.")
@click.option("--device", type=DEVICES, default="auto", show_default=True, help="Where it runs.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the encoder.",
)
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@click.option("--trust-code", is_flag=True, help="Let a hub model's code run.")
@click.option("--quiet", is_flag=True, help="Only the result, and what went wrong.")
@click.pass_context
def embed_command(
    context: click.Context,
    encoder: str,
    files: tuple[str, ...],
    out: Path,
    layer: str,
    per: str,
    format: str,
    window: float | None,
    segments: bool,
    sets: tuple[str, ...],
    device: str,
    precision: str,
    offline: bool,
    trust_code: bool,
    quiet: bool,
) -> None:
    """Write an encoder's states of recordings of any length, with their times.

    ENCODER is named as for `bab run --encoder`. FILES are audio or video files, folders (paths
    below them are kept), lists of files (@files.txt), or a corpus (rttm:/data/homes). The same
    command goes on where it was stopped. What can't be read is named at the end, and the exit
    status is 1.

    \b
    Examples:
      bab embed hubert home1.wav home2.m4a --out states
      bab embed hubert:base /data/homes --layer 9 --format parquet --out states
      bab embed ast+clap donateacry:/data/cries --per clip --out vectors
      bab embed hubert rttm:/data/homes --segments --per clip --out voices
    """
    from bab.cli.display import ticker
    from bab.config.corpora import refuse_other_sets
    from bab.core.errors import lasting
    from bab.predicting.embed import EmbedOptions, embed

    refuse_other_sets(("encoder",), sets)
    asked = EmbedOptions(
        layer, per, format, window, segments, device, precision, sets, offline, trust_code
    )
    with ticker(quiet) as display:
        result = embed(encoder, files, out, asked, display.tell, display.say)
    before = f" ({result.again} done before)" if result.again else ""
    long = lasting(sum(result.files.values()))
    echo(f"{len(result.files)} embedded, {long}{before} -> {out}")
    if result.left:
        echo(f"{len(result.left)} left out:", err=True)
        for path, why in result.left.items():
            echo(f"  {why if path in why else f'{path}: {why}'}", err=True)
        context.exit(1)
