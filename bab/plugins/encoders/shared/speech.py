"""What wav2vec 2.0, HuBERT and WavLM share: transformers' model with two parts replaced.

Sources: Baevski et al. 2020 (arXiv 2006.11477), Hsu et al. 2021 (arXiv 2106.07447), Chen et al.
2021 (arXiv 2110.13900), and the models of Hugging Face transformers. The replaced parts make each
clip's frames independent of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as checkpointed

from bab import (
    BabError,
    ConfigError,
    Encoded,
    Encoder,
    Grid,
    Options,
    Waves,
    WeightsError,
    find_checkpoint,
    fingerprint,
    locate_weights,
    read_tensors,
)
from bab.kit import (
    GradScale,
    ValidBatchNorm,
    ValidGroupNorm,
    standardise,
    valid,
)
from bab.plugins.encoders.shared import export, half, masking, passing
from bab.plugins.encoders.shared.states import Kind, Weights, build, from_folder
from bab.plugins.encoders.shared.torchaudio import convert, modern

# Raise it when the same weights give another output: cached features depend on it.
CODE_VERSION = "1"
SAMPLE_RATE = 16000
RANDOM = {
    "random": "untrained control of full base size (95 M parameters), drawn from option `seed`",
    "random-tiny": "untrained, base style, 1.7 M parameters, drawn from option `seed`",
}
TINY = "tiny"
SHIPPED = {
    TINY: "ships with bab, runs anywhere: 1.7 M parameters, 2.3 h of audio; a toy, see its card"
}
_FOLDER = Path(__file__).parent.parent / "weights"  # of what ships
_kept = passing.Kept()
# Base style in small: the same convolutions, 96 wide; four layers of three heads.
_TINY: dict[str, Any] = {
    "conv_dim": [96] * 7,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 576,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 16,
}
# The part of a configuration, besides the weights, that the output depends on.
_SHAPES = (
    "adapter_attn_dim",
    "conv_bias",
    "conv_dim",
    "conv_kernel",
    "conv_pos_batch_norm",
    "conv_stride",
    "do_stable_layer_norm",
    "feat_extract_activation",
    "feat_extract_norm",
    "feat_proj_layer_norm",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_bucket_distance",
    "num_buckets",
    "num_attention_heads",
    "num_conv_pos_embedding_groups",
    "num_conv_pos_embeddings",
    "num_hidden_layers",
)


class Size(Options):
    """The size of untrained weights, in transformers' words; unset: as `random-tiny` or base is."""

    hidden_size: int | None = Field(default=None, gt=0, description="width of the transformer")
    num_hidden_layers: int | None = Field(
        default=None, gt=0, description="layers of the transformer"
    )
    num_attention_heads: int | None = Field(
        default=None, gt=0, description="they divide hidden_size"
    )
    intermediate_size: int | None = Field(
        default=None, gt=0, description="width of the feed-forward part"
    )
    conv_dim: tuple[PositiveInt, ...] | None = Field(
        default=None, min_length=7, max_length=7, description="channels of the seven convolutions"
    )
    num_conv_pos_embeddings: int | None = Field(
        default=None, gt=0, description="width of the positions"
    )
    num_conv_pos_embedding_groups: int | None = Field(
        default=None, gt=0, description="of the positions"
    )
    feat_extract_norm: Literal["group", "layer"] | None = Field(
        default=None, description="norm in the convolutions: group (base) or layer (large)"
    )
    do_stable_layer_norm: bool | None = Field(
        default=None, description="norm before, not after, layers"
    )
    conv_bias: bool | None = Field(default=None, description="whether the convolutions have a bias")


class SpeechOptions(Options):
    """Options of the hubert, wav2vec2 and wavlm encoders."""

    seed: int = Field(0, description="draws `random` weights; not set: the run's seed does")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="all dropouts in training; unset: as the weights' config says"
    )
    layerdrop: float = Field(
        0.0, ge=0, lt=1, description="chance to skip a layer in training (needs `layers: last`)"
    )
    normalize: bool | None = Field(
        None,
        description="input to zero mean, unit variance; unset: as preprocessor_config.json says",
    )
    feature_grad_mult: float = Field(
        1.0, ge=0, le=1, description="what gradients into the convolutions are multiplied with"
    )
    checkpointing: bool = Field(
        False, description="keep no activations of the layers, compute them again: less memory"
    )
    size: Size = Field(default_factory=Size, description="sizes of `random` and `random-tiny`")


