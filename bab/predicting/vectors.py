"""Embeddings on disk: rows of numbers with their times, written whole from what is read in
portions, so that memory doesn't grow with a recording's length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bab.core.atomic import atomic_path

KINDS = ("npy", "parquet", "safetensors")
Vectors = NDArray[np.float32]
Times = NDArray[np.float64]


class Source(Protocol):
    """Rows f32[N, D] with times f64[N, 2] (start, duration: seconds), in the same portions."""

    count: int
    dim: int

    def rows(self) -> Iterator[Vectors]: ...

    def times(self) -> Iterator[Times]: ...


class Few:
    """A source in memory."""

    def __init__(self, rows: Vectors, times: Times) -> None:
        self._rows, self._times = rows, times
        self.count, self.dim = rows.shape

    def rows(self) -> Iterator[Vectors]:
        yield self._rows

    def times(self) -> Iterator[Times]:
        yield self._times


def paths_of(base: Path, kind: str) -> tuple[Path, ...]:
    """The files of a recording, or of a table: NAME.KIND, and for npy NAME.times.npy."""
    first = base.parent / f"{base.name}.{kind}"
    return (first, base.parent / f"{base.name}.times.npy") if kind == "npy" else (first,)


def write(gathered: Source, base: Path, kind: str) -> None:
    """Write each of `paths_of(base, kind)`, whole or not at all.

    npy: f32[N, D] and f64[N, 2]. safetensors: `embeddings` and `times`, the same. parquet: columns
    start, duration and embedding, a list of D numbers.
    """
    paths = paths_of(base, kind)
    if kind == "npy":
        _npy(paths[1], "<f8", (gathered.count, 2), gathered.times())
        _npy(paths[0], "<f4", (gathered.count, gathered.dim), gathered.rows())
        return
    with atomic_path(paths[0]) as temporary:
        (_parquet if kind == "parquet" else _safetensors)(gathered, temporary)


def _npy(
    path: Path, kind: str, shape: tuple[int, int], parts: Iterator[Vectors] | Iterator[Times]
) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        about = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)
        for part in parts:
            file.write(part.tobytes())


def _safetensors(gathered: Source, path: Path) -> None:
    """The format's own writer wants all of a tensor in memory. Its layout: the length of a JSON
    header in eight bytes, the header, the tensors' bytes
    (https://github.com/huggingface/safetensors#format)."""
    count, dim = gathered.count, gathered.dim
    middle, end = 16 * count, 16 * count + 4 * count * dim
    header = {
        "times": {"dtype": "F64", "shape": [count, 2], "data_offsets": [0, middle]},
        "embeddings": {"dtype": "F32", "shape": [count, dim], "data_offsets": [middle, end]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for times in gathered.times():
            file.write(times.tobytes())
        for rows in gathered.rows():
            file.write(rows.tobytes())


def _parquet(gathered: Source, path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    vector = pyarrow.list_(pyarrow.float32(), gathered.dim)
    schema = pyarrow.schema(
        [("start", pyarrow.float64()), ("duration", pyarrow.float64()), ("embedding", vector)]
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for rows, times in zip(gathered.rows(), gathered.times(), strict=True):
            flat = pyarrow.FixedSizeListArray.from_arrays(rows.reshape(-1), gathered.dim)
            writer.write_table(pyarrow.table([times[:, 0], times[:, 1], flat], schema=schema))
