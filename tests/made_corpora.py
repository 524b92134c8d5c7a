"""Small folders of audio and tables, corpora read from them, and what is said of their mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bab.core.errors import CorpusError
from bab.kit import Faults

SUFFIXES = ".flac, .mp3, .oga, .ogg, .opus, .wav"


def lay(root: Path, *names: str, seconds: float = 0.1) -> Path:
    """Recordings of those names below a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(round(8000 * seconds), 0.1), 8000)
    return root


def table(path: Path, *rows: str) -> Path:
    """A file of those lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def load(kind: Any, root: Path, **options: Any) -> Any:
    """A corpus of a class, read."""
    return kind(root, kind.Options(**options))


def refused(kind: Any, root: Path, **options: Any) -> str:
    """What is said of a corpus that can't be read."""
    with pytest.raises(CorpusError) as caught:
        load(kind, root, **options)
    return str(caught.value)


def notes(faults: Faults) -> list[str]:
    """The lines of what was wrong."""
    with pytest.raises(CorpusError) as caught:
        faults.refuse()
    return list(caught.value.__notes__)
