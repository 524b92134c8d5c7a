"""Nothing that a file is called reaches the terminal as a command to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bab.cli import main
from bab.results.printable import printable


def test_control_characters_are_shown() -> None:
    assert printable("a\x1b[2Jb\r\x07\x9b31m") == "a\\x1b[2Jb\\r\\x07\\x9b31m"
    assert printable("x\u202egnp.exe") == "x\\u202egnp.exe"
    assert printable("b\udcffd") == "b\\udcffd"
    for plain in ("नमस्ते\tçà «x»\n", "kid 1/rec.wav", "한국어", "🙂"):
        assert printable(plain) == plain


def test_a_recordings_name_cant_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home\x1b]0;owned\x07.wav").write_text("no audio")  # would set the window's title
    assert main(["data", "check", f"audio:{tmp_path}"]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\x07" not in said.out + said.err
    assert "\\x1b]0;owned\\x07" in said.out
