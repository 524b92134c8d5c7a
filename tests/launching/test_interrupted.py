"""Ctrl-C while jobs are at work: what is asked of whom, and what is then said."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from bab.launching import asked


class Typed(io.StringIO):
    """What a person types, or that there is none."""

    def __init__(self, text: str = "", terminal: bool = True) -> None:
        super().__init__(text)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def fleet(count: int, left: int = 0) -> Any:
    """So many jobs, of which some don't end when they are cancelled."""
    made = SimpleNamespace(jobs=dict.fromkeys(range(count)), ids=[f"j{i}" for i in range(count)])

    def cancel() -> None:
        made.jobs = dict.fromkeys(range(left))

    made.cancel = cancel
    return made


def said(way: str, count: int = 2, left: int = 0) -> str:
    launch: Any = SimpleNamespace(on_interrupt=way, name="slurm")
    return str(asked.interrupted(fleet(count, left), launch, "3 runs are done"))


LEFT = "2 jobs left at work under slurm (j0, j1). The same command picks them up; with --cancel-jo"


def test_as_it_was_asked_before() -> None:
    assert said("leave").startswith(LEFT)
    assert (
        said("cancel")
        == "2 jobs cancelled; 3 runs are done, and the same command goes on from here"
    )
    assert said("cancel", 3, 1).startswith("3 jobs cancelled; 1 job has yet to end; 3 runs are")
    assert "; 2 jobs have yet to end; " in said("cancel", 3, 2)
    for way in ("leave", "cancel", "ask"):
        assert said(way, 0) == "stopped; 3 runs are done, and the same command goes on from here"
    many = said("leave", 21)
    assert "j19)" in many and "j20" not in many


@pytest.mark.parametrize(
    ("typed", "way"),
    [
        ("c\n", "cancelled"),
        (" CANCEL \n", "cancelled"),
        ("l\n", "left"),
        ("\n", "left"),
        ("", "left"),
    ],
)
def test_as_a_person_answers(typed: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Typed()
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    monkeypatch.setattr(sys, "stderr", told)
    assert said("ask").startswith(f"2 jobs {way}")
    assert told.getvalue() == "\nCancel 2 jobs, or leave them running? [c/L] "


@pytest.mark.parametrize("who", ["stdin", "stderr"])
def test_without_a_terminal_jobs_stay(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stderr"):
        monkeypatch.setattr(sys, name, Typed("c\n", terminal=name != who))
    assert said("ask").startswith(LEFT)


def test_a_second_ctrl_c_leaves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(Typed):
        def readline(self, size: int | None = -1) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Impatient())
    monkeypatch.setattr(sys, "stderr", Typed())
    assert said("ask").startswith(LEFT)
