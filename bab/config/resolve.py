"""Configurations of runs and pretraining: sources merged, every key checked, mistakes traced to
where they stand.

Precedence: command line and `--set`, recipe, bab.toml, then the task's defaults for the mode (or
the objective's published ones), then the defaults of `bab.config.run` (or `bab.config.pretrain`).
Import this module only when something is to be built: it imports pydantic and yaml.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from bab.config.files import Settings, assignment, read
from bab.config.merge import Merge, merge, unknown
from bab.config.pretrain import PretrainConfig
from bab.config.run import ComponentConfig, CorpusConfig, EncoderConfig, RunConfig, ViewConfig
from bab.core import names, registry
from bab.core.device import resolve_precision
from bab.core.errors import ConfigError, PluginError, did_you_mean
from bab.core.names import COMPONENTS, spelling
from bab.core.options import Strict

Config = TypeVar("Config", bound=Strict)
Stated = Mapping[str, Any]  # the merged keys that somebody gave, defaults aside
_OF_TRAIN = ("steps", "lr")  # options of their own that are keys of `train`
Expand = Callable[[Stated], tuple[Settings, Settings]]

# ------------------------------------------------------------------------------- entrances


def run_config(
    recipe: Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    observers: Sequence[str] = (),
    folder: Path | None = None,
    over: Settings | None = None,
    expand: Expand | None = None,
) -> RunConfig:
    """The run that a command line asks for.

    Args:
        recipe: a YAML file, or None.
        options: keys given by options of their own (`{"encoder": "hubert:base"}`); None = absent.
        sets: texts of `--set KEY=VALUE`; the last of two wins.
        observers: names added to the observers.
        folder: where bab.toml may be; default: the current directory.
        over: keys that go before all others (`--smoke`).
        expand: what a trained model (key `model`) brings along: the keys that others may change,
            and those that none may.

    Raises:
        ConfigError: unknown keys, wrong types, nothing named; all of them at once, each with its
            dotted path and its source.
        PluginError: a named component can't be loaded.
    """
    others = set(PretrainConfig.model_fields) - set(RunConfig.model_fields)
    asked = _asked(recipe, options, sets, folder, over, others)
    stated = merge(asked).values
    if expand is not None and stated.get("model"):
        if (options or {}).get("encoder"):
            raise ConfigError("--encoder with --model: a model has its own encoder; leave one out")
        under, fixed = expand(stated)
        asked = [under, *asked, fixed]
    return _build(asked, RunConfig, ("encoder", "task"), _task_settings, _settle_run, observers)


def pretrain_config(
    recipe: Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    observers: Sequence[str] = (),
    folder: Path | None = None,
    over: Settings | None = None,
) -> PretrainConfig:
    """The pretraining run that a command line asks for; arguments and errors as of `run_config`."""
    others = set(RunConfig.model_fields) - set(PretrainConfig.model_fields)
    asked = _asked(recipe, options, sets, folder, over, others)
    needed = ("encoder", "objective", "corpus")
    return _build(asked, PretrainConfig, needed, _objective_settings, _settle, observers)


def encoder_config(spec: str, sets: Sequence[str] = ()) -> EncoderConfig:
    """An encoder outside a run: NAME or NAME:WEIGHTS, and texts of `--set encoder.KEY=VALUE`.

    Raises:
        ConfigError, PluginError: as for `run_config`.
    """
    return EncoderConfig(**component_config("encoder", spec, sets))


def corpus_config(spec: str, sets: Sequence[str] = ()) -> CorpusConfig:
    """A corpus outside a run: NAME or NAME:ROOT, and texts of `--set corpus.KEY=VALUE`.

    Raises:
        ConfigError, PluginError: as for `run_config`.
    """
    return CorpusConfig(**component_config("corpus", spec, sets))


def task_config(name: str, sets: Sequence[str] = ()) -> ComponentConfig:
    """A task outside a run, and texts of `--set task.KEY=VALUE`.

    Raises:
        ConfigError, PluginError: as for `run_config`.
    """
    return ComponentConfig(**component_config("task", name, sets))


# ------------------------------------------------------------------------------- what was asked


def _asked(
    recipe: Path | None,
    options: Mapping[str, Any] | None,
    sets: Sequence[str],
    folder: Path | None,
    over: Settings | None,
    others: set[str],
) -> list[Settings]:
    """What bab.toml, recipe, options and `--set` say, the lowest precedence first.

    others: keys of the other kind of run, whose concern they are: one bab.toml serves both.
    """
    asked: list[Settings] = []
    toml = (folder or Path()) / "bab.toml"
    if toml.is_file():
        name, values = read(toml)
        asked.append(
            (name, {k: v for k, v in values.items() if k not in {*others, "plugin", "launcher"}})
        )
    if recipe is not None:
        name, values = read(recipe)
        asked.append((name, {k: v for k, v in values.items() if k != "kind"}))
    stated = {k: v for k, v in (options or {}).items() if v is not None}
    given = [
        (f"--{k.replace('_', '-')}", {"train": {k: v}} if k in _OF_TRAIN else {k: v})
        for k, v in stated.items()
    ]
    asked += reversed(given)
    asked += [(f"--set {text}", assignment(text)) for text in sets]
    return asked if over is None else [*asked, over]


def _task_settings(asked: Merge) -> list[Settings]:
    """The components and the view that the task names, and its defaults for the mode."""
    stated = asked.values
    task = _load("tasks", stated["task"]["name"], asked.source("task.name"))
    name = f"the defaults of task '{stated['task']['name']}'"
    mode = str(stated.get("mode", RunConfig.model_fields["mode"].default))
    named = {key: getattr(task, key) for key in ("corpus", "head", "objective")}
    view = {key: getattr(task.view, key) for key in ViewConfig.model_fields}
    first = {key: value for key, value in named.items() if value} | {"view": view}
    return [(name, first), (f"{name} in mode {mode}", dict(task.defaults.get(mode, {})))]


def _objective_settings(asked: Merge) -> list[Settings]:
    """The defaults that the objective's authors published."""
    name = asked.values["objective"]["name"]
    objective = _load("objectives", name, asked.source("objective.name"))
    return [(f"the defaults of objective '{name}'", dict(objective.defaults))]


