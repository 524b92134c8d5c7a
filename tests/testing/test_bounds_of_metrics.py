"""What a metric may be: a share, a per cent, a rate; checked at its ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bab.testing import tasks


def told(unit: str, value: Any, rate: bool = False, name: str = "m") -> str:
    task = SimpleNamespace(units={"m": unit}, rates=frozenset({"m"} if rate else ()))
    case: Any = SimpleNamespace(task=task, scores=lambda kind: {name: value})
    try:
        tasks.check_bounds(case)
    except AssertionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["m", "m/KCHI"])
def test_shares_per_cents_and_rates(name: str) -> None:
    for unit, most in (("", 1.0), ("%", 100.0)):
        assert not told(unit, 0.0, name=name) and not told(unit, most, name=name)
        for value in (-0.01, most + 0.01):
            assert f"{name} is {value!r}, which is no" in told(unit, value, name=name)
    assert not told("%", 250.0, rate=True, name=name)  # words too many: an error rate may be more
    assert not told("s", 250.0, name=name) and not told("%", 5.0, name=name)
    for value in (float("nan"), float("inf"), 1, None):
        assert "no finite float" in told("", value, name=name)
