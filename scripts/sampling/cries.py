"""Made-up corpora of short sounds: `recanvo`, `donateacry` and `esc50`, each in its real layout.

All infants are summed harmonics, and all else is noise and damped tones: nobody was recorded.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr
from scipy.signal import lfilter

from sampling.files import write_audio, write_csv
from sampling.homes import add_knock
from sampling.voices import RATE, Audio, Voice, cast, cry, noise, trim, vowels

LOW = 8000  # Hz, of ReCANVo's and DonateACry's stand-ins: small files
PEAK = 0.7


def laugh(voice: Voice, draw: random.Random) -> Audio:
    """Ha ha ha: short breathy vowels, each lower than the one before."""
    bursts = []
    for k in range(draw.randint(3, 4)):
        one = replace(voice, f0=voice.f0 * (1.35 - 0.09 * k))
        bursts.append(vowels(one, draw, [draw.uniform(0.07, 0.1)], closures=True))
        bursts.append(0.03 * noise(int(draw.uniform(0.02, 0.05) * RATE), draw))
    return np.concatenate(bursts)


def squeal(voice: Voice, draw: random.Random) -> Audio:
    """One long high vowel."""
    return vowels(replace(voice, f0=voice.f0 * 1.5), draw, [draw.uniform(0.35, 0.5)], False)


def wail(voice: Voice, draw: random.Random) -> Audio:
    """The first half second of a cry."""
    return cry(voice, draw)[: int(draw.uniform(0.4, 0.5) * RATE)]


def babble(voice: Voice, draw: random.Random) -> Audio:
    """Two or three syllables at an even pitch."""
    return vowels(voice, draw, [draw.uniform(0.13, 0.18) for _ in range(3)], closures=True)


VOCALISATIONS: dict[str, Callable[[Voice, random.Random], Audio]] = {
    "delighted": squeal,
    "laughter": laugh,
    "frustrated": wail,
    "dysregulated": wail,
    "selftalk": babble,
}


def finish(sound: Audio, rate: int) -> Audio:
    """f64[samples, 1] at `rate`, trimmed, whole hundredths of a second long, peak `PEAK`."""
    kept = trim(sound)
    kept = kept[: kept.size // (RATE // 100) * (RATE // 100)]
    out = kept if rate == RATE else np.asarray(soxr.resample(kept, RATE, rate))
    fade = np.minimum(1, np.minimum(np.arange(out.size), np.arange(out.size)[::-1]) / (0.01 * rate))
    out = out * fade
    return (PEAK * out / np.abs(out).max())[:, None]


def make_recanvo(root: Path, seed: int) -> None:
    """Five participants, two sessions each, five labels; wav files of 8 bits to keep them small."""
    rows: list[list[object]] = []
    for person in range(1, 6):
        draw = random.Random(f"{seed} recanvo {person}")
        voice = cast(f"P{person:02d}", "KCHI", draw)
        for number, (label, make) in enumerate(VOCALISATIONS.items()):
            sound = finish(make(voice, draw), LOW)
            start = draw.randrange(100, 50000) / 100
            session = f"2001{person + 10}_{1400 + 100 * (number % 2)}"
            name = f"{session}_{clock(start)}--{clock(start + len(sound) / LOW)}.wav"
            write_audio(root / "wav" / name, sound, LOW, "PCM_U8")
            rows.append([name, voice.name, label])
    write_csv(root / "dataset_file_directory.csv", "Filename,Participant,Label", rows)


def clock(seconds: float) -> str:
    """HH-MM-SS.ss, as ReCANVo writes times."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60:02d}-{minutes % 60:02d}-{rest // 100:02d}.{rest % 100:02d}"


# Reason -> code, and how the made-up cry differs: pitch, and cries in a row.
REASONS = {"hungry": ("hu", 1.0, 2), "tired": ("ti", 0.8, 1), "belly_pain": ("bp", 1.25, 2)}
AGES = ("04", "48", "26", "72")


def make_donateacry(root: Path, seed: int) -> None:
    """Eight app installations, two or three cries each; half iOS and half Android names."""
    for app in range(8):
        draw = random.Random(f"{seed} donateacry {app}")
        voice = cast(f"app{app}", "KCHI", draw)
        digits = f"{draw.getrandbits(128):032x}"
        uuid = "-".join(digits[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        android = app % 2 == 1
        epoch = 1430000000 + draw.randrange(10**6)
        gender, age = draw.choice("mf"), AGES[app % len(AGES)]
        for number, (reason, (code, pitch, times)) in enumerate(REASONS.items()):
            if number == app % 3 and app > 4:
                continue
            one = replace(voice, f0=voice.f0 * pitch)
            sound = finish(np.concatenate([wail(one, draw) for _ in range(times)]), LOW)
            when = f"{epoch + 10 * number}" + ("123" if android else "")
            owner, version = (uuid, "1.7") if android else (uuid.upper(), "1.0")
            form = "flac" if number == 0 and app == 0 else "opus"
            name = f"{owner}-{when}-{version}-{gender}-{age}-{code}.{form}"
            write_audio(root / reason / name, sound, LOW)


def rain(draw: random.Random) -> Audio:
    """Hiss of 2 s."""
    return np.asarray(lfilter([1.0, -0.6], [1.0], noise(2 * RATE, draw)))


def knocks(draw: random.Random) -> Audio:
    """A few thuds in 2 s."""
    sound = 0.01 * noise(2 * RATE, draw)
    for _ in range(draw.randint(4, 7)):
        add_knock(sound, draw)
    return sound


def crying(draw: random.Random) -> Audio:
    """Two seconds of cries."""
    voice = cast("baby", "KCHI", draw)
    sound = np.concatenate([cry(voice, draw) for _ in range(4)])
    return sound[: 2 * RATE]


CATEGORIES: dict[str, tuple[int, bool, Callable[[random.Random], Audio]]] = {
    "rain": (10, True, rain),
    "crying_baby": (20, True, crying),
    "door_wood_knock": (30, False, knocks),
}


def make_esc50(root: Path, seed: int) -> None:
    """Three categories in five folds, 2 s each; one source recording gives two takes.

    As in ESC-50 the table says .wav; the files are Opus, which a tenth of the space holds.
    """
    rows: list[list[object]] = []
    for fold in range(1, 6):
        for category, (target, esc10, make) in CATEGORIES.items():
            draw = random.Random(f"{seed} esc50 {fold} {category}")
            source = 100000 * fold + target
            for take in "AB" if (fold, category) == (1, "rain") else "A":
                name = f"{fold}-{source}-{take}-{target}"
                sound = make(draw)
                sound = PEAK * sound / np.abs(sound).max()
                write_audio(root / "audio" / f"{name}.opus", sound[:, None], RATE)
                rows.append([f"{name}.wav", fold, target, category, esc10, source, take])
    write_csv(
        root / "meta" / "esc50.csv", "filename,fold,target,category,esc10,src_file,take", rows
    )
