"""`bab run`: make a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bab.cli.display import leads
from bab.cli.echo import echo


@click.command("run")
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@click.option("--encoder", metavar="NAME[:WEIGHTS]", help="Encoder, e.g. hubert or fbank.")
@click.option("--task", metavar="NAME", help="Task, e.g. vtc.")
@click.option("--corpus", metavar="NAME[:ROOT]", help="Corpus and its folder; default: a sample.")
@click.option(
    "--model", metavar="MODEL", help="Begin from a trained model: a run's folder or NAME:WHERE."
)
@click.option("--evaluate", is_flag=True, help="Train nothing: score --model on the test split.")
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
    evaluate: bool,
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
      bab run --model segma:VTC-2 --task vtc --corpus rttm:/data/homes --evaluate
      bab run --model hf:anton-l/wav2vec2-base-superb-sv --task sv --evaluate
    """
    from bab.config.resolve import run_config

    began = _now()
    if evaluate:
        _refuse_modes(options)
        options["mode"] = "evaluate"
    layers = options["layers"]
    options["layers"] = int(layers) if layers and layers.isdecimal() else layers
    recipe, over = _recipe(recipe), None
    if smoke:
        over, force = _smoke(recipe), True
    if recipe is not None and recipe_kind(recipe) == "pretrain":
        _pretrain(recipe, options, sets, observers, force, over)
        return
    config = run_config(recipe, options, sets, observers, over=over, expand=_expand)
    from bab.results.detail import detail
    from bab.running.runner import run

    record, folder = run(config, force)
    if not leads():
        return
    echo(detail(record, matrices=False).rstrip())
    echo(f"\nRun folder: {folder}")
    if record.confusion:
        echo(f"What was taken for what: bab table {folder} --detail")
    if (folder / "record.json").stat().st_mtime < began:
        echo("It was done before; --force repeats it.")


def _expand(stated: Any) -> Any:
    """What a trained model brings along."""
    from bab.running.start import model_settings

    return model_settings(stated)


def _refuse_modes(options: dict[str, Any]) -> None:
    """Raises ConfigError: what --evaluate can't go with, or lacks."""
    from bab.core.errors import ConfigError

    if options["mode"] not in (None, "evaluate"):
        raise ConfigError(f"--evaluate trains nothing: --mode {options['mode']} contradicts it")


def _smoke(recipe: Path | None) -> Any:
    """What goes over the recipe's keys; says what it replaces.

    Raises:
        ConfigError: there is no recipe.
    """
    from bab.config.smoke import smoke_settings
    from bab.core.errors import ConfigError

    if recipe is None:
        raise ConfigError("--smoke tries a recipe: bab run recipes/NAME.yaml --smoke")
    over, said = smoke_settings(recipe)
    echo("smoke: " + "; ".join(said), err=True)
    return over


def recipe_kind(recipe: Path) -> str:
    """What a recipe is for: `run` or `pretrain`.

    Raises:
        ConfigError: another word.
    """
    from bab.config.files import read
    from bab.core.errors import ConfigError

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
    from bab.config.pretrain import PretrainConfig
    from bab.config.resolve import pretrain_config
    from bab.core.errors import ConfigError

    foreign = [
        k for k, v in options.items() if v is not None and k not in PretrainConfig.model_fields
    ]
    if foreign:
        name = foreign[0].replace("_", "-")
        raise ConfigError(f"{recipe} pretrains an encoder: --{name} has no meaning there")
    report(pretrain_config(recipe, options, sets, observers, over=over), force)


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
            if registry.known(kind, str(path).partition(":")[0]):
                raise ConfigError(f"'{path}' is no recipe file: did you mean {option} {path}?")
    return path
