"""CLAP's features: a clip filled up to a fixed length, and its log-mel spectrogram in decibels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bab import Waves, WeightsError

_FLOOR = 1e-10  # of the power, in transformers.audio_utils.spectrogram: -100 dB


@dataclass(frozen=True, slots=True)
class MelSettings:
    """ClapFeatureExtractor's settings, with the defaults of laion/clap-htsat-unfused.

    truncation: "fusion" means torchaudio's filters, anything else librosa's. low, high: Hz.
    """

    rate: int = 48000
    seconds: int = 10
    mels: int = 64
    fft: int = 1024
    hop: int = 480
    low: float = 50.0
    high: float = 14000.0
    truncation: str = "rand_trunc"

    @classmethod
    def read(cls, said: Mapping[str, Any], where: str) -> MelSettings:
        """From preprocessor_config.json's keys.

        Raises:
            WeightsError: a way to fill short clips that isn't CLAP's.
        """
        padding = said.get("padding", "repeatpad")
        if padding != "repeatpad":
            raise WeightsError(
                f"{where}: preprocessor_config.json says padding '{padding}'; "
                "clap repeats and pads short clips ('repeatpad')"
            )
        ours = cls()
        return cls(
            rate=ours.rate,
            seconds=int(said.get("max_length_s", ours.seconds)),
            mels=int(said.get("feature_size", ours.mels)),
            fft=int(said.get("fft_window_size", ours.fft)),
            hop=int(said.get("hop_length", ours.hop)),
            low=float(said.get("frequency_min", ours.low)),
            high=float(said.get("frequency_max", ours.high)),
            truncation=str(said.get("truncation", ours.truncation)),
        )

    @property
    def samples(self) -> int:
        """The fixed length of the model's input, in samples."""
        return self.rate * self.seconds


class DecibelMel(nn.Module):
    """Waveforms -> what ClapFeatureExtractor gives for each, deterministically.

    A clip is repeated as often as it fits whole, and then filled with silence ("repeatpad"). Longer
    clips are refused elsewhere: nothing is cut or fused at random.
    """

    def __init__(self, settings: MelSettings) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.settings = settings
        slaney = settings.truncation != "fusion"
        banks = mel_filter_bank(
            num_frequency_bins=settings.fft // 2 + 1,
            num_mel_filters=settings.mels,
            min_frequency=settings.low,
            max_frequency=settings.high,
            sampling_rate=settings.rate,
            norm="slaney" if slaney else None,
            mel_scale="slaney" if slaney else "htk",
        )
        # No buffers: a module that holds doubles can't be moved to a device that has none (MPS).
        self.banks = torch.from_numpy(banks).double()
        self.window = torch.hann_window(settings.fft, dtype=torch.float64)

    def forward(self, waves: Waves) -> Tensor:
        """-> f32[B, 1, frames, mels], decibels; 1,001 frames for 10 s.

        Each row by itself, in double precision as in the original: bands 100 dB below the loudest
        are there too, and differ in single precision. Where the device has no doubles, on the CPU.
        """
        filled, device = self.fill(waves), waves.samples.device
        exact = (filled.cpu() if device.type == "mps" else filled).double()
        window, banks = self.window.to(exact.device), self.banks.to(exact.device)
        rows = [self._decibels(row, window, banks) for row in exact]
        return torch.stack(rows)[:, None].float().to(device)

    def fill(self, waves: Waves) -> Tensor:
        """f32[B, samples]: each clip repeated whole as often as it fits, then zeros."""
        size = self.settings.samples
        lengths = waves.lengths.clamp(min=1)[:, None]
        place = torch.arange(size, device=lengths.device)
        repeated = waves.samples.gather(1, place % lengths)
        return repeated.masked_fill(place >= size // lengths * lengths, 0.0)

    def _decibels(self, row: Tensor, window: Tensor, banks: Tensor) -> Tensor:
        """f64[samples] -> f64[frames, mels]; frames are centred, the ends reflected."""
        spectrum = torch.stft(
            row,
            self.settings.fft,
            self.settings.hop,
            window=window,
            return_complex=True,
        )
        power = spectrum.abs().square().T @ banks
        return 10 * power.clamp(min=_FLOOR).log10()


class LearnedNorm(nn.BatchNorm2d):
    """Batch norm with the statistics that were learned, never the batch's, also in training."""

    def forward(self, input: Tensor) -> Tensor:
        """f32[B, C, H, W] -> the same."""
        return functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
