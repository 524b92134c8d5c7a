"""JSON objects, bytes and Parquet tables that hold their own checksum (`bab.core.sealed`:
safetensors).

What has none, of other tools or earlier versions, is taken as it is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bab.core import atomic
from bab.core.errors import BabError, CorpusError
from bab.core.sealed import SUM, DamagedError, digest
from bab.core.weights import first_line

ENTRY, _MARK = "checksum", "bab:"  # of a JSON object, and how its value begins


def write_json(path: Path, value: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write a JSON object with its checksum, atomically."""
    atomic.write_json(path, sealed(value), indent=indent)


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its checksum, as `write_json` writes it."""
    plain = json.loads(json.dumps(atomic.finite(value)))
    return {**plain, ENTRY: _sum(plain)}


def read_json(path: Path, keys: Sequence[str], remedy: str) -> dict[str, Any]:
    """What `write_json` was given. keys: that it must have.

    Raises:
        FileNotFoundError: no such file.
        DamagedError: naming the file and the remedy, where it is no such object, or its checksum
            doesn't hold.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{path} is damaged (it is no JSON object): {remedy}")
    plain = {name: item for name, item in value.items() if name != ENTRY}
    there = any(str(item).startswith(_MARK) for item in value.values())  # be its name damaged, too
    if (there or ENTRY in value) and value.get(ENTRY) != _sum(plain):
        raise DamagedError(
            f"{path} is damaged, or was edited (its checksum doesn't hold): {remedy}. If the "
            f"change is yours, delete the entry '{ENTRY}'"
        )
    if lost := [key for key in keys if key not in plain]:
        raise DamagedError(f"{path} is damaged (it lacks '{lost[0]}'): {remedy}")
    return plain


def _sum(plain: Mapping[str, Any]) -> str:
    return _MARK + digest(json.dumps(plain, sort_keys=True))


def seal(data: bytes) -> bytes:
    """Bytes with their checksum behind them."""
    return data + _MARK.encode() + b"%08x" % zlib.crc32(data)


def unsealed(data: bytes) -> bytes | None:
    """What `seal` was given; None where it isn't whole."""
    plain = data[: -len(_MARK) - 8]
    return plain if seal(plain) == data else None


def write_parquet(path: Path, table: Any, about: Mapping[bytes, bytes]) -> None:
    """Write a pyarrow table with checksums of its pages and of all it says, atomically.

    about: kept as metadata of its schema.
    """
    from pyarrow import parquet

    told = {**about, SUM.encode(): _table_sum(table, _own(about)).encode()}
    with atomic.atomic_path(path) as temporary:
        parquet.write_table(
            table.replace_schema_metadata(told), temporary, write_page_checksum=True
        )


def check_parquet(path: Path, remedy: str) -> None:
    """Read all of a Parquet table that `write_parquet` wrote, against its checksums.

    Raises:
        CorpusError: naming the file and the remedy, where it can't be read or they don't hold.
        BabError: pyarrow isn't there.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BabError(f"{path}: Parquet needs pyarrow: pip install 'bab[prepare]'") from None
    try:
        about = dict(parquet.read_schema(path).metadata or {})
        if not any(key.startswith(b"bab.") for key in about):
            return
        table = parquet.ParquetFile(path, page_checksum_verification=True).read()
        written = about.pop(SUM.encode(), None)
        sound = written is None or written.decode() == _table_sum(table, _own(about))
    except (ArrowException, OSError, ValueError) as error:
        why = f"can't be read as a Parquet table ({first_line(error)})"
        raise CorpusError(f"{path}: {why}: {remedy}") from None
    if not sound:
        raise CorpusError(f"{path} is damaged (its checksum doesn't hold): {remedy}")


def _own(about: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    return {key: value for key, value in about.items() if key.startswith(b"bab.")}


def _table_sum(table: Any, about: Mapping[bytes, bytes]) -> str:
    """Of texts and numbers, however they are cut into chunks."""
    import numpy as np
    from pyarrow import types

    facts: list[Any] = [sorted(about.items())]
    for field, column in zip(table.schema, table.columns, strict=True):
        lengths, values = 0, 0
        for chunk in column.chunks:
            if types.is_string(field.type):
                bounds = np.frombuffer(chunk.buffers()[1], np.int32)
                bounds = bounds[chunk.offset : chunk.offset + len(chunk) + 1]
                lengths = zlib.crc32(np.diff(bounds).tobytes(), lengths)
                held = memoryview(chunk.buffers()[2] or b"")[bounds[0] : bounds[-1]]
            else:
                plain = chunk.to_numpy(zero_copy_only=False)
                if plain.dtype == object:  # whose bytes are places in memory
                    plain = np.frombuffer("".join(f"{one!r}\n" for one in plain).encode(), "u1")
                held = memoryview(plain.tobytes())
            values = zlib.crc32(held, values)
        facts.append((field.name, str(field.type), len(column), column.null_count, lengths, values))
    return digest(facts)
