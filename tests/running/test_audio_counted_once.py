"""Windows overlap; progress counts each second of audio once."""

from __future__ import annotations

import pytest

from bab.core.types import Clip, Item
from bab.running.inference import _fresh


def test_overlapping_windows_sum_to_the_recording() -> None:
    clip = Clip("a", "a.wav", 0.0, 10.0, "g")
    spans = [(0.0, 4.0), (3.0, 7.0), (6.0, 10.0), (6.0, 10.0)]
    items = [Item(c, ()) for c in (clip.within(*span, ()) for span in spans)]
    told = [seconds for _, seconds in _fresh(items)]
    assert told == pytest.approx([4.0, 3.0, 3.0, 0.0]) and sum(told) == pytest.approx(10.0)
