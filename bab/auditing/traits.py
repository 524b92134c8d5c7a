"""26 numbers of a clip that say how it was recorded and filed, and nothing of what is
said in it. `docs/audit.md` lists them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bab.audio import reading
from bab.core.types import Clip

Floats = NDArray[np.float64]
VERSION = "1"  # of what is measured: part of the names of what is kept
# Trait -> what it is. Those of `SIGNAL` are in the audio or its coding; `NAMES` are where it lies.
SIGNAL: Mapping[str, str] = {
    "sample rate": "of the file, Hz",
    "channels": "of the file",
    "bit depth": "of a sample, bits; 0 for a lossy codec",
    "codec": "container and coding, numbered in the order of their names",
    "bit rate": "bytes of the file per second",
    "file length": "of the whole file, s",
    "duration": "of the clip, s",
    "start": "of the clip in its file, s",
    "loudness": "root mean square, dB of full scale",
    "peak": "largest sample, dB of full scale",
    "noise floor": "10th percentile of the levels of 25 ms frames, dB",
    "range": "95th less 10th percentile of the same, dB",
    "silence": "share of frames more than 30 dB below the 95th percentile",
    "zeros": "share of samples that are exactly 0",
    "clipping": "share of samples at full scale",
    "offset": "mean of the samples, full scale = 1",
    "steps": "log2 of 1 / the smallest difference of two sample values: the bits really used",
    "roll-off": "below it lies 99 % of the energy, Hz",
    "band limit": "highest frequency within 70 dB of the strongest, Hz",
    "hum": "50 and 60 Hz against what lies beside them, dB",
}
NAMES: Mapping[str, str] = {
    "name length": "characters of the file's name",
    "name digits": "digits in it",
    "name capitals": "capital letters in it",
    "name number": "the last number in it",
    "name place": "its place among the folder's files, by name",
    "folders": "folders above it, below those that all files share",
}
TRAITS: Mapping[str, str] = {**SIGNAL, **NAMES}
_BITS = {"U8": 8, "S8": 8, "16": 16, "24": 24, "32": 32, "FLOAT": 32, "DOUBLE": 64}
_PIECE, _PIECES = 10.0, 6  # of a clip of more than a minute: so many pieces of so many seconds
_FFT = 4096
_FLOOR = 1e-10  # power that stands for silence: -100 dB


def measure(
    clips: Sequence[Clip],
    known: dict[str, list[float]],
    keys: Mapping[str, str],
    progress: Callable[[float, float], None],
) -> Floats:
    """f64[N, traits]: of each clip, in the order of `TRAITS`.

    known: what was measured before, by `keys` (clip -> what it holds); what is new is added.

    Raises:
        AudioError: a file that can't be read.
    """
    for done, clip in enumerate(clips, start=1):
        key = keys[clip.id]
        if key not in known:
            known[key] = _heard(clip)
        progress(done, len(clips))
    rows = [known[keys[clip.id]] for clip in clips]
    about = [reading.info(clip.path) for clip in clips]
    coded = [f"{one.format}/{one.subtype}" for one in about]
    order = {name: float(i) for i, name in enumerate(sorted(set(coded)))}
    named = _names([clip.path for clip in clips])
    whole = []
    for clip, one, code, row in zip(clips, about, coded, rows, strict=True):
        size = Path(clip.path).stat().st_size
        file = [one.rate, one.channels, _bits(one.subtype), order[code], size / one.duration]
        times = [one.duration, clip.duration, clip.start]
        whole.append([*map(float, [*file, *times]), *row, *named[clip.path]])
    return np.array(whole, dtype=np.float64).reshape(len(clips), len(TRAITS))


def _bits(subtype: str) -> int:
    return 8 if "LAW" in subtype else _BITS.get(subtype.removeprefix("PCM_"), 0)


def _samples(clip: Clip) -> list[NDArray[np.float32]]:
    """The clip at its file's own rate; of a long one, pieces at even distances."""
    if clip.duration <= _PIECE * _PIECES:
        return [reading.read(clip.path, clip.start, clip.end)]
    starts = np.linspace(clip.start, clip.end - _PIECE, _PIECES)
    return [reading.read(clip.path, float(at), float(at) + _PIECE) for at in starts]


