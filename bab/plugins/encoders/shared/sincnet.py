"""pyannote.audio 1's PyanNet: SincNet, two BiLSTMs, two tanh layers; modules of its names.

Ravanelli and Bengio 2018 (arXiv 1808.00158) for SincNet; Bredin et al. 2020 (arXiv 1911.01255) for
PyanNet. Windows of one length at a time: its norms look across the whole of each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNELS = (251, 5, 5)
STRIDES = (1, 1, 1)
POOL = 3
RATE = 16000
SLOPE = 0.2  # of the leaky ReLU
_LOWEST, _NARROWEST = 50.0, 50.0  # Hz, of a filter and of its band


class SincConv(nn.Module):
    """Band-pass filters, each of two parameters: f32[B, 1, S] -> f32[B, C, T]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # Equally spaced on the mel scale, as Ravanelli and Bengio begin.
        top = 2595 * math.log10(1 + (RATE / 2 - _LOWEST - _NARROWEST) / 700)
        mels = torch.linspace(2595 * math.log10(1 + 30 / 700), top, channels + 1)
        hertz = 700 * (10 ** (mels / 2595) - 1)
        self.low_hz_ = nn.Parameter(hertz[:-1, None])
        self.band_hz_ = nn.Parameter(hertz.diff()[:, None])

    def filters(self) -> Tensor:
        """f32[C, 1, 251], symmetric, under a Hamming window, 1 in the middle."""
        half = KERNELS[0] // 2
        place = torch.arange(-half, 0, device=self.low_hz_.device, dtype=torch.float32)
        times = 2 * math.pi * place / RATE
        steps = torch.linspace(0, KERNELS[0] / 2 - 1, half, device=times.device)
        window = 0.54 - 0.46 * torch.cos(2 * math.pi * steps / KERNELS[0])
        low = _LOWEST + self.low_hz_.abs()
        high = (low + _NARROWEST + self.band_hz_.abs()).clamp(_LOWEST, RATE / 2)
        band = high - low
        left = ((high * times).sin() - (low * times).sin()) / (times / 2) * window
        whole = torch.cat([left, 2 * band, left.flip(1)], dim=1)
        return (whole / (2 * band))[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv1d(x, self.filters(), stride=STRIDES[0])


class SincNet(nn.Module):
    """f32[B, S] -> f32[B, T, C]."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        one, two, three = channels
        self.waveform_normalize_ = nn.InstanceNorm1d(1, affine=True)
        self.conv1d_ = nn.ModuleList(
            [SincConv(one), nn.Conv1d(one, two, KERNELS[1]), nn.Conv1d(two, three, KERNELS[2])]
        )
        self.instance_norm1d_ = nn.ModuleList(nn.InstanceNorm1d(c, affine=True) for c in channels)

    def forward(self, samples: Tensor) -> Tensor:
        x = self.waveform_normalize_(samples[:, None])
        for index, (conv, norm) in enumerate(zip(self.conv1d_, self.instance_norm1d_, strict=True)):
            x = conv(x)
            x = functional.max_pool1d(x.abs() if index == 0 else x, POOL)
            # A single frame has no deviation to be normalised by.
            x = functional.leaky_relu(norm(x) if x.shape[-1] > 1 else x, SLOPE)
        frames: Tensor = x.transpose(1, 2)
        return frames


class Recurrent(nn.Module):
    """The LSTMs, under pyannote's names."""

    def __init__(self, dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.rnn_ = nn.LSTM(dim, hidden, layers, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rnn_(x)[0]
        return out


class Forward(nn.Module):
    """Linear layers, each with tanh."""

    def __init__(self, dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (dim, *widths[:-1])
        pairs = zip(sizes, widths, strict=True)
        self.linear_ = nn.ModuleList(nn.Linear(one, two) for one, two in pairs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.linear_:
            x = layer(x).tanh()
        return x


class PyanNet(nn.Module):
    """All but the output layer: f32[B, S], all of one length -> f32[B, T, D]."""

    def __init__(
        self,
        channels: tuple[int, int, int] = (80, 60, 60),
        hidden: int = 128,
        layers: int = 2,
        widths: tuple[int, ...] = (128, 128),
    ) -> None:
        super().__init__()
        self.sincnet_ = SincNet(channels)
        self.rnn_ = Recurrent(channels[-1], hidden, layers)
        self.ff_ = Forward(2 * hidden, widths)
        self.dim = widths[-1]

    def forward(self, samples: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: bool[B, T], frames whose local features become zero."""
        x = self.sincnet_(samples)
        if mask is not None:
            x = x.masked_fill(mask[:, : x.shape[1], None], 0.0)
        out: Tensor = self.ff_(self.rnn_(x))
        return out


def sized(tensors: dict[str, Tensor]) -> PyanNet:
    """A net of the sizes that the tensors have, filled with them.

    Raises:
        KeyError, RuntimeError: they are no PyanNet's.
    """
    hidden = tensors["rnn_.rnn_.weight_hh_l0"].shape[1]
    channels = (
        len(tensors["sincnet_.conv1d_.0.low_hz_"]),
        len(tensors["sincnet_.conv1d_.1.bias"]),
        len(tensors["sincnet_.conv1d_.2.bias"]),
    )
    layers = sum(f"rnn_.rnn_.weight_hh_l{i}" in tensors for i in range(9))
    widths = [tensors[k].shape[0] for i in range(9) if (k := f"ff_.linear_.{i}.bias") in tensors]
    net = PyanNet(channels, hidden, layers, tuple(widths))
    net.load_state_dict({name: t for name, t in tensors.items() if not name.startswith("linear_.")})
    return net
