"""`ast+wav2vec2:base+clap`: the text of an ensemble and its members. Imports no torch.

A `+` parts two members only where an encoder's name follows it, so that a folder or a hub id may
hold one.
"""

from __future__ import annotations

from bab.core import registry

FUSIONS = ("concat", "late")


def split(spec: str) -> list[str]:
    """The members of an encoder's spelling, in order; of a single encoder, itself."""
    if "+" not in spec:
        return [spec]
    known = registry.names("encoders")
    parts: list[str] = []
    for piece in spec.strip().split("+"):
        if not parts or piece.partition(":")[0].strip() in known:
            parts.append(piece.strip())
        else:
            parts[-1] += f"+{piece}"
    return parts
