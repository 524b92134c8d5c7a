"""`bab run`, `bab table`, `bab predict`: make records, compare them, use the models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import click

_DEVICES = click.Choice(["auto", "cpu", "cuda", "mps"])


def leads() -> bool:
    """Whether this process is the one of several (torchrun) that prints."""
    return os.environ.get("RANK", "0") == "0"


@click.command("run")
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@click.option("--encoder", metavar="NAME[:WEIGHTS]", help="Encoder, e.g. hubert or fbank.")
@click.option("--task", metavar="NAME", help="Task, e.g. vtc.")
@click.option("--corpus", metavar="NAME[:ROOT]", help="Corpus and its folder; default: a sample.")
@click.option("--test-corpus", metavar="NAME[:ROOT]", help="Test on another corpus.")
@click.option("--head", metavar="NAME", help="Head; default: the task's.")
@click.option("--objective", metavar="NAME", help="Loss; default: the task's.")
@click.option("--mode", metavar="MODE", help="probe (frozen encoder; default) or finetune.")
@click.option("--freeze", metavar="WHAT", help="In finetune mode, what stays: none, conv, all.")
@click.option("--layers", metavar="LAYERS", help="mix (default), last, or a layer's number.")
@click.option("--protocol", metavar="PROTOCOL", help="given, kfold, leave-one-group-out ...")
@click.option("--seed", type=int, help="Seed of everything random.")
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
def run_command(
    recipe: Path | None,
    sets: tuple[str, ...],
    observers: tuple[str, ...],
    force: bool,
    smoke: bool,
    **options: Any,
) -> None:
    """Train, tune on dev, score on test, and write a record.

    RECIPE is a YAML file of a run's keys. The command line goes before the recipe, the recipe
    before bab.toml in the current folder, and that before the task's defaults. A finished run is
    found and not repeated; an interrupted one goes on where it stopped. A recipe that says
    `kind: pretrain` is handed to `bab pretrain`.

    \b
    Examples:
      bab run --encoder hubert --task vtc
      bab run --encoder hubert --task vtc --corpus rttm:/data/homes
      bab run --encoder fbank --task vtc --set head.rnn=bilstm --set train.steps=300
      bab run --encoder hubert:base --task vtc --mode finetune --device cuda
      bab run recipes/my.yaml --seed 1 --observer tensorboard
      bab run recipes/vtc2.yaml --smoke
    """
    from bab.core.config import from_command_line

    began = _now()
    layers = options["layers"]
    options["layers"] = int(layers) if layers and layers.isdecimal() else layers
    recipe, over = _recipe(recipe), None
    if smoke:
        over, force = _smoke(recipe), True
    if recipe is not None and recipe_kind(recipe) == "pretrain":
        _pretrain(recipe, options, sets, observers, force, over)
        return
    config = from_command_line(recipe, options, sets, observers, over=over)
    from bab.core import results
    from bab.core.runner import run

    record, folder = run(config, force)
    if not leads():
        return
    click.echo(results.detail(record, "markdown").rstrip())
    click.echo(f"\nRun folder: {folder}")
    if (folder / "record.json").stat().st_mtime < began:
        click.echo("It was done before; --force repeats it.")


def _smoke(recipe: Path | None) -> Any:
    """What goes over the recipe's keys; says what it replaces.

    Raises:
        ConfigError: there is no recipe.
    """
    from bab.core.errors import ConfigError
    from bab.core.smoke import layer

    if recipe is None:
        raise ConfigError("--smoke tries a recipe: bab run recipes/NAME.yaml --smoke")
    over, said = layer(recipe)
    click.echo("smoke: " + "; ".join(said), err=True)
    return over


def recipe_kind(recipe: Path) -> str:
    """What a recipe is for: `run` or `pretrain`.

    Raises:
        ConfigError: another word.
    """
    from bab.core.errors import ConfigError
    from bab.core.sources import read

    kind = str(read(recipe)[1].get("kind", "run"))
    if kind not in ("run", "pretrain"):
        raise ConfigError(f"{recipe}: kind: {kind!r} is neither run nor pretrain")
    return kind


def _pretrain(
    recipe: Path,
    options: dict[str, Any],
    sets: tuple[str, ...],
    observers: tuple[str, ...],
    force: bool,
    over: Any,
) -> None:
    """Hand a pretraining recipe on; what only a run has is refused."""
    from bab.cli.pretrain import report
    from bab.core.errors import ConfigError
    from bab.core.pretrain_config import from_command_line
    from bab.core.pretrain_schema import PretrainConfig

    foreign = [
        k for k, v in options.items() if v is not None and k not in PretrainConfig.model_fields
    ]
    if foreign:
        name = foreign[0].replace("_", "-")
        raise ConfigError(f"{recipe} pretrains an encoder: --{name} has no meaning there")
    report(from_command_line(recipe, options, sets, observers, over=over), force)


def _now() -> float:
    import time

    return time.time()


def _recipe(path: Path | None) -> Path | None:
    """The recipe, if it is a file; a component's name there is a common slip.

    Raises:
        ConfigError: it is the name of a task or an encoder.
    """
    from bab.core import registry
    from bab.core.errors import ConfigError

    if path is not None and not path.exists():
        for kind, option in (("tasks", "--task"), ("encoders", "--encoder")):
            if str(path).partition(":")[0] in registry.names(kind):
                raise ConfigError(f"'{path}' is no recipe file: did you mean {option} {path}?")
    return path


@click.command("table")
@click.argument("runs", default="runs", type=click.Path(path_type=Path))
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
    type=click.Path(path_type=Path),
    help="No runs: a leaderboard of SUPERB's ten tasks, each model with its superb_s.",
)
@click.option("--compare", nargs=2, metavar="A B", help="Encoder A less B, paired, per task.")
@click.option(
    "--subgroups", "view", flag_value="subgroups", help="Scores by subgroup (age, gender)."
)
@click.option(
    "--per-recording", "view", flag_value="recordings", help="Scores by recording or group."
)
@click.option("--per-layer", "view", flag_value="layers", help="Runs of single layers, as curves.")
def table_command(
    runs: Path,
    form: str,
    detail: bool,
    superb: Path | None,
    compare: tuple[str, str] | None,
    view: Literal["subgroups", "recordings", "layers"] | None,
) -> None:
    """Print the results of all runs in a folder, side by side.

    Different versions of a task or a corpus never share a table.

    \b
    Examples:
      bab table
      bab table runs/vtc --format csv > vtc.csv
      bab table --compare hubert:base fbank
      bab table runs/vtc/rttm-sample/fbank/0123456789ab --detail
    """
    from bab.core import results
    from bab.core.errors import BabError

    if superb is not None:
        from bab.core.superb import leaderboard

        click.echo(leaderboard(superb, form))
        return
    if not runs.exists():
        raise BabError(f"{runs}: there is no such folder. `bab run` makes it; `--runs` names it")
    if compare or view:
        from bab.core import breakdown

        records, _ = results.collect(runs)
        if compare:
            click.echo(breakdown.versus(records, *compare, form))
        if view:
            click.echo(breakdown.show(records, view, form))
        return
    if not detail:
        click.echo(results.table(runs, form))
        return
    path = runs / "record.json" if runs.is_dir() else runs
    if not path.is_file():
        raise BabError(f"{runs} holds no record.json: name the folder of one finished run")
    click.echo(results.detail(results.load(path), form))


@click.command("predict")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for what is found."
)
@click.option("--preset", metavar="NAME", help="How to decode; `bab info TASK` names the presets.")
@click.option("--device", type=_DEVICES, default="auto", show_default=True, help="Where it runs.")
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
    from bab.core.predict import predict

    if not run_folder.is_dir():
        raise BabError(f"{run_folder}: there is no such run folder. `bab table` lists runs")
    with ticker("s") as tell:
        found = predict(run_folder, files, out, preset, device, offline, trust_code, tell)
    click.echo(f"{len(found)} recording(s) -> {out}")
