"""bab: pretrain, adapt and compare self-supervised audio encoders. Nothing heavy is imported here.

`bab.run(...)`, `bab.load(...)`, `bab.table(...)` and the five contracts are loaded on first use.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "Corpus": "bab.core.interfaces",
    "Encoder": "bab.core.interfaces",
    "Head": "bab.core.interfaces",
    "Objective": "bab.core.interfaces",
    "Options": "bab.core.interfaces",
    "Task": "bab.core.interfaces",
    "hookimpl": "bab.core.hooks",
    "load": "bab.core.registry",
    "run": "bab.core.runner",
    "table": "bab.core.results",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'bab' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
