"""Encoder `mfcc`: mel-frequency cepstral coefficients, without weights to train or to fetch."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torchaudio.functional import create_dct, melscale_fbanks

from bab import BabError, Encoded, Encoder, Grid, Options, Waves

VERSION = "1"  # raise it when the output changes: caches and records depend on it
RATE = 16000  # Hz
FFT = 512  # samples: the power of two above a field of 25 ms


class MfccOptions(Options):
    """What can be set under `encoder`."""

    coefficients: int = Field(default=13, ge=1, le=40, description="cepstral coefficients kept")
    mels: int = Field(default=40, ge=40, le=80, description="mel bands, 20 Hz to 8 kHz")


class Mfcc(Encoder):
    """MFCCs: 25 ms Hann windows every 10 ms, mel energies, logarithm, orthonormal DCT-II.

    Each frame depends on its own 400 samples and on nothing else, so neither the other clips of a
    batch nor the padding can change it.
    """

    Options = MfccOptions
    source = "Davis and Mermelstein 1980; mel bands and DCT as torchaudio makes them"

    def __init__(self, options: MfccOptions) -> None:
        super().__init__()
        self.sample_rate = RATE
        self.grid = Grid(RATE, hop=160, field=400)
        self.dim, self.depth, self.max_seconds = options.coefficients, 1, None
        self.resolved = "mfcc"
        self.fingerprint = hashlib.sha256(
            f"mfcc {VERSION} {options.model_dump_json()}".encode()
        ).hexdigest()[:32]
        bands = melscale_fbanks(FFT // 2 + 1, 20.0, RATE / 2, options.mels, RATE)
        dct = create_dct(options.coefficients, options.mels, norm="ortho")
        # Buffers follow the model to its device. They are made anew each time, so not saved.
        self.register_buffer("window", torch.hann_window(self.grid.field), persistent=False)
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("dct", dct, persistent=False)

    @classmethod
    def load(
        cls,
        weights: str,
        options: MfccOptions,
        *,
        offline: bool = False,
        trust_code: bool = False,
    ) -> Mfcc:
        if weights:
            raise BabError(f"mfcc:{weights}: this encoder has no weights; write mfcc alone")
        return cls(options).eval()

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        lengths = torch.tensor([self.grid.frames(int(n)) for n in waves.lengths.tolist()])
        needed = self.grid.samples(int(lengths.max()))
        short = max(0, needed - waves.samples.shape[1])
        inside = torch.arange(waves.samples.shape[1], device=waves.samples.device)
        samples = waves.samples * (inside < waves.lengths[:, None])
        samples = torch.nn.functional.pad(samples, (0, short))[:, :needed]
        fields = samples.unfold(1, self.grid.field, self.grid.hop)
        power = torch.fft.rfft(fields * self.window, n=FFT).abs().square()
        # The floor is that of 16-bit silence: below it lies only quantisation noise.
        energies = (power @ self.bands).clamp_min(2.0**-30 * self.grid.field).log()
        # log -> dB would only scale; divide so that coefficients are of order one.
        states = energies @ self.dct / math.sqrt(self.bands.shape[1])
        if mask is not None:  # nothing is learned here, so a masked frame is simply zero
            states = states.masked_fill(mask[..., None], 0.0)
        return Encoded((states,), lengths.to(waves.lengths.device))
