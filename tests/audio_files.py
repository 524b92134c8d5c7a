"""Audio files for tests: every container that bab reads, written here and now."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import soundfile
import soxr

SECONDS = 12.137  # no whole number of anything

# name -> (ending, libsndfile's format, its subtype)
FORMATS = {
    "wav-8": ("wav", "WAV", "PCM_U8"),
    "wav-16": ("wav", "WAV", "PCM_16"),
    "wav-24": ("wav", "WAV", "PCM_24"),
    "wav-32": ("wav", "WAV", "PCM_32"),
    "wav-float": ("wav", "WAV", "FLOAT"),
    "wav-double": ("wav", "WAV", "DOUBLE"),
    "wav-extended": ("wav", "WAVEX", "PCM_16"),
    "flac": ("flac", "FLAC", "PCM_16"),
    "ogg": ("ogg", "OGG", "VORBIS"),
    "opus": ("opus", "OGG", "OPUS"),
    "mp3": ("mp3", "MP3", "MPEG_LAYER_III"),
}


def sound(rate: int, seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    """f32[n, channels] in (-1, 1): a gliding tone, with noise that comes and goes.

    The changes make encoders switch their block sizes and bit rates, where seeking is hardest.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(round(rate * seconds)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (200 + 100 * np.sin(t)) * t)
    noise = 0.15 * rng.standard_normal((channels, len(t))) * (np.sin(3 * t) > 0)
    scale = np.linspace(1, 0.5, channels)[:, None]
    return np.clip((tone + noise) * scale, -0.99, 0.99).T.astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, kind: str = "wav-16") -> Path:
    """Write f32[n, channels] in one of FORMATS; in blocks, as libvorbis needs."""
    _, container, subtype = FORMATS[kind]
    channels = samples.shape[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", rate, channels, format=container, subtype=subtype) as file:
        for at in range(0, len(samples), 8192):
            file.write(samples[at : at + 8192])
    return path


def cut(path: Path, share: float) -> Path:
    """Keep only the first `share` of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def sparse_wav(path: Path, rate: int, hours: float, at: float, samples: np.ndarray) -> Path:
    """A mono 16-bit WAV of silence that takes no room on disk, with int16 `samples` from second
    `at` on. Over 4 GB it is written as RF64 (EBU Tech 3306)."""
    size = round(hours * 3600) * rate * 2
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    if size < 1 << 32:
        head = struct.pack("<4sI4s", b"RIFF", (size + 36) & 0xFFFFFFFF, b"WAVE") + form
        head += struct.pack("<4sI", b"data", size)
    else:
        wide = struct.pack("<4sIQQQI", b"ds64", 28, size + 72, size, size // 2, 0)
        head = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE") + wide + form
        head += struct.pack("<4sI", b"data", 0xFFFFFFFF)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
        file.seek(len(head) + round(at * rate) * 2)
        file.write(samples.astype("<i2").tobytes())
    return path


def make(folder: Path, kind: str, rate: int, channels: int = 1, seconds: float = SECONDS) -> Path:
    """A file of `sound` in one of FORMATS, named by it."""
    path = folder / f"{kind}.{FORMATS[kind][0]}"
    return write(path, sound(rate, seconds, channels), rate, kind)


def whole(path: Path, rate: int) -> np.ndarray:
    """The reference: decode everything in one go, mix down, resample."""
    with soundfile.SoundFile(path) as file:
        samples = file.read(dtype="float32", always_2d=True).mean(axis=1)
        native = file.samplerate
    return samples if rate == native else soxr.resample(samples, native, rate)


def tone(path: Path, spans, seconds: float, floor: float = 0.001, rate: int = 16000) -> Path:
    """Loud noise in `spans`, faint noise elsewhere."""
    draw = np.random.default_rng(0)
    wave = draw.normal(size=round(seconds * rate)) * floor
    for a, b in spans:
        wave[round(a * rate) : round(b * rate)] += (
            draw.normal(size=round(b * rate) - round(a * rate)) * 0.1
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(wave, -0.99, 0.99).astype(np.float32), rate)
    return path
