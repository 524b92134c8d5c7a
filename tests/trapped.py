"""Made-up corpora whose classes differ in how they were recorded, or in nothing at all."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, int]]  # class (0, 1) -> sound, rate


def sound(draw: np.random.Generator, rate: int = 16000, floor: float = 0.003) -> np.ndarray:
    """A burst of noise, of random loudness, in fainter noise."""
    x = draw.normal(0, floor, rate // 2)
    x[rate // 8 : rate // 4] += draw.normal(0, draw.uniform(0.02, 0.2), rate // 4 - rate // 8)
    return x


def plain(draw: np.random.Generator, kind: int) -> tuple[np.ndarray, int]:
    """No trap: the classes are drawn alike."""
    return sound(draw), 16000


def rated(draw: np.random.Generator, kind: int) -> tuple[np.ndarray, int]:
    """The class is in the sample rate."""
    rate = 8000 if kind else 16000
    return sound(draw, rate), rate


def noisy(draw: np.random.Generator, kind: int) -> tuple[np.ndarray, int]:
    """The class is in the noise floor: 6 dB."""
    return sound(draw, floor=0.004 if kind else 0.002), 16000


def lay(root: Path, made: Draw, groups: int = 14, each: int = 4, seed: int = 0) -> Path:
    """A `manifest` corpus: groups of clips, each of which has both classes `word`."""
    (root / "audio").mkdir(parents=True)
    draw, rows = np.random.default_rng(seed), []
    kinds = [[i % 2 for i in range(each)] for _ in range(groups)]
    for group, own in enumerate(kinds):
        for place, i in enumerate(draw.permutation(each)):
            x, rate = made(draw, own[i])
            path = f"audio/g{group:02}-{draw.integers(1000):03}-{place}.wav"
            soundfile.write(root / path, np.clip(x, -1, 1), rate)
            rows.append((path, f"g{group:02}", ("no", "yes")[own[i]]))
    write(root, rows)
    return root


def write(root: Path, rows: list[tuple[str, str, str]]) -> Path:
    """The manifest: path, group, word."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("path", "group", "word"), *rows])
    return root
