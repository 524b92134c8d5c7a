"""AST, the audio spectrogram transformer (Gong et al. 2021), its patches read as frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bab import BabError, Encoded, Encoder, Grid, Options, Waves, fingerprint, locate_weights
from bab.kit import valid
from bab.plugins.encoders.shared.ast import modern, padded
from bab.plugins.encoders.shared.kaldi import FIELD, HOP, RATE, LogMel
from bab.plugins.encoders.shared.passing import Kept, threads_are_safe
from bab.plugins.encoders.shared.states import Kind, Weights, build, dropouts, from_folder

# Raise it when the same weights give another output: cached features depend on it.
CODE_VERSION = "1"

_HUB = {
    "base": "MIT/ast-finetuned-audioset-10-10-0.4593",
    "speech-commands": "MIT/ast-finetuned-speech-commands-v2",
}
_KIND = Kind("ast", ("audio-spectrogram-transformer",), ("audio_spectrogram_transformer.",), RATE)
# The same patches, in small: three layers of four heads.
_TINY: dict[str, Any] = {
    "hidden_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 640,
}
# AudioSet's mean and standard deviation: ASTFeatureExtractor's defaults.
_MEAN, _STD = -4.2677393, 4.5689974
_kept = Kept()
# The part of a configuration, besides the weights' shapes, that the output depends on.
_SHAPES = (
    "frequency_stride",
    "hidden_act",
    "layer_norm_eps",
    "max_length",
    "num_attention_heads",
    "num_mel_bins",
    "patch_size",
    "time_stride",
)


class AstOptions(Options):
    """Options of the ast encoder."""

    seed: int = Field(0, description="draws `random` weights; not set: the run's seed does")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="all dropouts in training; unset: as the weights' config says"
    )


class Ast(Encoder):
    """AST: 16 kHz, a frame every 100 ms that sees 175 ms; up to 10.24 s at a time.

    A frame is the mean of the patches at one time: 12 of them, from low to high frequencies. The
    model always sees 10.24 s. What a clip lacks is filled, as in its training, with log energies
    of 0 before normalisation; only the frames that lie wholly inside the clip are returned, and
    they don't depend on other clips. They do depend, through attention, on how long the clip is.

    Weights: a name below, `random` or `random-tiny`; a folder saved by transformers (ASTModel or
    ASTForAudioClassification); or a hub id.

    `local` is each frame's mean patch before positions are added. A masked frame's patches become
    zero: AST has no mask embedding.
    """

    Options = AstOptions
    weights: ClassVar[Mapping[str, str]] = {
        "random": "untrained control of full size (86 M parameters), drawn from option `seed`",
        "random-tiny": "untrained, the same patches, 1.2 M parameters, drawn from option `seed`",
        "base": f"{_HUB['base']}: 86 M parameters, ImageNet, then AudioSet's labels",
        "speech-commands": f"{_HUB['speech-commands']}: 85 M parameters, 1.28 s at a time",
    }
    default = "random-tiny"
    source = "arXiv 2104.01778; model and features: Hugging Face transformers"
    licence = "BSD-3-Clause"

    def __init__(self, weights: Weights, options: AstOptions, resolved: str) -> None:
        """weights: a configuration and, where trained, its tensors; resolved: the record's name.

        Raises:
            WeightsError: the tensors are not the encoder that the configuration describes.
        """
        super().__init__()
        changes = dropouts(options.dropout)
        self.model = build("ASTModel", "ASTConfig", weights, changes, options.seed, modern)
        config = self.model.config
        self.bands, self.times = self.model.embeddings.get_shape(config)
        if weights.tensors is not None:
            weights.fill(self.model, modern)
        self.log_mel = LogMel(config.num_mel_bins, torch.hann_window(FIELD, periodic=False))
        said = weights.extractor
        normalised = bool(said.get("do_normalize", True))
        self.mean = float(said.get("mean", _MEAN)) if normalised else 0.0
        self.std = float(said.get("std", _STD)) if normalised else 0.5  # twice this divides
        self.sample_rate = RATE
        self.dim = int(config.hidden_size)
        self.depth = int(config.num_hidden_layers) + 1
        self.grid = Grid(RATE, config.time_stride * HOP, (config.patch_size - 1) * HOP + FIELD)
        self.max_seconds = config.max_length * HOP / RATE
        self.resolved = resolved
        self.concurrent = threads_are_safe()
        self.model.embeddings.patch_embeddings.register_forward_hook(self._on_patches)
        shapes = {key: getattr(config, key) for key in _SHAPES}
        self.fingerprint = fingerprint(
            self.model, f"ast {CODE_VERSION}", {"mean": self.mean, "std": self.std, **shapes}
        )
        self.eval()

    @classmethod
    def load(
        cls, weights: str, options: Any, *, offline: bool = False, trust_code: bool = False
    ) -> Ast:
        """See `Encoder.load`. Code from a model's repository is never run, asked for or not."""
        if weights in ("random", "random-tiny"):
            changes = _TINY if weights == "random-tiny" else {}
            return cls(Weights(changes, None, weights), options, f"ast:{weights}")
        source = locate_weights(
            weights, encoder="ast", hub=_HUB, known=cls.weights, offline=offline
        )
        return cls(from_folder(source.path, _KIND), options, f"ast:{source.name}")

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        """See `Encoder.forward`. "all" is the patches with their positions, then each layer.

        The last state is the one after the final layer norm.

        Raises:
            BabError: a clip is longer than the model's fixed input.
        """
        counts = (waves.lengths.clamp(min=self.grid.field) - self.grid.field) // self.grid.hop + 1
        features = self.features(waves)
        _kept.mask = mask
        try:
            out = self.model(features, output_hidden_states=layers == "all")
        finally:
            local, _ = _kept.taken()
        states = (out.last_hidden_state,)
        if layers == "all":
            states = (*out.hidden_states[:-1], out.last_hidden_state)
        # The first two tokens are the class's and the teacher's, which belong to no time.
        frames = tuple(self._frames(state[:, 2:], counts) for state in states)
        assert local is not None
        return Encoded(frames, counts, self._frames(local, counts))

    def features(self, waves: Waves) -> Tensor:
        """f32[B, max_length, mels]: what ASTFeatureExtractor gives for each clip.

        A clip shorter than one frame (25 ms) counts as that long, with silence after it.

        Raises:
            BabError: a clip is longer than the model's fixed input.
        """
        size = self.model.config.max_length
        lengths = waves.lengths.clamp(min=FIELD)
        longest = int(lengths.max())
        if (longest - FIELD) // HOP + 1 > size:
            raise BabError(
                f"{self.resolved} takes at most {self.max_seconds} s at a time, but was given "
                f"{longest / RATE:.2f} s: cut the audio into windows"
            )
        mels = padded(self.log_mel, waves, lengths, size)
        return (mels - self.mean) / (2 * self.std)

    def _on_patches(self, module: nn.Module, inputs: Any, patches: Tensor) -> Tensor:
        """f32[B, bands * times, D], kept; with the patches of masked frames set to zero."""
        _kept.local = patches
        if _kept.mask is None:
            return patches
        mask = functional.pad(_kept.mask, (0, self.times - _kept.mask.shape[1]))
        return patches.masked_fill(mask.repeat(1, self.bands)[..., None], 0.0)

    def _frames(self, patches: Tensor, counts: Tensor) -> Tensor:
        """f32[B, bands * times, D] -> f32[B, T, D]: the mean over bands, zeros after each clip."""
        frames = int(counts.max())
        grid = patches.view(len(patches), self.bands, self.times, -1)[:, :, :frames]
        return grid.mean(1).masked_fill(~valid(counts, frames)[..., None], 0.0)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """ "conv" (patches), "input" (tokens, positions), "layer0", "layer1", ..."""
        embeddings = self.model.embeddings
        groups = {"conv": list(embeddings.patch_embeddings.parameters())}
        taken = {id(parameter) for parameter in groups["conv"]}
        groups["input"] = [p for p in embeddings.parameters() if id(p) not in taken]
        blocks = getattr(self.model, "layers", None) or self.model.encoder.layer
        for index, layer in enumerate(blocks):
            groups[f"layer{index}"] = list(layer.parameters())
        groups[f"layer{self.depth - 2}"] += list(self.model.layernorm.parameters())
        return groups
