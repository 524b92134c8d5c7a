"""Digests in paths and records: as long as folders of other versions, and docs, have them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from made_models import made
from train_worker import Small

from bab.audio import seen
from bab.benching.grid import Cell, RunGrid
from bab.benching.launched import Launched
from bab.benching.requests import features_key
from bab.benching.worker import RunRequest
from bab.core.sealed import digest
from bab.core.seeds import derive
from bab.core.types import Clip, Window
from bab.data.content import content_id
from bab.features.source import FeatureSource
from bab.features.store import Store
from bab.launching.code import code
from bab.predicting import embed
from bab.predicting.kept import Kept, Results, digest_of
from bab.predicting.maker import Maker, PredictOptions
from bab.predicting.recordings import Recording, recordings
from bab.running import published


def hexadecimal(text: str, digits: int) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{digits}}}", text) is not None


def test_of_what_is_kept_in_an_out_folder(tmp_path: Path) -> None:
    place = Results(tmp_path, Kept).place("home")
    assert hexadecimal(place.stem, 16) and place.parent.name == place.stem[:2]
    (tmp_path / "a.txt").write_text("a")
    assert hexadecimal(digest_of(tmp_path / "a.txt"), 16)
    assert hexadecimal(Recording("a", array=np.zeros(4, np.float32), rate=8).digest(), 32)
    maker = Maker(made(tmp_path / "run", "vtc", encoder="fbank"), PredictOptions(), tmp_path)
    assert hexadecimal(maker.made_by, 24)
    assert hexadecimal(embed._digest(["last"]), 24)
    assert embed._digest({"a": 1, "b": 2}) == embed._digest({"b": 2, "a": 1})


def test_of_two_recordings_of_one_name(tmp_path: Path) -> None:
    paths = [tmp_path / side / "day" / "home.wav" for side in ("a", "b")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    named, _ = recordings(paths)
    ends = [one.name.removeprefix("day/home.wav-") for one in named]
    assert all(hexadecimal(end, 8) for end in ends) and ends[0] != ends[1]


def test_of_features_models_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_text("a")
    store = Store(tmp_path / "features", 10)
    source = FeatureSource(Small(), "all", store, tmp_path / "memo", torch.device("cpu"))
    source.plan([Window(Clip("a", str(tmp_path / "a.wav"), 0.0, 1.0, "g"))])
    assert hexadecimal(source.blocks[0][0], 40)
    assert hexadecimal(published.digest_of({"a": 1}, {"b": torch.ones(2)}), 24)
    assert hexadecimal(digest(("a", 1)), 16)
    drawn = [derive("seed", i) for i in range(64)]
    assert 2**62 < max(drawn) < 2**63 and min(drawn) >= 0


def test_of_a_bench_and_of_code(tmp_path: Path) -> None:
    assert hexadecimal(features_key("fbank vtc"), 12)
    grid = RunGrid((Cell("fbank", "vtc"),), runs=str(tmp_path))
    bench = Launched(grid, 1, lambda line: None, cast(Any, None))
    assert bench.folder.parent == tmp_path / ".bench" and hexadecimal(bench.folder.name, 12)
    assert hexadecimal(code()["bab"].split()[-1], 12)
    request = RunRequest({"task": "vtc"}, (), 0, None, str(tmp_path / "runs"), "search", False)
    assert request.misfit().parent == tmp_path / "runs" / "failed"
    assert hexadecimal(request.misfit().name, 12)


def test_of_what_is_remembered_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "a.wav"
    path.write_text("a")
    os.utime(path, (10, 10))
    assert hexadecimal(content_id(path, tmp_path / "memo"), 32)
    (memo,) = (tmp_path / "memo").glob("*/*")
    assert len(memo.parent.name) == 2 and hexadecimal(memo.parent.name + memo.name, 32)
    seen.note(str(path), 1, 10, sound=True)
    seen.save()  # what is known of the files of each folder
    (entry,) = (tmp_path / "cache" / "files").glob("*/*.json")
    assert len(entry.parent.name) == 2 and hexadecimal(entry.parent.name + entry.stem, 32)
    assert hexadecimal(entry.read_text().splitlines()[0], 32)
