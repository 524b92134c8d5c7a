"""Any upstream of s3prl (Yang et al. 2021), one clip length at a time, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bab import BabError, Encoded, Encoder, Grid, Options, Waves, WeightsError, fingerprint
from bab.plugins.encoders.shared import s3prl
from bab.plugins.encoders.shared.measure import measured

# Raise it when the same upstream gives another output: cached features depend on it.
CODE_VERSION = "1"

_RATE = 16000
_SHORTEST = 800  # samples: s3prl's MIN_SECOND, 50 ms; shorter clips get silence after them
_SECOND = 16000
_TOLERANCE = 5  # frames: s3prl's TOLERABLE_SEQLEN_DIFF; S3PRLUpstream lets the count be double


class S3prlOptions(Options):
    """Options of the s3prl encoder."""

    ckpt: str | None = Field(
        None,
        description="checkpoint of the names that end in _local, _url or _custom: a file, a URL, "
        "or (hf_*) a folder or hub id",
    )
    config: str | None = Field(
        None,
        description="s3prl's model_config, a file, of the names that need one (baseline_local)",
    )


class S3prl(Encoder):
    """An upstream of s3prl, `s3prl:NAME`: 16 kHz, the states that SUPERB probes ("hidden_states").

    NAME is any that s3prl's hubconf files define. Clips of different lengths never meet: s3prl's
    padding leaks in many upstreams. The upstream normalises its input as its authors wrote.

    The grid is approximate. Its hop is the upstream's stride; field and offset are found by
    counting frames at several lengths, which is right for convolutions without padding, and gives
    the right centres where padding is the same on both sides. Where states differ in width or
    rate, only the last is returned (s3prl could not sum them either).

    It stays in evaluation mode, with no gradient unless fine-tuning asks for one; it takes no mask.
    """

    Options = S3prlOptions
    weights: ClassVar[Mapping[str, str]] = {
        "fbank": "SUPERB's baseline, as s3prl computes it; also mfcc, mel, linear, spectrogram",
        "hf_hubert_custom": "a HuBERT of transformers: --set encoder.ckpt=FOLDER or hub id",
        "hf_wav2vec2_custom": "a wav2vec 2.0 of transformers, in the same way",
        "wavlm_local": "a WavLM checkpoint of its authors: --set encoder.ckpt=FILE",
        "apc": "one of the names whose weights s3prl downloads; see its documentation for all",
    }
    source = "s3prl 0.4.18, arXiv 2105.01051"
    licence = "s3prl's code: Apache-2.0; weights: as their authors say"

    def __init__(self, upstream: Any, name: str, options: S3prlOptions) -> None:
        """upstream: what s3prl's entry `name` built.

        Raises:
            WeightsError: it gives no states, or can't say their stride.
        """
        super().__init__()
        self.upstream: nn.Module = upstream.eval().requires_grad_(False)
        self.name = name
        self.sample_rate = _RATE
        self.max_seconds = 30.0
        self.resolved = f"s3prl:{name}" + (f"[{options.ckpt}]" if options.ckpt else "")
        with torch.no_grad():
            states = self._states(torch.zeros(1, _SECOND))
        last = states[-1].shape
        self.every = all(state.shape == last for state in states)
        self.dim = int(last[-1])
        self.depth = len(states) if self.every else 1
        self.grid = self._measure(s3prl.stride(self.upstream, name))
        said = {"name": name, "s3prl": s3prl.version()}
        for key in ("ckpt", "config"):
            said[key] = s3prl.identity(getattr(options, key))
        self.fingerprint = fingerprint(self.upstream, f"s3prl {CODE_VERSION}", said)
        self.eval()

    @classmethod
    def load(
        cls, weights: str, options: Any, *, offline: bool = False, trust_code: bool = False
    ) -> S3prl:
        """See `Encoder.load`. trust_code: also lets old checkpoints be unpickled.

        Raises:
            WeightsError: nothing stands after the colon, or what `shared.s3prl.build` says.
        """
        if not weights:
            raise WeightsError(
                "s3prl needs a name: s3prl:NAME, as in s3prl:fbank (`bab info s3prl`)"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            upstream = s3prl.build(
                weights, options.ckpt, options.config, offline=offline, trust_code=trust_code
            )
            return cls(upstream, weights, options)

    def train(self, mode: bool = True) -> S3prl:
        """As `nn.Module.train`, but for the upstream, which stays in evaluation mode."""
        super().train(mode)
        self.upstream.eval()
        return self

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        """See `Encoder.forward`; clips of one length go through the upstream together.

        Raises:
            BabError: a mask was given, or the upstream's frame count is far from the grid's.
        """
        if mask is not None:
            raise BabError(f"{self.resolved} can't be masked: s3prl's upstreams take no mask")
        sizes = waves.lengths.tolist()
        counts = [self.grid.frames(size) for size in sizes]
        depth = self.depth if layers == "all" else 1
        shape = (len(sizes), max(counts), self.dim)
        out = [waves.samples.new_zeros(shape) for _ in range(depth)]
        for size in sorted(set(sizes)):
            rows = [row for row, own in enumerate(sizes) if own == size]
            states = self._of_one_length(waves.samples[rows, :size])[-depth:]
            for state, filled in zip(states, out, strict=True):
                filled[rows, : state.shape[1]] = state
        return Encoded(tuple(out), torch.tensor(counts, device=waves.lengths.device))

    def _of_one_length(self, samples: Tensor) -> list[Tensor]:
        """f32[B, S] without padding -> `depth` states f32[B, T, D], T as the grid says."""
        frames = self.grid.frames(samples.shape[1])
        short = max(_SHORTEST, self.grid.samples(1)) - samples.shape[1]
        states = self._states(functional.pad(samples, (0, max(0, short))))
        if not all(bool(state.isfinite().all()) for state in states):
            raise BabError(
                f"{self.resolved} gives values that are no numbers for a clip of "
                f"{samples.shape[1] / _RATE:.3f} s: leave clips as short or as silent out"
            )
        return [self._fit(state, frames, short > 0) for state in states[-self.depth :]]

    def _fit(self, state: Tensor, frames: int, padded: bool) -> Tensor:
        """Cut, or repeat the last frame, as s3prl does where the stride doesn't give the count."""
        given = state.shape[1]
        gap = frames - given
        alike = abs(gap) <= _TOLERANCE or max(frames, given) < 2 * min(frames, given)
        if not (alike or padded):
            raise BabError(
                f"{self.resolved} gave {given} frames where its stride of "
                f"{self.grid.hop} samples means {frames}: some upstreams drop digital silence at "
                "the end; leave such clips out"
            )
        if gap <= 0:
            return state[:, :frames]
        return torch.cat([state, state[:, -1:].expand(-1, gap, -1)], 1)

    def _states(self, samples: Tensor) -> list[Tensor]:
        """f32[B, S] -> the upstream's states, each f32[B, T, D].

        Raises:
            WeightsError: it gives none.
        """
        said = self.upstream(list(samples))
        states = said.get("hidden_states") or [said.get("last_hidden_state")]
        if not all(isinstance(state, Tensor) and state.dim() == 3 for state in states):
            raise WeightsError(f"s3prl's '{self.name}' gives no hidden_states over time")
        return list(states)

    @torch.no_grad()
    def _measure(self, hop: int) -> Grid:
        """The grid that counts frames as the upstream does, found at lengths around one second.

        Raises:
            WeightsError: at three seconds it counts otherwise.
        """

        def count(samples: int) -> int:
            return int(self._states(torch.zeros(1, samples))[-1].shape[1])

        grid = measured(count, _RATE, hop, _SECOND)
        counted, meant = count(3 * _SECOND), grid.frames(3 * _SECOND)
        if abs(counted - meant) > _TOLERANCE:
            raise WeightsError(
                f"s3prl's '{self.name}' says a stride of {hop} samples, but gives {counted} frames "
                f"for 3 s, not {meant}: it can't be put on a grid"
            )
        return grid
