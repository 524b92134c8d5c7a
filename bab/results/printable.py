"""Text for a terminal: what a name could make a terminal do is shown instead."""

from __future__ import annotations

import re

# C0 and C1 control characters but for tab and line feed, the marks that turn the direction of
# writing (Unicode's bidi controls), and lone surrogates, which stand for bytes that are no UTF-8.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """The same with control characters escaped: `\\x1b[2J` for what would clear the screen."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
