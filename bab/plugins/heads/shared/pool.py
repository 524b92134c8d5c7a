"""Linear heads on a clip's mean frame, as transformers has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def classification(
    weight: Tensor, bias: Tensor, below: nn.Linear | None
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """A linear head on the mean, f32[C, H] and f32[C], as `Wav2Vec2ForSequenceClassification`.

    below: the layer under it, D -> H, which transformers calls `projector` and always has; None:
    the identity stands there.
    """
    size = weight.shape[1]
    tensors = {
        "projector.weight": torch.eye(size) if below is None else below.weight,
        "projector.bias": torch.zeros(size) if below is None else below.bias,
        "classifier.weight": weight,
        "classifier.bias": bias,
    }
    return "ForSequenceClassification", {"classifier_proj_size": size}, tensors
