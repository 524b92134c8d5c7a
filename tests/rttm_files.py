"""Small corpora of RTTM files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from bab.plugins.datasets.rttm import Rttm


def sound(path: Path, seconds: float = 10.0, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(seconds * rate)), rate)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))


def turn(uri: str, start: float = 1.0, length: float = 2.0, label: str = "FEM") -> str:
    return f"SPEAKER {uri} 1 {start} {length} <NA> <NA> {label} <NA> <NA>"


def homes(root: Path, names: str = "abcdef", lists: bool = True) -> Path:
    """A plain corpus: one wav and one RTTM each; a-c train... as split lists say."""
    for name in names:
        sound(root / "wav" / f"{name}.wav")
        write(root / "rttm" / f"{name}.rttm", turn(name))
    if lists:
        write(root / "train.txt", *names[:-2])
        write(root / "dev.txt", names[-2])
        write(root / "test.txt", names[-1])
    return root


def load(root: Path, **options) -> Rttm:
    return Rttm(root, Rttm.Options(**options))


def spans(clip) -> list[tuple[float, float, str]]:
    return [(round(s.start, 6), round(s.end, 6), s.label) for s in clip.segments]


def ids(clips) -> list[str]:
    return [clip.id for clip in clips]
