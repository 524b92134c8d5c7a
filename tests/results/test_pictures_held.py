"""Pictures hold what was looked at and found good, part for part."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn import FILE, differences, lines

pytest.importorskip("matplotlib")


def test_what_pictures_hold_is_what_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, now = FILE.read_text(encoding="utf-8").splitlines(), lines(tmp_path, monkeypatch)
    assert differences(told, now) == [] and len(told) == len(now) > 200
