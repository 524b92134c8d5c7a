"""What an encoder says of a recording, window by window, without a head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.checking.encoders import encode
from bab.core.components import identity
from bab.core.errors import AudioError, ConfigError, NotApplicableError
from bab.core.interfaces import Encoder
from bab.core.types import View, Waves
from bab.data.rolling import RollingWindow, raster_of, rolling
from bab.running.engine import HALF, ahead, arithmetic, halve
from bab.running.recordings import Recording
from bab.running.vectors import Gathered

WINDOW = 30.0  # seconds, where the encoder names no limit
_PER_PASS = {"cpu": 0.0, "mps": 64.0, "cuda": 512.0}  # seconds; on a CPU each window by itself
_AHEAD = 2
Told = Callable[[float], None]


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
        if precision != "fp32":
            halve(self.encoder, HALF[precision])
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
        seconds = self.raster.window / encoder.sample_rate
        self.batch = max(1, int(_PER_PASS.get(device.type, 0.0) / seconds))

    def described(self) -> dict[str, Any]:
        """How it hears, for the record."""
        rate = self.encoder.sample_rate
        return {
            "encoder": identity(self.encoder),
            "window": self.raster.window / rate,
            "step": self.raster.step / rate,
            "hop": self.encoder.grid.seconds_per_frame,
        }

    def gather(self, recording: Recording, into: Gathered, told: Told) -> float:
        """The rows of a recording, per frame or per window; its seconds are returned.

        Raises:
            AudioError: it can't be read, or holds no sound.
        """
        rate, grid = self.encoder.sample_rate, self.encoder.grid
        held: NDArray[np.float32] | None = None  # its end is known when the next window comes
        at, end = 0, 0.0
        for window, states in self.states(recording):
            end = (window.first + len(window.samples)) / rate
            if self.per == "window":
                times = np.array([[window.first / rate, len(window.samples) / rate]])
                into.add(states.mean(0, dtype=np.float64)[None].astype("f4"), times)
            else:
                if held is not None:
                    # One frame more than there is stands for what comes: no cell reaches too far.
                    edges = grid.edges(len(held) + 1, end, at)[:-1]
                    into.add(held, _cells(edges))
                    at += len(held)
                held = states[slice(*window.keep)] if window.keep else states
            told(end)
        if held is not None:
            into.add(held, _cells(grid.edges(len(held), end, at)))
        if not into.count:
            raise AudioError(f"{recording.path or recording.name}: it holds no sound")
        return end

    def mean(self, recording: Recording, told: Told) -> tuple[NDArray[np.float64], float]:
        """The mean over all frames of a recording, each once: f64[D]; and its seconds.

        Raises:
            AudioError: it can't be read, or holds no sound.
        """
        total, count, end = np.zeros(self.encoder.dim), 0, 0.0
        for window, states in self.states(recording):
            kept = states[slice(*window.keep)] if window.keep else states
            total += kept.sum(0, dtype=np.float64)
            count += len(kept)
            end = (window.first + len(window.samples)) / self.encoder.sample_rate
            told(end)
        if not count:
            raise AudioError(f"{recording.path or recording.name}: it holds no sound")
        return total / count, end

    def states(self, recording: Recording) -> Iterator[tuple[RollingWindow, NDArray[np.float32]]]:
        """Each window with the layer's states of all its frames, f32[T, D]."""
        stream = recording.open()
        blocks = recording.blocks(stream, self.encoder.sample_rate, 0)
        batch: list[RollingWindow] = []
        for window in ahead(rolling(blocks, self.raster), _AHEAD * self.batch):
            if batch and (len(batch) == self.batch or len(window.samples) != len(batch[0].samples)):
                yield from zip(batch, self._encode(batch), strict=True)
                batch = []
            batch.append(window)
        if batch:
            yield from zip(batch, self._encode(batch), strict=True)

    @torch.inference_mode()
    def _encode(self, windows: Sequence[RollingWindow]) -> list[NDArray[np.float32]]:
        samples = [torch.from_numpy(window.samples) for window in windows]
        lengths = torch.tensor([len(one) for one in samples])
        waves = Waves(pad_sequence(samples, batch_first=True), lengths).to(self.device)
        with arithmetic(self.device, self.precision):
            out = encode(self.encoder, waves, layers="last" if self.layer == "last" else "all")
        chosen = self._chosen(out.layers).float().cpu().numpy()
        return [one[:n] for one, n in zip(chosen, out.lengths.tolist(), strict=True)]

    def _chosen(self, layers: Sequence[Tensor]) -> Tensor:
        if self.layer == "mean":
            return torch.stack(list(layers)).mean(0)
        return layers[-1] if self.layer == "last" else layers[int(self.layer)]


def _cells(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Borders -> start and duration of each cell."""
    return np.stack([edges[:-1], np.diff(edges)], axis=1)


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
