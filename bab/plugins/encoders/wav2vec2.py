"""wav2vec 2.0 (Baevski et al. 2020) and its multilingual relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bab.plugins.encoders.shared.speech import RANDOM, SHIPPED, TINY, Family, Speech

_HUB = {
    "base": "facebook/wav2vec2-base",
    "large": "facebook/wav2vec2-large-lv60",
    "xlsr-53": "facebook/wav2vec2-large-xlsr-53",
    "xls-r-300m": "facebook/wav2vec2-xls-r-300m",
    "mms-300m": "facebook/mms-300m",
}


class Wav2Vec2(Speech):
    """wav2vec 2.0: 16 kHz, 20 ms frames.

    Weights: a name below; a folder saved by transformers (the base
    model, or any pretraining or task model around it); or a hub id.
    """

    weights: ClassVar[Mapping[str, str]] = {
        **SHIPPED,
        **RANDOM,
        "base": f"{_HUB['base']}: 95 M parameters, LibriSpeech 960 h",
        "large": f"{_HUB['large']}: 317 M parameters, Libri-Light 60,000 h",
        "xlsr-53": f"{_HUB['xlsr-53']}: 317 M parameters, 53 languages, 56,000 h",
        "xls-r-300m": f"{_HUB['xls-r-300m']}: 317 M parameters, 128 languages, 436,000 h",
        "mms-300m": f"{_HUB['mms-300m']}: 317 M parameters, over 1,400 languages, 491,000 h",
    }
    default = TINY
    source = "arXiv 2006.11477, 2006.13979, 2111.09296, 2305.13516; Hugging Face transformers"
    licence = (
        "tiny: Apache-2.0; base, large, xlsr-53, xls-r-300m: Apache-2.0; mms-300m: CC BY-NC 4.0"
    )
    family = Family("wav2vec2", "Wav2Vec2Model", "Wav2Vec2Config", _HUB, "Wav2Vec2ForPreTraining")
