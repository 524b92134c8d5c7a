"""Contract suites that plugin authors run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bab.testing.corpora import CorpusContract as CorpusContract
    from bab.testing.encoders import EncoderContract as EncoderContract
    from bab.testing.formats import FormatContract as FormatContract
    from bab.testing.heads import HeadContract as HeadContract
    from bab.testing.launchers import LauncherContract as LauncherContract
    from bab.testing.models import ModelContract as ModelContract
    from bab.testing.objectives import ObjectiveContract as ObjectiveContract
    from bab.testing.observers import ObserverContract as ObserverContract
    from bab.testing.tasks import TaskContract as TaskContract

_CLASSES = {
    "CorpusContract": "corpora",
    "EncoderContract": "encoders",
    "FormatContract": "formats",
    "HeadContract": "heads",
    "LauncherContract": "launchers",
    "ModelContract": "models",
    "ObjectiveContract": "objectives",
    "ObserverContract": "observers",
    "TaskContract": "tasks",
}
__all__ = sorted(_CLASSES)


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module 'bab.testing' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"bab.testing.{_CLASSES[name]}"), name)
