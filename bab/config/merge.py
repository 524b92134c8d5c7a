"""A run's keys laid over one another: components spelled out, unknown keys named, sources kept.

The first half of `bab.config.resolve`, which fills in defaults and checks values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from bab.config.files import Settings, merged
from bab.config.run import RunConfig
from bab.core.errors import ConfigError, did_you_mean
from bab.core.names import COMPONENTS, spelling


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
    where = COMPONENTS[section][1]  # weights or root
    if where and not isinstance(keys.get(where, ""), str | None):
        raise ConfigError(f"{section}.{where}: expected text, found {keys[where]!r:.60}: quote it")
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
    """A source's keys with components spelled out, and what is wrong with its keys."""
    known = dict(_models(schema))
    clean: dict[str, Any] = {}
    wrong: list[str] = []
    for key, value in values.items():
        if key not in known:
            wrong.append(unknown(str(key), source, known))
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
                wrong += [unknown(path, source, known) for path in paths if path not in known]
    return clean, wrong


# Keys that were there once, and what is to be done about them.
_RETIRED = {
    "hear": "it is called `use` now: use=train, or use=all",
    "bootstrap": "nothing is drawn any more for the intervals (docs/intervals.md): leave it out",
}


def unknown(path: str, source: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The message for a key that isn't there: one of the same name elsewhere, or a near sibling."""
    if path in _RETIRED:
        return f"unknown key '{path}' (from {source}): {_RETIRED[path]}"
    parent, dot, leaf = path.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    near = [f"{parent}{dot}{name}" for name in get_close_matches(leaf, siblings)]
    near = [key for key in known if key.rpartition(".")[2] == leaf] or near
    hint = f"did you mean '{near[0]}'?" if near else did_you_mean(path, known)
    return f"unknown key '{path}' (from {source}): {hint}"


class Merge:
    """Settings laid over one another, lowest first; `where` remembers each key's source."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.where: dict[str, str] = {}

    def add(self, source: str, keys: Mapping[str, Any]) -> None:
        """Lay a source's keys over those before it."""
        for section, (_, after) in COMPONENTS.items():
            new, old = keys.get(section, {}), self.values.get(section, {})
            if "name" not in new:
                continue
            if old.get("name", new["name"]) != new["name"]:
                self.values.pop(section)  # another component: the options below were not its own
            elif after and after in old:
                # Naming a component names its weights or root: `rttm` alone is the sample.
                self.values[section] = {k: v for k, v in old.items() if k != after}
        self.values = merged(self.values, keys)
        self.where.update(dict.fromkeys(_leaves(keys), source))

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


def merge(settings: Sequence[Settings], schema: type[BaseModel] = RunConfig) -> Merge:
    """Settings, the lowest first, laid over one another.

    Raises:
        ConfigError: every unknown or misplaced key of all of them.
    """
    whole, wrong = Merge(), []
    for source, values in settings:
        clean, faults = _canonical(source, values, schema)
        whole.add(source, clean)
        wrong += faults
    if wrong:
        raise ConfigError("\n".join(wrong))
    return whole
