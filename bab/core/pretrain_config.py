"""A pretraining run's configuration: as in `bab.core.config`, from recipe, files and options.

Precedence: command line and `--set`, recipe, bab.toml, the objective's published defaults, the
defaults of `bab.core.pretrain_schema`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bab.core import registry
from bab.core.config import COMPONENTS, explained, merge, settings_layers, with_options
from bab.core.errors import ConfigError
from bab.core.pretrain_schema import PretrainConfig
from bab.core.schema import RunConfig
from bab.core.sources import Layer


def from_command_line(
    recipe: Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    observers: Sequence[str] = (),
    folder: Path | None = None,
    over: Layer | None = None,
) -> PretrainConfig:
    """The pretraining run that a command line asks for; arguments as `config.from_command_line`.

    Raises:
        ConfigError, PluginError: see `build`.
    """
    others = set(RunConfig.model_fields) - set(PretrainConfig.model_fields)
    return build(settings_layers(recipe, options, sets, folder, over, others), observers)


def build(layers: Sequence[Layer], extra_observers: Sequence[str] = ()) -> PretrainConfig:
    """Merge layers over the defaults of the objective that they name, and check every key.

    Args:
        layers: (what messages call the source, its keys), the highest precedence first.
        extra_observers: names added to the observers.

    Raises:
        ConfigError: unknown keys, wrong types, nothing named; all of them at once.
        PluginError: a named component can't be loaded.
    """
    asked = list(reversed(layers))
    stated = merge(asked, PretrainConfig).values
    unnamed = [
        key for key in ("encoder", "objective", "corpus") if "name" not in stated.get(key, {})
    ]
    if unnamed:
        lines = []
        for key in unnamed:
            known = ", ".join(registry.names(COMPONENTS[key][0]))
            lines.append(f"no {key} is named: give --{key} NAME. Known: {known}")
        raise ConfigError("\n".join(lines))
    name = stated["objective"]["name"]
    objective = registry.load("objectives", name)
    whole = merge(
        [(f"the defaults of objective '{name}'", dict(objective.defaults)), *asked], PretrainConfig
    )
    values, wrong = with_options(whole, PretrainConfig)
    standard = PretrainConfig.model_fields["observers"].default
    values["observers"] = [*values.get("observers", standard), *extra_observers]
    root = values.get("corpus", {}).get("root")
    if root and Path(root).expanduser().exists():
        values["corpus"]["root"] = str(Path(root).expanduser().resolve())
    try:
        config = PretrainConfig.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        wrong += explained(error, values, whole, "")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return config
