"""What a bench is asked for, by file and command line: a grid, or a message to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bab.benching.asked import asked_grid, cell_of
from bab.benching.grid import Cell, Job, RunGrid, apart, jobs, parse_cell, request
from bab.core.errors import BabError, ConfigError, PluginError

ONE = {"encoders": "fbank", "tasks": "vtc"}


def asked(
    path: Path | None = None, sets: tuple[str, ...] = (), **given: Any
) -> tuple[RunGrid, int]:
    return asked_grid(path, given, sets, False)


def test_one_encoder_and_one_task_are_a_grid() -> None:
    assert asked_grid(None, ONE, [], False) == (RunGrid((Cell("fbank", "vtc"),)), 1)
    grid, count = asked_grid(
        None,
        {
            "encoders": "fbank, hubert:base,fbank", "tasks": "vtc,gender@kaldi:/x", "jobs": "3",
            "seeds": "4,2,4", "lr": "1e-2,1e-3,.01", "runs": "out",
        },
        ["train.steps=3"],
        True,
    )  # fmt: skip
    cells = [("fbank", "vtc", None), ("fbank", "gender", "kaldi:/x")]
    cells += [("hubert:base", *rest) for _, *rest in cells]  # type: ignore[misc]
    assert grid == RunGrid(
        tuple(Cell(*cell) for cell in cells),
        (4, 2),  # as they were given, once
        (0.001, 0.01),  # from the lowest
        {},
        ("train.steps=3",),
        "out",
        True,
    )
    assert count == 3


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        "encoders: fbank\ntasks: vtc\nseeds: [1, 2]\nlr: [0.1]\njobs: 4\nruns: there\n"
        "set: {train.steps: 5}\n"
    )
    grid, count = asked(path)
    keys = {"train": {"steps": 5}}
    assert grid == RunGrid((Cell("fbank", "vtc"),), (1, 2), (0.1,), keys, (), "there")
    assert count == 4
    grid, count = asked(path, seeds=3, tasks="gender", jobs=1, runs="here")
    assert grid == RunGrid((Cell("fbank", "gender"),), (3,), (0.1,), keys, (), "here")
    assert count == 1
    assert asked(path, runs="~/here")[0].runs == str(Path.home() / "here")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoders": ""}, "no encoders are named: give --encoders, or a file with `encoders`"),
        ({"tasks": []}, "no tasks are named: give --tasks, or a file with `tasks`"),
        ({"set": "a=1"}, "set: expected keys and values, found 'a=1'"),
        ({"encoders": "fbank,"}, "encoders: an empty name in 'fbank,'"),
        ({"tasks": ["vtc", None]}, "tasks: an empty name in '['vtc', None]'"),
        ({"seeds": "1.5"}, "seeds: '1.5' is not a whole number"),
        ({"seeds": [1.5]}, "seeds: 1.5 is not a whole number"),
        ({"seeds": [[1]]}, "seeds: [1] is not a whole number"),
        ({"seeds": "x"}, "seeds: 'x' is not a whole number"),
        ({"lr": "much"}, "lr: 'much' is not a number"),
        ({"lr": "nan"}, "lr: 'nan' is not a number"),
        ({"jobs": "two"}, "jobs: 'two' is not a whole number"),
        ({"jobs": float("inf")}, "jobs: inf is not a whole number"),
        ({"lr": "0.1,0"}, "lr: 0.0 is not more than 0"),
        ({"lr": -0.1}, "lr: -0.1 is not more than 0"),
        ({"seeds": "-1,0"}, "seeds: -1 is not 0 or more"),
        ({"jobs": 0}, "jobs: 0 is not more than 0"),
        ({"lr": "0", "seeds": -1, "jobs": 0}, "lr: 0.0 is not more than 0"),
        ({"tasks": 3}, "expected a name, or a mapping with `task`, found 3"),
        ({"encoders": [{"name": "fbank"}]},
         "expected a name, or a mapping with `task`, found {'name': 'fbank'}"),
        ({"tasks": [{"corpus": "rttm"}]},
         "expected a name, or a mapping with `task`, found {'corpus': 'rttm'}"),
        ({"tasks": [{"task": "vtc", "seed": 3, "quiet": 1}]},
         "vtc: quiet can't be given for one cell"),
        ({"tasks": [{"task": "vtc", "encoder": "hubert"}]},
         "vtc: encoder: options alone may be given for one cell"),
        ({"set": {"seed": 1}}, "seed can't be set for all runs: use --seeds"),
        ({"set": {"quiet": True}}, "quiet can't be set for all runs: use --quiet"),
        ({"set": {"runs": 1}}, "runs can't be set for all runs: use --runs"),
        ({"set": {"observers": []}}, "observers can't be set for all runs for a bench"),
        ({"set": {"task": "vtc"}}, "task can't be set for all runs: use --tasks"),
        ({"set": {"encoder": "x"}}, "encoder can't be set for all runs: use --encoders"),
        ({"set": {"train.lr": 1}, "lr": "0.1"}, "train.lr can't be set for all runs: use --lr"),
        ({"set": {"train": {"lr": 1}}, "lr": "0.1"},
         "train.lr can't be set for all runs: use --lr"),
    ],
)  # fmt: skip
def test_a_slip_is_named_with_its_key_and_in_a_file_with_its_file(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        asked(None, **{**ONE, **given})
    assert str(raised.value) == message
    if "can't be set" in message:  # of a command line's --set as well as of a file's
        return
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({**ONE, **given}))
    with pytest.raises(ConfigError) as raised:
        asked(path)
    assert str(raised.value) == f"{path}: {message}"
    key = next(iter(given))
    if message.startswith(f"{key}: "):  # the command line's own value has no file
        path.write_text(yaml.safe_dump(ONE))
        with pytest.raises(ConfigError) as raised:
            asked(path, **given)
        assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 3", "seed can't be set for all runs: use --seeds"),
        ("task=vtc", "task can't be set for all runs: use --tasks"),
        ("observers=[]", "observers can't be set for all runs for a bench"),
        ("train.lr=1", ""),  # no rates are searched
        ("task.labels=[a]", ""),
        ("encoder.cmvn=none", ""),
    ],
)
def test_what_the_grid_decides_can_not_be_set(text: str, message: str) -> None:
    if not message:
        assert asked(None, (text,), **ONE)[0].sets == (text,)
        return
    with pytest.raises(ConfigError) as raised:
        asked(None, (text,), **ONE)
    assert str(raised.value) == message


def test_keys_of_all_runs_that_the_grid_does_not_decide_are_kept() -> None:
    keys = {"train": {"lr": 0.1}, "encoder": {"cmvn": "none"}, "task.labels": ["a"]}
    grid, _ = asked(None, **ONE, set=keys)
    assert grid.keys == {
        "train": {"lr": 0.1},
        "encoder": {"cmvn": "none"},
        "task": {"labels": ["a"]},
    }
    assert asked(None, **ONE, set=None)[0].keys == {}


def test_keys_of_a_file_that_nobody_knows_and_names_that_nothing_offers(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("encoders: fbank\ntask: vtc\n")
    with pytest.raises(ConfigError) as raised:
        asked(path)
    assert str(raised.value) == f"{path}: unknown key 'task': did you mean 'tasks'?"
    path.write_text("encoders: fbank\ntasks: vtx\n")
    for given, start in (
        ({}, f"{path}: there is no task called 'vtx'"),
        ({"tasks": "vtx"}, "there is no task"),
    ):
        with pytest.raises(PluginError) as error:
            asked(path, **given)
        assert str(error.value).startswith(start)
    with pytest.raises(PluginError, match=r"^there is no task called 'vtx'"):
        asked(path, encoders="hubert")  # it can't be told whose it is


def test_keys_that_no_run_has_are_said_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("encoders: fbank\ntasks: [{task: vtc, train.stps: 1}]\nset: {sed: 1}\n")
    with pytest.raises(ConfigError) as raised:
        asked(path, ("view.hup=1",))
    assert str(raised.value).splitlines() == [
        f"unknown key 'sed' (from {path}: set): did you mean 'seed'?",
        "unknown key 'view.hup' (from --set view.hup=1): did you mean 'view.hop'?",
        f"unknown key 'train.stps' (from {path}: fbank vtc): did you mean 'train.steps'?",
    ]


@pytest.mark.parametrize(
    ("task", "cell"),
    [
        ("vtc", Cell("fbank", "vtc")),
        (" vtc@rttm:/a@b", Cell("fbank", "vtc", "rttm:/a@b")),
        ({"task": "vtc", "corpus": "rttm:/x"}, Cell("fbank", "vtc", "rttm:/x")),
        ({"task": "vtc@kaldi", "corpus": "rttm"},
         Cell("fbank", "vtc", "kaldi", {"corpus": "rttm"})),
        ({"task": "vtc", "corpus": {"name": "rttm"}},
         Cell("fbank", "vtc", "rttm", {"corpus": {}})),
        ({"task": "vtc", "corpus.format": "eaf", "corpus": "rttm:/x"},
         Cell("fbank", "vtc", "rttm:/x", {"corpus": {"format": "eaf"}})),
        ({"task": "vtc", "corpus.format": "eaf"},
         Cell("fbank", "vtc", None, {"corpus": {"format": "eaf"}})),
        ({"task": {"name": "classify", "labels": ["a"]}, "train.steps": 3},
         Cell("fbank", "classify", None, {"task": {"labels": ["a"]}, "train": {"steps": 3}})),
        ({"task": "classify@rttm", "task.labels": ["a"]},
         Cell("fbank", "classify", "rttm", {"task": {"labels": ["a"]}})),
        ({"task": {"name": "classify"}, "task.labels": ["a"]},
         Cell("fbank", "classify", None, {"task": {"labels": ["a"]}})),
        ({"task": "vtc", "encoder": {"cmvn": "none"}},
         Cell("fbank", "vtc", None, {"encoder": {"cmvn": "none"}})),
    ],
)  # fmt: skip
def test_a_cell_is_a_name_or_a_mapping(task: Any, cell: Cell) -> None:
    assert cell_of("fbank", task) == cell


@pytest.mark.parametrize(
    ("encoder", "task", "start"),
    [
        ("fbanc", "vtc", "there is no encoder called 'fbanc'"),
        ("hubert+fbank:80", "vtx", "there is no task called 'vtx'"),
        ("fbank", "vtc@rtm:/x", "there is no corpus called 'rtm'"),
        ("fbank", "@rttm", "cell '@rttm' is not spelled TASK or TASK@CORPUS[:ROOT]"),
        ("fbank", "vtc@", "cell 'vtc@' is not spelled TASK or TASK@CORPUS[:ROOT]"),
        ("fbank", {"task": "vtc", "set": {"train.steps": 3}}, "vtc: `set` is for all cells"),
    ],
)
def test_names_of_a_cell_are_checked(encoder: str, task: str, start: str) -> None:
    with pytest.raises(BabError) as raised:
        cell_of(encoder, task)
    assert str(raised.value).startswith(start), raised.value


def test_a_task_is_parted_from_its_corpus_at_the_first_sign() -> None:
    assert parse_cell(" vtc ") == ("vtc", None)
    assert parse_cell("vtc@rttm:a@b") == ("vtc", "rttm:a@b")


# --- jobs


@pytest.mark.parametrize(
    ("job", "label"),
    [
        (Job(Cell("a", "t"), (0,), (None,)), "a t, seed 0"),
        (Job(Cell("a", "t", "c:x"), (0, 2), (None,)), "a t@c:x, seeds 0 2"),
        (Job(Cell("a", "t"), (1,), (0.001, 1e-5)), "a t, seed 1, lr 0.001 1e-05"),
    ],
)
def test_a_job_is_named_for_people(job: Job, label: str) -> None:
    assert job.label == label


def test_a_worker_is_asked_with_all_that_it_needs() -> None:
    cell = Cell("fbank:40", "vtc", "rttm:/x", {"train": {"steps": 3}, "encoder": {"cmvn": "none"}})
    other = Cell("hubert", "gender")
    keys = {"train": {"steps": 9, "batch": 2}, "corpus": {"split": 1}, "task": {"a": 1}}
    grid = RunGrid((cell, other), (4, 5), (0.1, 0.2), keys, ("a.b=1",), "out", True)
    first, second = jobs(grid)
    assert first == Job(cell, (4, 5), (0.1, 0.2)) and second.cell is other
    rest = {
        "sets": ["a.b=1"], "seeds": [4, 5], "rates": [0.1, 0.2], "runs": "out",
        "search": "out/.search", "force": True, "failed": "",
    }  # fmt: skip
    plain = {"observers": ["jsonl"], "quiet": True}
    assert request(grid, first) == {
        "options": {
            "train": {"steps": 3, "batch": 2}, "encoder": {"cmvn": "none", "name": "fbank:40"},
            "task": {"a": 1, "name": "vtc"}, "corpus": {"split": 1, "name": "rttm:/x"}, **plain,
        },
        **rest,
    }  # fmt: skip
    assert request(grid, second) == {
        "options": {
            "train": {"steps": 9, "batch": 2}, "encoder": "hubert",
            "task": {"a": 1, "name": "gender"}, "corpus": {"split": 1}, **plain,
        },
        **rest,
    }  # fmt: skip
    single = apart(Job(cell, (4, 5), (0.1, 0.2), "killed"))
    assert [(job.seeds, job.rates, job.failed) for job in single] == [
        ((4,), (0.1,), "killed"),
        ((5,), (0.1,), "killed"),
        ((4,), (0.2,), "killed"),
        ((5,), (0.2,), "killed"),
    ]
    assert request(grid, single[0])["failed"] == "killed"
    (plain_job,) = jobs(RunGrid((other,)))
    assert (plain_job.seeds, plain_job.rates) == ((0,), (None,))
