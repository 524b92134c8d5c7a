"""Where speech is in a recording of any length: silero-vad, or a rule on energy.

Both give a score every 32 ms, read minute by minute; what is kept of an hour is half a megabyte.
Scores become stretches of speech by one rule, silero's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from bab.audio import reading
from bab.core.errors import BabError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Name = Literal["silero", "energy"]
Span = tuple[int, int]  # samples at RATE, from the beginning of what was listened to
RATE = 16000
STEP = 512  # samples of one score: what silero takes in at 16 kHz
_PIECE = 1875 * STEP  # 60 s, a whole number of steps
# silero-vad's defaults (get_speech_timestamps): speech begins at .5 and ends where the score stays
# below .35 for 100 ms; what is shorter than 250 ms is no speech; 30 ms are added on each side.
_SILENCE, _SHORTEST, _PAD = RATE // 10, RATE // 4, 30 * RATE // 1000
THRESHOLDS: dict[Name, tuple[float, float]] = {"silero": (0.5, 0.35), "energy": (9.0, 6.0)}
VERSION = 1  # of everything here that the stretches depend on
_QUIETEST = -80.0  # dB of full scale: silence in numbers counts as this
_GATE = -60.0  # dB of full scale: what is quieter is never speech


def require(name: Name) -> None:
    """Raises:
    BabError: silero-vad isn't installed.
    """
    from importlib.util import find_spec

    if name == "silero" and find_spec("silero_vad") is None:
        raise BabError(
            "--vad silero needs silero-vad: pip install 'bab[prepare]', or use --vad energy"
        )


def detect(path: str, start: float, end: float, name: Name) -> tuple[list[Span], int, int]:
    """The speech in [start, end) seconds of a file.

    Returns:
        Stretches of speech, in samples from `start` at 16 kHz, in order and apart; how many bursts
        were shorter than 250 ms and so no speech, and how many samples these were; not padded.

    Raises:
        AudioError: the file can't be read.
    """
    scores, samples = (_silero if name == "silero" else _energy)(path, start, end)
    spans = stretches_of(scores, *THRESHOLDS[name])
    spans = [(a, min(b, samples)) for a, b in spans]
    kept = [(a, b) for a, b in spans if b - a > _SHORTEST]
    bursts = [b - a for a, b in spans if b - a <= _SHORTEST]
    return padded(kept, samples), len(bursts), sum(bursts)


def stretches_of(scores: NDArray[np.float32], on: float, off: float) -> list[Span]:
    """Hysteresis: from the first score >= on, to where scores stay below `off` (none between
    reaching `on` again) for 100 ms; samples."""
    stretches: list[Span] = []
    start, quiet = -1, -1
    for i, score in enumerate(scores.tolist()):
        at = i * STEP
        if score >= on:
            quiet = -1
            start = at if start < 0 else start
        elif score < off and start >= 0:
            quiet = at if quiet < 0 else quiet
            if at - quiet >= _SILENCE:
                stretches.append((start, quiet))
                start, quiet = -1, -1
    if start >= 0:
        stretches.append((start, len(scores) * STEP))
    return stretches


def padded(spans: list[Span], samples: int) -> list[Span]:
    """30 ms more on each side; neighbours that are nearer than twice that meet half-way."""
    if not spans:
        return []
    starts, ends = [max(0, spans[0][0] - _PAD)], []
    for (_, end), (start, _) in pairwise(spans):
        room = min(_PAD, (start - end) // 2)
        ends.append(end + room)
        starts.append(start - room)
    ends.append(min(samples, spans[-1][1] + _PAD))
    return list(zip(starts, ends, strict=True))


def _blocks(path: str, start: float, end: float) -> Iterator[NDArray[np.float32]]:
    """f32[N, STEP] of each minute, the last step filled up with zeros."""
    import numpy as np

    first, total = _extent(path, start, end)
    for at in range(0, total, _PIECE):
        stop = min(at + _PIECE, total)
        wave = reading.read(path, (first + at) / RATE, (first + stop) / RATE, RATE)
        yield np.pad(wave, (0, -len(wave) % STEP)).reshape(-1, STEP)


def _extent(path: str, start: float, end: float) -> tuple[int, int]:
    """The first sample at 16 kHz, and how many there are before `end` or the file's end."""
    about = reading.info(path)
    total = (2 * about.frames * RATE + about.rate) // (2 * about.rate)
    first = round(start * RATE)
    return first, max(0, min(round(end * RATE), total) - first)


def _silero(path: str, start: float, end: float) -> tuple[NDArray[np.float32], int]:
    """silero-vad's probability of speech, its state carried from step to step."""
    import numpy as np
    import torch

    model = _silero_model()
    model.reset_states()
    scores: list[NDArray[np.float32]] = []
    with torch.no_grad():
        for block in _blocks(path, start, end):
            steps = torch.from_numpy(block)
            scores.append(np.array([model(step, RATE).item() for step in steps], np.float32))
    return np.concatenate(scores or [np.empty(0, np.float32)]), _extent(path, start, end)[1]


@lru_cache(maxsize=1)
def _silero_model() -> Any:
    """The model in the silero-vad package; nothing is fetched."""
    import torch

    threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad
    finally:
        torch.set_num_threads(threads)  # importing it sets one thread for the whole process
    return load_silero_vad()


def _energy(path: str, start: float, end: float) -> tuple[NDArray[np.float32], int]:
    """Decibels above the noise floor, every 32 ms.

    The floor of a minute is the 10th percentile of the levels in it and in the minutes before and
    after: pauses set it, and it follows a room that grows louder. Speech has to rise 9 dB above it
    and ends 6 dB above it. Steps below -60 dB of full scale are never speech.
    """
    import numpy as np

    levels = []
    for block in _blocks(path, start, end):
        centred = block - block.mean(axis=1, keepdims=True)
        power = np.square(centred, dtype=np.float64).mean(axis=1)
        levels.append(np.maximum(10 * np.log10(power + 1e-12), _QUIETEST))
    scores = []
    for i, level in enumerate(levels):
        near = np.concatenate(levels[max(0, i - 1) : i + 2])
        near = near[near > _QUIETEST]  # gaps that a device filled with zeros say nothing of a room
        floor = np.percentile(near, 10) if len(near) else _QUIETEST
        scores.append(np.where(level < _GATE, 0.0, level - floor).astype(np.float32))
    return np.concatenate(scores or [np.empty(0, np.float32)]), _extent(path, start, end)[1]
