"""How transformers' models mask frames on a GPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor


def mask_without_waiting(model: Any) -> None:
    """On a GPU, transformers' masking of frames without its wait until they are counted."""
    model._mask_hidden_states = partial(_masked, model)  # a copy of the model has its own


def _masked(
    model: Any, states: Tensor, mask_time_indices: Tensor | None = None, **more: Any
) -> Tensor:
    if states.device.type == "cpu" or mask_time_indices is None:
        masked: Tensor = type(model)._mask_hidden_states(
            model, states, mask_time_indices=mask_time_indices, **more
        )
        return masked
    embedding = model.masked_spec_embed.to(states.dtype)
    return torch.where(mask_time_indices[..., None], embedding, states)
