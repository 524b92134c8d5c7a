"""Seconds <-> frames: the only place that knows about strides.

A frame sees a *span* (its receptive field), stands at a *centre*, and speaks for a *cell*: the
stretch of one hop around its centre. Cells tile time, so frame decisions turn into segments and
back without gaps, whatever the encoder's frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Grid:
    """Frame times of an encoder, in whole samples, so that they are exact.

    sample_rate: Hz. hop: samples between frames; 0 = one frame for the whole clip.
    field: samples that one frame sees. offset: the sample where frame 0's field starts
    (negative where the encoder pads on the left).
    """

    sample_rate: int
    hop: int
    field: int
    offset: int = 0

    def frames(self, samples: int) -> int:
        """Frames for an input of `samples`; shorter than one field counts as one (zero-padded)."""
        if self.hop == 0:
            return 1
        padded = samples - 2 * self.offset if self.offset < 0 else samples - self.offset
        return max(1, (padded - self.field) // self.hop + 1)

    def samples(self, frames: int) -> int:
        """The shortest input that gives `frames` frames, in samples."""
        if self.hop == 0:
            return 1
        needed = (frames - 1) * self.hop + self.field
        return needed + 2 * self.offset if self.offset < 0 else needed + self.offset

    def span(self, frame: int) -> tuple[float, float]:
        """What frame `frame` sees: (start, end) in seconds from the start of the input."""
        start = self.offset + frame * self.hop
        return start / self.sample_rate, (start + self.field) / self.sample_rate

    def centre(self, frame: int) -> float:
        """Middle of the frame's span, seconds from the start of the input."""
        return (2 * (self.offset + frame * self.hop) + self.field) / (2 * self.sample_rate)

    def centres(self, frames: int, first: int = 0) -> NDArray[np.float64]:
        """f64[frames]: the centre of each frame from `first` on, seconds from the input's start."""
        numbers = np.arange(first, first + frames, dtype=np.int64)
        twice = 2 * (self.offset + numbers * self.hop) + self.field
        return twice / (2.0 * self.sample_rate)

    def edges(self, frames: int, duration: float, first: int = 0) -> NDArray[np.float64]:
        """f64[frames + 1]: borders of the cells that tile [0, duration], in seconds.

        Frame t speaks for [edges[t], edges[t + 1]): one hop around its centre; the first and the
        last reach to the ends of the input. first: the frame that row 0 is, if not the first one.
        """
        inner = self.centres(frames, first)[:-1] + self.seconds_per_frame / 2
        begin = 0.0 if first == 0 else self.centres(1, first - 1)[0] + self.seconds_per_frame / 2
        return np.concatenate([[begin], np.minimum(inner, duration), [duration]])

    @property
    def seconds_per_frame(self) -> float:
        """The hop, in seconds (0 where the whole clip is one frame)."""
        return self.hop / self.sample_rate
