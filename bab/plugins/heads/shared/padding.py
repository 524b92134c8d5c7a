"""What stands behind a clip's end in a padded batch."""

from __future__ import annotations

import torch
from torch import Tensor


def unpadded(x: Tensor, lengths: Tensor) -> Tensor:
    """f32[B, T, D] with zeros in the padding, whatever stood there. lengths: i64[B] in frames.

    The very tensor where there is no padding, as far as that is known without waiting for a GPU and
    without writing this batch's lengths into an exported graph.
    """
    traced = torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    if x.device.type == "cpu" and not traced and int(lengths.min()) >= x.shape[1]:
        return x
    inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return x.masked_fill(~inside[..., None], 0.0)
