"""What is taken where nobody says anything: options of components, keys of runs and pretraining,
arguments of public functions; and the constants that scores hang on: published sizes, thresholds,
tables. One line each, as tests/config/defaults.txt has them.

`python tests/defaults.py` writes that file: after a change that is meant, which CHANGELOG tells of.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import bab
import bab.kit
from bab.config.pretrain import PretrainConfig
from bab.config.run import RunConfig
from bab.core import registry
from bab.core.names import COMPONENTS

FILE = Path(__file__).parent / "config" / "defaults.txt"
KINDS = {kind for kind, _ in COMPONENTS.values()} | {"formats", "launchers", "observers", "models"}
# Rooms whose constants a score or a published model depends on, or what people read and write.
ROOMS = (
    "api", "audio", "auditing", "cli", "core", "data", "explaining", "exporting", "hub", "kit",
    "plugins", "pretraining", "results", "scaffold", "targets",
)  # fmt: skip
NAME = re.compile(r"_?[A-Z][A-Z0-9_]*")
TOLD = ("default", "defaults", "level", "view", "version", "min_seconds", "corpus", "head")


def lines() -> list[str]:
    """`where = value`, sorted."""
    told: dict[str, Any] = {}
    for kind in KINDS:
        for name, entry in registry.names(kind).items():
            if entry.built_in:
                cls = registry.load(kind, name)
                told |= {f"{kind} {name}: {k}": v for k, v in _of_component(cls)}
    for schema in (RunConfig, PretrainConfig):
        told |= {f"{schema.__name__}: {k}": v for k, v in _of_model(schema)}
    for home in (bab, bab.kit):
        for name in home.__all__ if home is bab else bab.KIT:
            for where, call in _calls(name, getattr(home, name)):
                told |= {f"{home.__name__}.{where}({k})": v for k, v in _of_call(call)}
    told |= dict(_constants())
    return sorted(f"{where} = {_plain(value)}" for where, value in told.items())


def _constants() -> Iterator[tuple[str, Any]]:
    """Plain values of modules and of their classes, by module and name."""
    top = Path(bab.__file__).parent
    for path in sorted(path for room in ROOMS for path in (top / room).rglob("*.py")):
        if path.stem == "__main__":  # which is a command
            continue
        name = ".".join(("bab", *path.relative_to(top).with_suffix("").parts))
        module = importlib.import_module(name.removesuffix(".__init__"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", 0)]
            for key in (t.id for t in targets if isinstance(t, ast.Name) and NAME.match(t.id)):
                if _simple(value := getattr(module, key, None)) and re.search(r"\d", repr(value)):
                    yield f"{name}: {key}", value


def _simple(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_simple, (*value.keys(), *value.values())))
    if isinstance(value, (tuple, list)):
        return all(map(_simple, value))
    return value is not None and isinstance(value, (bool, int, float, str))


def _of_component(cls: Any) -> Iterator[tuple[str, Any]]:
    for name in TOLD:
        if isinstance(value := getattr(cls, name, None), Mapping):
            yield from ((f"{name}.{key}", below) for key, below in value.items())
        elif value is not None and not callable(value) and not isinstance(value, property):
            yield name, value
    if issubclass(getattr(cls, "Options", object), BaseModel):
        yield from ((f"options.{key}", value) for key, value in _of_model(cls.Options))


def _of_model(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for key, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield from ((f"{key}.{below}", v) for below, v in _of_model(type(value)))
        elif value is not PydanticUndefined:
            yield key, value


def _calls(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    if inspect.isclass(thing):
        if not issubclass(thing, BaseModel):
            yield name, thing.__init__
        public = {k: v for k, v in vars(thing).items() if not k.startswith("_")}
        yield from ((f"{name}.{k}", v) for k, v in public.items() if inspect.isfunction(v))
    elif inspect.isfunction(thing):
        yield name, thing


def _of_call(call: Any) -> Iterator[tuple[str, Any]]:
    for key, parameter in inspect.signature(call).parameters.items():
        if isinstance(parameter.default, (bool, int, float, str, tuple)):
            yield key, parameter.default


def _plain(value: Any) -> str:
    return value.__name__ if inspect.isclass(value) else repr(value)


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
