"""Made-up voices. Nobody was recorded: speech is from espeak-ng, infants are summed harmonics.

Every function returns mono float64 at `RATE`, silence trimmed at both ends, of a whole number of
milliseconds, so that the labels written from its length are exact.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE = 16000
SAMPLES_PER_MS = RATE // 1000
Audio = NDArray[np.float64]

# Languages of espeak-ng whose letters sound much as they are written: made-up words read well.
LANGUAGES = ("es", "it", "fi", "sw", "id", "hu", "pl", "tr", "ro", "ca", "eu", "hr", "sk", "pt")
ONSETS = ("b", "d", "g", "k", "l", "m", "n", "p", "r", "s", "t", "f", "j", "br", "tr", "pl", "st")
VOWELS = "aeiou"


@dataclass(frozen=True)
class Voice:
    """One person. `kind` is KCHI, OCH, MAL or FEM; the rest are settings of the synthesis."""

    name: str
    kind: str
    language: str = ""
    variant: str = ""  # of espeak-ng: "m3", "f2"
    pitch: int = 50  # espeak-ng's scale, 0-99
    speed: int = 160  # words a minute
    scale: float = 1.0  # formants and pitch times this: a shorter vocal tract
    f0: float = 0.0  # infants: mean fundamental frequency, Hz
    distance: float = 1.0  # metres from the recorder


def cast(name: str, kind: str, draw: random.Random) -> Voice:
    """A voice of a kind. Pitch and tract lengths follow the usual ranges: men 85-155 Hz, women
    165-255 Hz, children above 250 Hz, infants 300-600 Hz."""
    if kind == "KCHI":
        return Voice(
            name, kind, scale=draw.uniform(0.9, 1.1), f0=draw.uniform(340, 460), distance=0.3
        )
    sex = "m" if kind == "MAL" else "f"
    return Voice(
        name,
        kind,
        language=draw.choice(LANGUAGES),
        variant=sex + str(draw.randint(1, 7 if sex == "m" else 5)),
        pitch=draw.randint(25, 50) if kind == "MAL" else draw.randint(45, 65),
        speed=draw.randint(150, 190) if kind != "OCH" else draw.randint(115, 145),
        scale=draw.uniform(1.28, 1.45) if kind == "OCH" else 1.0,
        distance=draw.uniform(0.8, 2.5),
    )


def utter(voice: Voice, draw: random.Random) -> Audio:
    """One utterance of a voice, at an RMS of 1."""
    sound = infant(voice, draw) if voice.kind == "KCHI" else speak(voice, draw)
    sound = trim(sound)
    return sound / np.sqrt(np.mean(sound**2))


def sentence(draw: random.Random) -> str:
    """Two to six made-up words."""
    words = [
        "".join(draw.choice(ONSETS) + draw.choice(VOWELS) for _ in range(draw.randint(1, 3)))
        for _ in range(draw.randint(2, 6))
    ]
    return " ".join(words) + draw.choice([".", ".", "?", "!"])


def speak(voice: Voice, draw: random.Random) -> Audio:
    """A made-up sentence by espeak-ng."""
    pitch = voice.pitch + draw.randint(-6, 6)
    return say(voice, sentence(draw), pitch)


def say(voice: Voice, text: str, pitch: int) -> Audio:
    """A text by espeak-ng; `voice.scale` shortens the vocal tract by resampling."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.wav"
        command = ["espeak-ng", "-v", f"{voice.language}+{voice.variant}", "-w", str(path)]
        command += ["-p", str(pitch), "-s", str(voice.speed)]
        subprocess.run([*command, text], check=True)
        sound, rate = soundfile.read(path)
    return np.asarray(soxr.resample(sound, rate * voice.scale, RATE))


def infant(voice: Voice, draw: random.Random) -> Audio:
    """A cry, a run of babble or a drawn-out vowel."""
    kind = draw.choices(["babble", "vowel", "cry"], [5, 3, 3])[0]
    if kind == "cry":
        return np.concatenate([cry(voice, draw) for _ in range(draw.randint(1, 2))])
    if kind == "vowel":
        return vowels(voice, draw, [draw.uniform(0.5, 1.3)], closures=False)
    lengths = [draw.uniform(0.16, 0.32) for _ in range(draw.randint(2, 7))]
    return vowels(voice, draw, lengths, closures=True)


