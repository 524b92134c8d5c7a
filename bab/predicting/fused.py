"""Several encoders on audio of any length: each hears the stream by itself, at its own rate and in
its own windows, and of each the mean over all frames is kept; memory doesn't grow with length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bab.checking.encoders import encode
from bab.core.interfaces import Encoder
from bab.core.types import Features, View, Waves
from bab.data.rolling import RollingWindow, raster_of
from bab.features.passes import cores_of, share_of
from bab.machine.arithmetic import arithmetic
from bab.predicting.walking import Stretches, Walk
from bab.running.model import LayerMix


def member_walk(
    member: Encoder,
    layers: Literal["mix", "last"] | int,
    view: View,
    device: torch.device,
    precision: str = "fp32",
) -> Walk:
    """A member's way through a recording: of each window the mean over the frames that count, f64,
    of each layer that is wanted, one after the other."""
    wanted = LayerMix(member.depth, layers).wanted

    @torch.inference_mode()
    def forward(windows: Sequence[RollingWindow]) -> list[NDArray[np.float64]]:
        with arithmetic(device, precision):
            return [_mean(member, wanted, window, device).numpy() for window in windows]

    raster = raster_of(view, member.grid, member.max_seconds, True)
    shared = share_of(member, cores_of(device), raster.window / member.sample_rate)
    return Walk(raster, False, 0.0, forward, share=shared)


def vectors_of(stretches: Sequence[Stretches], rates: Sequence[int]) -> tuple[Features, float]:
    """The members' vectors side by side, as `EnsembleSource` makes them of a clip, and the seconds
    that were heard. stretches: of each member's walk, none of them empty; rates: of each."""
    vectors, seconds = [], 0.0
    for rows, rate in zip(stretches, rates, strict=True):
        total, count = torch.zeros(()), 0
        for values in rows.read():
            for row in values:
                total = total + torch.from_numpy(row[3:]) * int(row[2])
                count += int(row[2])
                seconds = max(seconds, float(row[0] + row[1]) / rate)
        vectors.append((total / count).float())
    states = torch.cat(vectors)[None, None, None]
    return Features(states, torch.ones(1, dtype=torch.long)), seconds


def _mean(
    encoder: Encoder,
    wanted: Literal["all", "last"] | int,
    window: RollingWindow,
    device: torch.device,
) -> Tensor:
    samples = torch.from_numpy(window.samples)[None]
    waves = Waves(samples, torch.tensor([samples.shape[1]])).to(device)
    encoded = encode(encoder, waves, layers="last" if wanted == "last" else "all")
    layers = (encoded.layers[wanted],) if isinstance(wanted, int) else encoded.layers
    first, last = window.keep or (0, int(encoded.lengths[0]))
    states = torch.stack(layers)[:, 0, first:last].cpu()  # not every device has doubles
    return states.double().mean(dim=1).flatten()
