"""The program that a card prints for a graph: what it feeds, and what it imports for that."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from bab.exporting import usage

ABOUT: dict[str, Any] = {"sample_rate": 16000, "hop": 320}


@pytest.mark.parametrize(
    ("level", "head", "fed", "shown"),
    [
        ("", False, False, "states"),
        ("pair", True, False, "vectors"),
        ("frame", True, False, "logits"),
        ("clip", True, True, "logits"),
    ],
)
def test_a_graphs_program(level: str, head: bool, fed: bool, shown: str) -> None:
    about = ABOUT | ({"level": level} if level else {})
    code = usage.of_graph(about, head)
    ast.parse(code)
    assert code.startswith("import numpy as np\n") == fed == ('"first": np.zeros(1' in code)
    assert f"({shown},) = session.run(" in code and f"print({shown}.shape)" in code
    assert "rate, 16000)[None]" in code


def test_a_scripts_commands() -> None:
    for level, target in (("frame", "recording.rttm"), ("clip", "labels.csv")):
        told = usage.of_script(level).splitlines()
        assert told == [
            "pip install -r requirements.txt",
            f"python label.py recording.wav > {target}",
        ]