def vowels(voice: Voice, draw: random.Random, lengths: list[float], closures: bool) -> Audio:
    """Syllables: the vocal tract opens and closes once in each, pitch rises and falls over all."""
    time, f0, gain, first, second = [], [], [], [], []
    base = voice.f0 * draw.uniform(0.9, 1.15)
    for length in lengths:
        x = np.linspace(0, 1, int(length * RATE), endpoint=False)
        opening = np.sin(np.pi * x) ** 0.5 if closures else np.minimum(1, 12 * np.minimum(x, 1 - x))
        tongue = draw.uniform(0, 1)  # back to front
        time.append(length)
        f0.append(np.full(x.size, 2 ** draw.uniform(-0.1, 0.1)))
        gain.append(0.04 + 0.96 * opening)
        first.append(500 + opening * draw.uniform(400, 900))
        second.append(1700 + tongue * 1600 + (1 - opening) * draw.choice([-400, 500]))
    melody = contour(sum(len(piece) for piece in f0), draw)
    pitch = base * melody * smooth(np.concatenate(f0), 0.03)
    tract = [smooth(np.concatenate(track), 0.015) * voice.scale for track in (first, second)]
    return voiced(pitch, np.concatenate(gain), [*tract, 4600 * voice.scale], 1.1, 0.015, draw)


def cry(voice: Voice, draw: random.Random) -> Audio:
    """One cry: pitch rises fast and falls, high harmonics are strong, the voice breaks up a little.

    A breath of 0.15 to 0.3 s before the next cry is part of it.
    """
    size = int(draw.uniform(0.6, 1.3) * RATE)
    x = np.linspace(0, 1, size, endpoint=False)
    arch = np.interp(x, [0, 0.15, 0.7, 1], [0.82, 1.08, 1.0, 0.75])
    pitch = voice.f0 * draw.uniform(1.05, 1.3) * arch
    gain = np.minimum(1, 15 * x) * np.minimum(1, 6 * (1 - x))
    tract = [np.full(size, f * voice.scale) for f in (1150.0, 3100.0)]
    sound = voiced(pitch, gain, [*tract, 4800 * voice.scale], 0.5, 0.06, draw)
    breath = 0.05 * noise(int(draw.uniform(0.15, 0.3) * RATE), draw)
    return np.concatenate([sound / np.abs(sound).max(), breath])


def contour(size: int, draw: random.Random) -> Audio:
    """f64[size]: a slow melody of about +-3 semitones, with vibrato."""
    x = np.linspace(0, 1, size)
    knots = [2 ** draw.uniform(-0.25, 0.25) for _ in range(5)]
    vibrato = 1 + 0.01 * np.sin(2 * np.pi * draw.uniform(4, 7) * np.arange(size) / RATE)
    return np.interp(x, np.linspace(0, 1, 5), knots) * vibrato


def voiced(
    f0: Audio, gain: Audio, formants: list, tilt: float, breath: float, draw: random.Random
) -> Audio:
    """Harmonics of a moving pitch, each as strong as the vocal tract passes it at that moment.

    Args:
        f0: Hz at each sample. gain: 0 to 1 at each sample.
        formants: centre frequencies, Hz, each a number or one value a sample.
        tilt: the k-th harmonic leaves the glottis with amplitude k ** -tilt.
        breath: share of aspiration noise.
    """
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    out = breath * noise(f0.size, draw)
    for k in range(1, int(0.95 * RATE / 2 / f0.min()) + 1):
        frequency = k * f0
        level = k**-tilt * resonance(frequency, formants) * (frequency < 0.95 * RATE / 2)
        out += level * np.sin(k * phase)
    return out * gain


def resonance(frequency: Audio, formants: list) -> Audio:
    """How much the vocal tract passes: parallel second-order resonances of 10 % bandwidth."""
    total = np.zeros_like(frequency)
    for number, centre in enumerate(formants):
        ratio = frequency / centre
        width = 0.1 + 60.0 / centre
        total += 0.7**number * width / np.sqrt((1 - ratio**2) ** 2 + (width * ratio) ** 2)
    return total


def smooth(track: Audio, seconds: float) -> Audio:
    """A moving average over `seconds`, ends held."""
    width = max(1, int(seconds * RATE))
    padded = np.pad(track, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def noise(size: int, draw: random.Random) -> Audio:
    """White noise of variance 1."""
    return np.random.default_rng(draw.getrandbits(64)).standard_normal(size)


def trim(sound: Audio, floor: float = 0.02) -> Audio:
    """Cut what is below `floor` of the peak at both ends; the rest is whole milliseconds long."""
    loud = np.flatnonzero(np.abs(sound) > floor * np.abs(sound).max())
    kept = sound[loud[0] : loud[-1] + 1]
    return np.pad(kept, (0, -kept.size % SAMPLES_PER_MS))
