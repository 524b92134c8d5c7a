"""Records on disk: written, read, and gathered from a folder of runs."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bab.core.atomic import StrPath, finite, write_text
from bab.core.errors import BabError
from bab.core.record import Record
from bab.results.jackknife import MARKED

if TYPE_CHECKING:
    from pydantic import TypeAdapter


RECORD = "record.json"
PRETRAINED = "pretrain.json"  # the result of a pretraining run, which stands in no table
LOCK = ".lock"  # a run's folder has one from its first moment
FORMAT = 2
_WORD = 40  # letters of what stands beside others on a line
_OLD = 1  # the format of a bootstrap's resamples, which nothing is compared by any more
_SCALES = ("share", "percent", "rate", "plain")  # `bab.results.jackknife`
# Options that came after format 1, by task: what a record of that format ran with.
_LATER: Mapping[str, Mapping[str, str]] = {"vtc": {"convention": "bab"}}
_NUMBERS = (
    "metrics",
    "dev",
    "cost",
    "groups",
    "subgroups",
    "intervals",
    "presets",
    "jackknife",
    "confusion",
)


class Skipped(NamedTuple):
    """A run that is in no table, and why."""

    path: str
    reason: str


def save(record: Record, folder: StrPath) -> Path:
    """Write `record.json` into `folder`, atomically; numbers that aren't finite become null."""
    path = Path(folder) / RECORD
    plain = finite(dataclasses.asdict(record))
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, _LIST.sub(_joined, text) + "\n")
    return path


# A list of numbers or words as `json` indents it: in a text of JSON a line ends nowhere else.
_LIST = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s+\]")


def _joined(match: re.Match[str]) -> str:
    """The same list on one line, unless it holds sentences."""
    parts = re.split(r"\n\s+", match[1])
    return f"[{' '.join(parts)}]" if max(map(len, parts)) <= _WORD else match[0]


@cache
def _reader() -> TypeAdapter[Record]:
    """Made once: working out the record's fields takes longer than reading one."""
    from pydantic import TypeAdapter

    return TypeAdapter(Record)


