"""How a search for a learning rate is settled: what is told, what stands, what is forgotten."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_records
import pytest

from bab.benching.grid import SEARCH, Cell, Outcome, RunGrid
from bab.benching.search import Bench, promote
from bab.core.record import Record
from bab.results.record import load, save

CELL = Cell("fbank", "vtc", "rttm")


def record(name: str, dev: float, **changes: Any) -> Record:
    return replace(made_records.make(name), dev={"f1": dev, "loss": 1 - dev}, **changes)


class Search:
    """A bench of one cell in a folder, and what it says."""

    def __init__(self, top: Path, rates: tuple[float, ...], seeds: tuple[int, ...] = (0,)) -> None:
        self.top, self.rates, self.seeds = top, rates, seeds
        self.said: list[str] = []
        self.grid = RunGrid((CELL,), seeds, rates, runs=str(top))
        self.bench = Bench(self.grid, self.said.append)

    def run(self, rate: float, seed: int, dev: float | None, select: str = "") -> None:
        """A run's end; dev: None where it failed."""
        folder = self.top / SEARCH / "vtc" / f"{rate:g}-{seed}"
        if dev is None:
            self.bench.take(CELL, Outcome("failed", "", "ill", seed, rate, True, select))
            return
        save(record(f"{rate:g}-{seed}", dev, seed=seed), folder)
        (folder / "weights").write_text(f"{rate}")
        self.bench.take(CELL, Outcome("done", str(folder), "", seed, rate, True, select))

    @property
    def standing(self) -> list[str]:
        return sorted(p.parent.name for p in self.top.glob("vtc/*/record.json"))


def test_the_best_rate_stands_among_the_runs_once_all_have_ended(tmp_path: Path) -> None:
    work = Search(tmp_path, (0.01, 0.1), (0, 1))
    for rate, seed, dev in ((0.01, 0, 0.3), (0.1, 0, 0.5), (0.1, 1, 0.7)):
        work.run(rate, seed, dev)
    assert work.said == [] and work.standing == [] and work.bench.result().records == ()
    work.run(0.01, 1, 0.4)
    assert work.said == ["fbank vtc@rttm: lr 0.1 is best on dev (0.01: 0.35, 0.1: 0.6)"]
    assert work.standing == ["0.1-0", "0.1-1"]
    done = work.bench.result()
    assert [one.id for one in done.records] == ["0.1-0", "0.1-1"] and done.failures == ()
    for one in done.records:
        assert one.search == {
            "key": "train.lr", "chosen": 0.1, "seeds": [0, 1],
            "dev": {"0.01": pytest.approx(0.35), "0.1": pytest.approx(0.6)},
        }  # fmt: skip
    memo = [json.loads(path.read_text()) for path in (tmp_path / SEARCH).glob("*.json")]
    assert memo == [["vtc/0.1-0", "vtc/0.1-1"]]


