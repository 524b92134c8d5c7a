"""transformers' models with random weights, saved as its own code saves them."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 64,
    "conv_dim": [32] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 24,
    "xvector_output_dim": 40,
}
NAMES = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


def saved_model(folder: Path, family: str, kind: str, **changes):
    """transformers' model of this family and head, with weights drawn here, in a folder."""
    torch.manual_seed(len(kind))
    name = NAMES[family]
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **changes})
    model = getattr(transformers, f"{name}For{kind}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(
        do_normalize=STABLE.items() <= changes.items()
    )
    extractor.save_pretrained(folder)
    return model, extractor
