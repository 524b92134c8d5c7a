"""Writes are whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bab.core.atomic import (
    atomic_folder,
    atomic_path,
    sweep,
    sweep_beside,
    write_bytes,
    write_json,
    write_text,
)
from bab.starting.folders import locked

GONE = 2**30  # no process has such a number


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_files_are_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "zwölf\n")
    write_bytes(tmp_path / "new" / "b.bin", b"\x00\x01")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "zwölf\n".encode()
    assert (tmp_path / "new" / "b.bin").read_bytes() == b"\x00\x01"
    assert names(tmp_path / "new") == ["a.txt", "b.bin"]


def test_json_has_no_nan_and_keeps_its_order(tmp_path: Path) -> None:
    value = {"b": float("nan"), "a": [float("inf"), (1, 2.5)], "c": {"x": np.float64("nan")}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"b": None, "a": [None, [1, 2.5]], "c": {"x": None}}
    assert text.index('"b"') < text.index('"a"')
    write_json(tmp_path / "a.json", value, sorted=True, indent=None)
    text = (tmp_path / "a.json").read_text()
    assert text.index('"a"') < text.index('"b"') and text.count("\n") == 1
    write_json(tmp_path / "a.json", {"é": "声"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "é": "声"\n}\n'


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(KeyError), atomic_path(tmp_path / "a.txt") as path:
        path.write_text("half")
        raise KeyError
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.txt", {"x": object()})
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_at_once_and_replaces_the_old_one(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "f") as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / content).write_text(content)
            assert content not in [p.name for p in (tmp_path / "f").rglob("*")]
        assert names(tmp_path / "f" / "sub") == [content]
    with pytest.raises(KeyError), atomic_folder(tmp_path / "f") as folder:
        (folder / "three").touch()
        raise KeyError
    assert names(tmp_path) == ["f"]
    assert names(tmp_path / "f" / "sub") == ["two"]


def test_a_folder_that_cannot_be_renamed_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic_folder(tmp_path / "f") as folder:
        (folder / "old").touch()
    real = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if (self / "new").exists():
            raise OSError("no")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"), atomic_folder(tmp_path / "f") as folder:
        (folder / "new").touch()
    assert names(tmp_path / "f") == ["old"]
    assert names(tmp_path) == ["f"]


def test_the_usual_permissions(tmp_path: Path) -> None:
    """Not the 0600 of a temporary file: a lab shares its results."""
    mask = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "x")
        with atomic_path(tmp_path / "b.safetensors") as temporary:
            save_file({"x": torch.zeros(1)}, temporary)
    finally:
        os.umask(mask)
    for name in ("a.txt", "b.safetensors"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


def test_no_temporary_is_what_a_reader_collects(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.rttm") as path:
        path.touch()
        assert not list(tmp_path.rglob("*.rttm"))
    with atomic_folder(tmp_path / "f.rttm"):
        assert [p.name for p in tmp_path.rglob("*.rttm")] == ["a.rttm"]


def test_what_killed_writers_left_is_swept_under_the_lock(tmp_path: Path) -> None:
    run, beside = tmp_path / "out" / ".bab", tmp_path / "out"
    left = [
        run / "deep" / ".tmp-1-ab-x.rttm.tmp",
        beside / f".tmp-{GONE}-ab-y.tmp",
        run / ".tmp-2-folder",
    ]
    other = beside / "runs" / ".tmp-3-at-work.tmp"  # somebody else's
    other.parent.mkdir(parents=True)
    other.touch()
    for _ in range(2):
        with locked(run, True, [beside]):
            assert not any(path.exists() for path in left)
            for path in left[:2]:
                path.parent.mkdir(exist_ok=True)
                path.touch()
            (left[2] / "inside").mkdir(parents=True)
    assert not any(path.exists() for path in left) and other.exists()


def test_only_its_own_are_swept_beside_a_file(tmp_path: Path) -> None:
    own, other = (tmp_path / f".tmp-{GONE}-ab-{name}.parquet.tmp" for name in ("m[1]", "n"))
    for path in (own, other):
        path.touch()
    sweep_beside(tmp_path / "m[1].parquet")
    assert names(tmp_path) == [other.name]


def test_nothing_is_swept_from_under_a_living_writer(tmp_path: Path) -> None:
    parent = tmp_path / f".tmp-{os.getppid()}-ab-m.parquet.tmp"
    parent.touch()
    sweep_beside(tmp_path / "m.parquet")
    with locked(tmp_path / ".bab", True, [tmp_path]):
        assert parent.exists()
    assert parent.exists()
    sweep(tmp_path)
    assert not parent.exists()
