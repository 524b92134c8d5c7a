"""WavLM's attention on torch's fused kernel. transformers gives WavLM the eager one only.

Imports transformers: import it where a model is built, not above.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


class FusedAttention(WavLMAttention):  # type: ignore[misc]
    """transformers' WavLMAttention with its inner product computed by one fused call."""

    def torch_multi_head_self_attention(
        self, hidden_states: Tensor, attention_mask: Tensor | None, gated_position_bias: Tensor
    ) -> tuple[Tensor, None]:
        """f32[B, T, D], bool[B, T] or None (True: attend), f32[B * heads, T, T] -> f32[B, T, D].

        The attention weights, which transformers returns as well, are never formed.
        """
        B, T, D = hidden_states.shape
        query, key, value = (
            project(hidden_states).view(B, T, self.num_heads, self.head_dim).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        bias = gated_position_bias.view(B, self.num_heads, T, T)
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask.bool()[:, None, None], -torch.inf)
        out = functional.scaled_dot_product_attention(
            query, key, value, bias, self.dropout if self.training else 0.0
        )
        return self.out_proj(out.transpose(1, 2).reshape(B, T, D)), None


def replace_attention(model: Any) -> None:
    """Swap every attention of a WavLMModel, weights kept."""
    for layer in model.encoder.layers:
        old: nn.Module = layer.attention
        with torch.random.fork_rng(devices=[]):
            layer.attention = FusedAttention(
                old.embed_dim,
                old.num_heads,
                old.dropout,
                old.num_buckets,
                old.max_distance,
                hasattr(old, "rel_attn_embed"),
            )
        layer.attention.load_state_dict(old.state_dict())
