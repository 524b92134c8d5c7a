"""What tests of whole runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from bab.config.resolve import run_config
from bab.running.runner import run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small voice type classifier, trained for a moment."""
    base = tmp_path_factory.mktemp("model")
    asked = {"encoder": "fbank", "task": "vtc", "observers": [], "runs": str(base / "runs")}
    sets = ["train.steps=30", "train.eval_every=15", "train.lr=0.01", "bootstrap=0"]
    sets.append(f"cache.dir={base / 'cache'}")
    return run(run_config(None, asked, sets))[1]
