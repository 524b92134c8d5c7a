"""Corpora and formats say of files what was read there."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import pytest
from told import FILE, lines


def test_what_samples_and_formats_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    told = FILE.read_text(encoding="utf-8").splitlines()
    (tmp_path / "x").mkdir()
    now = list(lines(tmp_path / "x"))
    assert not "\n".join([*unified_diff(told, now, "as it was read", "now", n=0, lineterm="")])
    assert len(now) > 300
