"""What commands print is what somebody read and found good."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import pytest
from transcripts import FILE, lines


def test_what_commands_print_is_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "here").mkdir()
    told = FILE.read_text(encoding="utf-8").splitlines()
    now = lines(tmp_path / "here")
    assert not "\n".join([*unified_diff(told, now, "as it was read", "now", n=0, lineterm="")])
    assert len(now) > 1000
