"""Where a run's keys come from: recipe (YAML), bab.toml, `--set`. Text -> plain nested values.

YAML is read by its 1.2 core rules, not PyYAML's 1.1: `1e-3` is a number, and `no`, `on`, `1:30`,
`010` and `2020-01-01` are not turned into something that nobody wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from bab.core.errors import ConfigError

_DEPTH, _MANY = 50, 200_000
_NESTED = f"nested over {_DEPTH} deep, or in itself"
Settings = tuple[str, dict[str, Any]]  # what messages call the source, and its keys
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)")
_RESOLVERS = {
    "tag:yaml.org,2002:null": (re.compile(r"(?:~|null|Null|NULL|)$"), "~nN"),
    "tag:yaml.org,2002:bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "tag:yaml.org,2002:int": (re.compile(r"[-+]?[0-9]+$"), "-+0123456789"),
    "tag:yaml.org,2002:float": (re.compile(rf"(?:{_FLOAT.pattern})$"), "-+.0123456789"),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own way)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key '{key.value}' stands twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, (_pattern, _first) in _RESOLVERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, [*_first, *([""] if "null" in _tag else [])])
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def read(path: Path) -> Settings:
    """A recipe (.yaml, .yml) or a bab.toml: its name and its keys.

    Raises:
        ConfigError: it isn't there, doesn't parse (with the line), or isn't a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file. A recipe is a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read as text: {error}") from error
    values = _parsed(text, _toml if path.suffix == ".toml" else _yaml, str(path))
    if values is None:
        return str(path), {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, found {values!r:.60}")
    return str(path), values


def _toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def _parsed(text: str, parse: Callable[[str], Any], source: str) -> Any:
    """What a text says, as plain values.

    Raises:
        ConfigError: it doesn't parse, or is nested as nothing is that a person wrote.
    """
    try:
        value = parse(text)
        _refuse_nested(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: {_reason(error)}") from None
    except RecursionError:
        raise ConfigError(f"{source}: {_NESTED}") from None
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        # PyYAML's own, where a tag is put on what it can't be: `!!bool maybe`.
        raise ConfigError(f"{source}: a value that isn't of its tag's type ({error})") from None
    return value


def _refuse_nested(value: Any) -> None:
    """Raises ValueError: anchors that hold themselves, or each other by the million."""
    todo, count = [(value, 0)], 0
    while todo:
        item, depth = todo.pop()
        count += 1
        if depth > _DEPTH or count > _MANY:
            raise ValueError(_NESTED)
        if isinstance(item, (dict, list)):
            inner = item.values() if isinstance(item, dict) else item
            todo += [(one, depth + 1) for one in inner]


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = getattr(error, "problem", None) or "not valid YAML"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def assignment(text: str) -> dict[str, Any]:
    """`train.lr=1e-3` -> {"train": {"lr": 0.001}}. Lists and mappings in YAML's short form work.

    Raises:
        ConfigError: there is no `=`, no key, or the value doesn't parse.
    """
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"--set {text}: expected KEY=VALUE, for example --set train.steps=300 "
            "(`bab info run` shows the keys)"
        )
    nested: Any = _parsed(value.strip(), _value, f"--set {text:.200}")
    if len(parts) > _DEPTH:
        raise ConfigError(f"--set {text:.200}: {_NESTED}")
    for part in reversed(parts):
        nested = {part: nested}
    return dict(nested)


def _value(value: str) -> Any:
    # Only [lists], {mappings} and "quotes" are YAML syntax; anything else is one plain scalar,
    # so that a path or a label with a colon or a hash in it stays as it was typed.
    if not value or value[0] not in "[{\"'":
        loader: Any = _Loader("")  # PyYAML's stubs leave these methods untyped
        tag = loader.resolve(yaml.ScalarNode, value, (True, False))
        return loader.construct_object(yaml.ScalarNode(tag, value))
    return _yaml(value)


def spelled_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"train.steps": 20}` -> {"train": {"steps": 20}}: keys may be written as for --set. Beside
    `corpus.format`, the text of `corpus` is its name."""
    above = {str(key).partition(".")[0] for key in values if "." in str(key)}
    result: dict[str, Any] = {}
    for key, value in values.items():
        nested: Any = {"name": value} if key in above and isinstance(value, str) else value
        for part in reversed(str(key).split(".")):
            nested = {part: nested}
        result = merged(result, nested)
    return result


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`: mappings are merged key by key, anything else is replaced."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
