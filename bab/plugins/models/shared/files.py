"""Files of a model's folder: the one that is meant, and settings in TOML or YAML."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import yaml

from bab import WeightsError


@overload
def one_file(folder: Path, suffixes: Sequence[str], names: Sequence[str], what: str) -> Path: ...
@overload
def one_file(folder: Path, suffixes: Sequence[str], names: Sequence[str]) -> Path | None: ...
def one_file(
    folder: Path, suffixes: Sequence[str], names: Sequence[str], what: str = ""
) -> Path | None:
    """The file that is called by one of the names, the first before the others, in the folder or
    below it; of a checkpoint, else the only one.

    what: it must be there, and is called so in the error; "": None where it isn't.

    Raises:
        WeightsError: no folder, none there, or several of one name.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder}: there is no such folder")
    there = sorted(p for p in folder.rglob("*") if p.suffix in suffixes and p.is_file())
    for name in names:
        same = [path for path in there if path.stem == name]
        if len(same) > 1:
            raise WeightsError(f"{folder} holds several of them: {', '.join(map(str, same[:4]))}")
        if same:
            return same[0]
    if not what:
        return None
    if len(there) == 1 and suffixes[0] == ".ckpt":
        return there[0]
    wanted = " or ".join(f"{names[0]}{suffix}" for suffix in suffixes)
    listed = f"; there is {', '.join(p.name for p in there[:4])}" if there else ""
    raise WeightsError(f"{folder} holds no {wanted}, {what}{listed}")


def read_settings(path: Path) -> dict[str, Any]:
    """A mapping from TOML or YAML; segma's config.toml has been either.

    Raises:
        WeightsError: neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            try:
                return tomllib.loads(text)
            except tomllib.TOMLDecodeError:
                pass
        value = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WeightsError(f"{path} can't be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds no keys and values")
    return value
