"""`bab.run`, `bab.evaluate`, `bab.pretrain`: a run from keyword arguments, its result a value."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bab.api.settings import Sets, texts
from bab.config.files import Settings, read
from bab.core import registry
from bab.core.atomic import StrPath
from bab.core.errors import ConfigError
from bab.core.record import Record

Named = str | Mapping[str, Any] | None  # NAME[:WEIGHTS], or {"name": NAME, OPTION: VALUE}


class Run(NamedTuple):
    """A finished run. record: all that it says (docs/records.md); folder: where it lies, which is
    also what `bab.load`, `bab.predict` and `bab.table` take a Run for."""

    record: Record
    folder: Path

    @property
    def metrics(self) -> dict[str, float]:
        """The test scores of the headline preset: `run.metrics["f1"]`, `run.metrics["f1/KCHI"]`."""
        return self.record.metrics

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of `metrics`, where there are groups enough (docs/intervals.md)."""
        return self.record.intervals

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        r = self.record
        score = r.metrics.get(r.primary, float("nan"))
        return f"<Run {r.task}@{r.corpus}, {r.encoder}: {r.primary} {score:.3f}, {self.folder}>"

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        from bab.results.detail import detail

        return detail(self.record, matrices=False)


class Pretrained(NamedTuple):
    """A finished pretraining run. result: what its pretrain.json holds; folder: where it lies;
    encoder: what other commands and functions call the encoder."""

    result: dict[str, Any]
    folder: Path
    encoder: str


def run(
    recipe: StrPath | None = None,
    *,
    encoder: Named = None,
    task: Named = None,
    corpus: Named = None,
    model: StrPath | None = None,
    evaluate: bool = False,
    test_corpus: Named = None,
    head: Named = None,
    objective: Named = None,
    mode: str | None = None,
    freeze: str | None = None,
    layers: str | int | None = None,
    protocol: str | None = None,
    seed: int | None = None,
    steps: int | None = None,
    lr: float | None = None,
    set: Sets = (),
    device: str | None = None,
    offline: bool | None = None,
    skip_bad: bool | None = None,
    trust_code: bool | None = None,
    allow_leakage: bool | None = None,
    force: bool = False,
    smoke: bool = False,
    runs: StrPath | None = None,
    observer: Sequence[str | object] = (),
    quiet: bool | None = None,
) -> Run:
    """Train, tune on dev, score on test, and write a record: `bab run`.

    >>> done = bab.run(encoder="hubert", task="vtc")
    >>> done.metrics["f1"], done.folder

    The arguments are the command's options (`bab run --help`), None where one isn't given; recipe
    and bab.toml count as they do there, and a finished run is not repeated.

    Args:
        recipe: a YAML file of a run's keys.
        encoder, task, corpus, test_corpus, head, objective: NAME or NAME:WEIGHTS as on the command
            line, or a mapping with the component's options: `{"name": "fbank", "cmvn": "none"}`.
        model: begin from this trained model: a run, its folder, or a published one (`segma:DIR`).
        evaluate: train nothing, score `model` on the test split.
        steps, lr: optimizer steps; learning rate (`train.steps`, `train.lr`).
        set: any keys (`bab info run`): `{"train.batch": 8}`, or texts `["train.batch=8"]`.
        force: repeat a run that is finished already.
        smoke: a few steps of `recipe` on samples, with untrained weights.
        runs: where runs are kept; default: runs.
        observer: names, or objects with `@bab.hookimpl` methods.
        quiet: progress as a few plain lines.

    Raises:
        BabError: a user's mistake, with its remedy.
        InterruptedRunError: Ctrl-C; the same call goes on where it was.
    """
    given = {k: v for k, v in locals().items() if k not in _NOT_KEYS}
    from bab.running.runner import run as begin

    names = [one for one in observer if isinstance(one, str)]
    config = configured(recipe, given, set, names, evaluate=evaluate, smoke=smoke)
    watching = [one for one in observer if not isinstance(one, str)]
    return Run(*begin(config, force or smoke, watching))


_NOT_KEYS = {"recipe", "evaluate", "set", "force", "smoke", "observer"}  # not of the run itself


def configured(
    recipe: StrPath | None,
    options: Mapping[str, Any],
    set: Sets,
    observers: Iterable[str],
    *,
    evaluate: bool = False,
    smoke: bool = False,
) -> Any:
    """The configuration of a run, from the options of `bab run`.

    Raises:
        ConfigError: what can't be, by its option's name; PluginError: a component that isn't there.
    """
    from bab.config.resolve import run_config

    asked = _plain(options)
    if evaluate:
        if asked.get("mode") not in (None, "evaluate"):
            raise ConfigError(f"--evaluate trains nothing: --mode {asked['mode']} contradicts it")
        asked["mode"] = "evaluate"
    layers = asked.get("layers")
    asked["layers"] = int(layers) if isinstance(layers, str) and layers.isdecimal() else layers
    place = recipe_path(recipe)
    if place is not None and recipe_kind(place) == "pretrain":
        raise ConfigError(f"{place} pretrains an encoder: bab.pretrain(recipe)")
    over = smoke_keys(place)[0] if smoke else None
    return run_config(place, asked, texts(set), list(observers), over=over, expand=_expand)


