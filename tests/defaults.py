"""What is taken where nobody says anything: options of components, and what values they take, plain
facts that components state of themselves, keys of runs and pretraining, arguments of functions; and
constants of modules: published sizes, thresholds, tables, names. One line each, as
tests/config/defaults.txt has them.

`python tests/defaults.py` writes that file: after a change that is meant, which CHANGELOG tells of.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
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
    for path, module in _modules():
        told |= {f"{module.__name__}: {k}": v for k, v in _constants(path, module)}
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", "") == module.__name__:
                for where, call in _calls(name, thing):
                    told |= {f"{module.__name__}.{where}({k})": v for k, v in _of_call(call)}
                if inspect.isclass(thing) and is_dataclass(thing):
                    kept = {k: getattr(thing.__dataclass_params__, k) for k in ("frozen", "order")}
                    slots = {"slots": "__slots__" in vars(thing)}
                    told[f"{module.__name__}.{name} is"] = kept | slots
    return sorted(f"{where} = {_plain(value)}" for where, value in told.items())


def _modules() -> Iterator[tuple[Path, ModuleType]]:
    top = Path(bab.__file__).parent
    for path in sorted(top.glob("*/**/*.py")):
        if path.stem != "__main__":  # which is a command
            name = ".".join(("bab", *path.relative_to(top).with_suffix("").parts))
            yield path, importlib.import_module(name.removesuffix(".__init__"))


def _constants(path: Path, module: ModuleType) -> Iterator[tuple[str, Any]]:
    """A module's plain values, by name; no texts of several lines without a number."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", 0)]
        for key in (t.id for t in targets if isinstance(t, ast.Name) and NAME.match(t.id)):
            value = getattr(module, key, None)
            value = (value.pattern, value.flags) if isinstance(value, re.Pattern) else value
            if _simple(value) and not re.fullmatch(r"\D*\\n\D*", repr(value)):
                yield key, value


def _simple(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_simple, (*value.keys(), *value.values())))
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(map(_simple, value))
    return value is not None and isinstance(value, (bool, int, float, str, bytes))


def _of_component(cls: Any) -> Iterator[tuple[str, Any]]:
    ours = (base for base in cls.__mro__ if base.__module__.startswith("bab."))
    facts = {name for base in ours for name in vars(base) if not name.startswith("_")}
    for name in sorted(facts | set(TOLD)):
        value = getattr(cls, name, None)
        if name in TOLD and isinstance(value, Mapping):
            yield from ((f"{name}.{key}", below) for key, below in value.items())
        elif _fact(value) or (name in TOLD and not (value is None or callable(value))):
            yield name, value
    if issubclass(getattr(cls, "Options", object), BaseModel):
        yield from ((f"options.{key}", value) for key, value in _of_model(cls.Options))


def _fact(value: Any) -> bool:
    """A plain value that isn't words for people."""
    return _simple(value) and not (isinstance(value, str) and " " in value)


def _of_model(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Defaults; and what values are taken, where not all of a type are."""
    told = model.model_json_schema()["properties"]
    for key, field in model.model_fields.items():
        taken = {k: v for k, v in told[key].items() if k not in ("title", "description", "default")}
        if not {*taken} <= {"type", "$ref"}:
            yield f"{key} takes", taken
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield from ((f"{key}.{below}", v) for below, v in _of_model(type(value)))
        elif value is not PydanticUndefined:
            yield key, value


def _calls(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    if inspect.isclass(thing):
        if "__init__" in vars(thing) and not issubclass(thing, BaseModel):
            yield name, thing.__init__
        held = {k: getattr(v, "__func__", v) for k, v in vars(thing).items() if k != "__init__"}
        yield from ((f"{name}.{k}", v) for k, v in held.items() if inspect.isfunction(v))
    elif inspect.isfunction(thing):
        yield name, thing


def _of_call(call: Any) -> Iterator[tuple[str, Any]]:
    for key, parameter in inspect.signature(call).parameters.items():
        if isinstance(parameter.default, (bool, int, float, str, tuple)):
            yield key, parameter.default


def _plain(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        return repr(sorted(value))
    return value.__name__ if inspect.isclass(value) else repr(value)


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
