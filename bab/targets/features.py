"""Features to cluster, on the 20 ms raster of the encoder that will learn to predict the clusters.

MFCCs as in HuBERT's first iteration, or a layer of any encoder. Stretches may be hours long: they
are taken piece by piece.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.audio import reading
from bab.checking.encoders import encode
from bab.core import registry
from bab.core.components import identity
from bab.core.device import resolve_device
from bab.core.errors import ConfigError, NotApplicableError, warn
from bab.core.interfaces import Encoder
from bab.core.types import Waves
from bab.machine.arithmetic import arithmetic
from bab.targets.store import RASTER, Stretch

_MFCC_STEP = 160  # samples between MFCC frames: 10 ms
_MFCC_REACH = 4  # frames that a delta of a delta takes in on each side
_MFCC_PIECE = 3000  # raster frames (60 s) that are computed at once
_WINDOW = 30.0  # seconds that an encoder is given at most, as in BabyHuBERT's segments
_CONTEXT = 50  # raster frames (1 s) heard on each side of a window that cuts a longer stretch
_SECONDS_PER_PASS = 64.0
_SECONDS_ON_GPU = 512.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Raster frames [begin, end) of a stretch."""

    stretch: Stretch
    begin: int
    end: int


class FrameFeatures(Protocol):
    """identity: changes with whatever changes the numbers. described: for a person."""

    identity: str
    described: str
    dim: int
    whole: int  # raster frames of a stretch that is taken at once
    longest: int  # raster frames of a piece of a longer one
    seconds: float  # of audio that are computed together

    def extract(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """f32[end - begin, D] of each piece, on the CPU or the device of the encoder."""


def pieces(stretch: Stretch, features: FrameFeatures) -> list[Piece]:
    """A stretch at once, or in pieces of like length, of at most `longest` frames."""
    frames = stretch.frames
    count = 1 if frames <= features.whole else -(-frames // features.longest)
    edges = [frames * i // count for i in range(count + 1)]
    return [Piece(stretch, a, b) for a, b in pairwise(edges)]


def passes(listed: Sequence[Piece], most: float) -> Iterator[list[Piece]]:
    """Neighbouring pieces that are computed together: so many seconds at most, or one piece."""
    part: list[Piece] = []
    seconds = 0.0
    for piece in listed:
        more = (piece.end - piece.begin) * RASTER.seconds_per_frame
        if part and seconds + more > most:
            yield part
            part, seconds = [], 0.0
        part.append(piece)
        seconds += more
    if part:
        yield part


class Mfcc:
    """13 MFCCs, deltas and delta-deltas, f32[T, 39] (HuBERT, arXiv 2106.07447, sec. IV-B).

    Settings of fairseq's simple_kmeans: Kaldi's defaults at 16 kHz, `use_energy` off, samples in
    [-1, 1]. MFCC frames come every 10 ms and are 25 ms long; raster frame t takes MFCC frame 2 t,
    which sees exactly the same samples.
    """

    dim = 39
    whole = longest = _MFCC_PIECE
    seconds = _SECONDS_PER_PASS
    identity = "mfcc 13+13+13 kaldi 16000 v1"
    described = "mfcc (13, deltas, delta-deltas)"

    def extract(self, pieces: Sequence[Piece]) -> list[Tensor]:
        return [self._one(piece) for piece in pieces]

    def _one(self, piece: Piece) -> Tensor:
        field, rate, stretch = RASTER.field, RASTER.sample_rate, piece.stretch
        total = max(1, (stretch.samples - field) // _MFCC_STEP + 1)
        low = max(0, 2 * piece.begin - _MFCC_REACH)
        high = min(total, 2 * (piece.end - 1) + _MFCC_REACH + 1)
        start = stretch.first + low * _MFCC_STEP
        stop = stretch.first + min(stretch.samples, (high - 1) * _MFCC_STEP + field)
        wave = torch.from_numpy(reading.read(stretch.path, start / rate, stop / rate, rate))
        if len(wave) < field:  # shorter than one frame: zero-padded, as the encoders do
            wave = torch.nn.functional.pad(wave, (0, field - len(wave)))
        return mfcc(wave)[2 * piece.begin - low : 2 * piece.end - 1 - low : 2]


MFCC = "mfcc"  # what is clustered first; an encoder that is called so is named in full


def is_mfcc(spec: str) -> bool:
    """Whether MFCCs are meant, and no encoder. A stranger's encoder of that name is told of."""
    if spec == MFCC and (other := registry.names("encoders").get(MFCC)):
        warn(f"'{MFCC}' are bab's own MFCCs; {other.described} is '{other.full}'")
    return spec == MFCC


def mfcc(wave: Tensor) -> Tensor:
    """f32[S] at 16 kHz -> f32[T, 39], a frame every 10 ms."""
    from torchaudio.compliance import kaldi
    from torchaudio.functional import compute_deltas

    base = kaldi.mfcc(wave[None], sample_frequency=RASTER.sample_rate, use_energy=False).T
    delta = compute_deltas(base)
    return torch.cat([base, delta, compute_deltas(delta)]).T.contiguous()


class LayerFeatures:
    """A layer of an encoder, f32[T, D]; 0 is the input embedding.

    A stretch that is longer than 30 s (or than the encoder takes in) arrives in windows with 1 s
    of context on each side. Where the encoder has another raster, raster frame t takes the
    encoder's frame whose centre is nearest.
    """

    def __init__(
        self, encoder: Encoder, layer: int, device: torch.device, precision: str = "fp32"
    ) -> None:
        """encoder: its layers above that one may be taken off; precision: that it computes in.

        Raises:
            ConfigError: a layer that it doesn't have.
            NotApplicableError: an encoder that gives one vector per clip.
        """
        if not 0 <= layer < encoder.depth:
            raise ConfigError(
                f"--layer {layer}: '{encoder.resolved}' has layers 0 (the input embedding) to "
                f"{encoder.depth - 1}"
            )
        if encoder.grid.hop == 0:
            raise NotApplicableError(f"'{encoder.resolved}' gives one vector per clip: no frames")
        self.encoder, self.layer, self.device = encoder.to(device), layer, device
        self.dim = encoder.dim
        seconds = min(_WINDOW, encoder.max_seconds or _WINDOW)
        self.whole = RASTER.frames(int(seconds * RASTER.sample_rate))
        self.context = min(_CONTEXT, self.whole // 8)
        self.longest = self.whole - 2 * self.context
        self.identity = f"{identity(encoder)} layer {layer} window {self.whole} {self.context}"
        self.precision = precision
        if precision != "fp32":
            self.identity += f" {precision}"
        self.seconds = _SECONDS_PER_PASS if device.type == "cpu" else _SECONDS_ON_GPU
        shorten = getattr(encoder, "shorten", None)
        if shorten is not None:
            shorten(layer)
        self.described = f"{encoder.resolved} layer {layer}"

    @torch.no_grad()
    def extract(self, pieces: Sequence[Piece]) -> list[Tensor]:
        lows, waves = [], []
        for piece in pieces:
            low, wave = self._wave(piece)
            lows.append(low)
            waves.append(wave)
        padded = Waves(pad_sequence(waves, batch_first=True), torch.tensor([len(w) for w in waves]))
        last = self.layer == self.encoder.depth - 1
        with arithmetic(self.device, self.precision):
            out = encode(self.encoder, padded.to(self.device), layers="last" if last else "all")
        states = out.layers[-1] if last else out.layers[self.layer]
        lengths = out.lengths.tolist()
        return [
            states[i, self._nearest(piece, lows[i], lengths[i])].float()
            for i, piece in enumerate(pieces)
        ]

    def _wave(self, piece: Piece) -> tuple[int, Tensor]:
        """The first raster frame that is heard, and the audio at the encoder's rate."""
        stretch, rate = piece.stretch, RASTER.sample_rate
        low = max(0, piece.begin - self.context)
        high = piece.end + self.context
        samples = stretch.samples if high >= stretch.frames else RASTER.samples(high)
        start = (stretch.first + low * RASTER.hop) / rate
        end = (stretch.first + samples) / rate
        wave = reading.read(stretch.path, start, end, self.encoder.sample_rate)
        # With what is left after the last whole frame, it may be longer than the encoder takes in.
        if self.encoder.max_seconds is not None:
            wave = wave[: int(self.encoder.max_seconds * self.encoder.sample_rate)]
        return low, torch.from_numpy(wave)

    def _nearest(self, piece: Piece, low: int, frames: int) -> Any:
        """The encoder's frame for each raster frame of a piece."""
        grid = self.encoder.grid
        centres = RASTER.centres(piece.end - low)[piece.begin - low :]
        index = np.rint((centres - grid.centre(0)) / grid.seconds_per_frame).astype(np.int64)
        return torch.from_numpy(index.clip(0, frames - 1)).to(self.device)


def process() -> tuple[int, int, int]:
    """(rank, world, local rank) of this process, as torchrun says; outside a run, which has
    Accelerate's handle."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    return rank, world, int(os.environ.get("LOCAL_RANK", str(rank)))


def own_device(name: str) -> torch.device:
    """The device of this process: `resolve_device`, and of several GPUs its own.

    Raises:
        ConfigError: a device that was named and isn't there.
    """
    device = resolve_device(name)
    _, world, local = process()
    if device == "cuda" and world > 1:
        device = f"cuda:{local % torch.cuda.device_count()}"
    return torch.device(device)
