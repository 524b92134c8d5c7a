"""HuBERT as segma reads its frames: the encoder of VTC 2 (Charlot et al. 2025)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab import Grid
from bab.plugins.encoders.shared.speech import RANDOM, Family, Speech


class Cells(Grid):
    """Frame t stands for samples [t x hop, (t + 1) x hop), and no frame for what comes after the
    last: segma's `ConvolutionSettings((320,), (320,), (0,))` at inference."""

    def centre(self, frame: int) -> float:
        """The middle of the frame's cell, seconds."""
        return (frame + 0.5) * self.seconds_per_frame

    def centres(self, frames: int, first: int = 0) -> NDArray[np.float64]:
        """f64[frames]: the middles of the cells from frame `first` on, seconds."""
        return (2 * np.arange(first, first + frames) + 1) * self.hop / (2.0 * self.sample_rate)

    def edges(self, frames: int, duration: float, first: int = 0) -> NDArray[np.float64]:
        """f64[frames + 1]: borders of the cells, seconds."""
        return np.arange(first, first + frames + 1) * self.hop / float(self.sample_rate)


class Segma(Speech):
    """The HuBERT inside a checkpoint of segma (VTC 2, BabyHuBERT's addressee model): 16 kHz.

    The states are those of encoder `hubert` on the same file; only the time that a frame stands for
    is segma's: 2.5 ms before the middle of the audio that it depends on.

    Weights: a .ckpt file as Lightning saves it, or an untrained control.
    """

    weights = RANDOM
    default = "random-tiny"
    source = "segma (github.com/arxaqapi/segma); BabyHuBERT and VTC 2: arXiv 2509.15001"
    licence = "as the checkpoint's page says"
    family = Family("hubert", "HubertModel", "HubertConfig", {})

    @classmethod
    def load(
        cls, weights: str, options: Any, *, offline: bool = False, trust_code: bool = False
    ) -> Segma:
        """See `Encoder.load`."""
        encoder = super().load(weights, options, offline=offline, trust_code=trust_code)
        assert isinstance(encoder, Segma)
        encoder.resolved = "segma:" + encoder.resolved.partition(":")[2]
        grid = encoder.grid
        encoder.grid = Cells(grid.sample_rate, grid.hop, grid.field)
        return encoder
