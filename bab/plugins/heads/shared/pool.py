"""Linear heads on a clip's mean frame, as transformers has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def classification(
    weight: Tensor, bias: Tensor, below: nn.Linear | Tensor
) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """A linear head on the mean, f32[C, H] and f32[C], as `Wav2Vec2ForSequenceClassification`.

    below: the layer under it, D -> H, which transformers calls `projector` and always has; or what
    is added to each frame, f32[H], where there is none.
    """
    size = weight.shape[1]
    under = (torch.eye(size), below) if isinstance(below, Tensor) else (below.weight, below.bias)
    tensors = {
        "projector.weight": under[0],
        "projector.bias": under[1],
        "classifier.weight": weight,
        "classifier.bias": bias,
    }
    return "ForSequenceClassification", {"classifier_proj_size": size}, tensors
