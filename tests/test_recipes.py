"""Every recipe in the repository names what exists, with keys that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from bab.core.config import from_command_line

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_builds(path: Path) -> None:
    config = from_command_line(path, {})
    assert config.encoder.name and config.task.name


def test_the_baseline_says_what_the_readme_reports() -> None:
    config = from_command_line(RECIPES[0].with_name("vtc-fbank-bilstm.yaml"), {})
    assert (config.view.window, config.view.train_seconds, config.train.steps) == (60, 8, 1500)
    assert config.head.options["rnn"] == "bilstm"