def test_files_are_linked_and_the_record_is_a_copy(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    save(record("r", 0.5), source)
    (source / "weights").write_text("w")
    promote(source, target, {"chosen": 0.1})
    assert (source / "weights").samefile(target / "weights")
    assert load(source).search == {} and load(target).search == {"chosen": 0.1}
    (target / "mark").write_text("")
    promote(source, target, {"chosen": 0.1})  # the same again: nothing is done
    assert (target / "mark").exists()
    promote(source, target, {"chosen": 0.2})
    assert not (target / "mark").exists() and load(target).search == {"chosen": 0.2}
    for change in ({"id": "other"}, {"created": "2001-01-01T00:00:00+00:00"}):
        (target / "mark").write_text("")
        save(replace(record("r", 0.5), **change), source)
        promote(source, target, {"chosen": 0.2})
        assert not (target / "mark").exists(), change


def test_without_hard_links_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    save(record("r", 0.5), tmp_path / "a")
    (tmp_path / "a" / "weights").write_text("w")
    promote(tmp_path / "a", tmp_path / "b", {"chosen": 0.1})
    assert (tmp_path / "b" / "weights").read_text() == "w"
    assert load(tmp_path / "a").search == {}


def test_a_search_that_another_process_is_at_is_not_settled(tmp_path: Path) -> None:
    work = Search(tmp_path, (0.01, 0.1))
    work.run(0.01, 0, 0.3)
    work.bench.take(CELL, Outcome("busy", "", "at work", 0, 0.1, True))
    assert work.said == ["fbank vtc@rttm: no rate chosen: another process is at work on its runs"]
    assert work.standing == []
    done = work.bench.result()
    assert done.records == () and [one.status for _, one in done.failures] == ["busy"]


def test_a_rate_with_a_failure_is_not_chosen_unless_all_have_one(tmp_path: Path) -> None:
    work = Search(tmp_path / "one", (0.01, 0.1), (0, 1))
    for rate, seed, dev in ((0.01, 0, 0.3), (0.01, 1, 0.2), (0.1, 0, 0.9), (0.1, 1, None)):
        work.run(rate, seed, dev)
    assert work.said == ["fbank vtc@rttm: lr 0.01 is best on dev (0.01: 0.25, 0.1: nan)"]
    assert work.standing == ["0.01-0", "0.01-1"]
    assert [(one.rate, one.seed) for _, one in work.bench.result().failures] == [(0.1, 1)]
    other = Search(tmp_path / "two", (0.01, 0.1), (0, 1))
    for rate, seed, dev in ((0.01, 0, 0.3), (0.01, 1, None), (0.1, 0, 0.9), (0.1, 1, None)):
        other.run(rate, seed, dev)
    assert other.said == ["fbank vtc@rttm: no lr could be chosen: of each a run failed"]
    assert other.standing == ["0.01-0"]


def test_the_metric_of_the_task_chooses(tmp_path: Path) -> None:
    work = Search(tmp_path, (0.01, 0.1))
    work.run(0.01, 0, 0.3, "loss")
    work.run(0.1, 0, 0.5, "loss")
    assert work.said == ["fbank vtc@rttm: lr 0.01 is best on dev (0.01: 0.7, 0.1: 0.5)"]


def test_runs_of_an_earlier_choice_go_and_others_stay(tmp_path: Path) -> None:
    first = Search(tmp_path, (0.1, 0.01))
    first.run(0.1, 0, 0.5)
    first.run(0.01, 0, 0.4)
    save(record("of another's", 0.1), tmp_path / "vtc" / "other")
    failed = tmp_path / "failed" / "abc"
    save(record("f", 0.1, status="failed"), failed)
    (memo,) = (tmp_path / SEARCH).glob("*.json")
    assert len(memo.stem) == 12
    # `lone` stands in no search: what has no other copy is not removed. A failure is.
    save(record("l", 0.1), tmp_path / "vtc" / "lone")
    memo.write_text(json.dumps(["vtc/0.1-0", "vtc/lone", "failed/abc"]))
    second = Search(tmp_path, (0.1, 0.01, 0.001))
    for rate, dev in ((0.1, 0.5), (0.01, 0.4), (0.001, 0.6)):
        second.run(rate, 0, dev)
    assert second.standing == ["0.001-0", "lone", "other"] and not failed.exists()
    assert json.loads(memo.read_text()) == ["vtc/0.001-0"]
    assert sorted(p.name for p in (tmp_path / SEARCH / "vtc").iterdir()) == [
        "0.001-0",
        "0.01-0",
        "0.1-0",
    ]
    # Of other seeds it is another choice.
    third = Search(tmp_path, (0.1,), (1,))
    third.run(0.1, 1, 0.2)
    assert third.standing == ["0.001-0", "0.1-1", "lone", "other"]


def test_runs_without_a_search_stand_where_they_are(tmp_path: Path) -> None:
    """A head solved in closed form is the same run at every rate: told and shown once."""
    said: list[str] = []
    work = Bench(RunGrid((CELL, Cell("hubert", "vtc")), (0,), (0.1, 0.2)), said.append)
    assert work.left == {0: 2, 1: 2}
    folder = tmp_path / "run"
    save(record("r", 0.5), folder)
    for rate in (0.1, 0.2):
        work.take(CELL, Outcome("done", str(folder), "", 0, rate, False))
    for rate in (0.1, 0.2):
        outcome = Outcome("not-applicable", "", "no speakers", 0, rate, False)
        work.take(work.grid.cells[1], outcome)
    done = work.result()
    assert [one.id for one in done.records] == ["r"] and done.failures == () and said == []
