"""From files to a configuration and tensors with transformers' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bab import WeightsError, read_json, read_weights

# model_type in config.json -> the encoder that reads it, for messages.
_ENCODERS = {
    "hubert": "hubert",
    "wav2vec2": "wav2vec2",
    "wavlm": "wavlm",
    "audio-spectrogram-transformer": "ast",
    "clap": "clap",
    "clap_audio_model": "clap",
}
# May be missing: a model that was fine-tuned without masking has no mask embedding.
_OPTIONAL = {"masked_spec_embed"}
_LARGE = 1 << 16  # numbers in a tensor
# Names, outside the encoder, of what a pretraining objective owns.
_EXTRAS = ("quantizer.", "project_hid.", "project_q.", "masked.")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a folder must hold to be read by an encoder.

    encoder: its name here. model_types: of config.json. prefixes: what task and pretraining models
    put before the names of the encoder's tensors, the longest first. sample_rate: Hz.
    """

    encoder: str
    model_types: tuple[str, ...]
    prefixes: tuple[str, ...]
    sample_rate: int


@dataclass(frozen=True, slots=True)
class Weights:
    """A configuration (config.json's keys) and the encoder's tensors; None: untrained.

    where: for messages. extractor: what preprocessor_config.json says, or nothing. extras: what the
    checkpoint holds of a pretraining objective's: quantiser, projections, label embeddings.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor] | None
    where: str
    extractor: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def fill(self, model: nn.Module, modern: Callable[[str], str] = str) -> None:
        """Copy the tensors into the model.

        modern: an old name of a tensor -> today's, where transformers has renamed some; it is
        applied to the file's names and to the model's, so that either may be of either age.

        Raises:
            WeightsError: some are missing, or differ in shape from the configuration's.
        """
        given = {modern(name): tensor for name, tensor in (self.tensors or {}).items()}
        names = {modern(name): name for name in model.state_dict()}
        wanted = {modern(name): tensor for name, tensor in model.state_dict().items()}
        missing = [name for name in wanted if name not in given and name not in _OPTIONAL]
        if missing:
            raise WeightsError(
                f"{self.where} lacks {len(missing)} of the encoder's {len(wanted)} tensors, e.g. "
                f"'{missing[0]}': it doesn't hold the model that its configuration describes"
            )
        for name, tensor in wanted.items():
            if name in given and given[name].shape != tensor.shape:
                raise WeightsError(
                    f"{self.where}: '{name}' is {list(given[name].shape)}, but the configuration "
                    f"asks for {list(tensor.shape)}"
                )
        filled = {names[name]: given.get(name, wanted[name]) for name in wanted}
        empty = any(tensor.is_meta for tensor in wanted.values())
        if empty:  # see `build`: what was read becomes the model's
            kinds = {names[name]: wanted[name].dtype for name in wanted}
            filled = {k: v.detach().to(kinds[k]).contiguous() for k, v in filled.items()}
        model.load_state_dict(filled, assign=empty)


def from_folder(path: Path, kind: Kind) -> Weights:
    """A folder saved by transformers, of the encoder itself or of a task model around it.

    Raises:
        WeightsError: naming the file: no weights, damaged, or another family's.
    """
    config = read_json(path / "config.json")
    _check_family(config, kind, path)
    whole = read_weights(path)
    tensors = _encoder_part(whole, kind.prefixes)
    extras = {name: tensor for name, tensor in whole.items() if name.startswith(_EXTRAS)}
    extractor = path / "preprocessor_config.json"
    said = read_json(extractor) if extractor.is_file() else {}
    rate = said.get("sampling_rate", kind.sample_rate)
    if rate != kind.sample_rate:
        raise WeightsError(
            f"{extractor}: sampling_rate is {rate} Hz; {kind.encoder} runs at {kind.sample_rate}"
        )
    return Weights(config, tensors, str(path), said, extras)


def dropouts(share: float | None) -> dict[str, float]:
    """Changes to a configuration that set the dropouts of its layers; None: nothing is changed."""
    if share is None:
        return {}
    return dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), share)


def build(
    cls: str,
    config: str,
    weights: Weights,
    changes: Mapping[str, Any],
    seed: int,
    modern: Callable[[str], str] = str,
) -> Any:
    """transformers' model of class `cls`, its weights drawn from `seed` alone; or, where all of it
    is to be filled in (`Weights.fill`, with the same `modern`), on the meta device: a second set of
    weights would take as much memory again, and the time to draw it.

    Raises:
        WeightsError: the library refuses the configuration.
    """
    import transformers

    def drawn() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return getattr(transformers, cls)(deepcopy(made))

    try:
        made = getattr(transformers, config).from_dict({**weights.config, **changes})
        return _empty(made, cls, weights, modern, drawn) or drawn()
    except Exception as error:  # the library's own checks; several unrelated classes
        message = " ".join(str(error).split())[:300]
        raise WeightsError(f"{weights.where}: bad configuration: {message}") from error


def _empty(
    made: Any, cls: str, weights: Weights, modern: Callable[[str], str], drawn: Callable[[], Any]
) -> Any:
    """The model without weights but for those that a checkpoint may lack, which are as `drawn`
    draws them; None where a checkpoint can't fill it."""
    import transformers

    given = {modern(name) for name in weights.tensors or {}}
    if not given:
        return None
    # Named out here: what transformers imports at a name's first use makes tensors of its own.
    model = getattr(transformers, cls)
    with torch.device("meta"):
        try:
            empty = model(deepcopy(made))
        except Exception:  # it computes with its weights already
            return None
    states = {modern(name): name for name in empty.state_dict()}
    buffers = {modern(name) for name, _ in empty.named_buffers()}
    lacking = states.keys() - given
    if not lacking <= _OPTIONAL or not buffers <= given:  # else a buffer would stay empty
        return None
    if lacking:
        with _Scratch():
            full = drawn().state_dict()
        own = {states[name]: full[states[name]].clone() for name in lacking}
        empty.load_state_dict(own, strict=False, assign=True)
    return empty


class _Scratch(TorchFunctionMode):
    """Large weights that are drawn in here share one memory: the generator goes on as ever, so that
    what is drawn of small ones is what it would have been, and all else is of no use."""

    def __init__(self) -> None:
        super().__init__()
        self._memory = torch.empty(0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is not torch.empty or made.numel() < _LARGE or made.dtype != torch.float32:
            return made
        if self._memory.numel() < made.numel():
            self._memory = torch.empty(made.numel())
        return self._memory[: made.numel()].view(made.shape)


def _check_family(config: dict[str, Any], kind: Kind, folder: Path) -> None:
    written = str(config.get("model_type"))
    if written in kind.model_types:
        return
    remedy = f"name {kind.encoder} weights"
    if written in _ENCODERS:
        remedy = f"try --encoder {_ENCODERS[written]}:{folder}"
    file = folder / "config.json"
    wanted = kind.model_types[0]
    raise WeightsError(f"{file} describes a '{written}' model, not a '{wanted}': {remedy}")


def _encoder_part(tensors: dict[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The encoder's tensors without the prefix that task and pretraining models give them."""
    for prefix in prefixes:
        inner = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if inner:
            return inner
    return tensors
