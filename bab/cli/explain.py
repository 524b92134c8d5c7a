"""`bab explain`: what a model's answer depends on, which layers it reads, where it is wrong."""

from __future__ import annotations

from pathlib import Path

import click

from bab.cli.display import DEVICES
from bab.cli.echo import echo
from bab.cli.paths import Place


@click.command("explain")
@click.argument("model", type=Place())
@click.argument("file", required=False, type=Place())
@click.option("--out", required=True, type=Place(), help="Folder for pictures.")
@click.option("--label", metavar="L", help="Class to explain; default: the likeliest.")
@click.option("--token", metavar="T", help="The same of a text model: a letter, word or phone.")
@click.option("--at", type=float, metavar="SECONDS", help="One frame, in place of all that say it.")
@click.option("--start", type=float, metavar="SECONDS", help="Where the stretch begins.")
@click.option("--end", type=float, metavar="SECONDS", help="Where it ends; default: 10 s later.")
@click.option("--layers", is_flag=True, help="A probe's layer weights (no FILE).")
@click.option(
    "--errors", type=click.IntRange(1), metavar="N", help="The run's N worst errors (no FILE)."
)
@click.option("--format", "formats", default="png,svg", show_default=True, help="Of the pictures.")
@click.option("--device", type=DEVICES, default="auto", show_default=True, help="Where it runs.")
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@click.option("--trust-code", is_flag=True, help="Let a hub model's code run.")
def explain_command(
    model: Path,
    file: Path | None,
    out: Path,
    label: str | None,
    token: str | None,
    at: float | None,
    start: float | None,
    end: float | None,
    layers: bool,
    errors: int | None,
    formats: str,
    device: str,
    offline: bool,
    trust_code: bool,
) -> None:
    """Show what a model's answer to a sound depends on.

    MODEL is a finished run's folder. With FILE: integrated gradients and Grad-CAM over the
    spectrogram, and what the model says below. Needs captum and matplotlib (bab[explain]).

    \b
    Examples:
      bab explain runs/vtc/rttm-sample/fbank/0123456789ab home1.wav --label KCHI --out why
      bab explain RUN_FOLDER home1.wav --label FEM --start 60 --end 64 --at 61.5 --out why
      bab explain ASR_RUN_FOLDER reading.wav --token a --out why
      bab explain RUN_FOLDER --layers --out why
      bab explain RUN_FOLDER --errors 10 --out why
    """
    kinds = tuple(part.strip() for part in formats.split(","))
    wrong = set(kinds) - {"png", "svg"}
    if wrong:
        raise click.UsageError(f"--format {formats}: png, svg, or both")
    asked = sum((file is not None, layers, errors is not None))
    if asked != 1:
        raise click.UsageError("name one of FILE, --layers and --errors N")
    if layers:
        from bab.explaining.layers import write_layers

        written = write_layers(model, out, kinds)
    elif errors is not None:
        from bab.explaining.errors import write_errors

        written = write_errors(model, out, errors, kinds, lambda line: echo(line, err=True))
    else:
        from bab.cli.display import ticker
        from bab.explaining.explain import ExplainOptions, explain

        assert file is not None
        options = ExplainOptions(label, token, at, start, end, kinds, device, offline, trust_code)
        with ticker() as display:
            done, written = explain(model, file, out, options, display.say, display.tell)
        for line in done.notices:
            echo(f"note: {line}", err=True)
        shares = done.shares
        echo(
            f"{done.target}: logit {shares.output:.2f}, of faint noise {shares.baseline:.2f}; "
            f"integrated gradients sum to {shares.values.sum():+.2f} (off by {shares.delta:+.3f})"
        )
    for path in written:
        echo(str(path))