# ------------------------------------------------------------------------------- building


def _build(
    asked: Sequence[Settings],
    schema: type[Config],
    needed: Sequence[str],
    defaults: Callable[[Merge], list[Settings]],
    settle: Callable[[dict[str, Any], Stated], None],
    extra_observers: Sequence[str],
) -> Config:
    """Merge what was asked over the defaults that it brings along, and check every key.

    needed: components that must be named. settle: fills in what depends on other values.
    """
    below = merge(asked, schema)
    stated = below.values
    unnamed = [key for key in needed if "name" not in stated.get(key, {})]
    if unnamed:
        files = " or ".join(name for name, _ in asked if not name.startswith("--"))
        there_too = f" in {files}" if files else ""
        known = {key: ", ".join(registry.names(COMPONENTS[key][0])) for key in unnamed}
        raise ConfigError(
            "\n".join(
                f"no {key} is named{there_too}: give --{key} NAME. Known: {there}"
                for key, there in known.items()
            )
        )
    whole = merge([*defaults(below), *asked], schema)
    values, wrong = _with_options(whole, schema)
    settle(values, stated)
    standard = schema.model_fields["observers"].default
    named = values.get("observers", standard)
    if named is None or isinstance(named, (list, tuple)):  # else the schema says what is wrong
        values["observers"] = [*(named or ()), *extra_observers]
    try:
        config = schema.model_validate_json(json.dumps(_emptied(schema, values), default=str))
    except ValidationError as error:
        wrong += _explained(error, values, whole, "")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return config