@dataclass(frozen=True, slots=True)
class Family:
    """Which of transformers' models a plugin runs. hub: named weights -> hub ids."""

    model_type: str  # as in config.json, and the prefix of the encoder in task models
    model: str  # class names in transformers
    config: str
    hub: Mapping[str, str]
    pretraining: str = ""  # with a quantiser, where transformers has that


class Speech(Encoder):
    """A convolutional front end at 50 Hz and a transformer, on transformers' own modules."""

    Options = SpeechOptions
    family: ClassVar[Family]

    def __init__(self, weights: Weights, options: SpeechOptions, resolved: str) -> None:
        """weights: a configuration and, where trained, its tensors; resolved: the record's name.

        Raises:
            WeightsError: the tensors are not the encoder that the configuration describes.
        """
        super().__init__()
        self.model = self._build(weights, options)
        config = self.model.config
        self.sample_rate = SAMPLE_RATE
        self.dim = int(config.hidden_size)
        self.depth = int(config.num_hidden_layers) + 1
        self.local_dim = int(config.conv_dim[-1])
        self.grid = _grid(config.conv_kernel, config.conv_stride)
        self.max_seconds = 30.0
        self.resolved = resolved
        said = bool(weights.extractor.get("do_normalize", True))
        self.normalize = said if options.normalize is None else options.normalize
        self._valid_norms = _replace_norms(self.model)
        if weights.tensors is not None:
            weights.fill(self.model, modern)
        # transformers asks for gradients on the input while training, for its old checkpointing:
        # that would run the backward pass of a frozen front end for nothing.
        self.model.feature_extractor._requires_grad = False
        self.model.feature_extractor.register_forward_hook(self._keep_local)
        masking.mask_without_waiting(self.model)
        half.train_faster(self.model)
        self.concurrent = passing.threads_are_safe()
        norm = getattr(self.model.feature_projection, "layer_norm", None)  # mHuBERT-147 has none
        if norm is not None:
            norm.register_forward_hook(self._keep_normed)
        self._grad_mult = options.feature_grad_mult
        self._given, self._extras = dict(weights.config), dict(weights.extras)
        if options.checkpointing:
            self._checkpoint()
        shapes = {key: getattr(config, key) for key in _SHAPES if hasattr(config, key)}
        self.fingerprint = fingerprint(
            self.model,
            f"{self.family.model_type} {CODE_VERSION}",
            {"normalize": self.normalize, **shapes},
        )
        self.eval()

    @classmethod
    def load(
        cls, weights: str, options: Any, *, offline: bool = False, trust_code: bool = False
    ) -> Speech:
        """See `Encoder.load`. Code from a model's repository is never run, asked for or not."""
        name = cls.family.model_type
        size = options.size.model_dump(mode="json", exclude_none=True)
        if weights in RANDOM:
            changes = {**(_TINY if weights == "random-tiny" else {}), **size}
            return cls(Weights(changes, None, weights), options, f"{name}:{weights}")
        if size:
            raise ConfigError(
                f"encoder.size.{min(size)}: '{name}:{weights}' has its own size; sizes are for "
                f"untrained weights (--encoder {name}:random)"
            )
        if weights in SHIPPED and weights in cls.weights:
            return cls(_read(_FOLDER / f"{name}-tiny", name), options, f"{name}:{TINY}")
        source = locate_weights(
            weights, encoder=name, hub=cls.family.hub, known=cls.weights, offline=offline
        )
        return cls(_read(source.path, name), options, f"{name}:{source.name}")

    def _build(self, weights: Weights, options: SpeechOptions) -> Any:
        """transformers' model, untrained, with the randomness of training set by the options."""
        training: dict[str, Any] = {
            "layerdrop": options.layerdrop,
            # Masking is the objective's. The probability only has transformers make the embedding.
            "apply_spec_augment": True,
            "mask_time_prob": 0.05,
            "mask_feature_prob": 0.0,
            "add_adapter": False,  # it sits after the encoder, and changes the frame rate
        }
        if options.dropout is not None:
            for place in ("hidden", "attention", "activation", "feat_proj"):
                training[f"{place}_dropout"] = options.dropout
        names = self.family.model, self.family.config
        return build(*names, weights, training, options.seed, modern)

    def _checkpoint(self) -> None:
        """Gradient checkpointing of the transformer's layers, while training. Not of the
        convolutions: their norms are told each batch's lengths, which may have changed by then."""
        for layer in self.model.encoder.layers:
            layer._gradient_checkpointing_func = partial(checkpointed, use_reentrant=False)
            layer.gradient_checkpointing = True

    def _keep_local(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if self._grad_mult != 1.0:
            output = GradScale.apply(output, self._grad_mult)  # type: ignore[no-untyped-call]
        _kept.local = output.transpose(1, 2)
        return output

    def _keep_normed(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        _kept.normed = output

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        """See `Encoder.forward`. "all" is the input embedding, then the output of each layer.

        The last state is the one after the final layer norm, where the model has one.

        Raises:
            BabError: layers "all" while training with layerdrop, which skips states.
        """
        if layers == "all" and self.training and self.model.config.layerdrop > 0:
            raise BabError("layerdrop skips layers in training: set it to 0, or use layers: last")
        samples, lengths = self._input(waves)
        steps = samples.shape[1]
        frames = self.grid.frames(steps)
        counts = (lengths - self.grid.field) // self.grid.hop + 1
        sizes = waves.sizes.clamp(min=self.grid.field)
        padded = bool((sizes < steps).any())
        self._announce(sizes if padded else None)
        inside = valid(counts, frames)
        out = self.model(
            samples,
            attention_mask=valid(lengths, steps).long() if padded else None,
            # An empty mask, too, keeps the mask embedding in the graph: DDP wants all parameters.
            mask_time_indices=torch.zeros_like(inside) if mask is None else mask,
            output_hidden_states=layers == "all",
        )
        local, normed = _kept.taken()
        states = (out.last_hidden_state,)
        if layers == "all":
            states = (*out.hidden_states[:-1], out.last_hidden_state)
        if padded:
            states = tuple(state.masked_fill(~inside[..., None], 0.0) for state in states)
            local = None if local is None else local.masked_fill(~inside[..., None], 0.0)
            normed = None if normed is None else normed.masked_fill(~inside[..., None], 0.0)
        return Encoded(states, counts, local, normed)

    def shorten(self, layer: int) -> None:
        """See docs/plugins.md: from now on, state `layer` is the last, as it was among all."""
        layers, self.depth = self.model.encoder.layers, layer + 1
        self.model.encoder.layers = layers[:layer]
        if layer < len(layers) and self.model.config.do_stable_layer_norm:  # it comes after them
            self.model.encoder.layer_norm = nn.Identity()

    def traceable(self, samples: Tensor) -> tuple[Tensor, ...]:
        """See docs/plugins.md: all states of clips of one length, at least a field long, with no
        branch that depends on the data. f32[B, S] -> f32[B, T, D] each."""
        for norm in self._valid_norms:
            norm.lengths = None
        if self.normalize:  # as `standardise`, without padding
            samples = samples - samples.mean(1, keepdim=True)
            samples = samples / (samples.square().mean(1, keepdim=True) + 1e-7).sqrt()
        out = self.model(samples, output_hidden_states=True)
        _kept.taken()
        return (*out.hidden_states[:-1], out.last_hidden_state)

    def _input(self, waves: Waves) -> tuple[Tensor, Tensor]:
        """Zeros after each span, normalised, at least one field long; lengths to match."""
        inside = valid(waves.lengths, waves.samples.shape[1])
        samples = waves.samples.masked_fill(~inside, 0.0)
        if self.normalize:
            samples = standardise(samples, waves.lengths)
        short = self.grid.field - samples.shape[1]
        if short > 0:
            samples = nn.functional.pad(samples, (0, short))
        return samples, waves.lengths.clamp(min=self.grid.field)

    def _announce(self, lengths: Tensor | None) -> None:
        """Tell the replaced norms which of their frames are valid; None: all of them."""
        config = self.model.config
        for norm in self._valid_norms:
            norm.lengths = None
            if lengths is not None and isinstance(norm, ValidGroupNorm):
                norm.lengths = (
                    (lengths - config.conv_kernel[0]) // config.conv_stride[0] + 1
                ).tolist()
            elif lengths is not None:
                norm.lengths = ((lengths - self.grid.field) // self.grid.hop + 1).tolist()

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """ "conv", "input" (projection, mask embedding, positions), "layer0", "layer1", ..."""
        model = self.model
        groups = {"conv": list(model.feature_extractor.parameters()), "input": []}
        for index, layer in enumerate(model.encoder.layers):
            groups[f"layer{index}"] = list(layer.parameters())
        taken = {id(parameter) for group in groups.values() for parameter in group}
        # The transformer's own norm stands before its layers, or, in "stable" models, after them.
        after = model.encoder.layer_norm if model.config.do_stable_layer_norm else None
        if after is not None:
            groups[f"layer{self.depth - 2}"] += list(after.parameters())
            taken |= {id(parameter) for parameter in after.parameters()}
        groups["input"] += [p for p in self.parameters() if id(p) not in taken]
        return groups

    def extras(self) -> Mapping[str, Tensor]:
        """See `Encoder.extras`: tensors called quantizer.*, project_hid.*, project_q.*, masked.*"""
        return self._extras

    def export(self, folder: Path, extras: Mapping[str, Tensor], dtype: str = "float32") -> None:
        """See `Encoder.export`: a folder that transformers reads, too.

        What a configuration says about training (dropouts, layer drop, SpecAugment) is as it was
        in the weights that this began from, whatever the options were here.
        """
        import transformers

        own = {"add_adapter": False}
        # transformers gives a model its mask embedding only where it could mask by itself.
        made = getattr(transformers, self.family.config).from_dict({**self._given, **own})
        made.mask_time_prob = made.mask_time_prob or 0.05
        names = (self.family.model, self.family.pretraining)
        states = self.model.state_dict()
        export.write(folder, made, self.normalize, states, extras, dtype, names)


def _read(path: Path, name: str) -> Weights:
    """A transformers folder, or a checkpoint file in torchaudio's format (HuBERT's).

    Raises:
        WeightsError: naming the file: no weights, damaged, or another family's.
    """
    file = find_checkpoint(path)
    if file is None:
        return from_folder(path, Kind(name, (name,), (f"{name}.",), SAMPLE_RATE))
    if name != "hubert":
        raise WeightsError(
            f"{file} is a checkpoint without config.json: only hubert reads those "
            "(torchaudio's HuBERTPretrainModel)"
        )
    config, tensors, extras = convert(read_tensors(file), str(file))
    # torchaudio's recipe, and BabyHuBERT's, feed the waveform as it is.
    return Weights(config, tensors, str(file), {"do_normalize": False}, extras)


def _grid(kernels: list[int], strides: list[int]) -> Grid:
    """Hop and field of a stack of convolutions without padding: (320, 400) for the usual seven."""
    field, hop = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    return Grid(SAMPLE_RATE, hop, field)


def _replace_norms(model: Any) -> list[ValidGroupNorm | ValidBatchNorm]:
    """Swap the norms that look across time for ones that see the valid frames only."""
    norms: list[ValidGroupNorm | ValidBatchNorm] = []
    first = model.feature_extractor.conv_layers[0]
    old = getattr(first, "layer_norm", None)
    if isinstance(old, nn.GroupNorm):
        first.layer_norm = ValidGroupNorm(old.num_groups, old.num_channels, old.eps)
        norms.append(first.layer_norm)
    positions = model.encoder.pos_conv_embed
    batch = getattr(positions, "batch_norm", None)  # of mHuBERT-147
    if isinstance(batch, nn.BatchNorm1d):
        positions.batch_norm = ValidBatchNorm(batch.num_features, batch.eps)
        norms.append(positions.batch_norm)
    return norms
