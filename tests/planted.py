"""A made-up corpus in which KCHI is a tone and FEM is hiss, both planted into faint noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
TONE = 1500.0  # hertz


def scene(seed: int, seconds: float = 4.0) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """A sound, and what was planted where: one burst of each kind."""
    draw = np.random.default_rng(seed)
    sound = draw.normal(0, 0.003, round(seconds * RATE))
    segments = []
    half = seconds / 2
    for kind, begin in zip(draw.permutation(["KCHI", "FEM"]), (0.0, half), strict=True):
        length = draw.uniform(0.5, 0.9)
        start = begin + draw.uniform(0.1, half - length - 0.1)
        first, count = round(start * RATE), round(length * RATE)
        time = np.arange(count) / RATE
        burst = 0.1 * np.sin(2 * np.pi * TONE * time)
        if kind == "FEM":
            burst = draw.normal(0, 0.05, count)
        sound[first : first + count] += burst * np.hanning(count).clip(max=0.5) * 2
        segments.append((start, start + length, str(kind)))
    return sound, segments


def lay(root: Path, count: int = 12) -> Path:
    """A corpus of the layout `rttm`."""
    for folder in ("wav", "rttm"):
        (root / folder).mkdir(parents=True)
    names = [f"scene{i:02d}" for i in range(count)]
    for i, name in enumerate(names):
        sound, segments = scene(i)
        soundfile.write(root / "wav" / f"{name}.wav", sound, RATE)
        lines = [
            f"SPEAKER {name} 1 {a:.3f} {b - a:.3f} <NA> <NA> {label} <NA> <NA>"
            for a, b, label in segments
        ]
        (root / "rttm" / f"{name}.rttm").write_text("\n".join(lines) + "\n")
    edge = count - 4
    for split, part in (("train", names[:edge]), ("dev", names[edge:-2]), ("test", names[-2:])):
        (root / f"{split}.txt").write_text("\n".join(part) + "\n")
    return root
