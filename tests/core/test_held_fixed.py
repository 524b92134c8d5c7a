"""Which parameters of an encoder learn, and who an encoder is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bab.core.components import freeze, identify, identity
from bab.core.errors import ConfigError
from bab.core.interfaces import Encoder
from bab.core.options import Options


class Groups(Encoder):
    """Of parameters by name."""

    resolved, version = "groups", "1"

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.parts = torch.nn.ParameterDict({n: torch.nn.Parameter(torch.ones(1)) for n in names})

    def groups(self) -> dict[str, list[torch.nn.Parameter]]:
        return {name: [p] for name, p in self.parts.items()}


def learning(what: Any, *names: str) -> set[str]:
    encoder: Any = Groups(*names)
    freeze(encoder, what)
    return {name for name, p in encoder.parts.items() if p.requires_grad}


def test_what_is_held_fixed() -> None:
    names = ("conv", "layer1", "layer2")
    assert learning("none", *names) == {*names}
    assert learning("conv", *names) == {"layer1", "layer2"}
    assert learning("all", *names) == set()
    assert learning("all", "encoder") == set() and learning("none", "encoder") == {"encoder"}
    assert learning("conv") == set()  # nothing there that could learn
    with pytest.raises(ConfigError) as error:
        learning("conv", "encoder")
    assert str(error.value) == (
        "freeze=conv: 'groups' has no convolutional front: --freeze none or all"
    )
    encoder: Any = Groups(*names)
    for what, count in (("all", 0), ("conv", 2), ("none", 3)):  # what was fixed learns again
        freeze(encoder, what)  # type: ignore[arg-type]
        assert sum(p.requires_grad for p in encoder.parameters()) == count


def test_a_fingerprint_of_its_own_stays() -> None:
    one, two = Groups("conv"), Groups("conv")
    one.fingerprint = "mine"
    for encoder in (one, two):
        identify(encoder, Options())
    assert one.fingerprint == identity(one) == "mine" and len(two.fingerprint) > 20
    with torch.no_grad():
        one.parts["conv"].fill_(2.0)
    del one.fingerprint
    identify(one, Options())
    assert one.fingerprint != two.fingerprint
