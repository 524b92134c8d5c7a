"""Several encoders on audio of any length: each hears the stream by itself, at its own rate and in
its own windows, and of each the mean over all frames is kept; memory doesn't grow with length."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bab.checking.encoders import encode
from bab.core.interfaces import Encoder
from bab.core.types import Features, View, Waves
from bab.data.rolling import RollingWindow, raster_of, rolling
from bab.running.model import LayerMix

Blocks = Callable[[int], Iterable[NDArray[np.float32]]]  # of the audio, at a rate
Which = Literal["all", "last"] | int  # of an encoder's layers


def fused(
    members: Sequence[Encoder],
    layers: Literal["mix", "last"] | int,
    view: View,
    blocks: Blocks,
    device: torch.device,
) -> Generator[float, None, tuple[Features | None, float]]:
    """The members' vectors side by side, as `EnsembleSource` makes them of a clip (None where there
    is no sound), and the seconds that were heard.

    Yields the seconds that each member in turn has heard, as a share of what all of them hear.
    """
    vectors, seconds = [], 0.0
    for number, member in enumerate(members):
        raster = raster_of(view, member.grid, member.max_seconds, True)
        wanted = LayerMix(member.depth, layers).wanted
        mean = _Mean()
        for window in rolling(blocks(member.sample_rate), raster):
            mean.add(*_window(member.to(device), wanted, window, device))
            heard = window.known / member.sample_rate
            seconds = max(seconds, heard)
            yield (number * seconds + heard) / len(members)
        if mean.count == 0:
            return None, 0.0
        vectors.append(mean.value().flatten())
    states = torch.cat(vectors)[None, None, None]
    return Features(states, torch.ones(1, dtype=torch.long)), seconds


class _Mean:
    """Of the frames of windows."""

    def __init__(self) -> None:
        self.total, self.count = torch.zeros(()), 0

    def add(self, mean: Tensor, count: int) -> None:
        self.total, self.count = self.total + mean * count, self.count + count

    def value(self) -> Tensor:
        return (self.total / self.count).float()


@torch.inference_mode()
def _window(
    encoder: Encoder,
    wanted: Which,
    window: RollingWindow,
    device: torch.device,
) -> tuple[Tensor, int]:
    """f64[L, D] on the CPU, the mean over the frames that count; how many they are."""
    samples = torch.from_numpy(window.samples)[None]
    waves = Waves(samples, torch.tensor([samples.shape[1]])).to(device)
    encoded = encode(encoder, waves, layers="last" if wanted == "last" else "all")
    layers = (encoded.layers[wanted],) if isinstance(wanted, int) else encoded.layers
    first, last = window.keep or (0, int(encoded.lengths[0]))
    kept = torch.stack(layers)[:, 0, first:last]
    return kept.double().mean(dim=1).cpu(), kept.shape[1]
