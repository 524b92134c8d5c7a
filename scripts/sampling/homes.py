"""Made-up homes: who speaks when, in which room, over what noise."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import fftconvolve, lfilter

from sampling.voices import RATE, SAMPLES_PER_MS, Audio, Voice, noise, utter


@dataclass(frozen=True)
class Turn:
    """One utterance in place: start and length in whole milliseconds, and its dry sound."""

    voice: Voice
    start: int
    length: int
    sound: Audio = field(repr=False)


def converse(voices: list[Voice], seconds: float, draw: random.Random) -> list[Turn]:
    """Turns that fill a recording: bouts of talk with overlaps, and long stretches without.

    Whoever has spoken least is likeliest to be next, so every voice is heard.
    """
    turns: list[Turn] = []
    spoken = {voice.name: 0.0 for voice in voices}
    now = int(draw.uniform(300, 2000))
    previous = None
    while True:
        others = [voice for voice in voices if voice != previous or draw.random() < 0.4] or voices
        voice = draw.choices(others, [1 / (1.0 + spoken[v.name]) ** 3 for v in others])[0]
        sound = utter(voice, draw)
        length = sound.size // SAMPLES_PER_MS
        overlap = bool(turns) and turns[-1].voice != voice and draw.random() < 0.5
        begin = now - int(draw.uniform(0.4, 0.95) * turns[-1].length) if overlap else now
        begin = max(begin, free(turns, voice))
        if begin + length > seconds * 1000 - 200:
            return turns
        turns.append(Turn(voice, begin, length, sound))
        spoken[voice.name] += length / 1000
        previous = voice
        now = max(turn.start + turn.length for turn in turns) + pause(draw)


def free(turns: list[Turn], voice: Voice) -> int:
    """When this voice can speak again, ms: nobody overlaps with herself."""
    ends = [turn.start + turn.length for turn in turns if turn.voice == voice]
    return max(ends, default=-120) + 120


def pause(draw: random.Random) -> int:
    """Until the next turn, ms: mostly short, sometimes the end of a bout."""
    if draw.random() < 0.3:
        return int(draw.uniform(2500, 6500))
    return int(draw.uniform(150, 900))


def render(turns: list[Turn], seconds: float, channels: int, draw: random.Random) -> Audio:
    """f64[samples, channels]: every voice in its place in one room, over that home's noise."""
    size = int(seconds * RATE)
    decay = draw.uniform(0.15, 0.45)
    mix = np.zeros((size, channels))
    for voice in sorted({turn.voice for turn in turns}, key=lambda one: one.name):
        dry = np.zeros(size)
        for turn in turns:
            if turn.voice == voice:
                at = turn.start * SAMPLES_PER_MS
                level = draw.uniform(0.7, 1.3) / max(voice.distance, 0.5) ** 0.7
                dry[at : at + turn.sound.size] += level * turn.sound
        for channel in range(channels):
            mix[:, channel] += fftconvolve(dry, room(decay, voice.distance, draw))[:size]
    loudness = draw.uniform(0.03, 0.12)
    mix += loudness * household(size, draw)[:, None]
    mix += 0.1 * loudness * noise(size * channels, draw).reshape(size, channels)
    return 0.7 * mix / np.abs(mix).max()


def room(decay: float, distance: float, draw: random.Random) -> Audio:
    """A room's response: the direct sound at sample 0, then a tail that loses 60 dB in `decay` s.

    The farther the voice, the more of what arrives is tail.
    """
    size = int(decay * RATE)
    time = np.arange(size) / RATE
    tail = noise(size, draw) * 10 ** (-3 * time / decay)
    tail[: int(0.004 * RATE)] = 0
    tail *= 0.35 * distance / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail


def household(size: int, draw: random.Random) -> Audio:
    """What a home sounds like without voices, at an RMS near 1: hiss, hum, steps, dishes."""
    hiss = lfilter([1.0], [1.0, -draw.uniform(0.9, 0.98)], noise(size, draw))
    hiss /= np.sqrt(np.mean(hiss**2))
    time = np.arange(size) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * time + draw.uniform(0, 6)) / k for k in (1, 2, 3, 5))
    sound = hiss + draw.uniform(0, 0.6) * hum
    for _ in range(int(size / RATE / draw.uniform(2, 6))):
        add_knock(sound, draw)
    return np.asarray(sound)


def add_knock(sound: Audio, draw: random.Random) -> None:
    """Add one thud or clink, in place: a few damped tones that start together."""
    low = draw.random() < 0.5
    at = draw.randrange(sound.size)
    time = np.arange(min(int(0.25 * RATE), sound.size - at)) / RATE
    for _ in range(3):
        frequency = draw.uniform(60, 250) if low else draw.uniform(1500, 6000)
        ring = np.exp(-time * draw.uniform(15, 40)) * np.sin(2 * np.pi * frequency * time)
        sound[at : at + time.size] += draw.uniform(1, 5) * ring
