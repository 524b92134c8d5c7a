"""PyanNet, the encoder of VTC 1.0 (Lavechin et al. 2020), one or several nets side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bab import Encoded, Encoder, Grid, Options, Waves, WeightsError, fingerprint, read_tensors
from bab.kit import valid
from bab.plugins.encoders.shared.sincnet import KERNELS, POOL, RATE, STRIDES, PyanNet, sized

# Raise it when the same weights give another output: cached features depend on it.
CODE_VERSION = "1"
RANDOM = "random"
_SAMPLES = 10 * RATE  # that go through a net together: its filters give 80 values for each


class PyannetOptions(Options):
    """Options of the pyannet encoder."""

    seed: int = Field(0, description="draws `random` weights; not set: the run's seed does")


class Pyannet(Encoder):
    """pyannote.audio 1's PyanNet: SincNet, two BiLSTMs of 128, two tanh layers of 128; 16 kHz, a
    frame every 1.7 ms.

    Several checkpoints (VTC 1.0 has one for each voice) are several nets; their last layers stand
    side by side, in the order of the files' names.

    Weights: a folder of .pt files, or `random`.
    """

    Options = PyannetOptions
    weights: ClassVar[Mapping[str, str]] = {
        RANDOM: "untrained control: one net of 682,000 parameters, drawn from option `seed`"
    }
    default = RANDOM
    source = "VTC 1.0: arXiv 2005.12656; pyannote.audio 1: arXiv 1911.01255"
    licence = "as the checkpoint's page says"

    def __init__(self, nets: list[PyanNet], resolved: str) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.sample_rate = RATE
        self.dim = sum(net.dim for net in nets)
        self.depth = 1
        self.grid = _grid()
        self.max_seconds = None
        self.resolved = resolved
        self.concurrent = True
        self.fingerprint = fingerprint(self.nets, f"pyannet {CODE_VERSION}", {})
        self.eval()

    @classmethod
    def load(
        cls, weights: str, options: Any, *, offline: bool = False, trust_code: bool = False
    ) -> Pyannet:
        """See `Encoder.load`. Only tensors are read: no code in a checkpoint is run."""
        if weights == RANDOM:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(options.seed)
                return cls([PyanNet()], f"pyannet:{RANDOM}")
        folder = Path(weights).expanduser().resolve()
        files = sorted(folder.glob("*.pt")) if folder.is_dir() else []
        if not files:
            raise WeightsError(f"pyannet:{weights}: no folder with .pt files, and not '{RANDOM}'")
        nets = []
        for file in files:
            try:
                nets.append(sized(read_tensors(file)))
            except (KeyError, RuntimeError) as error:
                said = " ".join(str(error).split())[:200]
                raise WeightsError(f"{file} is no PyanNet of pyannote.audio 1: {said}") from error
        return cls(nets, f"pyannet:{folder}")

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        """See `Encoder.forward`; there is one state. Clips of one length go through together, for
        its norms look across the whole of a clip."""
        lengths = waves.lengths.clamp(min=self.grid.field)
        short = int(lengths.max()) - waves.samples.shape[1]
        samples = nn.functional.pad(waves.samples, (0, max(0, short)))
        samples = samples.masked_fill(~valid(waves.lengths, samples.shape[1]), 0.0)
        counts = (lengths - self.grid.field) // self.grid.hop + 1
        frames = int(counts.max())
        out = samples.new_zeros(len(samples), frames, self.dim)
        for length in sorted(set(lengths.tolist())):
            same = (lengths == length).nonzero()[:, 0]
            for rows in same.split(max(1, _SAMPLES // length)):
                part = None if mask is None else mask[rows]
                state = torch.cat([net(samples[rows, :length], part) for net in self.nets], dim=-1)
                state = nn.functional.pad(state, (0, 0, 0, frames - state.shape[1]))
                out = out.index_copy(0, rows, state)
        return Encoded((out,), counts)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """ "conv" (SincNet), "layer0" (LSTMs), "layer1" (tanh layers)."""
        parts = {"conv": "sincnet_", "layer0": "rnn_", "layer1": "ff_"}
        return {
            name: [p for net in self.nets for p in getattr(net, part).parameters()]
            for name, part in parts.items()
        }


def _grid() -> Grid:
    """Hop and field of the convolutions and poolings: 27 and 325 samples."""
    field, hop = 1, 1
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
        field += (POOL - 1) * hop
        hop *= POOL
    return Grid(RATE, hop, field)
