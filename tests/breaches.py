"""What is said of a plugin that breaks its contract, and a clip to break one with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bab.core.errors import PluginError
from bab.core.types import Clip


def said(call: Callable[..., object], *given: Any) -> str:
    """What is said of a fault, less who has it and what can be done."""
    with pytest.raises(PluginError) as error:
        call(*given)
    text = str(error.value)
    rest = ". Tell its authors (`bab check` tries it without a run), or do without it"
    assert text.endswith(rest)
    return text.removesuffix(rest).partition(" breaks its contract: ")[2]


def clip(**changes: Any) -> Clip:
    """Two seconds, but for what is changed, which may be wrong."""
    values: dict[str, Any] = {"id": "c", "path": "c.wav", "start": 0.0, "end": 2.0, "group": "g"}
    return Clip(**(values | changes))
