"""The contract suite itself: it lets a good encoder pass and catches each way to break one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bab.core.grid import Grid
from bab.core.interfaces import Encoder
from bab.core.types import Encoded, Waves
from bab.plugins.encoders.hubert import Hubert
from bab.testing.encoders import check_encoder


class Fault(Encoder):
    """A good encoder that tests break in one way, from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Hubert.load("random-tiny", Hubert.Options())
        for name in ("sample_rate", "dim", "depth", "grid", "max_seconds", "fingerprint"):
            setattr(self, name, getattr(self.inner, name))
        self.resolved = "fault"
        self.eval()

    def forward(self, waves: Waves, mask: Tensor | None = None, layers: Any = "all") -> Encoded:
        out: Encoded = self.inner(waves, mask, layers)
        return out

    def groups(self) -> dict[str, list[nn.Parameter]]:
        groups: dict[str, list[nn.Parameter]] = self.inner.groups()
        return groups


def _late(state: Tensor) -> Tensor:
    """f32[B, T, D], five frames too late."""
    return torch.cat([state[:, :1].expand(-1, 5, -1), state], 1)[:, : state.shape[1]]


FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "field too long": (lambda e: setattr(e, "grid", Grid(16000, 320, 401)), "frame|moved"),
    "field too short": (lambda e: setattr(e, "grid", Grid(16000, 320, 390)), "frame|moved"),
    "offset": (lambda e: setattr(e, "grid", Grid(16000, 320, 400, -100)), "frames|moved"),
    "depth": (lambda e: setattr(e, "depth", 4), "5 states, depth 4"),
    "dim": (lambda e: setattr(e, "dim", 191), "state 0 is"),
    "training": (lambda e: e.train(), "eval mode"),
    "group norm over the padding": (lambda e: e.inner._valid_norms.clear(), "in a batch and alone"),
    "a parameter in no group": (
        lambda e: e.register_parameter("extra", nn.Parameter(torch.zeros(1))),
        "in no group: extra|without a gradient",
    ),
    "a tensor twice": (
        lambda e: e.register_buffer("twin", e.inner.model.masked_spec_embed.data),
        "the same tensor under two names",
    ),
    "half precision": (lambda e: e.register_buffer("b", torch.zeros(1).half()), "not float32"),
    "doubles": (
        lambda e: e.register_buffer("b", torch.zeros(1).double(), False),
        "buffer b is float64: a module with one can't be moved to Apple's GPUs",
    ),
    "fingerprint": (lambda e: setattr(e, "fingerprint", str(id(e))), "two loads"),
    "late frames, and nothing local to tell by": (
        lambda e: e.register_forward_hook(
            lambda m, a, out: Encoded(tuple(_late(s) for s in out.layers), out.lengths)
        ),
        "a click at .* s, the centre of frame",
    ),
    "noise": (
        lambda e: e.register_forward_pre_hook(
            lambda m, a: (Waves(a[0].samples + torch.randn(1) * 1e-3, a[0].lengths),)
        ),
        "differ",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_contract_suite_catches(fault: str) -> None:
    breaks, message = FAULTS[fault]
    kept = []

    def make() -> Encoder:
        encoder = Fault()
        breaks(encoder)
        kept.append(encoder)  # so that no two encoders share an id
        return encoder

    with pytest.raises(AssertionError, match=message):
        check_encoder(make)


def test_a_good_encoder_passes() -> None:
    check_encoder(Fault, lambda: Hubert.load("random-tiny", Hubert.Options(seed=1)))
