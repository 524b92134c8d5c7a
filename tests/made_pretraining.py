"""A pretraining run's settings and clips, made up."""

from __future__ import annotations

from typing import Any

from bab.config.pretrain import PretrainConfig
from bab.config.resolve import pretrain_config
from bab.core.grid import Grid
from bab.core.types import Clip

GRID = Grid(16000, 320, 400)
ASKED = {"encoder": "hubert:random-tiny", "objective": "contrastive", "corpus": "rttm"}
TINY = (
    "encoder.size={hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, "
    "intermediate_size: 48, conv_dim: [16, 16, 16, 16, 16, 16, 16], "
    "num_conv_pos_embeddings: 16, num_conv_pos_embedding_groups: 4}"
)


def config(*sets: str, **asked: Any) -> PretrainConfig:
    return pretrain_config(None, {**ASKED, **asked}, sets)


def clip(end: float, start: float = 0.0, path: str = "x.wav", name: str = "c") -> Clip:
    return Clip(name, path, start, end, "g")
