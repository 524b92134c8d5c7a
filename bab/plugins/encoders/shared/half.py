"""Training in bf16 on a CPU: dropout drawn in bits, and attention without what torch adds to it.

torch draws a dropout's mask number by number where the CPU isn't Intel's, 6 ns each; and attention
with dropout has no kernel in half precision: it is computed in fp32, and looks for rows in which
all is hidden. Together they took a sixth of a step. In fp32 all is as ever, its draws among it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_SHARES = 1 << 16  # that a draw of 16 bits can tell apart
_LEAST = -(1 << 15)


def train_faster(model: nn.Module) -> None:
    """Replace transformers' dropouts, and the attention of those of its models that have the plain
    one, by these; they stand aside but for training in bf16 on a CPU."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = Dropout
        elif type(module).__name__ in ("HubertAttention", "Wav2Vec2Attention"):
            module.forward = partial(_attend, module)


class Dropout(nn.Dropout):
    """`nn.Dropout`, by `dropped` while training in bf16 on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """[...] -> [...]."""
        if self.training and self.p > 0 and input.dtype == torch.bfloat16 and _on_cpu(input):
            return dropped(input, self.p)
        return super().forward(input)


def dropped(x: Tensor, share: float) -> Tensor:
    """x without `share` of its numbers, rounded to 1/65536, the others scaled to make up for it.

    Draws come from torch's generator, four from a random integer of 64 bits.
    """
    limit = min(round(share * _SHARES), _SHARES - 1)  # as 16 bits can tell it
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= limit + _LEAST
    return x * kept.to(x.dtype).mul_(_SHARES / (_SHARES - limit))


def _on_cpu(x: Tensor) -> bool:
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return half and x.device.type == "cpu"


def _attend(
    module: Any,
    hidden_states: Tensor,
    *args: Any,
    attention_mask: Tensor | None = None,
    **more: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' self-attention. hidden_states [B, T, D]; attention_mask bool[B, 1, T, T], True
    where it may look, or None."""
    usable = attention_mask is None or attention_mask.dtype == torch.bool
    usable = usable and not args and not more.get("output_attentions")
    if not (usable and module.training and _on_cpu(hidden_states)):
        plain: tuple[Tensor, Tensor | None] = type(module).forward(
            module, hidden_states, *args, attention_mask=attention_mask, **more
        )
        return plain
    shape = (*hidden_states.shape[:2], module.num_heads, module.head_dim)
    query, key, value = (
        project(hidden_states).view(shape).transpose(1, 2)
        for project in (module.q_proj, module.k_proj, module.v_proj)
    )
    scores = torch.matmul(query * module.scaling, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    with torch.autocast("cpu", enabled=False):  # which would make it fp32, and then bf16 again
        weights = scores.softmax(-1)
    if module.dropout > 0:
        weights = dropped(weights, module.dropout)
    heard = torch.matmul(weights, value).transpose(1, 2).flatten(2)
    return module.out_proj(heard), None
