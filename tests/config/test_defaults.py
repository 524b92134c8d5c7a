"""Where nobody says anything: what a run, a component or a function then takes."""

from __future__ import annotations

from defaults import FILE, lines


def test_a_default_changes_on_purpose_alone() -> None:
    """Scores and run ids of everybody who names no value hang on each of them, and docs give many
    in words. `python tests/defaults.py` writes the file again; CHANGELOG says which, and a task or
    corpus whose numbers change gets another `version`."""
    told = FILE.read_text(encoding="utf-8").splitlines()
    now = lines()
    assert sorted(set(told) ^ set(now)) == [] and len(now) > 1000
