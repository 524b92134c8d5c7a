"""What an encoder says of a recording, window by window, without a head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.checking.encoders import encode
from bab.core.components import identity
from bab.core.errors import ConfigError, NotApplicableError
from bab.core.interfaces import Encoder
from bab.core.types import View, Waves
from bab.data.rolling import RollingWindow, raster_of
from bab.features.passes import cores_of, share_of
from bab.machine.arithmetic import arithmetic, halve
from bab.predicting.vectors import Times, Vectors
from bab.predicting.walking import Stretches, Walk

WINDOW = 30.0  # seconds, where the encoder names no limit
_PER_PASS = {"cpu": 0.0, "mps": 64.0, "cuda": 512.0}  # seconds; on a CPU each window by itself


class Hearing:
    """One encoder, a layer of it, and how it hears: in windows whose frames tile."""

    def __init__(
        self,
        encoder: Encoder,
        layer: str,
        per: str,
        window: float | None,
        device: torch.device,
        precision: str = "fp32",
    ) -> None:
        """layer: last, mean or a number; per: frame, window or clip; window: seconds.

        Raises:
            ConfigError: a layer that it doesn't have, a window that it can't take in.
            NotApplicableError: frames of an encoder that gives one vector a window.
        """
        self.encoder, self.layer, self.per = encoder.to(device).eval(), _layer(encoder, layer), per
        self.device, self.precision = device, precision
        halve(self.encoder, precision)
        longest = encoder.max_seconds
        if window is not None and longest is not None and window > longest:
            raise ConfigError(
                f"--window {window:g}: '{encoder.resolved}' takes in {longest:g} s at most"
            )
        if per == "frame" and encoder.grid.hop == 0:
            raise NotApplicableError(
                f"--per frame: '{encoder.resolved}' gives one vector for each window: --per "
                "window, or clip (`bab info ENCODER` lists its options)"
            )
        view = View(window=window or min(WINDOW, longest or WINDOW))
        self.raster = raster_of(view, encoder.grid, longest, whole_clips=True)
        seconds = _PER_PASS.get(device.type, 0.0)
        shared = share_of(encoder, cores_of(device), self.raster.window / encoder.sample_rate)
        self.walk = Walk(self.raster, per == "frame", seconds, self._forward, share=shared)

    def described(self) -> dict[str, Any]:
        """How it hears, for the record."""
        rate = self.encoder.sample_rate
        return {
            "encoder": identity(self.encoder),
            "window": self.raster.window / rate,
            "step": self.raster.step / rate,
            "hop": self.encoder.grid.seconds_per_frame,
        }

    @torch.inference_mode()
    def _forward(self, windows: Sequence[RollingWindow]) -> list[NDArray[np.floating]]:
        """What is kept of each window: its frames that count, their sum (f64), or the mean of all
        its frames."""
        samples = [torch.from_numpy(window.samples) for window in windows]
        lengths = torch.tensor([len(one) for one in samples])
        waves = Waves(pad_sequence(samples, batch_first=True), lengths).to(self.device)
        with arithmetic(self.device, self.precision):
            out = encode(self.encoder, waves, layers="last" if self.layer == "last" else "all")
        chosen = self._chosen(out.layers).float().cpu().numpy()
        states = [one[:n] for one, n in zip(chosen, out.lengths.tolist(), strict=True)]
        if self.per == "window":
            return [one.mean(0, dtype=np.float64).astype("f4") for one in states]
        kept = [
            one[slice(*window.keep)] if window.keep else one
            for one, window in zip(states, windows, strict=True)
        ]
        return kept if self.per == "frame" else [one.sum(0, dtype=np.float64) for one in kept]

    def _chosen(self, layers: Sequence[Tensor]) -> Tensor:
        if self.layer == "mean":
            return torch.stack(list(layers)).mean(0)
        return layers[-1] if self.layer == "last" else layers[int(self.layer)]


class Table:
    """What a walk has said of a recording, as `vectors.write` takes it."""

    def __init__(self, hearing: Hearing, rows: Stretches, seconds: float) -> None:
        self._hearing, self._rows, self._seconds = hearing, rows, seconds
        self.count, self.dim = rows.done, hearing.encoder.dim

    def rows(self) -> Iterator[Vectors]:
        """f32[N, D], some at a time."""
        for part in self._rows.read():
            yield part if self._hearing.per == "frame" else part[:, 3:].astype(np.float32)

    def times(self) -> Iterator[Times]:
        """Their start and duration, seconds, in the same portions."""
        grid, at = self._hearing.encoder.grid, 0
        for part in self._rows.read():
            if self._hearing.per == "frame":
                # One frame more than there is stands for what comes: no cell reaches too far.
                count = len(part) + (at + len(part) < self.count)
                edges = grid.edges(count, self._seconds, at)[: len(part) + 1]
                yield np.stack([edges[:-1], np.diff(edges)], axis=1)
                at += len(part)
            else:
                yield part[:, :2] / grid.sample_rate


def mean_of(rows: Stretches) -> NDArray[np.float64]:
    """The mean over all frames of a recording, each once, of rows of sums: f64[D]."""
    total, count = np.zeros(0), 0
    for part in rows.read():
        for row in part:
            total = total + row[3:] if count else row[3:].astype(np.float64)
            count += int(row[2])
    return total / count


def _layer(encoder: Encoder, text: str) -> str:
    """Raises ConfigError: a layer that it doesn't have."""
    if text in ("last", "mean"):
        return text
    if not text.isdecimal() or int(text) >= encoder.depth:
        raise ConfigError(
            f"--layer {text}: '{encoder.resolved}' has last, mean, and 0 (the input embedding) to "
            f"{encoder.depth - 1}"
        )
    return text
