"""Where bab keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """$BAB_CACHE, $XDG_CACHE_HOME/bab or ~/.cache/bab."""
    if own := os.environ.get("BAB_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "bab"
    return Path.home() / ".cache" / "bab"
