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


def load(path: StrPath) -> Record:
    """Read a record: the file, or the run's folder.

    Raises:
        BabError: naming the file, where it can't be read, is of another format, or has fields
            that are unknown, missing or of a wrong type.
    """
    file = Path(path)
    file = file / RECORD if file.is_dir() else file
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BabError(f"{file}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise BabError(f"{file}: is not JSON ({error}): repeat the run with --force") from None
    return revived(values, str(file))


def revived(values: Any, file: str) -> Record:
    """A record from what JSON holds of it. file: where that stands, for messages.

    Raises:
        BabError: as `load`.
    """
    from pydantic import ValidationError

    if not isinstance(values, dict) or "format" not in values:
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
    for key in _NUMBERS:
        values[key] = _numbers(values.get(key, {}))
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


def _numbers(value: Any) -> Any:
    """null -> NaN, which JSON lacks, wherever a number stands."""
    if value is None:
        return float("nan")
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return [_numbers(item) for item in value] if isinstance(value, list) else value


def collect(root: StrPath) -> tuple[list[Record], list[Skipped]]:
    """All records under `root` (a folder of runs, a run, or a record.json), in order of path, and
    the runs that are unfinished or can't be read.

    Raises:
        BabError: where there is no such folder or file.
    """
    top = Path(root)
    if not top.exists():
        raise BabError(f"{top}: there is no such folder; `bab run` makes one")
    if top.is_file():
        return [load(top)], []
    records: list[Record] = []
    skipped: list[Skipped] = []
    for folder, finished in runs(top):
        if not finished:
            skipped.append(Skipped(str(folder), "unfinished: the same command goes on with it"))
            continue
        try:
            records.append(load(folder / RECORD))
        except BabError as error:
            skipped.append(Skipped(str(folder), str(error)))
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
