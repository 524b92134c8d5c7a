"""What a bench is asked for: a grid file and what goes before it, checked before any run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bab.benching.grid import Cell, RunGrid, parse_cell
from bab.config.files import assignment, read, spelled_out
from bab.config.merge import merge
from bab.core import registry
from bab.core.errors import BabError, ConfigError, did_you_mean
from bab.core.names import members

_KEYS = ("encoders", "tasks", "seeds", "lr", "set", "jobs", "runs")
_RESERVED = {"seed", "runs", "observers", "quiet"}  # what the grid decides for every run


def asked_grid(
    path: Path | None, given: Mapping[str, Any], sets: Sequence[str], force: bool
) -> tuple[RunGrid, int]:
    """The grid and the number of workers, from the file and, before it, the command line.

    Raises:
        ConfigError: an unknown or malformed key, of the grid or of its runs, or nothing to do. It
            names the file, where the value stands there.
    """

    values: dict[str, Any] = {}
    read_from = "" if path is None else f"{path}: "
    key_of = {key: key if key in given else f"{read_from}{key}" for key in _KEYS}
    if path is not None:
        values = dict(read(path)[1])
        for key in values:
            if key not in _KEYS:
                raise ConfigError(f"{path}: unknown key '{key}': {did_you_mean(str(key), _KEYS)}")
    values |= given
    for key in ("encoders", "tasks"):
        if not values.get(key):
            raise ConfigError(
                f"{read_from}no {key} are named: give --{key}, or a file with `{key}`"
            )
    keys = values.get("set") or {}
    if not isinstance(keys, dict):
        raise ConfigError(f"{key_of['set']}: expected keys and values, found {keys!r:.60}")
    keys = spelled_out(keys)
    _refuse_reserved(keys, sets, bool(values.get("lr")))
    encoders, tasks = (_list(key_of[key], values[key]) for key in ("encoders", "tasks"))
    try:
        cells = [cell_of(encoder, task) for encoder in encoders for task in tasks]
    except BabError as error:
        if not read_from or "encoders" in given or "tasks" in given:
            raise
        raise type(error)(f"{read_from}{error}") from error
    of_all = [(key_of["set"], keys), *((f"--set {text}", assignment(text)) for text in sets)]
    merge([*of_all, *((f"{read_from}{cell.label}", dict(cell.keys)) for cell in cells)])
    rates = tuple(_numbers(key_of["lr"], values.get("lr", []), float))
    seeds = tuple(_numbers(key_of["seeds"], values.get("seeds", [0]), int))
    jobs = _number(key_of["jobs"], values.get("jobs", 1), int)
    wrong = [("lr", rate, "more than 0") for rate in rates if not rate > 0]
    wrong += [("seeds", seed, "0 or more") for seed in seeds if seed < 0]
    wrong += [("jobs", jobs, "more than 0")] if jobs < 1 else []
    for key, value, allowed in wrong:
        raise ConfigError(f"{key_of[key]}: {value} is not {allowed}")
    unique = list({repr(cell): cell for cell in cells}.values())
    runs = str(Path(str(values.get("runs", "runs"))).expanduser())
    return (
        RunGrid(
            tuple(unique),
            tuple(dict.fromkeys(seeds)),
            tuple(sorted(set(rates))),
            keys,
            tuple(sets),
            runs,
            force,
        ),
        jobs,
    )


def _list(key: str, value: Any) -> list[Any]:
    """`a,b` or a list.

    Raises:
        ConfigError: an empty element.
    """
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    parts = parts if isinstance(parts, list) else [parts]
    if any(part in ("", None) for part in parts):
        raise ConfigError(f"{key}: an empty name in '{value}'")
    return parts


def _numbers(key: str, value: Any, kind: type) -> list[Any]:
    return [_number(key, one, kind) for one in _list(key, value)]


def _number(key: str, value: Any, kind: type) -> Any:
    what = "a whole number" if kind is int else "a number"
    try:
        number = kind(value) if isinstance(value, (str, int, float)) else None
        if number is None or number != float(value):
            raise ValueError
    except (ValueError, OverflowError):
        raise ConfigError(f"{key}: {value!r} is not {what}") from None
    return number


def _refuse_reserved(keys: Mapping[str, Any], sets: Sequence[str], rated: bool) -> None:
    """Refuse keys of all runs that the grid itself decides.

    Raises:
        ConfigError: naming the key, and the option in its place.
    """
    instead = {"seed": "--seeds", "runs": "--runs", "observers": "", "quiet": "--quiet"}
    instead |= {"task": "--tasks", "encoder": "--encoders"}
    if rated:
        instead["train.lr"] = "--lr"
    given = [text.partition("=")[0].strip() for text in sets]
    given += [k for k, v in keys.items() if k in _RESERVED or isinstance(v, str)]
    if isinstance(keys.get("train"), dict):
        given += [f"train.{key}" for key in keys["train"]]
    for key in given:
        if key in instead:
            way = f": use {instead[key]}" if instead[key] else " for a bench"
            raise ConfigError(f"{key} can't be set for all runs{way}")


def cell_of(encoder: Any, task: Any) -> Cell:
    """Raises ConfigError for a name that nothing offers; both are checked before anything runs."""
    keys = spelled_out(task) if isinstance(task, dict) else {}
    text = keys.pop("task", None) if isinstance(task, dict) else task
    if isinstance(text, dict):  # with options of its own: {name: classify, labels: [reason]}
        keys["task"] = {k: v for k, v in text.items() if k != "name"}
        text = text.get("name")
    if not isinstance(text, str) or not isinstance(encoder, str):
        wrong = encoder if isinstance(text, str) else task
        raise ConfigError(f"expected a name, or a mapping with `task`, found {wrong!r:.60}")
    name, corpus = parse_cell(text)
    own = keys.get("corpus")
    if corpus is None and isinstance(own, str):
        corpus = keys.pop("corpus")
    elif corpus is None and isinstance(own, dict) and isinstance(own.get("name"), str):
        corpus = own["name"]
        keys["corpus"] = {k: v for k, v in own.items() if k != "name"}
    if "set" in keys:
        raise ConfigError(
            f"{text}: `set` is for all cells; a cell's own keys stand beside `task`, as in "
            "{task: asr, train: {steps: 2000}}"
        )
    if odd := set(keys) & _RESERVED:
        raise ConfigError(f"{text}: {sorted(odd)[0]} can't be given for one cell")
    if isinstance(keys.get("encoder", {}), str):
        raise ConfigError(f"{text}: encoder: options alone may be given for one cell")
    registry.find("tasks", name)
    for member in members(encoder):
        registry.find("encoders", member.name)
    if corpus is not None:
        registry.find("datasets", corpus.partition(":")[0])
    return Cell(encoder, name, corpus, keys)