def _with_options(merge: Merge, schema: type[Strict]) -> tuple[dict[str, Any], list[str]]:
    """The merged values with each component's options checked by its class and filled in."""
    values, wrong = dict(merge.values), []
    level = _level(merge) if "task" in schema.model_fields else ""
    for section, (kind, after) in COMPONENTS.items():
        if section not in schema.model_fields:
            continue
        keys = dict(values.get(section, {}))
        if section == "test_corpus" and not keys:
            values.pop(section, None)
            continue
        if "name" not in keys:
            wrong.append(f"no {section} is named, and the task has no default: give --{section}")
            continue
        if section == "encoder" and len(names.members(keys["name"])) > 1:
            values[section], faults = _ensemble(keys, merge, level)
            wrong += faults
            continue
        fixed = {key: keys.pop(key) for key in ("name", after) if key in keys}
        cls = _load(kind, fixed["name"], merge.source(f"{section}.name"))
        if section == "encoder":
            fixed["weights"] = fixed.get("weights") or cls.default
            keys = {**cls.defaults.get(level, {}), **keys}
        options, faults = _options(cls.Options, keys, merge, section)
        wrong += faults
        values[section] = {**fixed, "options": options}
    return values, wrong


def _level(merge: Merge) -> str:
    """The level of the run's task, on which some defaults of encoders depend."""
    name = merge.values.get("task", {}).get("name")
    return str(_load("tasks", name, merge.source("task.name")).level) if name else ""


def _ensemble(
    given: Mapping[str, Any], merge: Merge, level: str
) -> tuple[dict[str, Any], list[str]]:
    """`ast+clap`: the members with their weights, `fusion`, and each member's options under its
    name (`encoder.ast.KEY`)."""
    keys, wrong, specs = dict(given), [], []
    if not keys.get("weights"):  # as a record's own configuration says it
        keys.pop("weights", None)
    fusion = keys.pop("fusion", names.FUSIONS[0])
    if fusion not in names.FUSIONS:
        wrong.append(
            f"encoder.fusion: {fusion!r:.60} is not valid: "
            + did_you_mean(str(fusion), names.FUSIONS)
        )
    options: dict[str, Any] = {"fusion": fusion}
    for name, weights in names.members(keys.pop("name")):
        cls = _load("encoders", name, merge.source("encoder.name"))
        specs.append(names.Member(name, weights or cls.default).spec)
        if name not in options:
            own = keys.pop(name, {})
            if not isinstance(own, Mapping):
                wrong.append(f"encoder.{name}: expected keys and values, found {own!r:.60}")
                own = {}
            own = {**cls.defaults.get(level, {}), **own}
            options[name], faults = _options(cls.Options, own, merge, f"encoder.{name}")
            wrong += faults
    known = [f"encoder.{name}" for name in options]
    wrong += [unknown(f"encoder.{key}", merge.source(f"encoder.{key}"), known) for key in keys]
    return {"name": "+".join(specs), "options": options}, wrong


def _load(kind: str, name: str, source: str) -> Any:
    try:
        return registry.load(kind, name)
    except PluginError as error:
        if kind == "datasets" and Path(name).is_dir():
            raise PluginError(
                f"'{name}' is a folder: say how it is laid out, as in rttm:{name} or audio:{name} "
                "(`bab list datasets`, docs/corpora.md)"
            ) from error
        raise PluginError(f"{error}" + (f" (named by {source})" if source else "")) from error


def _options(
    model: type[BaseModel], given: Mapping[str, Any], merge: Merge, section: str
) -> tuple[dict[str, Any], list[str]]:
    # Through JSON, so that a list may stand for a tuple while "5" may not stand for 5.
    try:
        text = json.dumps(_emptied(model, given), default=str)
        return model.model_validate_json(text, strict=True).model_dump(mode="json"), []
    except ValidationError as error:
        known = [f"{section}.{key}" for key in model.model_fields]
        return {}, _explained(error, given, merge, section + ".", known)


