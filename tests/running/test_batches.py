"""Training examples as the micro-batches of each step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bab.config.resolve import run_config
from bab.core.errors import ConfigError
from bab.core.grid import Grid
from bab.core.types import View
from bab.data.windows import Examples
from bab.running.batches import make_batches


def test_nothing_to_train_on_is_an_error() -> None:
    context = SimpleNamespace(
        config=run_config(None, {"encoder": "fbank", "task": "vtc"}), parts=None
    )
    nothing = Examples([], View(), Grid(16000, 320, 400), None)
    with pytest.raises(ConfigError, match="training split"):
        make_batches(context, None, nothing, set(), 0)  # type: ignore[arg-type]
