"""AST's own: tensors named as checkpoints of any age name them, and spectrograms of one size."""

from __future__ import annotations

import re

from torch import Tensor
from torch.nn import functional

from bab import Waves
from bab.kit import valid
from bab.plugins.encoders.shared.kaldi import FIELD, HOP, LogMel

# Names in checkpoints, and in early transformers 5 -> in today's ASTModel.
_RENAMED = (
    (re.compile(r"^encoder\.layer\."), "layers."),
    (re.compile(r"\.attention\.attention\.([qkv])(?:uery|ey|alue)\."), r".attention.\1_proj."),
    (re.compile(r"\.attention\.output\.dense\."), ".attention.o_proj."),
    (re.compile(r"\.intermediate\.dense\."), ".mlp.fc1."),
    (re.compile(r"(layers\.\d+)\.output\.dense\."), r"\1.mlp.fc2."),
)


def modern(name: str) -> str:
    """A tensor's name in AST checkpoints -> in today's ASTModel; today's names stay."""
    for old, new in _RENAMED:
        name = old.sub(new, name)
    return name


def padded(log_mel: LogMel, waves: Waves, lengths: Tensor, size: int) -> Tensor:
    """f32[B, size, mels]: log energies of each clip, and zeros after it.

    lengths: i64[B], at least one frame's; a clip that is shorter gets silence up to there.
    """
    longest = int(lengths.max())
    inside = valid(waves.lengths, waves.samples.shape[1])
    samples = waves.samples.masked_fill(~inside, 0.0)
    samples = functional.pad(samples, (0, longest - samples.shape[1]))  # or cut
    mels = log_mel(samples)
    outside = ~valid((lengths - FIELD) // HOP + 1, mels.shape[1])
    mels = mels.masked_fill(outside[..., None], 0.0)
    return functional.pad(mels, (0, 0, 0, size - mels.shape[1]))
