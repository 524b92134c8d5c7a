"""No space: one line with the file and what is missing, nothing left behind; then it goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from no_space import no_file_over
from pyarrow import parquet

from bab.core.atomic import atomic_folder, atomic_path, write_text
from bab.core.errors import BabError, DiskFullError
from bab.core.sealed import write_tensors
from bab.data.sealed import write_parquet

NUMBERS = np.random.default_rng(0).normal(size=20_000)
TABLE = pyarrow.table({"x": NUMBERS})


def _numpy(path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, NUMBERS)


def _parquet(path: Path) -> None:
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, TABLE.schema) as writer:
        writer.write_table(TABLE)


def _folder(path: Path) -> None:
    with atomic_folder(path) as folder:
        write_text(folder / "a.txt", "x" * 100_000)


def _picture(path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.figure")
    figure = pyplot.Figure()
    figure.add_subplot().plot(NUMBERS[:2000])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg")


WRITERS: dict[str, Callable[[Path], object]] = {
    "tensors": lambda path: write_tensors(path, {"x": torch.from_numpy(NUMBERS)}, "k"),
    "text": lambda path: write_text(path, "x" * 100_000),
    "table": lambda path: write_parquet(path, TABLE, {}),
    "rows": _parquet,
    "numpy": _numpy,
    "folder": _folder,
    "picture": _picture,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_writer_names_the_file_and_what_is_missing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "made" / "here.x"
    with no_file_over(20_000), pytest.raises(DiskFullError) as caught:
        WRITERS[kind](path)
    said = str(caught.value)
    assert re.search(r"here\.x: can't be written \((File too large|.*written)", said), said
    assert re.search(r"it takes (more than )?0\.\d\d MB, [\d,.]+ MB are free\.", said), said
    assert isinstance(caught.value, BabError) and caught.value.exit_code == 2
    assert not list(path.parent.iterdir())
    WRITERS[kind](path)
    assert path.exists()


def test_what_is_needed_is_told_where_it_is_known(tmp_path: Path) -> None:
    with no_file_over(20_000), pytest.raises(DiskFullError, match=r"takes 0\.1[67] MB"):
        WRITERS["tensors"](tmp_path / "x")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(where)]
    if sys.platform != "linux" or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield where
    subprocess.run(["umount", str(where)], check=True)


@pytest.mark.slow
def test_after_space_returns_the_same_command_goes_on(small_disk: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "BAB_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    asked = "--encoder hubert:random-tiny --task vtc --mode finetune --set train.steps=4"
    sizes = "--set train.eval_every=2 --set train.batch=4 --set observers=[]"
    command = [sys.executable, "-m", "bab", "run", *asked.split(), *sizes.split()]

    def bab(where: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)

    ended = bab(small_disk)
    assert ended.returncode == 2, ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("bab: error"))
    assert "safetensors: can't be written (No space left on device): it takes 6.9" in line
    assert "Traceback" not in ended.stderr and not list(small_disk.rglob(".tmp-*"))
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    assert bab(small_disk).returncode == 0
    assert bab(tmp_path).returncode == 0
    (one,), (two,) = (list(p.rglob("model.safetensors")) for p in (small_disk, tmp_path / "runs"))
    assert one.read_bytes() == two.read_bytes()
