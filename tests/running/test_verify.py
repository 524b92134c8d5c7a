"""`bab table --verify`: the written predictions are scored again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bab.cli import main
from bab.config.resolve import run_config
from bab.core.errors import BabError
from bab.plugins.datasets.rttm import Rttm
from bab.results.record import load, save
from bab.running.runner import run
from bab.running.verify import verify


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of frames on a corpus of its own, one of clips, one of trials."""
    top = tmp_path_factory.mktemp("verify")
    assert Rttm.sample is not None
    homes = shutil.copytree(Rttm.sample, top / "homes")
    sets = [
        "train.steps=2",
        "train.eval_every=2",
        "train.batch=4",
        "observers=[]",
        f"cache.dir={top / 'cache'}",
    ]
    for task in ("vtc", "gender", "sv"):
        asked: dict[str, Any] = {"encoder": "fbank", "task": task, "runs": str(top / "runs")}
        asked |= {"corpus": f"rttm:{homes}"} if task == "vtc" else {}
        run(run_config(None, asked, sets, folder=top))
    return top


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "runs", tmp_path / "runs"))


def quiet(done: int, total: int) -> None:
    """No progress."""


def edited(folder: Path, task: str, change: Any) -> str:
    """Change what a task's record says; what is then said of it."""
    (path,) = (folder / task).rglob("record.json")
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    (verdict,) = verify(folder / task, quiet)
    assert verdict.path == path.parent and "its checksum doesn't hold" in verdict.wrong[0]
    return "; ".join(verdict.wrong[1:])


def test_records_as_they_were_written_hold(runs: Path) -> None:
    verdicts = verify(runs / "runs", quiet)
    assert [(one.holds, one.wrong, one.untold) for one in verdicts] == [(True, (), "")] * 3
    with pytest.raises(BabError, match="no finished run"):
        verify(runs / "homes", quiet)


@pytest.mark.parametrize("task", ["vtc", "gender", "sv"])
def test_edited_metrics_do_not(copied: Path, task: str) -> None:
    def better(values: dict[str, Any]) -> None:
        values["metrics"][values["primary"]] *= 0.5

    def throughout(values: dict[str, Any]) -> None:
        for scores in values["presets"].values():
            scores["metrics"][values["primary"]] *= 0.5

    assert "in the record" in edited(copied, task, better)
    said = edited(copied, task, throughout)
    assert "presets" not in said and said.count("its predictions give") == (
        2 if task == "vtc" else 1
    )


def test_edited_intervals_and_what_they_are_made_of_do_not(copied: Path) -> None:
    def narrow(values: dict[str, Any]) -> None:
        for scores in values["presets"].values():
            for ends in scores["intervals"].values():
                ends[0] = ends[1]
        values["jackknife"]["left_out"][0] += 0.1

    said = edited(copied, "gender", narrow)
    assert "jackknife: group 1 is" in said


def test_edited_subgroups_groups_and_dev_scores_do_not(copied: Path) -> None:
    def flattered(values: dict[str, Any]) -> None:
        for kind, value in (("groups", 0.986), ("subgroups", 0.987)):
            scores = values[kind]
            while isinstance(scores, dict):
                holder, scores = scores, next(iter(scores.values()))
            holder[next(iter(holder))] = value

    said = edited(copied, "gender", flattered)
    assert "subgroups: " in said and "is 0.987 in the record" in said
    assert "groups: " in said and "is 0.986 in the record" in said

    def of_dev(values: dict[str, Any]) -> None:
        values["dev"] = dict.fromkeys(values["dev"], 1.0)

    assert edited(copied, "sv", of_dev) == ""  # no prediction of dev is kept: the checksum told


def test_a_changed_rttm_file_does_not(copied: Path) -> None:
    one, other = sorted((copied / "vtc").rglob("f1/*.rttm"))
    one.write_text(one.read_text().replace(" 1 ", " 1 1", 1))
    other.unlink()
    (verdict,) = verify(copied / "vtc", quiet)
    told = [f"predictions: {one} isn't what the table beside it says"]
    assert list(verdict.wrong) == [*told, f"predictions: {other} is gone"]


