"""`bab predict`: a finished run's model on new recordings."""

from __future__ import annotations

from pathlib import Path

import click

from bab.cli.display import DEVICES


@click.command("predict")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for what is found."
)
@click.option("--preset", metavar="NAME", help="How to decode; `bab info TASK` names the presets.")
@click.option("--device", type=DEVICES, default="auto", show_default=True, help="Where it runs.")
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@click.option("--trust-code", is_flag=True, help="Let a hub model's code run.")
def predict_command(
    run_folder: Path,
    files: tuple[Path, ...],
    out: Path,
    preset: str | None,
    device: str,
    offline: bool,
    trust_code: bool,
) -> None:
    """Use a finished run's model on recordings of any length.

    FILES are audio files, or folders that are searched for them.

    \b
    Examples:
      bab predict runs/vtc/rttm-sample/fbank/0123456789ab home1.wav home2.flac --out found
      bab predict RUN_FOLDER /data/homes --out found --preset high-precision
    """
    from bab.cli.display import ticker
    from bab.core.errors import BabError
    from bab.running.predict import predict

    if not run_folder.is_dir():
        raise BabError(f"{run_folder}: there is no such run folder. `bab table` lists runs")
    with ticker() as tell:
        predictions = predict(run_folder, files, out, preset, device, offline, trust_code, tell)
    click.echo(f"{len(predictions)} recording(s) -> {out}")
