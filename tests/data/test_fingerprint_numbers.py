"""Fingerprints of sounds in numbers: bands, frames, correlations and pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torchaudio

from bab.core.errors import AudioError
from bab.data import fingerprint
from bab.data.check import Problem
from bab.data.fingerprint import Alike, alike, correlation, near_identical


def test_bands_are_htks_mel_triangles() -> None:
    """torchaudio's, but for the two ends, which its FFT's bins can't all reach."""
    made = fingerprint._filters(640)
    wanted = torchaudio.functional.melscale_fbanks(321, 150.0, 3400.0, 12, 8000, None, "htk")
    assert made.shape == (321, 12) and made.dtype == np.float32
    np.testing.assert_allclose(made, wanted.numpy(), atol=1e-4)


def test_a_fingerprint_is_the_outline_of_a_sound(tmp_path: Path, monkeypatch: Any) -> None:
    draw = np.random.default_rng(0)
    wave = draw.normal(0, 0.05, 8000 * 3)
    wave[8000:16000] *= 4
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, 8000, "DOUBLE")
    made = fingerprint.fingerprint(str(path))
    assert made.shape == (74, 12)  # 25 a second, as many as are whole
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-5)
    frames = np.stack([wave[i * 320 : i * 320 + 640] for i in range(74)])
    power = np.abs(np.fft.rfft(frames * np.hanning(640))) ** 2 @ fingerprint._filters(640)
    logs = np.log(power + 1e-4 * power.max() + 1e-12)
    np.testing.assert_allclose(made, logs - logs.mean(0), atol=2e-3)
    monkeypatch.setattr(fingerprint, "_PIECE", 1.0)
    assert fingerprint.fingerprint(str(path)).shape == (72, 12)
    soundfile.write(path, wave[:639], 8000, "DOUBLE")
    assert fingerprint.fingerprint(str(path)).shape == (0, 12)


def test_correlation_is_pearsons_at_the_best_shift() -> None:
    draw = np.random.default_rng(0)
    one = draw.normal(size=(40, 3)).astype(np.float32)
    assert correlation(one, one) == pytest.approx(1.0)
    assert correlation(one, 3 * one + 5) == pytest.approx(1.0)
    for shift in range(1, 6):
        found = correlation(one, one[shift:]), correlation(one[shift:], one)
        assert (found[0] > 0.999, found[1] > 0.999) == (shift <= 4, shift <= 4)
    other = draw.normal(size=(30, 3)).astype(np.float32)
    best = -1.0
    for shift in range(-4, 5):
        a, b = one[max(0, shift) :], other[max(0, -shift) :]
        n = min(len(a), len(b))
        x, y = a[:n] - a[:n].mean(0), b[:n] - b[:n].mean(0)
        best = max(best, np.corrcoef(x.ravel(), y.ravel())[0, 1])
    assert correlation(one, other) == pytest.approx(best, abs=1e-5)
    assert correlation(one[:9], one[:9]) == -1.0 and correlation(one[:10], one[:10]) > 0.99
    assert correlation(np.zeros((20, 3), np.float32), one[:20]) == -1.0


def test_pairs_are_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a second, 6.25 frames, is the most by which they may differ."""
    draw = np.random.default_rng(0)
    time = np.arange(100)[:, None] / 12
    whole, other = (np.sin(time * draw.uniform(1, 2, 12) + draw.uniform(0, 6, 12)) for _ in "ab")
    prints = {
        "a": whole, "b": whole[:94], "c": whole[:93], "d": other,
        "flat": np.full((100, 12), 0.05), "brief": whole[:9], "ten": whole[:10], "also": whole[:10],
    }  # fmt: skip

    def made(path: str) -> np.ndarray:
        if path not in prints:
            raise AudioError("broken")
        return np.asarray(prints[path], np.float32)

    monkeypatch.setattr(fingerprint, "fingerprint", made)
    told: list[tuple[int, int]] = []
    paths = ["broken", *prints, "flat2"]
    found = list(alike(paths, lambda *now: told.append(now)))
    assert [(one.path, one.other) for one in found] == [("also", "ten"), ("c", "b"), ("b", "a")]
    assert all(one.correlation > 0.999 for one in found)
    assert told == [(i, len(paths)) for i in range(1, len(paths) + 1)]
    assert list(alike([])) == []


def test_what_is_said_of_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"a": "1", "b": "2", "c": "1"}
    asked: list[str] = []
    monkeypatch.setattr(fingerprint, "content_id", lambda path: asked.append(path) or held[path])
    pairs = [Alike("a", "b", 0.98765), Alike("a", "c", 1.0)]
    monkeypatch.setattr(fingerprint, "alike", lambda paths, progress: iter(pairs))
    told = "a and b sound the same (correlation 0.988): one may be a copy of the other in another "
    told += "format; listen, and leave one out"
    found = list(near_identical(["a", "b", "c"], lambda *now: None))
    assert found == [Problem("b", "near-identical", told, False)]
    assert asked == ["a", "b", "c"]
