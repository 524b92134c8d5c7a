"""torchaudio's HuBERTPretrainModel, as BabyHuBERT is published -> transformers' HubertModel.

The two have the same modules under other names. A checkpoint holds no configuration: widths are
read off the shapes, and what shapes don't tell (strides, heads, where the norms stand) is as in
`torchaudio.models.hubert_pretrain_base|large|xlarge`.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from bab import WeightsError

_KERNELS = [10, 3, 3, 3, 3, 2, 2]
_STRIDES = [5, 2, 2, 2, 2, 2, 2]
_HEAD = 64  # width of a head in base and large; xlarge has 16 heads of 80
_HEADS = {1280: 16}
_FIRST = "feature_extractor.conv_layers.0.conv.weight"
_MODULES = {
    "feature_extractor.": "feature_extractor.",
    "encoder.feature_projection.": "feature_projection.",
    "encoder.transformer.": "encoder.",
}
# torch.nn.utils.weight_norm wrote the first names; the parametrised form writes the second.
_NORMED = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
_OLD = re.compile(r"(pos_conv_embed\.conv)\.(weight_[gv])$")


def modern(name: str) -> str:
    """Weight norm's old names -> the parametrised form's, which transformers' models have now."""
    return _OLD.sub(lambda match: f"{match[1]}.{_NORMED[match[2]]}", name)


def convert(
    tensors: dict[str, Tensor], where: str
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """(configuration with transformers' keys, the encoder's tensors under transformers' names, and
    those of the objective under objective `masked`'s names).

    The prefix of the names is found: Lightning writes `model.wav2vec2.`, torchaudio `wav2vec2.`.

    Raises:
        WeightsError: it isn't such a model.
    """
    start = next((name for name in tensors if name.endswith(_FIRST)), None)
    if start is None:
        raise WeightsError(
            f"{where} is no torchaudio HuBERT: it has no tensor '...{_FIRST}' "
            "(of a transformers model, name the folder that holds its config.json)"
        )
    prefix = start.removesuffix(_FIRST)
    named = {
        modern(ours + name.removeprefix(prefix + theirs)): tensor
        for name, tensor in tensors.items()
        for theirs, ours in _MODULES.items()
        if name.startswith(prefix + theirs)
    }
    outer = prefix.removesuffix("wav2vec2.")
    mask = outer + "mask_generator.mask_embedding"
    if mask in tensors:
        named["masked_spec_embed"] = tensors[mask]
    logits = outer + "logit_generator."
    objective = {
        "masked." + name.removeprefix(logits): tensor
        for name, tensor in tensors.items()
        if name.startswith(logits)
    }
    try:
        return _shapes(named, where), named, objective
    except KeyError as error:
        raise WeightsError(f"{where} is no torchaudio HuBERT: it lacks {error}") from error


def _shapes(named: dict[str, Tensor], where: str) -> dict[str, Any]:
    conv = [t for i in range(99) if (t := named.get(f"{_conv(i)}.conv.weight")) is not None]
    kernels = [tensor.shape[2] for tensor in conv]
    if kernels != _KERNELS:
        raise WeightsError(
            f"{where}: convolutions of width {kernels}, but only {_KERNELS} is known to have "
            f"the strides {_STRIDES}, which a checkpoint doesn't hold"
        )
    hidden = named["feature_projection.projection.weight"].shape[0]
    if hidden not in _HEADS and hidden % _HEAD:
        raise WeightsError(f"{where}: width {hidden} is no multiple of {_HEAD}: heads unknown")
    layers = len([name for name in named if name.endswith("attention.k_proj.weight")])
    positions = named["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    normed = f"{_conv(1)}.layer_norm.weight" in named
    return {
        "model_type": "hubert",
        "conv_dim": [tensor.shape[0] for tensor in conv],
        "conv_kernel": _KERNELS,
        "conv_stride": _STRIDES,
        "conv_bias": f"{_conv(0)}.conv.bias" in named,
        "feat_extract_norm": "layer" if normed else "group",
        "do_stable_layer_norm": normed,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": _HEADS.get(hidden, hidden // _HEAD),
        "intermediate_size": named["encoder.layers.0.feed_forward.intermediate_dense.weight"].shape[
            0
        ],
        "num_conv_pos_embeddings": positions.shape[2],
        "num_conv_pos_embedding_groups": hidden // positions.shape[1],
    }


def _conv(index: int) -> str:
    return f"feature_extractor.conv_layers.{index}"
