"""What commands take, and what they take where nobody says anything."""

from __future__ import annotations

from command_options import FILE, lines


def test_a_commands_options_change_on_purpose_alone() -> None:
    """Scripts of people hang on names, defaults, and on what may be given more than once.
    `python tests/command_options.py` writes the file again; CHANGELOG says what."""
    told, now = FILE.read_text(encoding="utf-8").splitlines(), list(lines())
    assert sorted(set(told) ^ set(now)) == [] and told == now and len(now) > 150
