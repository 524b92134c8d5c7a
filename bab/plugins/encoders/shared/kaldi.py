"""Kaldi's log-mel filter banks for a batch, as `torchaudio.compliance.kaldi.fbank` of each row.

Settings that the encoders share, and that are torchaudio's defaults: 16 kHz, 25 ms every 10 ms,
512-point spectra, the mean of each frame removed, pre-emphasis, no dither.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.compliance import kaldi

RATE, FIELD, HOP = 16000, 400, 160
_FFT = 512
_LOW = 20.0  # Hz; this and the next two are the defaults of Kaldi, and of torchaudio
_PREEMPHASIS = 0.97
_FLOOR = torch.finfo(torch.float32).eps
_CHUNK = 1 << 17  # framed samples worked on at a time: they stay in the processor's cache
_CHUNK_ON_GPU = 1 << 26  # 256 MB: a GPU has other things to fear, launches first of all


class LogMel(nn.Module):
    """Waveform -> the logarithm of the energy in `mels` bands from 20 to 8000 Hz."""

    banks: Tensor
    window: Tensor

    def __init__(self, mels: int, window: Tensor) -> None:
        """window: f32[400], the taper of a frame."""
        super().__init__()
        banks, _ = kaldi.get_mel_banks(mels, _FFT, RATE, _LOW, 0.0, 100.0, -500.0, 1.0)
        self.register_buffer("banks", functional.pad(banks, (0, 1)).T.contiguous(), False)
        self.register_buffer("window", window, False)

    def forward(self, samples: Tensor) -> Tensor:
        """f32[B, S] -> f32[B, (S - 400) // 160 + 1, mels]; S is at least 400."""
        frames = samples.unfold(1, FIELD, HOP)  # a view
        chunk = _CHUNK if samples.device.type == "cpu" else _CHUNK_ON_GPU
        step = max(1, chunk // (FIELD * len(samples)))
        parts = [frames[:, i : i + step] for i in range(0, frames.shape[1], step)]
        return torch.cat([self._energies(part) for part in parts], 1)

    def traceable(self, samples: Tensor) -> Tensor:
        """`forward` in operations that ONNX has: frames by index, spectra by two matrices."""
        first = torch.arange((samples.shape[1] - FIELD) // HOP + 1) * HOP
        frames = self._tapered(samples[:, first[:, None] + torch.arange(FIELD)])
        turns = torch.arange(FIELD)[:, None] * torch.arange(_FFT // 2 + 1) % _FFT
        angles = turns.double() * (2 * torch.pi / _FFT)
        parts = [torch.matmul(frames, matrix.float()) for matrix in (angles.cos(), angles.sin())]
        return self._logarithms(parts[0].square() + parts[1].square())

    def _energies(self, frames: Tensor) -> Tensor:
        """f32[B, T, field] -> f32[B, T, mels]: Kaldi's steps, in Kaldi's order."""
        return self._logarithms(torch.fft.rfft(self._tapered(frames), n=_FFT).abs().square())

    def _tapered(self, frames: Tensor) -> Tensor:
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        return (frames - _PREEMPHASIS * before) * self.window

    def _logarithms(self, power: Tensor) -> Tensor:
        if torch.is_autocast_enabled(power.device.type):  # half precision errs by up to .13
            with torch.autocast(power.device.type, enabled=False):
                return self._logarithms(power.float())
        return torch.matmul(power, self.banks).clamp(min=_FLOOR).log()
