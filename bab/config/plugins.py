"""Plugins of one file: `--plugin ./my.py`, or `plugin` in bab.toml. Never read unless asked for.

What the file holds: each class of its own that derives from a contract of `bab` (or has methods
marked with `bab.hookimpl`) and doesn't begin with an underscore. It is called by its attribute
`name`, where the class has one; else `MyEncoder` is called my-encoder. Imports little by itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from bab.core.errors import ConfigError, PluginError
from bab.core.registry import FILES, KINDS, Entry

TOML = "bab.toml"


def use_plugin(*paths: str | Path) -> None:
    """Let components of Python files be named, here and in the processes that this one starts.

    The files are run: name none that you wouldn't run yourself.

    Raises:
        ConfigError: there is no such file, or it is no Python file.
        PluginError: it can't be imported, or holds no component.
    """
    known = [path for path in os.environ.get(FILES, "").split(os.pathsep) if path]
    for given in paths:
        path = Path(given).expanduser().resolve()
        if not path.is_file() or path.suffix != ".py":
            raise ConfigError(f"--plugin {given}: there is no such Python file")
        if os.pathsep in str(path):
            raise ConfigError(f"--plugin {given}: rename it without '{os.pathsep}'")
        read_plugin(str(path))
        known += [] if str(path) in known else [str(path)]
    os.environ[FILES] = os.pathsep.join(known)


def named_in_toml(folder: Path = Path()) -> Sequence[str]:
    """The files that bab.toml of a folder names under `plugin`: one, or a list. A bab.toml that
    can't be read names none here: the run's own configuration says what is wrong with it.

    Raises:
        ConfigError: something else than file names stands there.
    """
    import tomllib

    try:
        values = tomllib.loads((folder / TOML).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    given = values.get("plugin", [])
    files = [given] if isinstance(given, str) else given
    if not isinstance(files, list) or not all(isinstance(one, str) for one in files):
        raise ConfigError(f'{TOML}: plugin: expected "FILE.py" or ["A.py", "B.py"], not {given!r}')
    return [str(folder / one) for one in files]


def read_plugin(path: str | Path) -> tuple[Entry, ...]:
    """Import a file, under a name of its content's: its components, as `registry.entries` has them.
    The distribution is the file's name, the version its SHA-256. A file that was edited meanwhile
    is read again.

    Raises:
        PluginError: it can't be imported, or holds no component.
    """
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise PluginError(f"the plugin {path} can't be read: {error.strerror}") from error
    return _read(str(path), source)


@cache
def _read(path: str, source: bytes) -> tuple[Entry, ...]:
    digest = hashlib.sha256(source).hexdigest()
    module = _module(path, source, f"bab_plugin_{digest[:16]}")
    file = Path(path).name
    held = tuple(
        Entry(_called(cls), kind, f"{module.__name__}:{cls.__qualname__}", file, digest)
        for kind, cls in _components(module)
    )
    twice = [one.name for i, one in enumerate(held) if one[:2] in [two[:2] for two in held[:i]]]
    if not held or twice:
        why = f"two of its classes are called '{twice[0]}'" if twice else "it holds no component"
        raise PluginError(
            f"the plugin {path}: {why}. A component is a class that derives from bab.Encoder or "
            "another contract (docs/plugins.md), called by its attribute `name`"
        )
    return held


def _module(path: str, source: bytes, name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    module = module_from_spec(spec_from_loader(name, None, origin=path))  # type: ignore[arg-type]
    module.__file__ = path
    sys.modules[name] = module  # as an import does: dataclasses and pickles look it up
    try:
        with redirect_stdout(sys.stderr):
            exec(compile(source, path, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        at = _line(error, path)
        raise PluginError(
            f"the plugin {path}{at} failed to load: {type(error).__name__}: {error}"
        ) from error
    return module


def _line(error: BaseException, path: str) -> str:
    import traceback

    if isinstance(error, SyntaxError):
        return f", line {error.lineno}," if error.lineno else ""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    return f", line {lines[-1]}," if lines else ""


def _components(module: ModuleType) -> Iterator[tuple[str, Any]]:
    public: Any = import_module("bab")  # which knows where the contracts are
    for name, cls in vars(module).items():
        if not isinstance(cls, type) or cls.__module__ != module.__name__ or name.startswith("_"):
            continue
        for kind, (_, base) in KINDS.items():
            hooks = not base and any(hasattr(one, "bab_impl") for one in vars(cls).values())
            if hooks or (base and issubclass(cls, getattr(public, base))):
                yield kind, cls


def _called(cls: type) -> str:
    own = vars(cls).get("name")
    if isinstance(own, str) and own:
        return own
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()
