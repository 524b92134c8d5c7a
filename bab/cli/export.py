"""`bab export`: a finished run's model for transformers or onnxruntime, with a model card."""

from __future__ import annotations

from pathlib import Path

import click

from bab.cli.echo import echo
from bab.cli.paths import Place


@click.command("export")
@click.argument("run_folder", type=Place())
@click.argument("out", type=Place())
@click.option(
    "--to",
    type=click.Choice(["hf", "onnx"]),
    default="hf",
    show_default=True,
    help="hf: a folder for transformers. onnx: a graph for onnxruntime (extra: bab[onnx]).",
)
@click.option("--encoder-only", is_flag=True, help="Leave the head out.")
@click.option(
    "--push", "push_to", metavar="OWNER/NAME", default="", help="Upload the folder to the hub."
)
@click.option("--public", is_flag=True, help="With --push: a new repository that all may see.")
@click.option("--offline", is_flag=True, help="Never ask a model hub for weights.")
@click.option("--trust-code", is_flag=True, help="Let a hub model's code run.")
@click.option("--quiet", is_flag=True, help="Only the result.")
def export_command(
    run_folder: Path,
    out: Path,
    to: str,
    encoder_only: bool,
    push_to: str,
    public: bool,
    offline: bool,
    trust_code: bool,
    quiet: bool,
) -> None:
    """Write a run's model as a folder that others load without bab.

    RUN_FOLDER is a finished run, one of its folds, or a pretraining run. OUT gets weights,
    configuration and a model card (README.md) made from the run's record. The folder is loaded
    again and compared with the run's model before it is kept. A part that has no place there is
    named, with what can be exported instead. Nothing leaves this machine without --push, and what
    is pushed is private unless --public.

    \b
    Examples:
      bab export runs/vtc/rttm-homes/hubert-base/0123456789ab vtc-homes
      bab export RUN_FOLDER vtc-onnx --to onnx      # labels files without torch: label.py
      bab export RUN_FOLDER encoder --encoder-only
      bab export RUN_FOLDER vtc-homes --push anna/vtc-homes
    """
    from bab.core.errors import BabError
    from bab.exporting.export import export

    if public and not push_to:
        raise BabError("--public is of --push OWNER/NAME")
    if push_to and offline:
        raise BabError("--push needs the hub, which --offline forbids")
    done = export(
        run_folder,
        to,
        out,
        encoder_only=encoder_only,
        push_to=push_to,
        public=public,
        offline=offline,
        trust_code=trust_code,
        say=lambda line: None if quiet else echo(line, err=True),
    )
    for line in done.notices:
        echo(f"note: {line}", err=True)
    echo(f"{done.folder}: {done.loads} loads it; the card is {done.folder / 'README.md'}")
    if done.url:
        echo(f"pushed: {done.url}")
