"""WavLM (Chen et al. 2021): HuBERT with gated relative positions, trained on noisy mixtures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from bab.plugins.encoders.shared.speech import RANDOM, Family, Speech, SpeechOptions
from bab.plugins.encoders.shared.states import Weights

_HUB = {
    "base": "microsoft/wavlm-base",
    "base-plus": "microsoft/wavlm-base-plus",
    "large": "microsoft/wavlm-large",
}


class WavLM(Speech):
    """WavLM: 16 kHz, 20 ms frames; its attention is the eager one, in memory too: T^2 per head.

    Weights: a name below, `random` or `random-tiny`; a folder saved by transformers (the base
    model, or any task model around it); or a hub id.
    """

    weights: ClassVar[Mapping[str, str]] = {
        **RANDOM,
        "base": f"{_HUB['base']}: 95 M parameters, LibriSpeech 960 h",
        "base-plus": f"{_HUB['base-plus']}: 95 M parameters, 94,000 h of three English corpora",
        "large": f"{_HUB['large']}: 317 M parameters, 94,000 h of three English corpora",
    }
    default = "random-tiny"
    source = "arXiv 2110.13900; models: Hugging Face transformers"
    licence = "CC BY-SA 3.0 (the authors' repository)"
    family = Family("wavlm", "WavLMModel", "WavLMConfig", _HUB)

    def _build(self, weights: Weights, options: SpeechOptions) -> Any:
        # transformers hands torch's attention a padding mask of bool and a bias of float; torch
        # says once that this is deprecated, and computes what is meant.
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
        return super()._build(weights, options)
