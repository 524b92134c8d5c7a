"""Records on disk: written, read, and gathered from a folder of runs."""

from __future__ import annotations

import dataclasses
import gc
import json
import marshal
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bab.core.atomic import StrPath, finite, write_text
from bab.core.errors import BabError
from bab.core.record import Record
from bab.core.sealed import DamagedError
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
    text = _LIST.sub(_joined, text).removesuffix("\n}")
    write_text(path, f'{text},\n  "{_ENTRY}": "{_sum(text.encode())}"\n}}\n')
    return path


# The last entry is a checksum of the bytes before it: a table that reads thousands hardly notices.
_ENTRY = "checksum"
_LAST = re.compile(rf',\s*"{_ENTRY}": "([^"]*)"\s*\}}\s*\Z'.encode())


def _sum(data: bytes) -> str:
    return f"bab:{zlib.crc32(data):08x}"


# A list of numbers or words as `json` indents it: in a text of JSON a line ends nowhere else.
_LIST = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s+\]")


def _joined(match: re.Match[str]) -> str:
    """The same list on one line, unless it holds sentences."""
    parts = re.split(r"\n\s+", match[1])
    return f"[{' '.join(parts)}]" if max(map(len, parts)) <= _WORD else match[0]


@cache
def _fields() -> frozenset[str]:
    return frozenset(field.name for field in dataclasses.fields(Record))


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
        DamagedError: it isn't as it was written.
    """
    file = Path(path)
    return _load(str(file / RECORD if file.is_dir() else file), brief)


def _load(file: str, brief: bool) -> Record:
    record, sound = look(file, brief)
    if not sound:
        raise DamagedError(
            f"{file} is damaged, or was edited (its checksum doesn't hold): repeat the run with "
            f"--force. If the change is yours, delete the entry '{_ENTRY}'"
        )
    return record


def look(file: str, brief: bool = False) -> tuple[Record, bool]:
    """A record as it stands, and whether that is how it was written.

    Raises:
        BabError: as `load`.
    """
    try:
        with open(file, "rb", buffering=0) as opened:  # noqa: PTH123  a table reads thousands
            data = opened.read()
        last = _LAST.search(data, max(0, len(data) - 64))
        sound = last is not None and _sum(data[: last.start()]).encode() == last[1]
        values = None
        if brief and sound:
            with suppress(ValueError, LookupError, TypeError):
                values = _parsed_briefly(data)
        if values is None:
            values = _parsed(data)
    except OSError as error:
        raise BabError(f"{file}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise BabError(f"{file} is not JSON ({error}): repeat the run with --force") from None
    said = values.pop(_ENTRY, None) if isinstance(values, dict) else None
    # An earlier version's has no checksum.
    return revived(values, file, brief), sound or said is None


def _parsed_briefly(data: bytes) -> Any:
    """What a record says that is as `save` wrote it, without most of what no table shows. Two
    blanks begin a line of its own entries alone, since no text of JSON holds a line's end."""
    short = data
    for first, behind in (("intervals", "units"), ("presets", "labels")):
        start = short.find(f'\n  "{first}": '.encode())
        end = short.find(f'\n  "{behind}": '.encode(), start)
        short = short[:start] + short[end:] if 0 < start < end else short
    values = _parsed(short)
    # Scores of fewer groups are listed.
    return values if len(values["jackknife"]["groups"]) >= MARKED else _parsed(data)


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
    if unknown := sorted(values.keys() - _fields()):
        raise BabError(f"{file}: has unknown fields: {', '.join(unknown)}")
    if brief:
        _shorten(values)
    for key in _NUMBERS:
        if key in values:
            values[key] = _numbers(values[key])
    if brief:
        _share(values)
    if wrong := _unkept(values.get("jackknife", {})):
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
    if not {int, float}.issuperset(map(type, numbers)):
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
            values[key] = {
                n: _once(value) if type(value) in (dict, list) and n != "left_out" else value
                for n, value in told
            }


_known: dict[bytes, Any] = {}


def _once(value: Any) -> Any:
    """A dictionary or list, or an equal one that was met before; nobody changes what a record
    holds."""
    told = marshal.dumps(value, 2)  # of the ways to a key the quickest; unequal types differ
    if len(_known) > 10_000:
        _known.clear()
    return _known.setdefault(told, value)


def _numbers(value: Any) -> Any:
    """null -> NaN, which JSON lacks, wherever a number stands."""
    kind = type(value)
    if kind is dict:
        return {key: item if type(item) is float else _numbers(item) for key, item in value.items()}
    if kind is list:
        if {float}.issuperset(map(type, value)) or {str}.issuperset(map(type, value)):
            return value
        return [_numbers(item) for item in value]
    return float("nan") if value is None else value


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
    with uncollected():
        return _collect(str(top), brief)


@contextmanager
def uncollected() -> Iterator[None]:
    """Hold the garbage collector: what is made of many records stays and holds no circles, and
    looking for some again and again takes a fifth of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _collect(top: str, brief: bool) -> tuple[list[Record], list[Skipped]]:
    records: list[Record] = []
    skipped: list[Skipped] = []
    for folder, finished in _runs(top):
        if not finished:
            skipped.append(Skipped(folder, "unfinished: the same command goes on with it"))
            continue
        try:
            records.append(_load(f"{folder}{os.sep}{RECORD}", brief))
        except BabError as error:
            skipped.append(Skipped(folder, str(error).removeprefix(f"{folder}{os.sep}")))
    return records, skipped


def runs(top: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of runs below `top`, in order, and whether each has a record."""
    return ((Path(folder), finished) for folder, finished in _runs(str(top)))


def _runs(folder: str) -> Iterator[tuple[str, bool]]:
    """As `runs`. What a run keeps inside is its own affair, and isn't looked at: a record tells
    that it is one without a listing."""
    within = f"{folder}{os.sep}"
    if os.path.isfile(within + RECORD):  # noqa: PTH113  strings: a table looks at thousands
        if not os.path.isfile(within + PRETRAINED):  # noqa: PTH113
            yield folder, True
        return
    try:
        with os.scandir(folder) as listed:
            entries = {e.name: e.is_dir(follow_symlinks=False) for e in listed}
    except OSError:
        return
    if LOCK in entries:
        if PRETRAINED not in entries:
            yield folder, False
        return
    # Hidden folders hold what is not a result: the runs of a search, half-written folders.
    for name in sorted(name for name, below in entries.items() if below and name[0] != "."):
        yield from _runs(within + name)
