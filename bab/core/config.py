"""A run's configuration: sources merged, every key checked, mistakes traced to where they stand.

Precedence: command line and `--set`, recipe, bab.toml, the task's defaults for the mode, the
defaults of `bab.core.schema`. Import this module only when something is to be built: it imports
pydantic and yaml.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bab.core import registry
from bab.core.errors import ConfigError, PluginError, did_you_mean
from bab.core.schema import (
    CacheConfig,
    ComponentConfig,
    CorpusConfig,
    EncoderConfig,
    RunConfig,
    TrainConfig,
    ViewConfig,
)
from bab.core.sources import Layer, assignment, merged, read

__all__ = [
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
    "spelling",
]

# Section -> the registry's kind, and what may follow the colon in its spelling.
COMPONENTS: Mapping[str, tuple[str, str]] = {
    "encoder": ("encoders", "weights"),
    "task": ("tasks", ""),
    "corpus": ("datasets", "root"),
    "head": ("heads", ""),
    "objective": ("objectives", ""),
}


# ------------------------------------------------------------------------------- reading a layer


def spelling(section: str, text: str) -> dict[str, Any]:
    """`hubert:base` -> {"name": "hubert", "weights": "base"}; `rttm:/data` has a `root`.

    Raises:
        ConfigError: nothing before the colon, or a colon where none belongs.
    """
    name, colon, rest = text.strip().partition(":")
    after = COMPONENTS[section][1]
    if not name or (colon and not rest) or (colon and not after):
        form = f"NAME or NAME:{after.upper()}" if after else "NAME"
        raise ConfigError(f"{section} '{text}' is not spelled {form}")
    return {"name": name, after: rest} if colon else {"name": name}


def _section(section: str, value: Any) -> dict[str, Any]:
    """One component as its keys, side by side: name, weights or root, and options."""
    if isinstance(value, str):
        return spelling(section, value)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{section}: expected a name or a mapping, found {value!r:.60}")
    keys = {str(key): item for key, item in value.items()}
    inner = keys.pop("options", None)
    if inner is not None and not isinstance(inner, Mapping):
        raise ConfigError(f"{section}.options: expected a mapping, found {inner!r:.60}")
    keys = {**(inner or {}), **keys}
    if "name" in keys:
        if not isinstance(keys["name"], str):
            raise ConfigError(f"{section}.name: expected a name, found {keys['name']!r:.60}")
        keys = {**spelling(section, keys["name"]), **{k: v for k, v in keys.items() if k != "name"}}
    return keys


def _models(schema: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel] | None]]:
    """Each key of a run, dotted, components as their section: (path, model where it nests)."""
    for name, field in schema.model_fields.items():
        kind = field.annotation
        if name in COMPONENTS or not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            yield name, None
            continue
        yield name, kind
        yield from ((f"{name}.{key}", None) for key in kind.model_fields)


def _canonical(
    source: str, values: Mapping[str, Any], schema: type[BaseModel]
) -> tuple[dict[str, Any], list[str]]:
    """A layer with components spelled out, and what is wrong with its keys."""
    known = dict(_models(schema))
    clean: dict[str, Any] = {}
    wrong: list[str] = []
    for key, value in values.items():
        if key not in known:
            wrong.append(_unknown(str(key), source, known))
        elif value is None and (key in COMPONENTS or known[key]):
            continue  # an empty section says nothing
        elif key in COMPONENTS:
            try:
                clean[key] = _section(key, value)
            except ConfigError as error:
                wrong.append(f"{error} (from {source})")
        elif known[key] and not isinstance(value, Mapping):
            wrong.append(f"{key}: expected keys and values, found {value!r:.60} (from {source})")
        else:
            clean[key] = value
            if known[key]:
                paths = [f"{key}.{inner}" for inner in value]
                wrong += [_unknown(path, source, known) for path in paths if path not in known]
    return clean, wrong


def _unknown(path: str, source: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The message for a key that isn't there: one of the same name elsewhere, or a near sibling."""
    parent, dot, leaf = path.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    near = [f"{parent}{dot}{name}" for name in get_close_matches(leaf, siblings)]
    near = [key for key in known if key.rpartition(".")[2] == leaf] or near
    hint = f"did you mean '{near[0]}'?" if near else did_you_mean(path, known)
    return f"unknown key '{path}' (from {source}): {hint}"