def _expand(stated: Mapping[str, Any]) -> tuple[Settings, Settings]:
    """What a trained model brings along; torch is imported where one is named."""
    from bab.running.start import model_settings

    return model_settings(stated)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Paths as texts: the configuration is written into the record."""
    return {k: os.fspath(v) if hasattr(v, "__fspath__") else v for k, v in options.items()}


def smoke_keys(recipe: Path | None) -> tuple[Settings, list[str]]:
    """What goes over a recipe's keys in a smoke run, and what it replaces, in words.

    Raises:
        ConfigError: there is no recipe.
    """
    from bab.config.smoke import smoke_settings

    if recipe is None:
        raise ConfigError("--smoke tries a recipe: bab run recipes/NAME.yaml --smoke")
    return smoke_settings(recipe)


def recipe_kind(recipe: Path) -> str:
    """What a recipe is for: `run` or `pretrain`.

    Raises:
        ConfigError: another word.
    """
    kind = str(read(recipe)[1].get("kind", "run"))
    if kind not in ("run", "pretrain"):
        raise ConfigError(f"{recipe}: kind: {kind!r} is neither run nor pretrain")
    return kind


def recipe_path(given: StrPath | None) -> Path | None:
    """The recipe, if it is a file; a component's name there is a common slip.

    Raises:
        ConfigError: it is the name of a task or an encoder.
    """
    if given is None:
        return None
    path = Path(given)
    if not path.exists():
        for kind, option in (("tasks", "--task"), ("encoders", "--encoder")):
            if registry.known(kind, str(path).partition(":")[0]):
                raise ConfigError(f"'{path}' is no recipe file: did you mean {option} {path}?")
    return path


def evaluate(model: StrPath, *, quiet: bool | None = None, **options: Any) -> Run:
    """Score a trained model on a corpus's test split, training nothing: `bab run --evaluate`.

    >>> bab.evaluate("segma:VTC-2", task="vtc", corpus="rttm:/data/homes")

    Args:
        model: a run, its folder, or a published model (`segma:DIR`).
        options: as for `bab.run`.

    Raises:
        BabError, InterruptedRunError: as `bab.run`.
    """
    return run(model=model, evaluate=True, quiet=quiet, **options)


def pretrain(
    recipe: StrPath | None = None,
    *,
    encoder: Named = None,
    objective: Named = None,
    corpus: Named | Sequence[str] = None,
    targets: StrPath | None = None,
    seed: int | None = None,
    steps: int | None = None,
    lr: float | None = None,
    set: Sets = (),
    device: str | None = None,
    offline: bool | None = None,
    skip_bad: bool | None = None,
    trust_code: bool | None = None,
    force: bool = False,
    runs: StrPath | None = None,
    observer: Sequence[str] = (),
    quiet: bool | None = None,
) -> Pretrained:
    """Pretrain an encoder, from scratch or from a checkpoint: `bab pretrain`.

    >>> made = bab.pretrain(encoder="hubert:random-tiny", objective="masked", corpus="audio:/data")
    >>> bab.run(encoder=made.encoder, task="vtc")

    The arguments are the command's options (`bab pretrain --help`), None where one isn't given.

    Args:
        recipe: a YAML file of a pretraining run's keys.
        encoder, objective: as for `bab.run`; `random` weights begin afresh.
        corpus: one, or several in a list; labels aren't read.
        targets: frame labels made by `bab targets`.
        set: any keys (`bab info pretrain`), as for `bab.run`.

    Raises:
        BabError, InterruptedRunError: as `bab.run`.
    """
    given = {k: v for k, v in locals().items() if k not in _NOT_KEYS | {"corpus", "targets"}}
    from bab.config.resolve import pretrain_config
    from bab.pretraining.runner import pretrain as begin

    several = isinstance(corpus, Sequence) and not isinstance(corpus, str)
    corpora = list(corpus) if several else [corpus]  # type: ignore[arg-type]
    options = _plain(given) | pretrain_keys(corpora, targets)
    config = pretrain_config(recipe_path(recipe), options, texts(set), list(observer))
    return pretrained(config, *begin(config, force))


def pretrain_keys(corpora: Sequence[Any], targets: StrPath | None) -> dict[str, Any]:
    """The keys that several corpora and a folder of targets stand for."""
    keys: dict[str, Any] = {"corpus": corpora[0] if corpora else None}
    if corpora[1:]:
        keys["also"] = tuple(corpora[1:])
    if targets is not None:
        keys["targets"] = {"folder": str(targets)}
    return keys


def pretrained(config: Any, result: dict[str, Any], folder: Path) -> Pretrained:
    """A pretraining run's result as a value. config: a `PretrainConfig`."""
    from bab.pretraining.running import MODEL

    return Pretrained(result, folder, f"{config.encoder.name}:{folder / MODEL}")
