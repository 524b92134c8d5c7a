"""What `set=` of a function stands for: the texts of the command line's `--set KEY=VALUE`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bab.config.files import spelled_out

Sets = Mapping[str, Any] | Sequence[str]


def texts(given: Sets) -> list[str]:
    """`{"train.steps": 20}`, `{"train": {"steps": 20}}` or `["train.steps=20"]` -> the last."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Mapping):
        return list(given)
    said = []
    for section, value in spelled_out(given).items():
        inner = value if isinstance(value, Mapping) else {"": value}
        for key, one in inner.items():
            # JSON is YAML, and says of "5" that it is a text.
            said.append(f"{section}{'.' * bool(key)}{key}={json.dumps(one, default=str)}")
    return said
