"""Numbers, names and times in messages, at the places where the words change."""

from __future__ import annotations

import pytest

from bab.core.errors import counted, did_you_mean, lasting, sized


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (119.9, "119.9 s"),
        (120, "2.0 min"),
        (7199, "120.0 min"),
        (7200, "2.00 h"),
        (9000, "2.50 h"),
    ],
)
def test_how_long_it_lasted(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_how_many_there_are() -> None:
    assert [counted(n, "file") for n in (0, 1, 2, 1234)] == [
        *("0 files", "1 file", "2 files", "1,234 files")
    ]
    assert [sized(n, "weight") for n in (1, 99_999, 100_000, 1_550_000)] == [
        *("1 weight", "99,999 weights", "0.1 million weights", "1.6 million weights")
    ]


def test_the_nearest_names() -> None:
    assert did_you_mean("vtc1", ["vtc4", "asr", "vtc2", "vtc3", "vtc5"]) == (
        "did you mean 'vtc5' or 'vtc4' or 'vtc3'?"
    )
    assert did_you_mean("hubrt", ["wavlm", "hubert"]) == "did you mean 'hubert'?"
    assert did_you_mean("x", []) == "known: none"
    assert did_you_mean("x", ["b", "a"]) == "known: a, b"
    many = [f"k{i:02}" for i in range(40)]
    said = did_you_mean("zzzz", many)
    assert said.startswith("nearest: ") and len(said.split(", ")) == 5
    assert did_you_mean("zzzz", [*many[:15], "b"]).startswith("known: b, k00, ")  # sixteen names
    assert did_you_mean("abcde", ["abxxx", "abcxx"]) == "did you mean 'abcxx'?"  # .6 alike, and .4