def _emptied(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """`KEY=` means none: null where the key may be, else the empty text or the empty list."""
    values = dict(given)
    for key in (key for key, value in given.items() if value is None and key in model.model_fields):
        for text in ("null", '""', "[]"):
            with suppress(ValidationError):
                kind: Any = model.model_fields[key].annotation
                values[key] = TypeAdapter(kind).validate_json(text, strict=True)
                break
    return values


def _settle(values: dict[str, Any], stated: Stated) -> None:
    """`~` in `runs` is the user's home; the same folder from another working directory is the same
    corpus; the run's seed draws untrained weights, unless the encoder's own seed is given; and
    which precision `auto` is depends on the device, and so belongs to the run."""
    if isinstance(values.get("runs"), str):
        values["runs"] = os.path.expanduser(values["runs"])  # noqa: PTH111 - "" is refused later
    encoder, said = values.get("encoder", {}), stated.get("encoder", {})
    options, seed = encoder.get("options", {}), values.get("seed", 0)
    members = names.members(str(encoder.get("name", "")))
    for one in members:
        own, given = (options, said) if len(members) == 1 else (options[one.name], said)
        given = given if len(members) == 1 else given.get(one.name) or {}
        weights = str(encoder.get("weights") or one.weights)
        if weights.startswith("random") and "seed" in own and "seed" not in given:
            own["seed"] = seed
    for section in ("corpus", "test_corpus"):
        root = values.get(section, {}).get("root")
        # `Path.exists` raises where a name is too long to be one.
        if root and os.path.exists(Path(root).expanduser()):  # noqa: PTH110
            values[section]["root"] = str(Path(root).expanduser().resolve())
    train = values.get("train", {})
    if train.get("precision", "auto") == "auto":
        settled = resolve_precision(str(values.get("device", "auto")), "auto")
        values["train"] = {**train, "precision": settled}


def _settle_run(values: dict[str, Any], stated: Stated) -> None:
    """Defaults of a run that depend on other values."""
    random = str(values.get("encoder", {}).get("weights", "")).startswith("random")
    if random and values.get("mode") == "finetune" and "freeze" not in stated:
        values["freeze"] = "none"  # untrained convolutions are not worth keeping
    _settle(values, stated)


def _explained(
    error: ValidationError,
    values: Mapping[str, Any],
    merge: Merge,
    prefix: str,
    known: Sequence[str] = (),
) -> list[str]:
    """pydantic's findings as one line per key: path, value, source, what is expected."""
    lines: list[str] = []
    invalid: dict[str, tuple[Any, list[str]]] = {}
    for item in error.errors():
        path = prefix + ".".join(_real(item["loc"], values))
        if item["type"] == "extra_forbidden":
            lines.append(unknown(path, merge.source(path) or "defaults", known))
        elif item["type"] == "missing":
            lines.append(f"{prefix}{'.'.join(map(str, item['loc']))} must be given")
        else:
            said = item["msg"].replace("Input should be", "expected").removeprefix("Value error, ")
            invalid.setdefault(path, (item["input"], []))[1].append(said)
    for path, (value, expected) in invalid.items():
        source = merge.source(path)
        origin = f" (from {source})" if source else ""
        hint = ". Nothing is written `null`" if value in ("none", "None") else ""
        lines.append(f"{path}: {value!r:.80} is not valid{origin}: {' or '.join(expected)}{hint}")
    return lines


def _real(location: Sequence[str | int], values: Any) -> Iterator[str]:
    """The part of pydantic's location that names keys, not the branches of a union."""
    for part in location:
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        elif isinstance(values, (list, tuple)) and isinstance(part, int):
            values = values[part] if part < len(values) else None
        else:
            return
        yield str(part)


def component_config(section: str, spec: str, sets: Sequence[str]) -> dict[str, Any]:
    """The keys of one component outside a run, its options checked. section: as in a recipe.

    Raises:
        ConfigError, PluginError: as for `run_config`.
    """
    whole = merge(
        [
            (f"'{spec}'", {section: spelling(section, spec)}),
            *((f"--set {text}", assignment(text)) for text in sets),
        ]
    )
    foreign = sorted(set(whole.values) - {section})
    if foreign:
        raise ConfigError(f"--set {foreign[0]}: only keys of '{section}' have a meaning here")
    keys = dict(whole.values[section])
    kind, after = COMPONENTS[section]
    cls = _load(kind, keys["name"], "")
    fixed = {key: keys.pop(key) for key in ("name", after) if key in keys}
    options, wrong = _options(cls.Options, keys, whole, section)
    if wrong:
        raise ConfigError("\n".join(wrong))
    return {**fixed, "options": options}
