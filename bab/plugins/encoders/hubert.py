"""HuBERT (Hsu et al. 2021) and BabyHuBERT (Charlot et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bab.plugins.encoders.shared.speech import RANDOM, SHIPPED, TINY, Family, Speech

_BABY = "coml/BabyHuBERT"
_HUB = {
    "base": "facebook/hubert-base-ls960",
    "large": "facebook/hubert-large-ll60k",
    "xlarge": "facebook/hubert-xlarge-ll60k",
    "babyhubert": _BABY,
}


class Hubert(Speech):
    """HuBERT: 16 kHz, 20 ms frames; also reads torchaudio's checkpoints, BabyHuBERT's among them.

    Weights: a name below; a folder saved by transformers (the base
    model, or any task model around it); a hub id; or a .ckpt/.pt file with torchaudio's
    HuBERTPretrainModel, plain or as Lightning saves it.
    """

    weights: ClassVar[Mapping[str, str]] = {
        **SHIPPED,
        **RANDOM,
        "base": f"{_HUB['base']}: 95 M parameters, LibriSpeech 960 h",
        "large": f"{_HUB['large']}: 317 M parameters, Libri-Light 60,000 h",
        "xlarge": f"{_HUB['xlarge']}: 1 B parameters, Libri-Light 60,000 h",
        "babyhubert": f"{_BABY} (gated: accept its licence there, then `hf auth login`): "
        "95 M parameters, child-centred long-form recordings",
    }
    default = TINY
    source = "arXiv 2106.07447; BabyHuBERT: arXiv 2509.15001; models: Hugging Face transformers"
    licence = (
        "tiny: Apache-2.0; base, large, xlarge: Apache-2.0; babyhubert: its own, on its gated page"
    )
    family = Family("hubert", "HubertModel", "HubertConfig", _HUB)