# ------------------------------------------------------------------------------- merging


class Merge:
    """Layers laid over one another, lowest first; `where` remembers each key's source."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.where: dict[str, str] = {}

    def add(self, source: str, layer: Mapping[str, Any]) -> None:
        for section, (_, after) in COMPONENTS.items():
            new, old = layer.get(section, {}), self.values.get(section, {})
            if "name" not in new:
                continue
            if old.get("name", new["name"]) != new["name"]:
                self.values.pop(section)  # another component: the options below were not its own
            elif after and after in old:
                # Naming a component names its weights or root: `rttm` alone is the sample.
                self.values[section] = {k: v for k, v in old.items() if k != after}
        self.values = merged(self.values, layer)
        self.where.update(dict.fromkeys(_leaves(layer), source))

    def source(self, path: str) -> str:
        """Where the key, or the nearest one above or below it, was given; "" for a default."""
        parts = path.split(".")
        for size in range(len(parts), 0, -1):
            near = ".".join(parts[:size])
            if near in self.where:
                return self.where[near]
        below = [source for key, source in self.where.items() if key.startswith(path + ".")]
        return below[0] if below else ""


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path + ".")
        else:
            yield path


def merge(layers: Sequence[Layer], schema: type[BaseModel] = RunConfig) -> Merge:
    """The layers, lowest first, laid over one another.

    Raises:
        ConfigError: every unknown or misplaced key of all layers.
    """
    whole, wrong = Merge(), []
    for source, values in layers:
        clean, faults = _canonical(source, values, schema)
        whole.add(source, clean)
        wrong += faults
    if wrong:
        raise ConfigError("\n".join(wrong))
    return whole


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
    for section, (kind, after) in COMPONENTS.items():
        if section not in schema.model_fields:
            continue
        keys = dict(values.get(section, {}))
        if "name" not in keys:
            wrong.append(f"no {section} is named, and the task has no default: give --{section}")
            continue
        fixed = {key: keys.pop(key) for key in ("name", after) if key in keys}
        found = _load(kind, fixed["name"], merge.source(f"{section}.name"))
        if section == "encoder":
            fixed["weights"] = fixed.get("weights") or found.default
        options, faults = _options(found.Options, keys, merge, section)
        wrong += faults
        values[section] = {**fixed, "options": options}
    return values, wrong


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
    root = values.get("corpus", {}).get("root")
    if root and Path(root).expanduser().exists():
        # The same folder from another working directory is the same corpus.
        values["corpus"]["root"] = str(Path(root).expanduser().resolve())


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
            lines.append(_unknown(path, merge.source(path) or "defaults", known))
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
        over: keys that go before the recipe's, and after the command line's.

    Raises:
        ConfigError, PluginError: see `build`.
    """
    return build(settings_layers(recipe, options, sets, folder, over), observers)


def settings_layers(
    recipe: Path | None,
    options: Mapping[str, Any] | None,
    sets: Sequence[str],
    folder: Path | None,
    over: Layer | None,
) -> list[Layer]:
    """What `--set`, options, recipe and bab.toml say, the highest precedence first."""
    layers: list[Layer] = [(f"--set {text}", assignment(text)) for text in reversed(sets)]
    for key, value in (options or {}).items():
        if value is not None:
            layers.append((f"--{key.replace('_', '-')}", {key: value}))
    if over is not None:
        layers.append(over)
    if recipe is not None:
        name, values = read(recipe)
        layers.append((name, {k: v for k, v in values.items() if k != "kind"}))
    settings = (folder or Path()) / "bab.toml"
    if settings.is_file():
        layers.append(read(settings))
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
