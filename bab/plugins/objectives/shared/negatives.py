"""Negatives of a contrastive loss: drawn, and compared with what they stand beside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from bab.plugins.objectives.shared import at_once


def negatives(masked: int, count: int, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """i64[masked, count]: for each masked frame of one utterance, others of them, uniformly.

    Indices run over the utterance's masked frames, from 0; with replacement, never the frame
    itself. With fewer than two masked frames there are none to draw: i64[masked, 0].

    Args:
        masked: how many frames of the utterance are masked.
        count: negatives for each.
        seed: any 63-bit integer. Another device draws other numbers.
        device: where to draw and to leave them.
    """
    if masked < 2:
        return torch.empty((masked, 0), dtype=torch.int64, device=device)
    draw = torch.Generator(device).manual_seed(seed)
    drawn = torch.randint(masked - 1, (masked, count), generator=draw, device=device)
    own = torch.arange(masked, device=device)[:, None]
    return drawn + (drawn >= own)


def similarities(
    states: Tensor,
    targets: Tensor,
    codes: Tensor,
    sizes: Sequence[int],
    seeds: Sequence[int],
    count: int,
    temperature: float,
) -> Tensor:
    """f32[N, 1 + count]: cosines over the temperature, the positive's first; -inf where a negative
    has the positive's codes.

    All cosines of an utterance are one product of matrices, from which negatives are picked: that
    moves far less memory than picking vectors.

    Args:
        states, targets: f32[N, D] of the masked frames of all examples.
        codes: i64[N, G].
        sizes: masked frames of each example.
        seeds: of each example's negatives.
        count: negatives for each frame.
    """
    x = functional.normalize(states.float(), dim=-1)
    y = functional.normalize(targets.float(), dim=-1)
    if x.device.type != "cpu" and len(x):
        layout = at_once.Layout.of(sizes, x.device)
        others = at_once.negatives(layout, count, seeds)
        return at_once.similarities(x, y, codes, layout, others, temperature)
    ours, theirs = torch.split(x, list(sizes)), torch.split(y, list(sizes))
    rows = []
    with torch.autocast(states.device.type, enabled=False):
        chosen = torch.split(codes, list(sizes))
        for x, y, code, seed in zip(ours, theirs, chosen, seeds, strict=True):
            if not len(x):
                continue
            others = negatives(len(x), count, seed, x.device)
            similar = x @ y.T / temperature
            same = (code[others] == code[:, None]).all(-1)
            wrong = similar.gather(1, others).masked_fill(same, -torch.inf)
            rows.append(torch.cat([similar.diagonal()[:, None], wrong], dim=1))
    # Without a masked frame, an empty product keeps the weights in the graph.
    if not rows:
        return (states @ targets.T).sum().expand(0, 1 + count)
    return torch.cat(rows)
