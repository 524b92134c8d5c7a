"""The cache's budget holds over all processes that share its folder."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from bab.features import store as module
from bab.features.store import Store

BUDGET = 200_000
ROWS = torch.zeros(1, 100, 20)  # 8,000 bytes


def total(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("??/*"))


def fill(root: str, number: int, start: object) -> None:
    """Forty blocks of a process's own: eight processes ask for thirteen times the budget."""
    store = Store(Path(root), BUDGET)
    start.wait()  # type: ignore[attr-defined]
    for i in range(40):
        store.put(f"{number:02}{i:03}", [ROWS])


def test_eight_processes_stay_within_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # which has torch already
    start = context.Barrier(8)
    workers = [context.Process(target=fill, args=(str(tmp_path), i, start)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    used = total(tmp_path)
    assert 0.9 * BUDGET < used <= BUDGET * 1.01
    assert int((tmp_path / ".used").read_text()) == used


def test_an_account_that_is_wrong_or_gone_is_made_anew(tmp_path: Path) -> None:
    store = Store(tmp_path, BUDGET)
    assert all(store.put(f"aa{i}", [ROWS]) for i in range(5))
    for text in ("nonsense", "", str(10 * BUDGET)):  # the last: blocks that somebody deleted
        (tmp_path / ".used").write_text(text)
        assert store.put("bb" + text[:3], [ROWS])
        assert int((tmp_path / ".used").read_text()) == total(tmp_path)
    (tmp_path / ".used").unlink()
    again = Store(tmp_path, BUDGET)
    assert again.put("cc1", [ROWS])
    assert int((tmp_path / ".used").read_text()) == total(tmp_path)
    assert again.put("cc1", [ROWS])  # a block that is written over counts once
    assert int((tmp_path / ".used").read_text()) == total(tmp_path)


def test_a_folder_of_any_depth_is_made(tmp_path: Path) -> None:
    store = Store(tmp_path / "shared" / "lab" / "cache", BUDGET)
    assert store.put("aa1", [ROWS]) is True and store.problem == ""
    assert store.path("aa1").exists()
    assert Store(tmp_path / "small", 10).put("aa1", [ROWS]) is False


def test_an_account_that_another_holds_for_too_long_costs_speed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)  # in place of a minute
    store = Store(tmp_path, BUDGET)
    with FileLock(tmp_path / ".lock"):
        assert store.room_for([1, 2]) == [True, True] and store.put("aa1", [ROWS]) is False
    assert store.problem.startswith(f"features can't be kept in {tmp_path} (")


def test_what_a_killed_writer_of_the_account_left_goes(tmp_path: Path) -> None:
    left = tmp_path / ".tmp-999999999-abcd-.used.tmp"  # no process has this number
    left.write_text("7")
    assert Store(tmp_path, 1 << 20).put("ab", [torch.ones(1, 2, 3)])
    assert not left.exists() and (tmp_path / ".used").exists()


def test_blocks_of_others_go_and_ones_own_stay(tmp_path: Path) -> None:
    first = Store(tmp_path, BUDGET)
    kept = [i for i in range(40) if first.put(f"aa{i:02}", [ROWS])]
    assert 20 < len(kept) < 26  # what it holds itself isn't thrown out
    second = Store(tmp_path, BUDGET)
    assert second.put("bb1", [ROWS]) and second.path("bb1").exists()
    assert sum(first.path(f"aa{i:02}").exists() for i in kept) == len(kept) - 1
    assert int((tmp_path / ".used").read_text()) == total(tmp_path) <= BUDGET * 1.01


def test_a_folder_that_cannot_be_written_costs_speed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    store = Store(tmp_path / "cache", BUDGET)
    assert store.room_for([8000]) == [True] and not store.put("aa1", [ROWS])
    assert "features can't be kept" in store.problem
