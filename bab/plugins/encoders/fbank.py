"""Log-mel filter banks with deltas: SUPERB's baseline, the floor under every learned encoder.

Configuration: s3prl, `s3prl/upstream/baseline/fbank.yaml` and `extracter.py` (at ec8064b):
Kaldi filter banks of 80 bins, 25 ms every 10 ms, two orders of deltas over 5 frames, and mean and
variance normalisation over the utterance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bab import Encoded, Encoder, Grid, Options, Waves, WeightsError, fingerprint
from bab.kit import valid
from bab.plugins.encoders.shared.kaldi import FIELD, HOP, RATE, LogMel

CODE_VERSION = "1"


class FbankOptions(Options):
    """Options of the fbank encoder."""

    mels: int = Field(80, ge=4, le=128, description="mel bins, from 20 to 8000 Hz")
    deltas: int = Field(2, ge=0, le=3, description="orders of deltas stacked onto the bins")
    cmvn: Literal["utterance", "none"] = Field(
        "utterance",
        description="zero mean and unit variance per dimension over the utterance; the default is "
        "none in tasks of whole clips, whose mean vectors would all be zero",
    )


class Fbank(Encoder):
    """80 log-mel bins, deltas and double deltas every 10 ms; nothing to train.

    `local` is the log-mel energy alone, before deltas and normalisation. A masked frame becomes
    zero, which after normalisation is the utterance's mean.
    """

    Options = FbankOptions
    source = "SUPERB (arXiv 2105.01051), s3prl upstream/baseline/fbank.yaml"
    licence = "nothing is loaded"
    # What is normalised over the utterance has a mean of exactly zero over it: a clip's mean vector
    # would say nothing, and every score be chance (as SUPERB's FBANK in speaker identification is).
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"clip": {"cmvn": "none"}}

    def __init__(self, options: FbankOptions) -> None:
        super().__init__()
        self.options = options
        self.sample_rate = RATE
        self.dim = options.mels * (1 + options.deltas)
        self.depth = 1
        self.grid = Grid(RATE, HOP, FIELD)
        self.max_seconds = None
        self.resolved = "fbank"
        self.concurrent = True
        window = torch.hann_window(FIELD, periodic=False).pow(0.85)  # Kaldi's "povey"
        self.log_mel = LogMel(options.mels, window)
        self.fingerprint = fingerprint(self, f"fbank {CODE_VERSION}", options.model_dump())
        self.eval()

    @classmethod
    def load(
        cls, weights: str, options: Any, *, offline: bool = False, trust_code: bool = False
    ) -> Fbank:
        """See `Encoder.load`; there are no weights to name.

        Raises:
            WeightsError: something stands after the colon.
        """
        if weights:
            raise WeightsError(f"fbank has no weights: write 'fbank', not 'fbank:{weights}'")
        return cls(options)

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        """See `Encoder.forward`; there is one state, and "last" is "all"."""
        inside = valid(waves.lengths, waves.samples.shape[1])
        samples = waves.samples.masked_fill(~inside, 0.0)
        samples = functional.pad(samples, (0, max(0, FIELD - samples.shape[1])))
        lengths = (waves.lengths.clamp(min=FIELD) - FIELD) // HOP + 1
        mels = self.log_mel(samples)
        outside = ~valid(lengths, mels.shape[1])[..., None]
        stack = [mels]
        for _ in range(self.options.deltas):
            stack.append(_delta(_hold_last(stack[-1], lengths)))
        state = torch.cat(stack, -1)
        if self.options.cmvn == "utterance":
            state = _cmvn(state, lengths)
        if mask is not None:
            state = state.masked_fill(mask[..., None], 0.0)
        return Encoded((state.masked_fill(outside, 0.0),), lengths, mels.masked_fill(outside, 0.0))

    def traceable(self, samples: Tensor) -> tuple[Tensor, ...]:
        """See docs/plugins.md: clips of one length, at least a frame long, f32[B, S]."""
        stack = [self.log_mel.traceable(samples)]
        for _ in range(self.options.deltas):
            stack.append(_delta(stack[-1]))
        state = torch.cat(stack, -1)
        if self.options.cmvn == "utterance":
            one = torch.ones_like(state[:, 0, 0], dtype=torch.long)
            state = _cmvn(state, one * state.shape[1])
        return (state,)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """None: it has no parameters."""
        return {}


def _hold_last(x: Tensor, lengths: Tensor) -> Tensor:
    """f32[B, T, D] with each item's last valid frame repeated over its padding."""
    index = torch.arange(x.shape[1], device=x.device).minimum(lengths[:, None] - 1)
    return x.gather(1, index[..., None].expand_as(x))


def _delta(x: Tensor) -> Tensor:
    """Regression slope over 5 frames, ends repeated: torchaudio's compute_deltas on [B, T, D].

    Written as differences, so that a constant (digital silence) has a slope of exactly zero:
    normalisation would blow rounding noise up to full size.
    """
    padded = torch.cat([x[:, :1], x[:, :1], x, x[:, -1:], x[:, -1:]], 1)
    near = padded[:, 3:-1] - padded[:, 1:-3]
    far = padded[:, 4:] - padded[:, :-4]
    return (near + 2 * far) / 10


def _cmvn(x: Tensor, lengths: Tensor) -> Tensor:
    """Mean 0 and variance 1 (of a sample) over each item's valid frames; s3prl's 1e-10 added.

    Shifted by the first frame before anything is summed, so that a constant becomes exactly zero.
    """
    inside = valid(lengths, x.shape[1])[..., None]
    shifted = (x - x[:, :1]).masked_fill(~inside, 0.0)
    count = lengths[:, None, None]
    centred = (shifted - shifted.sum(1, keepdim=True) / count).masked_fill(~inside, 0.0)
    variance = centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)
    return centred / (1e-10 + variance.sqrt())
