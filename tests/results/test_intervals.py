"""How often intervals hold the truth and marks accuse equals, by the simulation that is published
in docs/intervals.md (benchmarks/intervals.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "intervals.py"
    spec = importlib.util.spec_from_file_location("intervals_simulation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_few_draws_of_each_metric(simulation: ModuleType) -> None:
    for metric in ("uar", "wer", "eer"):
        figures = simulation.simulate(metric, 6, 20, seed=5)
        assert figures.coverage > 0.8 and figures.marked < 0.25 and figures.without < 0.2, metric


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "coverage"), [(5, 0.90), (10, 0.93)])
@pytest.mark.parametrize("metric", ["f1", "uar", "accuracy", "uar near 1", "wer", "eer", "auc"])
def test_coverage_and_false_positives(
    simulation: ModuleType, metric: str, groups: int, coverage: float
) -> None:
    """Other draws than those of the page; two standard errors of so many are allowed for."""
    draws = 400 if metric in ("eer", "auc") else 1500
    figures = simulation.simulate(metric, groups, draws, seed=11)
    error = (0.05 * 0.95 / draws) ** 0.5
    assert figures.coverage > coverage - 2 * error
    assert figures.pair < 0.06 + 2 * error and figures.marked < 0.06 + 2 * error


@pytest.mark.slow
def test_seeds_that_are_not_looked_at_are_taken_for_encoders(simulation: ModuleType) -> None:
    assert simulation.seeded(10, 1, 1500, seed=11) > 0.15
    assert simulation.seeded(10, 3, 1500, seed=11) < 0.075