def load(path: StrPath, brief: bool = False) -> Record:
    """Read a record: the file, or the run's folder. brief: only what a table of many shows.

    Raises:
        BabError: naming the file, where it can't be read, is of another format, or has fields
            that are unknown, missing or of a wrong type.
    """
    file = Path(path)
    file = file / RECORD if file.is_dir() else file
    try:
        values = _parsed(file.read_bytes())
    except OSError as error:
        raise BabError(f"{file}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise BabError(f"{file} is not JSON ({error}): repeat the run with --force") from None
    return revived(values, str(file), brief)


def _parsed(data: bytes) -> Any:
    """What JSON holds, by a parser three times as fast as Python's, which is left to say what is
    wrong.

    Raises:
        ValueError: it isn't JSON.
    """
    from pydantic_core import from_json

    try:
        return from_json(data)
    except ValueError:
        return json.loads(data.decode("utf-8"))


def revived(values: Any, file: str, brief: bool = False) -> Record:
    """A record from what JSON holds of it. file: where that stands, for messages.
    brief: see `load`.

    Raises:
        BabError: as `load`.
    """
    from pydantic import ValidationError

    if not isinstance(values, dict) or values.get("format") is None:
        raise BabError(f"{file}: is not a record (it has no format number)")
    if values["format"] not in (_OLD, FORMAT):
        raise BabError(
            f"{file}: has format {values['format']!r}, this bab reads formats {_OLD} and {FORMAT}: "
            "read it with the version that wrote it (versions.bab in the file), or repeat the run"
        )
    if values["format"] == _OLD:
        _updated(values)
    known = {f.name for f in dataclasses.fields(Record)}
    if unknown := sorted(set(values) - known):
        raise BabError(f"{file}: has unknown fields: {', '.join(unknown)}")
    if brief:
        _shorten(values)
    for key in _NUMBERS:
        values[key] = _numbers(values.get(key, {}))
    if brief:
        _share(values)
    if wrong := _unkept(values["jackknife"]):
        raise BabError(f"{file}: jackknife: {wrong}: repeat the run with --force")
    try:
        return _reader().validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BabError(f"{file}: {where}: {first['msg']}: repeat the run with --force") from None


def _unkept(jackknife: Any) -> str:
    """What is wrong with what intervals are made of; "" where all of it, or nothing, is there."""
    if not isinstance(jackknife, dict):
        return "is no object"
    if not jackknife.get("left_out"):
        return ""
    columns = [jackknife.get(name) for name in ("groups", "sizes", "left_out")]
    if not all(isinstance(column, list) for column in columns):
        return "groups, sizes and left_out should be lists"
    if len({len(column) for column in columns if column is not None}) > 1:
        return "groups, sizes and left_out differ in length"
    numbers = [*jackknife["sizes"], *jackknife["left_out"], jackknife.get("effective", 0.0)]
    if not all(type(number) in (int, float) for number in numbers):
        return "sizes, left_out and effective should be numbers"
    if jackknife.get("scale") not in _SCALES:
        return f"scale is {jackknife.get('scale')!r}, not one of {', '.join(_SCALES)}"
    return ""


def _updated(values: dict[str, Any]) -> None:
    """A record of format 1 as it is held now: what its bootstrap drew is of no use any more."""
    values.pop("resamples", None)
    before = values.pop("bootstrap", None)
    if isinstance(before, dict):
        values["jackknife"] = {"unit": before.get("unit", "group")}
    task = (values.get("config") or {}).get("task")
    if isinstance(task, dict) and isinstance(options := task.get("options"), dict):
        task["options"] = {**_LATER.get(str(values.get("task")), {}), **options}


# What no table of many runs shows, by field; and what it shows of others.
_DETAILS = (
    "presets", "subgroups", "confusion", "dev", "search", "tuned", "device", "notices", "created",
)  # fmt: skip
_SHOWN = {"data": ("heard", "unseen"), "cost": ("encoder_parameters", "encoder_audio_per_second")}
_SHARED = ("config", "jackknife", "labels", "units")


def _shorten(values: dict[str, Any]) -> None:
    """Leave out what no table shows: of 20,000 records, with what `_share` does, a third of a
    gigabyte instead of one."""
    for key in _DETAILS:
        values.pop(key, None)
    for key, names in _SHOWN.items():
        if isinstance(values.get(key), dict):
            values[key] = {name: values[key][name] for name in names if name in values[key]}
    if isinstance(values.get("versions"), dict):  # a stranger's tell rows apart
        told = values["versions"].items()
        values["versions"] = {key: text for key, text in told if key.endswith(" plugin")}
    if isinstance(values.get("metrics"), dict):
        primary = values.get("primary")
        values["metrics"] = {k: v for k, v in values["metrics"].items() if k == primary}
    if values["format"] != _OLD:  # whose intervals are spoken of
        values.pop("intervals", None)
    kept = values.get("jackknife")
    groups = kept.get("groups") if isinstance(kept, dict) else None
    if isinstance(groups, list) and len(groups) >= MARKED:  # fewer are listed with their scores
        values.pop("groups", None)


def _share(values: dict[str, Any]) -> None:
    """Hold once what many records say alike: all of these, but the scores without each group."""
    for key in _SHARED:
        if isinstance(values.get(key), dict):
            told = values[key].items()
            values[key] = {n: value if n == "left_out" else _once(value) for n, value in told}


_known: dict[str, Any] = {}


def _once(value: Any) -> Any:
    """The value, or an equal one that was met before; nobody changes what a record holds."""
    if not isinstance(value, (dict, list)):
        return value
    text = repr(value)
    if len(_known) > 10_000:
        _known.clear()
    return _known.setdefault(text, value)


def _numbers(value: Any) -> Any:
    """null -> NaN, which JSON lacks, wherever a number stands."""
    if value is None:
        return float("nan")
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return [_numbers(item) for item in value] if isinstance(value, list) else value


def collect(root: StrPath, brief: bool = False) -> tuple[list[Record], list[Skipped]]:
    """All records under `root` (a folder of runs, a run, or a record.json), in order of path, and
    the runs that are unfinished or can't be read. brief: see `load`.

    Raises:
        BabError: where there is no such folder or file.
    """
    top = Path(root)
    if not top.exists():
        raise BabError(f"{top}: there is no such folder; `bab run` makes one")
    if top.is_file():
        return [load(top, brief)], []
    records: list[Record] = []
    skipped: list[Skipped] = []
    for folder, finished in runs(top):
        if not finished:
            skipped.append(Skipped(str(folder), "unfinished: the same command goes on with it"))
            continue
        try:
            records.append(load(folder / RECORD, brief))
        except BabError as error:
            skipped.append(Skipped(str(folder), str(error).removeprefix(f"{folder}{os.sep}")))
    return records, skipped


def runs(top: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of runs below `top`, in order, and whether each has a record."""
    for folder, below, files in os.walk(top):
        # Hidden folders hold what is not a result: the runs of a search, half-written folders.
        below[:] = sorted(name for name in below if not name.startswith("."))
        if RECORD not in files and LOCK not in files:
            continue
        below.clear()  # whatever a run keeps inside is its own affair
        if PRETRAINED not in files:
            yield Path(folder), RECORD in files
