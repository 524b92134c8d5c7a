"""HTSAT as transformers has it, CLAP's audio tower: built, configured, and its frames counted."""

from __future__ import annotations

from typing import Any

from bab.plugins.encoders.shared.clap import LearnedNorm
from bab.plugins.encoders.shared.states import Weights, build, dropouts

# Decibels: what the untrained controls take as the mean and deviation of every band, where trained
# weights bring their own. Measured on English read speech at 48 kHz (speechocean762): -55 and 32.
_MEAN, _STD = -55.0, 32.0


def build_tower(weights: Weights, projected: bool, dropout: float | None, seed: int) -> Any:
    """transformers' audio tower, with its projection where that is asked for.

    dropout: all of them in training; None: as the configuration says. seed: of untrained weights.
    """
    # Without fusion a fused model is its own path for clips that fit: one spectrum.
    changes: dict[str, Any] = {"enable_fusion": False, **dropouts(dropout)}
    cls = "ClapAudioModelWithProjection" if projected else "ClapAudioModel"
    model = build(cls, "ClapAudioConfig", weights, changes, seed)
    tower = getattr(model, "audio_model", model).audio_encoder
    old = tower.batch_norm
    tower.batch_norm = LearnedNorm(old.num_features, old.eps)
    if weights.tensors is None:
        tower.batch_norm.running_mean.fill_(_MEAN)
        tower.batch_norm.running_var.fill_(_STD**2)
    else:
        # The same tensors stand behind this prefix in some models, and without it in others.
        weights.fill(model, lambda name: name.removeprefix("audio_model."))
    return model


def audio_config(config: dict[str, Any]) -> dict[str, Any]:
    """The audio part of a ClapModel's configuration; one of the audio part alone is left as is."""
    if "audio_config" not in config:
        return config
    shared = {k: config[k] for k in ("projection_dim", "projection_hidden_act") if k in config}
    return {**(config["audio_config"] or {}), **shared}


def frame_count(config: Any) -> int:
    """How many frames the last map has: 32 as published.

    HTSAT cuts the spectrogram into as many stretches as make it square, and stacks them; each
    stage but the last halves time.
    """
    stride = config.patch_stride
    stride = stride if isinstance(stride, int) else stride[1]
    across = config.spec_size // stride // 2 ** (len(config.depths) - 1)
    return int(across * (config.spec_size // config.num_mel_bins))
