"""Shares of a command's work: whole, apart, balanced; and commands that are done in shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SAMPLES

from bab.cli import main
from bab.core.errors import BabError
from bab.data.shards import Shard

HOMES = f"rttm:{SAMPLES / 'rttm'}"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1e5), max_size=60), st.integers(1, 9))
def test_every_item_is_in_one_shard_and_none_is_overfull(sizes: list[float], count: int) -> None:
    items = list(range(len(sizes)))
    parts = [Shard(number, count).of(items, sizes) for number in range(1, count + 1)]
    assert sorted(i for part in parts for i in part) == items
    assert all(part == sorted(part) for part in parts)
    loads = [sum(sizes[i] for i in part) for part in parts]
    mean, longest = sum(sizes) / count, max(sizes, default=0.0)
    assert max(loads) <= mean + longest + 1e-3 * len(sizes) + 1e-6 * mean


@pytest.mark.parametrize("text", ["3", "0/4", "5/4", "a/b", "1/2/3", "-1/4", ""])
def test_shards_are_spelled_number_of_count(text: str) -> None:
    with pytest.raises(BabError, match=f"--shard {text}: "):
        Shard.parse(text)
    assert Shard.parse("3/40") == Shard(3, 40) and str(Shard(3, 40)) == "3/40"


def without(folder: Path, *parts: str) -> dict[str, bytes]:
    """Files below a folder, but for some folders and names."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in files
        if not set(parts) & set(p.relative_to(folder).parts) and p.name[0] != "."
    }


def test_predictions_in_shards_are_the_same(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(out: str, *more: str) -> list[str]:
        return ["predict", str(model), HOMES, "--out", str(tmp_path / out), *more]

    assert main(command("whole")) == 0
    for shard in ("2/3", "1/3", "3/3"):
        assert main(command("parts", "--shard", shard)) == 0
    assert not list((tmp_path / "parts").glob("*.csv"))  # tables are of all
    capsys.readouterr()
    assert main(command("parts")) == 0
    assert "10 done before" in capsys.readouterr().out
    one, other = (without(tmp_path / n, ".bab", "prediction.json") for n in ("whole", "parts"))
    assert one == other and len(one) == 12
    assert main(command("parts", "--shard", "9")) == 2


def test_segments_in_shards_are_the_same(tmp_path: Path) -> None:
    def command(out: str, *more: str) -> list[str]:
        head = ["prepare", "--corpus", HOMES, "--vad", "energy", "--out"]
        return [*head, str(tmp_path / out), *more]

    assert main(command("whole.parquet", "--jobs", "1")) == 0
    for shard in ("1/2", "2/2"):
        assert main(command("parts.parquet", "--shard", shard)) == 0
        assert not (tmp_path / "parts.parquet").exists()
    assert main(command("parts.parquet", "--jobs", "1")) == 0
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "parts.parquet").read_bytes()


def test_targets_in_shards_are_the_same(tmp_path: Path, capsys: Any) -> None:
    def command(out: str, *more: str) -> list[str]:
        head = ["targets", "--corpus", HOMES, "--clusters", "8", "--out"]
        return [*head, str(tmp_path / out), *more]

    assert main(command("whole")) == 0
    assert main(command("parts", "--shard", "1/2")) == 2  # of which stage?
    assert "--stage sample" in capsys.readouterr().err
    for stage in ("sample", "fit", "label"):
        for shard in ("1/2", "2/2") if stage != "fit" else ("",):
            more = ["--shard", shard] if shard else []
            assert main(command("parts", "--stage", stage, *more)) == 0
    assert main(command("parts")) == 0
    assert without(tmp_path / "whole") == without(tmp_path / "parts")
