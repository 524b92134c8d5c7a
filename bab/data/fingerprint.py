"""Recordings that sound the same though their bytes differ: re-encoded, resampled, made louder.

A file's fingerprint is the outline of its sound: log energies of a few mel bands, `_RATE` times a
second, each band less its mean (so that gain and the colour of a codec fall out). Two files are
near-identical where they are as long as each other and their fingerprints correlate, at the best
shift of a few frames (a codec's delay). An excerpt of a file isn't recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bab.audio import reading
from bab.audio.reading import Problem
from bab.core.errors import AudioError
from bab.data.content import content_id

_SAMPLES = 8000  # Hz at which files are compared: all codecs keep what lies below 3.4 kHz
_RATE = 25  # frames a second
_BANDS = 12  # mel bands between 150 and 3400 Hz
_PIECE = 60.0  # seconds read at once
_SKETCH = 32  # stretches of time in the sketch by which pairs are found
_LENGTH = 0.25  # seconds by which the lengths of a pair may differ: codecs pad
_SHIFT = 4  # frames: 160 ms
_SHORTEST = 10  # frames: shorter ones say too little
_FLOOR = 1e-4  # of a file's loudest band energy: below it is noise of a codec, or its silence
SAME = 0.97  # correlation: docs/corpora.md says what was measured
_NEAR = 0.8  # of the sketches of a pair that is looked at


class Alike(NamedTuple):
    """Two files whose sound is near-identical, and their correlation."""

    path: str
    other: str
    correlation: float


def fingerprint(path: str) -> NDArray[np.float32]:
    """f32[frames, bands], each band's mean 0.

    Raises:
        AudioError: the file can't be read.
    """
    size = _SAMPLES // _RATE
    window, filters = np.hanning(2 * size).astype(np.float32), _filters(2 * size)
    end, energies = reading.duration(path), []
    start = 0.0
    while start < end:
        wave = reading.read(path, start, min(end, start + _PIECE), _SAMPLES)
        wave = np.pad(wave, (0, 2 * size))
        frames = np.lib.stride_tricks.sliding_window_view(wave, 2 * size)[: -2 * size : size]
        energies.append((np.abs(np.fft.rfft(frames * window)) ** 2 @ filters).astype(np.float32))
        start += _PIECE
    whole = np.concatenate(energies)
    if not len(whole):
        return whole
    logs = np.log(whole + _FLOOR * whole.max() + 1e-12)
    return np.asarray(logs - logs.mean(0), np.float32)


def alike(
    paths: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> Iterator[Alike]:
    """Pairs of near-identical files; unreadable, silent and very short ones are left out.

    progress: told files done, files in all. Memory: 4 MB for an hour of audio.
    """
    prints: dict[str, NDArray[np.float32]] = {}
    for done, path in enumerate(paths, start=1):
        try:
            made = fingerprint(path)
        except AudioError:  # reported by the check of the file itself
            made = np.zeros((0, _BANDS), np.float32)
        if len(made) >= _SHORTEST and made.std() > 0.1:
            prints[path] = made
        if progress is not None:
            progress(done, len(paths))
    ordered = sorted(prints, key=lambda path: (len(prints[path]), path))
    lengths = np.array([len(prints[path]) for path in ordered])
    size = _SKETCH * _BANDS
    sketches = np.array([_sketch(prints[path]) for path in ordered]).reshape(-1, size)
    for i, path in enumerate(ordered):
        last = int(np.searchsorted(lengths, lengths[i] + _LENGTH * _RATE, side="right"))
        near = sketches[i + 1 : last] @ sketches[i]
        for j in np.flatnonzero(near > _NEAR) + i + 1:
            value = correlation(prints[path], prints[ordered[j]])
            if value >= SAME:
                yield Alike(path, ordered[j], value)


def correlation(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """Pearson's, over all bands and frames, at the best shift."""
    best = -1.0
    for shift in range(-_SHIFT, _SHIFT + 1):
        a, b = one[max(0, shift) :], two[max(0, -shift) :]
        size = min(len(a), len(b))
        if size >= _SHORTEST:
            x, y = a[:size] - a[:size].mean(0), b[:size] - b[:size].mean(0)
            scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
            best = max(best, float((x * y).sum()) / scale if scale else -1.0)
    return best


def near_identical(paths: Sequence[str], progress: Callable[[int, int], None]) -> Iterator[Problem]:
    """Such pairs as warnings, but for copies to the byte, of which others tell."""
    content: dict[str, str] = {}
    for one in alike(paths, progress):
        for path in one[:2]:
            content[path] = content.get(path) or content_id(path)
        if content[one.path] == content[one.other]:
            continue
        message = (
            f"{one.path} and {one.other} sound the same (correlation {one.correlation:.3f}): one "
            "may be a copy of the other in another format; listen, and leave one out"
        )
        yield Problem(one.other, "near-identical", message, fatal=False)


def _sketch(made: NDArray[np.float32]) -> NDArray[np.float32]:
    """f32[stretches * bands] of length 1: the fingerprint on a coarse grid."""
    edges = np.linspace(0, len(made), _SKETCH + 1)
    sums = np.vstack([np.zeros(made.shape[1]), np.cumsum(made, 0)])
    at = np.stack([np.interp(edges, np.arange(len(sums)), column) for column in sums.T], 1)
    coarse = np.diff(at, axis=0).ravel()
    return np.asarray(coarse / max(float(np.linalg.norm(coarse)), 1e-9), np.float32)


def _filters(size: int) -> NDArray[np.float32]:
    """f32[size // 2 + 1, bands]: triangles on the mel scale (2595 log10(1 + f / 700), HTK's)."""
    mel = 2595 * np.log10(1 + np.array([150.0, 3400.0]) / 700)
    edges = 700 * (10 ** (np.linspace(mel[0], mel[1], _BANDS + 2) / 2595) - 1)
    hertz = np.arange(size // 2 + 1)[:, None] * _SAMPLES / size
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    up, down = (hertz - low) / (mid - low), (high - hertz) / (high - mid)
    return np.asarray(np.clip(np.minimum(up, down), 0, None), np.float32)