def _heard(clip: Clip) -> list[float]:
    """The traits of the sound itself, from "loudness" to "hum"."""
    pieces = [x.astype(np.float64) for x in _samples(clip)]
    x, rate = np.concatenate(pieces), reading.info(clip.path).rate
    length = max(1, round(0.025 * rate))
    levels = np.concatenate([_levels(piece, length) for piece in pieces])
    low, high = np.percentile(levels, [10, 95])
    size = np.abs(x)
    values = np.unique(x[: 10 * rate])
    step = float(np.diff(values).min()) if len(values) > 1 else 1.0
    level = [_decibel(float((x**2).mean())), _decibel(float(size.max()) ** 2)]
    shares = [(levels < high - 30).mean(), (x == 0).mean(), (size >= 0.999).mean()]
    steps = -math.log2(max(step, 2.0**-32))
    band = _band(pieces, rate)
    return [*map(float, [*level, low, high - low, *shares, x.mean(), round(steps, 3)]), *band]


def _decibel(power: float) -> float:
    return 10 * math.log10(max(power, _FLOOR))


def _levels(x: Floats, length: int) -> Floats:
    """dB of each frame of so many samples; of less than one frame, of all there is."""
    count = len(x) // length
    frames = x[: count * length].reshape(count, length) if count else x[None]
    return np.asarray(10 * np.log10(np.maximum((frames**2).mean(axis=1), _FLOOR)))


def _band(pieces: Sequence[Floats], rate: int) -> list[float]:
    """Roll-off and band limit (Hz) and hum (dB), from the mean power spectrum."""
    window = np.hanning(_FFT)
    power, count = np.zeros(_FFT // 2 + 1), 0
    for x in pieces:
        x = np.pad(x, (0, max(0, _FFT - len(x))))
        for at in range(0, len(x) - _FFT + 1, _FFT):
            power += np.abs(np.fft.rfft(window * x[at : at + _FFT])) ** 2
            count += 1
    power[0] = 0.0  # the offset is a trait of its own
    total = power.sum()
    if not total:
        return [0.0, 0.0, 0.0]
    hertz = np.fft.rfftfreq(_FFT, 1 / rate)
    roll = hertz[np.searchsorted(np.cumsum(power), 0.99 * total)]
    limit = hertz[np.flatnonzero(power >= power.max() * 1e-7)[-1]]
    power = power / count + _FLOOR
    hum = 0.0
    for mains in (50.0, 60.0):
        near = np.abs(hertz - mains)
        own, beside = near <= rate / _FFT, (near > 2 * rate / _FFT) & (near < 6 * rate / _FFT)
        hum = max(hum, 10 * math.log10(power[own].max() / power[beside & (hertz > 0)].mean()))
    return [float(roll), float(limit), hum]


def _names(paths: Sequence[str]) -> dict[str, list[float]]:
    """What files are called and where they lie, as numbers."""
    unique = sorted(set(paths))
    shared = min((len(Path(p).parts) for p in unique), default=0)
    folders: dict[str, list[str]] = {}
    for path in unique:
        folders.setdefault(str(Path(path).parent), []).append(path)
    place = {path: i for listed in folders.values() for i, path in enumerate(listed)}
    named = {}
    for path in unique:
        name = Path(path).stem
        numbers = re.findall(r"\d+", name)
        number = float(numbers[-1][-12:]) if numbers else -1.0
        digits, capitals = sum(c.isdigit() for c in name), sum(c.isupper() for c in name)
        depth = len(Path(path).parts) - shared
        named[path] = [*map(float, (len(name), digits, capitals, number, place[path], depth))]
    return named
