"""A run's configuration: sources merged, every key checked, mistakes traced to where they stand.

Precedence: command line and `--set`, recipe, bab.toml, the task's defaults for the mode, the
defaults of `bab.core.schema`. Import this module only when something is to be built: it imports
pydantic and yaml.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bab.core import members, registry
from bab.core.errors import ConfigError, PluginError, did_you_mean
from bab.core.layers import COMPONENTS, Merge, merge, spelling, unknown
from bab.core.pretrain_schema import PretrainConfig
from bab.core.schema import (
    CacheConfig,
    ComponentConfig,
    CorpusConfig,
    EncoderConfig,
    RunConfig,
    TrainConfig,
    ViewConfig,
)
from bab.core.sources import Layer, assignment, read

__all__ = [
    "COMPONENTS",
    "CacheConfig",
    "ComponentConfig",
    "CorpusConfig",
    "EncoderConfig",
    "RunConfig",
    "TrainConfig",
    "ViewConfig",
    "build",
    "component",
    "from_command_line",
    "merge",
    "spelling",
]

# ------------------------------------------------------------------------------- building


def build(layers: Sequence[Layer], extra_observers: Sequence[str] = ()) -> RunConfig:
    """Merge layers over the defaults of the task that they name, and check every key.

    Args:
        layers: (what messages call the source, its keys), the highest precedence first.
        extra_observers: names added to the observers.

    Raises:
        ConfigError: unknown keys, wrong types, nothing named; all of them at once, each with its
            dotted path and its source.
        PluginError: a named component can't be loaded.
    """
    asked = list(reversed(layers))
    stated = merge(asked).values
    unnamed = [key for key in ("encoder", "task") if "name" not in stated.get(key, {})]
    if unnamed:
        known = {key: ", ".join(registry.names(COMPONENTS[key][0])) for key in unnamed}
        raise ConfigError(
            "\n".join(
                f"no {key} is named: give --{key} NAME. Known: {names}"
                for key, names in known.items()
            )
        )
    task = registry.load("tasks", stated["task"]["name"])
    whole = merge([*_task_layers(task, stated), *asked])
    values, wrong = with_options(whole)
    _settle(values, stated)
    values["observers"] = [*values.get("observers", _default_observers()), *extra_observers]
    try:
        config = RunConfig.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        wrong += explained(error, values, whole, "")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return config


def _default_observers() -> tuple[str, ...]:
    return tuple(RunConfig.model_fields["observers"].default)


def _task_layers(task: Any, stated: Mapping[str, Any]) -> list[Layer]:
    """The components and the view that the task names, and its defaults for the mode."""
    name = f"the defaults of task '{stated['task']['name']}'"
    mode = str(stated.get("mode", RunConfig.model_fields["mode"].default))
    named = {key: getattr(task, key) for key in ("corpus", "head", "objective")}
    view = {key: getattr(task.view, key) for key in ViewConfig.model_fields}
    first = {key: value for key, value in named.items() if value} | {"view": view}
    return [(name, first), (f"{name} in mode {mode}", dict(task.defaults.get(mode, {})))]


def with_options(
    merge: Merge, schema: type[BaseModel] = RunConfig
) -> tuple[dict[str, Any], list[str]]:
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
        if section == "encoder" and len(members.split(keys["name"])) > 1:
            values[section], faults = _ensemble(keys, merge, level)
            wrong += faults
            continue
        fixed = {key: keys.pop(key) for key in ("name", after) if key in keys}
        found = _load(kind, fixed["name"], merge.source(f"{section}.name"))
        if section == "encoder":
            fixed["weights"] = fixed.get("weights") or found.default
            keys = {**found.defaults.get(level, {}), **keys}
        options, faults = _options(found.Options, keys, merge, section)
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
    fusion = keys.pop("fusion", members.FUSIONS[0])
    if fusion not in members.FUSIONS:
        wrong.append(
            f"encoder.fusion: {fusion!r:.60} is not valid: "
            + did_you_mean(str(fusion), members.FUSIONS)
        )
    options: dict[str, Any] = {"fusion": fusion}
    for spec in members.split(keys.pop("name")):
        name, _, weights = spec.partition(":")
        found = _load("encoders", name, merge.source("encoder.name"))
        weights = weights or found.default
        specs.append(f"{name}:{weights}" if weights else name)
        if name not in options:
            own = keys.pop(name, {})
            if not isinstance(own, Mapping):
                wrong.append(f"encoder.{name}: expected keys and values, found {own!r:.60}")
                own = {}
            own = {**found.defaults.get(level, {}), **own}
            options[name], faults = _options(found.Options, own, merge, f"encoder.{name}")
            wrong += faults
    known = [f"encoder.{name}" for name in options]
    wrong += [unknown(f"encoder.{key}", merge.source(f"encoder.{key}"), known) for key in keys]
    return {"name": "+".join(specs), "options": options}, wrong


def _load(kind: str, name: str, source: str) -> Any:
    try:
        return registry.load(kind, name)
    except PluginError as error:
        raise PluginError(f"{error}" + (f" (named by {source})" if source else "")) from error


def _options(
    model: type[BaseModel], given: Mapping[str, Any], merge: Merge, section: str
) -> tuple[dict[str, Any], list[str]]:
    # Through JSON, so that a list may stand for a tuple while "5" may not stand for 5.
    try:
        text = json.dumps(given, default=str)
        return model.model_validate_json(text, strict=True).model_dump(mode="json"), []
    except ValidationError as error:
        known = [f"{section}.{key}" for key in model.model_fields]
        return {}, explained(error, given, merge, section + ".", known)


def _settle(values: dict[str, Any], stated: Mapping[str, Any]) -> None:
    """Defaults that depend on other values."""
    random = str(values.get("encoder", {}).get("weights", "")).startswith("random")
    if random and values.get("mode") == "finetune" and "freeze" not in stated:
        values["freeze"] = "none"  # untrained convolutions are not worth keeping
    for section in ("corpus", "test_corpus"):
        root = values.get(section, {}).get("root")
        if root and Path(root).expanduser().exists():
            # The same folder from another working directory is the same corpus.
            values[section]["root"] = str(Path(root).expanduser().resolve())


def explained(
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


# ------------------------------------------------------------------------------- entrances


def from_command_line(
    recipe: Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    observers: Sequence[str] = (),
    folder: Path | None = None,
    over: Layer | None = None,
) -> RunConfig:
    """The run that a command line asks for.

    Args:
        recipe: a YAML file, or None.
        options: keys given by options of their own (`{"encoder": "hubert:base"}`); None = absent.
        sets: texts of `--set KEY=VALUE`; the last of two wins.
        observers: names added to the observers.
        folder: where bab.toml may be; default: the current directory.
        over: keys that go before all others (`--smoke`).

    Raises:
        ConfigError, PluginError: see `build`.
    """
    others = set(PretrainConfig.model_fields) - set(RunConfig.model_fields)
    return build(settings_layers(recipe, options, sets, folder, over, others), observers)


def settings_layers(
    recipe: Path | None,
    options: Mapping[str, Any] | None,
    sets: Sequence[str],
    folder: Path | None,
    over: Layer | None,
    others: Collection[str],
) -> list[Layer]:
    """What `--set`, options, recipe and bab.toml say, the highest precedence first."""
    layers: list[Layer] = [] if over is None else [over]
    layers += [(f"--set {text}", assignment(text)) for text in reversed(sets)]
    for key, value in (options or {}).items():
        if value is not None:
            layers.append((f"--{key.replace('_', '-')}", {key: value}))
    if recipe is not None:
        name, values = read(recipe)
        layers.append((name, {k: v for k, v in values.items() if k != "kind"}))
    settings = (folder or Path()) / "bab.toml"
    if settings.is_file():
        name, values = read(settings)
        # One bab.toml serves runs and pretraining: what only the other has is not its concern.
        layers.append((name, {k: v for k, v in values.items() if k not in others}))
    return layers


def component(section: str, spec: str, sets: Sequence[str] = ()) -> tuple[Any, dict[str, Any], Any]:
    """One component outside a run: (its class, its keys, its checked options).

    section: a key of `COMPONENTS`; spec: NAME, NAME:WEIGHTS or NAME:ROOT; sets: as `--set`.

    Raises:
        ConfigError, PluginError: as for `build`.
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
    found = registry.load(COMPONENTS[section][0], keys["name"])
    fixed = {key: keys.pop(key) for key in ("name", COMPONENTS[section][1]) if key in keys}
    options, wrong = _options(found.Options, keys, whole, section)
    if wrong:
        raise ConfigError("\n".join(wrong))
    return found, fixed, found.Options(**options)
