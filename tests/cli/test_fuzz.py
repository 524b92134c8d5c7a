"""Broken input is refused in one line: a short campaign, and a long one, other seeds each day."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fuzzers import campaign
from made_records import edit, make

from bab.audio import reading
from bab.benching.asked import asked_grid
from bab.config.corpora import open_corpus
from bab.config.resolve import pretrain_config, run_config
from bab.core.errors import AudioError, BabError, ConfigError
from bab.plugins.datasets.manifest import Manifest
from bab.results.detail import detail
from bab.results.record import load, save


def faults(folder: Path, cases: int, first: int) -> list[str]:
    outcomes = campaign(folder, cases, first)
    assert all(counts["read"] + counts["refused"] for counts in outcomes.values())
    return [f"{name}: {kind}" for name, c in outcomes.items() for kind in c if "FAULT" in kind]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    assert not faults(tmp_path / "x", 400, 0)


@pytest.mark.slow
def test_broken_files_are_refused_at_length(tmp_path: Path) -> None:
    assert not faults(tmp_path / "x", 20_000, int(time.time()) // 86_400 * 1_000)


def test_a_cut_rf64_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(800, np.float32), 16000, format="RF64", subtype="PCM_16")
    data = path.read_bytes()
    for size in range(1, 120):
        path.write_bytes(data[:size])
        try:
            assert reading.info(str(path)).truncated and size > data.index(b"data")
        except AudioError as error:
            assert "a.wav" in str(error)


BROKEN = [
    *("!!bool maybe", "!!float ''", "!!int x", "9" * 5000, "[" * 700, "{a: " * 700, "&a [*a]"),
    *("-1", "1.5", "2024-01-01T00:00:00", "!!timestamp x", "!!binary ö", ".inf", "!!python/none x"),
]


@pytest.mark.parametrize("value", BROKEN, ids=lambda value: value[:12])
def test_what_can_t_be_a_value_is_refused_in_one_line(tmp_path: Path, value: str) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"encoder: fbank\ntask: vtc\ncorpus: {{name: rttm, root: {value}}}\n")
    for sets in (["corpus.root=" + value], ["observers=" + value], ["train.steps=" + value]):
        with pytest.raises(BabError):
            config = run_config(None, {"encoder": "fbank", "task": "vtc"}, sets, folder=tmp_path)
            open_corpus(config.corpus)  # where a text is as good as another
    with pytest.raises(BabError):
        open_corpus(run_config(recipe, folder=tmp_path).corpus)


def test_no_observers_and_no_endless_jobs(tmp_path: Path) -> None:
    sets = ["observers=null"]
    config = run_config(None, {"encoder": "fbank", "task": "vtc"}, sets, folder=tmp_path)
    assert config.observers == ()
    grid = tmp_path / "grid.yaml"
    grid.write_text("encoders: [fbank]\ntasks: [vtc]\njobs: .inf\n")
    with pytest.raises(ConfigError, match="jobs: inf is not a whole number"):
        asked_grid(grid, {}, (), False)


GRID = {"encoders": ["fbank"], "tasks": ["vtc"]}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lr", "1e/3", "lr: '1e/3' is not a number"),
        ("lr", [1e-3, 0], "lr: 0.0 is not more than 0"),
        ("seeds", -1, "seeds: -1 is not 0 or more"),
        ("seeds", "1,,2", "seeds: an empty name in '1,,2'"),
        ("jobs", 0, "jobs: 0 is not more than 0"),
        ("jobs", 1.5, "jobs: 1.5 is not a whole number"),
        ("set", [1], "set: expected keys and values, found [1]"),
        ("tasks", [], "no tasks are named: give --tasks, or a file with `tasks`"),
        ("tasks", ["vtd"], "there is no task called 'vtd': did you mean 'vtc'?"),
    ],
)
def test_a_grids_mistake_names_the_file_where_it_stands_there(
    tmp_path: Path, key: str, value: object, said: str
) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(json.dumps({**GRID, key: value}))
    with pytest.raises(BabError) as caught:
        asked_grid(path, {}, (), False)
    assert str(caught.value) == f"{path}: {said}"
    if key == "tasks":
        return
    path.write_text(json.dumps(GRID))
    with pytest.raises(ConfigError) as caught:
        asked_grid(path, {key: value}, (), False)
    assert str(caught.value) == said
    least = {"lr": 1e-9, "seeds": 0, "jobs": 1, "set": {"train.steps": 1}}[key]
    grid, jobs = asked_grid(path, {key: least}, (), False)
    assert (grid.seeds, jobs, grid.rates) == ((0,), 1, (1e-9,) if key == "lr" else ())


def test_a_recipes_mistakes_name_the_file(tmp_path: Path) -> None:
    recipe, toml = tmp_path / "r.yaml", tmp_path / "bab.toml"
    recipe.write_text("seed: 1\n")
    toml.write_text("seed = 1\n")
    with pytest.raises(ConfigError) as caught:
        run_config(recipe, folder=tmp_path)
    begins = [line.partition(": give")[0] for line in str(caught.value).splitlines()]
    there = f"in {toml} or {recipe}"
    assert begins == [f"no encoder is named {there}", f"no task is named {there}"]
    toml.write_text("encoder = 'fbank'\ntask = 'vtd'\n")
    with pytest.raises(BabError) as caught:
        run_config(None, {}, folder=tmp_path)
    assert str(caught.value).endswith(f"did you mean 'vtc'? (named by {toml})")
    with pytest.raises(BabError, match=r"'vtc'\? \(named by --task\)$"):
        run_config(None, {"encoder": "fbank", "task": "vtd"}, folder=tmp_path / "none")
    recipe.write_text("encoder: hubert:random-tiny\ncorpus: rttm\nobjective: maskd\n")
    with pytest.raises(BabError) as caught:
        pretrain_config(recipe, folder=tmp_path / "none")
    assert str(caught.value).endswith(f"did you mean 'masked'? (named by {recipe})")


@pytest.mark.parametrize(
    "change",
    [
        {"intervals": {"f1": "wide"}},
        {"jackknife": {"groups": ["a"], "sizes": ["x"], "left_out": [0.5], "scale": "share"}},
        {"jackknife": {"groups": ["a"], "sizes": [1], "left_out": [0.5], "scale": "loud"}},
        {"jackknife": {"groups": ["a", "b"], "sizes": [1], "left_out": [0.5], "scale": "share"}},
    ],
)
def test_a_record_that_says_something_else_is_refused(tmp_path: Path, change: dict) -> None:
    path = save(make(), tmp_path)
    edit(path, **change)
    with pytest.raises(BabError, match=r"record\.json: (intervals|jackknife)"):
        load(path)


def test_a_root_too_long_for_a_name_is_no_folder(tmp_path: Path) -> None:
    root = "a" * 5000
    config = run_config(None, {"encoder": "fbank", "task": "vtc"}, [f"corpus.root={root}"])
    with pytest.raises(BabError, match="there is no such folder or file"):
        open_corpus(config.corpus)


def test_json_lines_nested_thousands_deep_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav"}\n{"path": ' + "[" * 100_000 + "\n")
    with pytest.raises(BabError, match=r"m\.jsonl:2: not JSON"):
        Manifest(tmp_path / "m.jsonl", Manifest.Options())


def test_an_endless_amount_in_a_record_is_shown(tmp_path: Path) -> None:
    counts = {"voice": {"KCHI": {"KCHI": math.inf}, "FEM": {"KCHI": 2.0}}}
    assert "inf" in detail(make(confusion=counts))
