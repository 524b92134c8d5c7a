"""Code diversity of a quantiser: how many of its codes a batch uses, over all ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from bab.plugins.objectives.shared.quantiser import perplexity


def unused_codes(probs: Tensor, count: float, training: bool) -> tuple[Tensor, Tensor]:
    """(the term's sum, the codes in use): (GV - perplexity) / GV, times the masked frames.

    The marginal is over the micro-batch of all ranks. Each rank's share of the value is by its
    frames; its gradient is that of the whole by its own frames. Their sums over ranks are the
    value and the gradient of one process with all the frames.

    Args:
        probs: f32[N, G, V], of the masked frames.
        count: how many these are.
        training: whether ranks look at different examples.
    """
    sums, total = probs.sum(0), count
    whole = sums.detach()
    if training and _ranks() > 1:
        packed = torch.cat([whole.flatten().double(), whole.new_tensor([count]).double()])
        torch.distributed.all_reduce(packed)
        whole, total = packed[:-1].view_as(sums).to(sums.dtype), packed[-1].item()
    marginal = (sums + (whole - sums.detach())) / max(1.0, total)
    used = perplexity(marginal)
    size = float(marginal.numel())
    unused = (size - used) / size
    fixed = unused.detach()
    return count * fixed + total * (unused - fixed), used.detach()


def _ranks() -> int:
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    return 1 if alone else torch.distributed.get_world_size()
