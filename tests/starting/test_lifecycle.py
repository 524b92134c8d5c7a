"""What a run begins and ends with: the observers are told, the folder is free afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import bab
from bab.core.errors import InterruptedRunError
from bab.core.record import RunInfo
from bab.starting.folders import locked
from bab.starting.lifecycle import lifecycle


class Told:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    @bab.hookimpl
    def bab_run_start(self, run: RunInfo) -> None:
        self.events.append(("start", run.id))

    @bab.hookimpl
    def bab_progress(self, run: RunInfo, stage: str, done: float, total: float, unit: str) -> None:
        self.events.append((stage, run.id))

    @bab.hookimpl
    def bab_run_end(self, run: RunInfo, record: Mapping[str, Any] | None, error: str) -> None:
        self.events.append(("end", error))


def info(folder: Path) -> RunInfo:
    return RunInfo("abc", str(folder), "vtc", "rttm", "fbank", 0, {})


def test_an_error_reaches_the_observers_and_leaves_the_folder_free(tmp_path: Path) -> None:
    told, cleared = Told(), []

    def broken() -> None:
        raise OSError("the disk is gone")

    with lifecycle("cpu", "fp32", False, [], [told]) as life, pytest.raises(OSError, match="gone"):
        life.work(info(tmp_path), tmp_path, lambda: cleared.append(1), list, broken)
    assert told.events == [("start", "abc"), ("end", "OSError: the disk is gone")]
    assert cleared == [1]
    with locked(tmp_path, True):  # raises where another run holds it
        pass


def test_a_run_in_a_folder_that_is_held_is_refused(tmp_path: Path) -> None:
    with (
        lifecycle("cpu", "fp32", False, []) as life,
        locked(tmp_path, True),
        pytest.raises(bab.BabError),
    ):
        life.work(info(tmp_path), tmp_path, lambda: None, list, lambda: None)


def test_what_is_told_before_a_run_has_no_id_and_stops_when_asked() -> None:
    told = Told()
    with lifecycle("cpu", "fp32", False, [], [told]) as life:
        tell = life.before("vtc", "rttm", "fbank", quiet=True)
        tell("checking files", 1, 2, "files")
        assert told.events == [("checking files", "")]
        asked = type(life)(life.accelerator, life.watchers, lambda: True, True)
        with pytest.raises(InterruptedRunError, match="stopped while checking files"):
            asked.before("vtc", "rttm", "fbank", quiet=True)("checking files", 2, 2, "files")