def test_edited_predictions_and_annotation_do_not_either(runs: Path, copied: Path) -> None:
    (path,) = (copied / "vtc").rglob("f1/vtc.csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]))
    assert verify(copied / "vtc", quiet)[0].wrong


def test_what_can_t_be_told_is_said(
    runs: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "homes").rename(runs / "moved")
    try:
        status = main(["table", str(copied), "--verify"])
    finally:
        (runs / "moved").rename(runs / "homes")
    out = capsys.readouterr().out
    assert status == 1 and "2 of 3 records hold" in out
    (line,) = (line for line in out.splitlines() if line.startswith("can't be told"))
    assert "its corpus is needed" in line and "homes" in line and "vtc" in line
    assert main(["table", str(copied), "--verify"]) == 0


@pytest.mark.parametrize("kind", ["number", "column", "config", "presets"])
def test_what_is_damaged_is_said_of_its_run_alone(runs: Path, copied: Path, kind: str) -> None:
    (table,) = (copied / "vtc").rglob("f1/vtc.csv")
    (record,) = (copied / "vtc").rglob("record.json")
    values = json.loads(record.read_text())
    if kind == "number":
        head, row, *rest = table.read_text().splitlines(keepends=True)
        table.write_text("".join([head, row.replace(row.split(",")[1], "abc"), *rest]))
    elif kind == "column":
        table.write_text(table.read_text().replace("uid", "who", 1))
    else:
        values |= {"config": values["config"] | {"new": 1}} if kind == "config" else {"presets": {}}
    record.write_text(json.dumps(values))
    verdicts = verify(copied, quiet)
    assert len(verdicts) == 3 and sum(one.holds for one in verdicts) == 2
    (bad,) = (one for one in verdicts if not one.holds)
    assert "vtc" in str(bad.path) and "damaged, or of another version" in bad.untold


def untold(folder: Path, **values: Any) -> str:
    """What can't be told of a run whose record says something else."""
    (path,) = folder.rglob("record.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    (verdict,) = verify(folder, quiet)
    assert not verdict.holds and len(verdict.wrong) == 1
    return verdict.untold


def test_what_stands_in_the_way_of_a_run_is_named(copied: Path) -> None:
    gender, sv = copied / "gender", copied / "sv"
    version = json.loads(next(gender.rglob("record.json")).read_text())["task_version"]
    said = f"task 'gender' is of version {version}, not 0"
    assert untold(gender, task_version="0") == said
    assert untold(gender, task_version=version) == ""
    (table,) = gender.rglob("predictions/*/*.csv")
    kept = table.read_text()
    lines = kept.splitlines(keepends=True)
    table.write_text("".join(lines[:-1]))
    gone = lines[-1].partition(",")[0]
    assert untold(gender) == f"{table.parent} holds no prediction of '{gone}'"
    table.write_text(lines[0] + '"open')
    assert untold(gender).startswith(f"{table}: can't be read as a table (")
    table.write_bytes(b"\xff\xfe" + kept.encode())
    assert untold(gender).startswith(f"{table}: can't be read as a table (")
    table.unlink()
    assert untold(gender) == f"{table.parent} holds no predictions: run again with --force"
    (trials,) = sv.rglob("trials.tsv")
    for broken in ("score\n1\n", "a\n1\t2\t3\tx\n"):
        trials.write_text(broken)
        assert untold(sv).startswith(f"{trials}: can't be read as scored trials (")


def test_a_run_without_scores_says_nothing_and_clips_are_counted(copied: Path) -> None:
    (path,) = (copied / "gender").rglob("record.json")
    made = load(path)
    data = json.loads(path.read_text())["data"]
    held = data["test"]["clips"]
    changed = {**data, "test": {**data["test"], "clips": held + 1}}
    said = untold(copied / "gender", data=changed)
    assert f"(the sample) has {held} clips to test on, and had {held + 1} when" in said
    assert untold(copied / "gender", data=data) == ""
    save(replace(made, status="failed", metrics={}, presets={}), path.parent)
    assert verify(copied / "gender", quiet) == []
    told: list[tuple[int, int]] = []
    assert len(verify(copied, lambda done, total: told.append((done, total)))) == 2
    assert told == [(1, 3), (2, 3), (3, 3)]
