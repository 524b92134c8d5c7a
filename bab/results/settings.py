"""The settings in which a table's rows differ, briefly: for people, whose screens are narrow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_OFF = ("=none", "=null", "=false", "=0", "=0.0", "=")  # values of what isn't used
_SHOWN = 3  # settings of a row, unless it takes more to tell it from another


def brief(settings: Sequence[str]) -> list[str]:
    """Each row's settings ("head.rnn=bilstm, train.lr=0.002") in a few words: what is on before
    what is off, a component's options before numbers of the optimisation, the others counted."""
    rows = [_short(re.split(r", (?=[\w.]+=)", text) if text else [], settings) for text in settings]
    told = []
    for i, words in enumerate(rows):
        others = [set(w) for j, w in enumerate(rows) if j != i]
        count = _SHOWN
        while count < len(words) and any(set(words[:count]) <= other for other in others):
            count += 1
        left = max(0, len(words) - count)
        told.append(", ".join(words[:count]) + (f", +{left}" if left else ""))
    return told


def _short(parts: Sequence[str], settings: Sequence[str]) -> list[str]:
    """A row's settings, those first that say most, each key by its last word where that is one."""
    keys = set(re.findall(r"([\w.]+)=", ", ".join(settings)))
    tails = Counter(key.rpartition(".")[2] for key in keys)
    words = []
    for one in sorted(parts, key=lambda p: (p.endswith(_OFF), p.startswith(("train.", "view.")))):
        key, _, value = one.partition("=")
        tail = key.rpartition(".")[2]
        words.append(f"{tail if tails[tail] == 1 else key}={value}")
    return words
