"""CLAP's audio tower, HTSAT (Wu et al. 2023; Chen et al. 2022): frames, or one vector per clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bab import BabError, Encoded, Encoder, Grid, Options, Waves, fingerprint, locate_weights
from bab.kit import valid
from bab.plugins.encoders.shared.clap import DecibelMel, MelSettings
from bab.plugins.encoders.shared.htsat import audio_config, build_tower, frame_count
from bab.plugins.encoders.shared.passing import threads_are_safe
from bab.plugins.encoders.shared.states import Kind, Weights, from_folder

# Raise it when the same weights give another output: cached features depend on it.
CODE_VERSION = "1"

_RATE = 48000
_HUB = {
    "base": "laion/clap-htsat-unfused",
    "fused": "laion/clap-htsat-fused",
    "music-speech": "laion/larger_clap_music_and_speech",
}
_KIND = Kind("clap", ("clap", "clap_audio_model"), (), _RATE)
# HTSAT in small: the same four stages of two layers, a quarter as wide.
_TINY: dict[str, Any] = {
    "patch_embeds_hidden_size": 24,
    "hidden_size": 192,
    "depths": [2, 2, 2, 2],
    "num_attention_heads": [1, 2, 4, 8],
    "projection_dim": 64,
}
# The part of a configuration, besides the weights' shapes, that the output depends on.
_SHAPES = (
    "depths",
    "hidden_act",
    "layer_norm_eps",
    "num_attention_heads",
    "patch_size",
    "patch_stride",
    "projection_hidden_act",
    "spec_size",
    "window_size",
)


class ClapOptions(Options):
    """Options of the clap encoder."""

    output: Literal["frames", "clip", "projected"] = Field(
        "frames",
        description="frames: the last map, a frame each 312.5 ms; clip: its mean, one vector per "
        "clip; projected: that in the space shared with text, of length 1",
    )
    seed: int = Field(0, description="draws `random` weights; not set: the run's seed does")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="all dropouts in training; unset: as the weights' config says"
    )


class Clap(Encoder):
    """CLAP's HTSAT: 48 kHz, up to 10 s at a time; frames every 312.5 ms, or one vector per clip.

    Frames are the last stage's feature map, the mean over frequencies. Its field is the whole
    input, so the grid gives each frame the 312.5 ms that its patches were cut from; it is off by
    less than 5 ms, as HTSAT stretches 1,001 spectra to 1,024. There is one state: the stages
    before have other widths and rates.

    The model always sees 10 s. A shorter clip is repeated as often as it fits, then filled with
    silence ("repeatpad", the published default); the frames of its first repetition are returned,
    or, for a clip, the mean over all that the model saw. Nothing is cut or fused at random.

    Weights: a name below, `random` or `random-tiny`; a folder saved by transformers (ClapModel, or
    its audio part alone); or a hub id. Of fused weights the path for clips up to 10 s is used.

    A masked frame's spectrum becomes the mean that the model was trained with.
    """

    Options = ClapOptions
    weights: ClassVar[Mapping[str, str]] = {
        "random": "untrained control of full size (28 M parameters), drawn from option `seed`",
        "random-tiny": "untrained, the same stages, 1.3 M parameters, drawn from option `seed`",
        "base": f"{_HUB['base']}: 28 M parameters, 630,000 sounds with captions",
        "fused": f"{_HUB['fused']}: the same, trained with fused long clips",
        "music-speech": f"{_HUB['music-speech']}: a larger HTSAT, with music and speech",
    }
    default = "random-tiny"
    source = "arXiv 2211.06687, 2202.00874; model and features: Hugging Face transformers"
    licence = "Apache-2.0"

    def __init__(self, weights: Weights, options: ClapOptions, resolved: str) -> None:
        """weights: a configuration and, where trained, its tensors; resolved: the record's name.

        Raises:
            WeightsError: the tensors are not the encoder that the configuration describes.
        """
        super().__init__()
        self.output = options.output
        self.model = build_tower(weights, self.output == "projected", options.dropout, options.seed)
        config = self.model.config
        settings = MelSettings.read(weights.extractor, weights.where)
        self.mel = DecibelMel(settings)
        self.samples = settings.samples
        self.sample_rate, self.depth = _RATE, 1
        self.dim = int(config.projection_dim if self.output == "projected" else config.hidden_size)
        hop = self.samples // frame_count(config)
        self.grid = Grid(_RATE, hop, hop)
        if self.output != "frames":
            self.grid = Grid(_RATE, 0, self.samples)
        self.max_seconds = float(settings.seconds)
        self.resolved = resolved
        self.concurrent = threads_are_safe()
        shapes = {key: getattr(config, key) for key in _SHAPES}
        options_ = {"output": self.output, "mel": repr(settings), **shapes}
        self.fingerprint = fingerprint(self.model, f"clap {CODE_VERSION}", options_)
        self.eval()

    @classmethod
    def load(
        cls, weights: str, options: Any, *, offline: bool = False, trust_code: bool = False
    ) -> Clap:
        """See `Encoder.load`. Code from a model's repository is never run, asked for or not."""
        if weights in ("random", "random-tiny"):
            changes = _TINY if weights == "random-tiny" else {}
            return cls(Weights(changes, None, weights), options, f"clap:{weights}")
        source = locate_weights(
            weights, encoder="clap", hub=_HUB, known=cls.weights, offline=offline
        )
        whole = from_folder(source.path, _KIND)
        audio = replace(whole, config=audio_config(whole.config))
        return cls(audio, options, f"clap:{source.name}")

    @property
    def tower(self) -> Any:
        """transformers' ClapAudioEncoder: HTSAT without the projection."""
        return getattr(self.model, "audio_model", self.model).audio_encoder

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        """See `Encoder.forward`; there is one state, and "last" is "all".

        Raises:
            BabError: a clip is longer than the model's fixed input.
        """
        longest = int(waves.lengths.max())
        if longest > self.samples:
            raise BabError(
                f"{self.resolved} takes at most {self.samples} samples ({self.max_seconds:g} s) "
                f"at a time, but was given {longest}: cut the audio into windows"
            )
        mels = self.mel(waves)
        if mask is not None:
            mels = self._hide(mels, mask, waves.lengths)
        out = self.model(input_features=mels)
        if self.output == "frames":
            return self._frames(out.last_hidden_state, waves.lengths)
        clip = self.output == "clip"
        vectors = out.pooler_output if clip else functional.normalize(out.audio_embeds, dim=-1)
        return Encoded((vectors[:, None],), torch.ones_like(waves.lengths))

    def _frames(self, last: Tensor, lengths: Tensor) -> Encoded:
        """f32[B, D, bands, T of the whole input] -> the frames inside each clip."""
        counts = (lengths // self.grid.hop).clamp(min=1)
        frames = int(counts.max())
        state = last.mean(2).transpose(1, 2)[:, :frames]
        return Encoded((state.masked_fill(~valid(counts, frames)[..., None], 0.0),), counts)

    def _hide(self, mels: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """f32[B, 1, frames, mels]: the spectra of masked frames, in every repetition, at the mean.

        mask: bool[B, T] over the encoder's frames.
        """
        middle = torch.arange(mels.shape[2], device=mels.device) * self.mel.settings.hop
        place = middle % lengths.clamp(min=1)[:, None]
        frame = (place // (self.grid.hop or self.samples)).clamp(max=mask.shape[1] - 1)
        hidden = mask.gather(1, frame)[:, None, :, None]
        return torch.where(hidden, self.tower.batch_norm.running_mean, mels)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """ "conv" (patches), "input" (norm of the spectrum), "layer0", ... (HTSAT's stages)."""
        tower = self.tower
        groups = {
            "conv": list(tower.patch_embed.parameters()),
            "input": list(tower.batch_norm.parameters()),
        }
        for index, stage in enumerate(tower.layers):
            groups[f"layer{index}"] = list(stage.parameters())
        taken = {id(parameter) for group in groups.values() for parameter in group}
        groups[f"layer{len(tower.layers) - 1}"] += [
            parameter for parameter in self.parameters() if id(parameter) not in taken
        ]
        return groups
