"""What observer `jsonl` writes of each event, and what a resumed run's log forgets."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_records import make

from bab.core.record import RunInfo
from bab.plugins.observers.jsonl import Jsonl


@pytest.fixture
def run(tmp_path: Path) -> RunInfo:
    return RunInfo("id", str(tmp_path), "vtc", "rttm", "fbank", 100, {"seed": 0}, primary="f1")


def fold(run: RunInfo, number: int, of: int = 3) -> RunInfo:
    return replace(run, fold=number, folds=of)


def log(run: RunInfo) -> list[dict[str, Any]]:
    lines = [json.loads(x) for x in (Path(run.folder) / "log.jsonl").read_text().splitlines()]
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    return lines


def test_every_event_in_the_log(run: RunInfo) -> None:
    watch = Jsonl()
    watch.bab_notice(run, "too early")
    watch.bab_run_start(run)
    watch.bab_progress(run, "features", 2.0, 3.0, "s")
    watch.bab_progress(run, "features", 3.0, 3.0, "s")
    watch.bab_step(run, 1, {"loss": 0.5})
    watch.bab_evaluated(run, 1, "dev", {"f1": 0.5}, True)
    watch.bab_checkpoint(run, 1, "c/1")
    watch.bab_notice(run, "now")
    watch.bab_run_end(run, make(metrics={"f1": 0.25}), "")
    watch.bab_notice(run, "too late")
    facts = {"id": "id", "task": "vtc", "corpus": "rttm", "encoder": "fbank", "steps": 100}
    assert log(run) == [
        {"event": "started", **facts, "config": {"seed": 0}},
        {"event": "stage", "stage": "features", "total": 3.0, "unit": "s"},
        {"event": "step", "step": 1, "loss": 0.5},
        {"event": "evaluated", "step": 1, "split": "dev", "best": True, "metrics": {"f1": 0.5}},
        {"event": "checkpoint", "step": 1, "path": "c/1"},
        {"event": "notice", "message": "now"},
        {"event": "ended", "status": "done", "metrics": {"f1": 0.25}},
    ]


@pytest.mark.parametrize(
    ("record", "error", "told"),
    [
        (None, "", {"status": "done", "error": ""}),
        (None, "Ctrl-C", {"status": "stopped", "error": "Ctrl-C"}),
        (make(status="failed", metrics={}), "why", {"status": "failed", "metrics": {}}),
    ],
)
def test_how_a_run_ended(run: RunInfo, record: Any, error: str, told: dict[str, Any]) -> None:
    watch = Jsonl()
    watch.bab_run_start(run)
    watch.bab_run_end(run, record, error)
    assert log(run)[-1] == {"event": "ended", **told}


def test_the_fold_stands_where_there_are_several(run: RunInfo) -> None:
    watch, second = Jsonl(), fold(run, 1)
    watch.bab_run_start(second)
    watch.bab_step(second, 1, {})
    watch.bab_progress(second, "x", 1, 1, "files")
    watch.bab_notice(second, "n")
    watch.bab_run_end(second, None, "")
    told = [(line["event"], line.get("fold")) for line in log(run)]
    assert told == [("started", None), ("step", 1), ("stage", 1), ("notice", None), ("ended", None)]


def test_what_a_killed_attempt_had_logged_too_far_goes(run: RunInfo) -> None:
    watch = Jsonl()
    watch.bab_run_start(run)
    for step in (1, 2, 3):
        watch.bab_step(run, step, {})
        watch.bab_evaluated(run, step, "dev", {}, False)
    watch.bab_notice(run, "stays")
    again = Jsonl()
    path = Path(run.folder) / "log.jsonl"
    path.write_text("[1]\nnot JSON\n" + path.read_text() + '{"event": "st')
    again.bab_run_start(run)
    assert [line["event"] for line in log(run)][-2:] == ["notice", "resumed"]
    again.bab_evaluated(run, 2, "dev", {}, True)  # the checkpoint lay between step and evaluation
    again.bab_step(run, 3, {})
    again.bab_step(run, 3, {"x": 1})  # a second look is no second attempt
    assert [(line["event"], line.get("step")) for line in log(run)] == [
        ("started", None), ("step", 1), ("evaluated", 1), ("step", 2), ("notice", None),
        ("resumed", None), ("evaluated", 2), ("step", 3), ("step", 3),
    ]  # fmt: skip


def test_each_fold_forgets_what_is_its_own(run: RunInfo) -> None:
    one, two = fold(run, 0, 2), fold(run, 1, 2)
    watch = Jsonl()
    watch.bab_run_start(one)
    for own in (one, two):
        for step in (1, 2):
            watch.bab_step(own, step, {})
    again = Jsonl()
    again.bab_run_start(one)
    again.bab_step(two, 2, {"x": 1})
    assert [(x["fold"], x["step"]) for x in log(run) if x["event"] == "step"] == [
        (0, 1), (0, 2), (1, 1), (1, 2),
    ]  # fmt: skip
    again.bab_step(one, 1, {"x": 1})
    assert [(x["fold"], x["step"], x.get("x")) for x in log(run) if x["event"] == "step"] == [
        (1, 1, None), (1, 2, 1), (0, 1, 1),
    ]  # fmt: skip


def test_what_json_lacks_is_words(run: RunInfo) -> None:
    watch = Jsonl()
    watch.bab_run_start(replace(run, config={"path": Path("/x"), "deep": [{"a": (math.nan, 1.5)}]}))
    watch.bab_step(run, 1, {"a": -math.inf, "b": 2.5, 3: 1.0})  # type: ignore[dict-item]
    first, second = log(run)
    assert first["config"] == {"path": "/x", "deep": [{"a": ["nan", 1.5]}]}
    assert second == {"event": "step", "step": 1, "a": "-inf", "b": 2.5, "3": 1.0}
