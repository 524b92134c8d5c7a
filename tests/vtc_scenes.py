"""Made-up recordings with voices, and what a noisy model says of them."""

from __future__ import annotations

import numpy as np

from bab.core.grid import Grid
from bab.core.types import Clip, Output, Segment
from bab.plugins.tasks.vtc import VOICES, VoiceType, VoiceTypeOptions

W2V = Grid(16000, 320, 400)  # 20 ms hop, 25 ms field


FBANK = Grid(16000, 160, 400)


SLOW = Grid(16000, 1600, 3200, offset=-800)  # 100 ms hop, padded on the left


LABELS = {"voice": VOICES}


TASK = VoiceType(VoiceTypeOptions())


def random_segments(
    rng: np.random.Generator, n: int, end: float, start: float = 0.0, longest: float = 3.0
) -> tuple[Segment, ...]:
    starts = rng.uniform(start, end, n)
    lengths = rng.uniform(0.02, longest, n)
    names = rng.choice(VOICES, n)
    rows = sorted(zip(starts.tolist(), lengths.tolist(), names.tolist(), strict=True))
    return tuple(Segment(a, min(a + d, end), str(k)) for a, d, k in rows)


def recording(
    segments: tuple[Segment, ...],
    end: float,
    start: float = 0.0,
    scored: tuple[tuple[float, float], ...] | None = None,
    name: str = "rec",
) -> Clip:
    return Clip(name, f"{name}.wav", start, end, name, segments=segments, scored=scored)


def frames_of(grid: Grid, clip: Clip) -> int:
    return grid.frames(round(clip.duration * grid.sample_rate))


def noisy(rng: np.random.Generator, grid: Grid, clip: Clip, noise: float = 2.0) -> Output:
    """Logits that follow the truth, blurred and disturbed."""
    truth = TASK.targets(clip, grid, frames_of(grid, clip), LABELS).numpy()
    values = 3 * truth - 2 + noise * rng.standard_normal(truth.shape)
    return Output(clip, values.astype(np.float32))
