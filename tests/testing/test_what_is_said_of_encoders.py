"""What a wrong encoder is told, rule by rule; and what is no fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from good_parts import GoodEncoder
from torch import nn

import bab
from bab import Encoded, Grid
from bab.testing import encoders, loading

NAN = float("nan")


def broken(**members: Any) -> type:
    return type("Broken", (GoodEncoder,), {"__doc__": "Broken.", **members})


def built(change: Callable[[Any], object]) -> type:
    """The good encoder, changed once it is built."""

    def init(self: Any, options: Any) -> None:
        GoodEncoder.__init__(self, options)
        change(self)

    return broken(__init__=init)


def has(**facts: Any) -> type:
    return built(lambda e: [setattr(e, key, value) for key, value in facts.items()])


def answers(change: Callable[..., Any]) -> type:
    """change(the good encoder's answer, waves, mask, layers) -> another."""

    def call(self: Any, waves: Any, mask: Any = None, layers: str = "all") -> Any:
        return change(GoodEncoder.forward(self, waves, mask, layers), waves, mask, layers)

    return broken(forward=call)


def states(change: Callable[[Any, int, Any], Any]) -> type:
    """change(state, its place, waves)."""
    return answers(
        lambda out, waves, mask, how: Encoded(
            tuple(change(s, i, waves) for i, s in enumerate(out.layers)), out.lengths, out.local
        )
    )


def local(change: Callable[[Any, Any, Any], Any]) -> type:
    """change(local features, waves, mask)."""
    return answers(lambda out, w, m, how: Encoded(out.layers, out.lengths, change(out.local, w, m)))


def lengths(change: Callable[[Any], Any]) -> type:
    return answers(lambda out, w, m, how: Encoded(out.layers, change(out.lengths), out.local))


def loads(act: Callable[[Any], object]) -> type:
    def load(cls: Any, weights: str, options: Any, **how: Any) -> Any:
        made = GoodEncoder.load.__func__(cls, weights, options, **how)  # type: ignore[attr-defined]
        act(made)
        return made

    return broken(load=classmethod(load))


def exported(change: Callable[[Any, dict[str, Any]], dict[str, Any]]) -> type:
    def export(self: Any, folder: Any, extras: Any, dtype: str = "float32") -> None:
        GoodEncoder.export(self, folder, change(self, dict(extras)), dtype)

    return broken(export=export)


def said(check: Any, *classes: type) -> str:
    """What a check says; "" where it passes."""
    makes = [lambda cls=cls: cls.load("random", cls.Options()) for cls in classes]  # type: ignore[attr-defined]
    try:
        return check(*makes) or ""
    except AssertionError as error:
        return str(error)


def adds(name: str, **tensors: Any) -> type:
    return built(lambda e: [getattr(e, f"register_{name}")(k, v) for k, v in tensors.items()])


def counting(make: Callable[[int], object]) -> type:
    """Another one each time that it is loaded."""
    count = [0]

    def change(self: Any) -> None:
        count[0] += 1
        self.fingerprint = make(count[0])

    return built(change)


def parameter(**more: Any) -> nn.Parameter:
    return nn.Parameter(torch.zeros(2), **more)


def refused(text: str) -> Any:
    def read(self: Any, place: str) -> None:
        raise bab.WeightsError(text)

    return broken(read=read)


ATTRIBUTES = {
    "sample_rate is '16000', not a int": has(sample_rate="16000"),
    "dim is 0, not a int": has(dim=0),
    "depth is 3.0, not a int": has(depth=3.0),
    "resolved is None, not a str": has(resolved=None),
    "the grid has another sample rate": has(grid=Grid(8000, 320, 400)),
    "max_seconds is 0": has(max_seconds=0),
    "max_seconds is -1": has(max_seconds=-1),
    "load() must return the encoder in eval mode": loads(lambda e: e.train()),
    "": has(max_seconds=None),
}
SHAPES = {
    "393 samples: [2] frames, the grid says [1]": lengths(lambda n: n + 1),
    "3 states, depth 4": has(depth=4),
    "state 0 is (1, 1, 8), not (1, 1, 7)": has(dim=7),
    "state 1 is torch.float16, not float32": states(lambda s, i, w: s.half() if i == 1 else s),
    "state 2 is not finite at 393 samples": states(lambda s, i, w: s * NAN if i == 2 else s),
    "local is (1, 0, 5)": local(lambda x, w, m: x[:, 1:]),
    "layers='last' returned 3 states": broken(
        forward=lambda self, w, mask=None, layers="all": GoodEncoder.forward(self, w, mask)
    ),
    "layers='last' against the last of layers='all'": answers(
        lambda out, w, m, how: out if how == "all" else Encoded(
            (out.layers[0] + 1e-3,), out.lengths, out.local)
    ),
    "": local(lambda x, w, m: None),
}  # fmt: skip
BATCH = {
    "clip 0: another frame count in a batch": lengths(lambda n: torch.full_like(n, int(n.max()))),
    "clip 0, layer 1, in a batch and alone": states(
        lambda s, i, w: s + 0.01 * len(w.lengths) if i == 1 else s
    ),
    "clip 0, local features": local(lambda x, w, m: x + 0.01 * len(w.lengths)),
    "clip 2, layer 0, in a batch and alone": states(
        lambda s, i, w: s + 0.01 * (torch.arange(len(s)) == 2)[:, None, None]
    ),
    "": local(lambda x, w, m: x if len(x) == 1 else None),
}
SILENCE = {
    "layer 1 is not finite on silence": states(
        lambda s, i, w: s / w.samples.abs().amax(1)[:, None, None] if i == 1 else s
    )
}
MASK = {
    "an empty mask": answers(
        lambda out, w, m, how: out if m is None else Encoded(
            tuple(s + 0.01 for s in out.layers), out.lengths, out.local)
    ),
    "masking a frame changed the last state by 0 only": broken(
        forward=lambda self, w, mask=None, layers="all": GoodEncoder.forward(self, w, None, layers)
    ),
    "local features under a mask": local(
        lambda x, w, m: x if m is None else x.masked_fill(m[..., None], 0.0)
    ),
}  # fmt: skip
FINGERPRINT = {
    "fingerprint ''": has(fingerprint=""),
    "fingerprint None": has(fingerprint=None),
    "fingerprint 'a\\nb'": has(fingerprint="a\nb"),
    "two loads of the same weights: f1 and f2": counting(lambda n: f"f{n}"),
}
STATE = {
    "table is torch.float16, not float32": adds("buffer", table=torch.zeros(2).half()),
    "twin and masked are the same tensor under two names": built(
        lambda e: e.register_buffer("twin", e.masked.data)
    ),
    "": adds("buffer", one=torch.empty(0), two=torch.empty(0), count=torch.zeros(1).long()),
}
GROUPS = {
    "group all holds a parameter that is not the encoder's": broken(
        groups=lambda e: {"all": [*e.parameters(), parameter()]}
    ),
    "masked is in a and in b": broken(groups=lambda e: {"a": [*e.parameters()], "b": [e.masked]}),
    "in no group: masked, conv.weight, conv.bias, first.weight, first.bias": broken(
        groups=lambda e: {"layers": list(e.layers.parameters())}
    ),
}
GRADIENTS = {
    "without a gradient: unused": adds("parameter", unused=parameter()),
    "": adds("parameter", fixed=parameter(requires_grad=False)),
}
ANSWER = {
    "forward returns tuple, not bab.Encoded": answers(lambda out, w, m, how: (out.layers,)),
    "layers is a list, not a tuple": answers(
        lambda out, w, m, how: Encoded([*out.layers], out.lengths, out.local)  # type: ignore[arg-type]
    ),
    "lengths is a list": lengths(lambda n: n.tolist()),
    "lengths are torch.int32, not int64": lengths(lambda n: n.int()),
    "lengths are [1, 1] for a batch of 1": lengths(lambda n: n[None]),
}
INPUT = {
    f"forward changed the {what} that it was given": answers(change)
    for what, change in {
        "samples": lambda out, w, m, how: w.samples.mul_(0.5) is None or out,
        "lengths": lambda out, w, m, how: w.lengths.sub_(1) is None or out,
        "mask": lambda out, w, m, how: (m is not None and m.zero_() is None) or out,
    }.items()
}
LOCAL = {
    "local_dim is 6, local is 5 wide": has(local_dim=6),
    "local_dim is 5, local is None wide": local(lambda x, w, m: None),
    "normed is (1, 27, 5): None": broken(
        __init__=lambda self, options: (
            GoodEncoder.__init__(self, options) or setattr(self, "local_dim", None)
        ),
        forward=lambda self, w, mask=None, layers="all": (
            lambda out: Encoded(out.layers, out.lengths, None, out.local)
        )(GoodEncoder.forward(self, w, mask, layers)),
    ),
    "normed is (1, 27, 4): (1, 27, 5)": answers(
        lambda out, w, m, how: Encoded(out.layers, out.lengths, out.local, out.local[..., 1:])
    ),
    "": answers(lambda out, w, m, how: Encoded(out.layers, out.lengths, out.local, out.local)),
}
EXPORT = {
    "export drops extras: load gives []": exported(lambda e, extras: {}),
    "an extra tensor, exported and loaded": exported(
        lambda e, extras: {k: v + 1 for k, v in extras.items()}
    ),
    "exported and loaded": exported(lambda e, extras: {**extras, "first.bias": torch.ones(8)}),
    "load gives an exported encoder in training mode": loads(
        lambda e: e.train() if "/" in e.resolved else None
    ),
}
WEIGHTS = {
    "default 'base' is none of ['random']": broken(default="base"),
    "the error for weights that aren't there says nothing": refused(""),
    "load('/no/such/folder/bab-check') gives an encoder; it must be a BabError": broken(
        read=lambda self, place: None
    ),
    "": refused("not there"),
}
RULES = {
    encoders.check_attributes: ATTRIBUTES, encoders.check_shapes: SHAPES,
    encoders.check_batch: BATCH, encoders.check_silence: SILENCE, encoders.check_mask: MASK,
    encoders.check_fingerprint: FINGERPRINT, encoders.check_state: STATE,
    encoders.check_groups: GROUPS, encoders.check_gradients: GRADIENTS,
    loading.check_answer: ANSWER, loading.check_input: INPUT, loading.check_local: LOCAL,
    loading.check_export: EXPORT, loading.check_weights: WEIGHTS,
}  # fmt: skip


@pytest.mark.parametrize("check", RULES, ids=lambda check: check.__name__)
def test_each_fault_is_named(check: Any) -> None:
    told = {wanted: said(check, cls) for wanted, cls in RULES[check].items()}
    assert {w: t for w, t in told.items() if not t.startswith(w) or bool(t) != bool(w)} == {}
    assert said(check, GoodEncoder) == ""


def test_an_encoder_that_is_another_each_time() -> None:
    def noisy(first: int) -> type:
        """Its last state differs from the call of this number on."""
        calls = [0]

        def change(state: Any, place: int, waves: Any) -> Any:
            calls[0] += place == 2
            return state + (place == 2 and calls[0] >= first)

        return states(change)

    check = encoders.check_determinism
    assert said(check, noisy(2)) == "layer 2 differs on a second run"
    assert said(check, noisy(3)) == "layer 2 differs after reloading"
    assert said(check, noisy(4)) == ""
    check = loading.check_memory
    assert said(check, noisy(3)) == "after another clip, the first one's states are others"
    assert said(check, noisy(4)).startswith("after train() and eval() again")
    assert said(check, states(lambda s, i, w: torch.ones_like(s))) == (
        "two different clips have the same states"
    )


def test_two_encoders_are_told_apart_by_their_fingerprints() -> None:
    check, louder = encoders.check_identity, states(lambda s, i, w: 2 * s)
    same = "`other` gives the same output as `make`"
    assert said(check, GoodEncoder, GoodEncoder) == same
    assert said(check, GoodEncoder, louder) == "another output under the same fingerprint"
    other = type("Other", (louder,), {"identify": lambda e: setattr(e, "fingerprint", "other")})
    assert said(check, GoodEncoder, other) == ""
    wide = states(lambda s, i, w: s[..., :4])
    assert said(check, GoodEncoder, wide) == "another output under the same fingerprint"
