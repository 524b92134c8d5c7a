"""What a wrong head is told, rule by rule; and what is no fault."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from good_parts import GoodHead, SolvedHead
from torch import nn

from bab.testing import heads
from bab.testing.heads import HeadCase


def broken(base: Any = GoodHead, **members: Any) -> type:
    return type("Broken", (base,), {"__doc__": "Broken.", **members})


def built(change: Callable[[Any], object], base: Any = GoodHead) -> type:
    def init(self: Any, dim: int, classes: int, options: Any) -> None:
        base.__init__(self, dim, classes, options)
        change(self)

    return broken(base, __init__=init)


def answers(change: Callable[[Any, Any, Any], Any], base: Any = GoodHead, **members: Any) -> type:
    """change(logits, frames, lengths)."""
    return broken(
        base, forward=lambda self, x, n: change(base.forward(self, x, n), x, n), **members
    )


class Frames(GoodHead):
    """A linear layer on each frame."""

    level = ("frame",)

    def forward(self, x: Any, lengths: Any) -> Any:
        return self.output(x)


class Vectors(GoodHead):
    """A vector of each clip, and what it says of classes."""

    level = ("pair",)
    linear = False

    def __init__(self, dim: int, classes: int, options: Any) -> None:
        super().__init__(dim, classes, options)
        self.outputs = 4
        self.output = nn.Linear(dim, 4)

    def embed(self, x: Any, lengths: Any) -> Any:
        return self(x, lengths)


def said(check: Any, cls: type) -> str:
    """What a check says; "" where it passes."""
    try:
        return check(HeadCase(cls, cls.Options())) or ""  # type: ignore[attr-defined]
    except AssertionError as error:
        return str(error)


def drawing(act: Callable[[], object]) -> Callable[[Any, Any, Any], Any]:
    def change(out: Any, x: Any, n: Any) -> Any:
        act()
        return out

    return change


def counted(out: Any, x: Any, n: Any, calls: list[int] = []) -> Any:  # noqa: B006
    calls.append(1)
    return out + len(calls)


class Moved(GoodHead):
    """Adds a number that it doesn't keep."""

    def __init__(self, dim: int, classes: int, options: Any) -> None:
        super().__init__(dim, classes, options)
        self.own = float(torch.rand(1))

    def forward(self, x: Any, lengths: Any) -> Any:
        return super().forward(x, lengths) + self.own


KINDS = "frame, clip, sequence, pair"
RULES: dict[Any, dict[str, type]] = {
    heads.check_described: {
        "class Broken has no docstring": broken(__doc__=None),
        f"level 'clip' is no tuple of {KINDS}": broken(level="clip"),
        f"level () is no tuple of {KINDS}": broken(level=()),
        f"level names ['word', 'x']; there are {KINDS}": broken(level=("word", "clip", "x")),
        "linear is no truth value": broken(linear=1),
        "closed_form is no truth value": broken(closed_form=None),
    },
    heads.check_shapes: {
        "forward gives tuple, no tensor": answers(lambda out, x, n: (out,)),
        "the output is (3, 3, 1), not (3, 3)": answers(lambda out, x, n: out[..., None]),
        "the output is (3, 40, 2), not (3, 40, 3)": answers(
            lambda out, x, n: out[..., :2], Frames
        ),
        "the output is torch.float64, not float32": answers(lambda out, x, n: out.double()),
        "outputs is 2, the classes are 3": built(
            lambda h: [setattr(h, "outputs", 2), setattr(h, "output", nn.Linear(6, 2))]
        ),
        "embed: (3, 4, 1)": broken(
            Vectors, embed=lambda self, x, n: Vectors.forward(self, x, n)[..., None]
        ),
        "embed: (2, 4)": broken(Vectors, embed=lambda self, x, n: Vectors.forward(self, x, n)[1:]),
        "embed gives values that are no numbers": broken(
            Vectors, embed=lambda self, x, n: Vectors.forward(self, x, n) / 0
        ),
    },
    heads.check_padding: {
        "example 1: NaN of the padding got in": broken(
            forward=lambda self, x, n: self.output(x.mean(1))
        ),
        "example 0, in a batch and alone": answers(lambda out, x, n: out + 0.01 * len(out)),
        "example 2, in a batch and alone": answers(
            lambda out, x, n: out + 0.01 * (torch.arange(len(out)) == 2)[:, None]
        ),
    },
    heads.check_effects: {
        "building the head seeds torch's global generator": built(lambda h: torch.manual_seed(0)),
        "building the head seeds numpy's and random's global generator": built(
            lambda h: [np.random.seed(0), random.seed(0)]
        ),
        "a forward pass in eval mode draws from numpy's generator": answers(
            drawing(np.random.rand)
        ),
        "a forward pass in eval mode draws from torch's and random's generator": answers(
            drawing(lambda: [torch.rand(1), random.random()])
        ),
        "forward changed its input": answers(lambda out, x, n: x.mul_(2) is None or out),
        "the same input gives another output on a second pass": answers(counted),
    },
    heads.check_linear: {
        "it doesn't say that it is linear": broken(linear=False),
        "of the mean (3, 3): torch.Size([3])": answers(
            lambda out, x, n: out if x.shape[1] == 1 else out[:, 0]
        ),
        "of the mean over time, and of all frames": broken(
            forward=lambda self, x, n: self.output(x.amax(1))
        ),
        "three times the input": answers(lambda out, x, n: out.square()),
    },
    heads.check_fit: {
        "it is trained, not solved": GoodHead,
        "after fit, 33% of clearly separated clusters are right": broken(
            SolvedHead, fit=lambda self, x, y: None
        ),
        "two fits of the same examples": broken(
            SolvedHead, fit=lambda self, x, y: SolvedHead.fit(self, x + random.random(), y)
        ),
        "another head with the fitted state dict": broken(
            SolvedHead,
            fit=lambda self, x, y: [SolvedHead.fit(self, x, y), setattr(self, "more", 1.0)],
            forward=lambda self, x, n: SolvedHead.forward(self, x, n) + getattr(self, "more", 0.0),
        ),
    },
    heads.check_learns: {
        "it is solved, not trained": SolvedHead,
        "without a gradient: more.weight, more.bias": built(
            lambda h: setattr(h, "more", nn.Linear(2, 2))
        ),
        "after 2 steps of AdamW 33% of easy examples are right": answers(
            lambda out, x, n: out - out.detach()
        ),
    },
    heads.check_state: {
        "another head with this one's state dict": answers(
            lambda out, x, n: out, base=Moved
        ),
        "table is torch.float16, not float32": built(
            lambda h: h.register_buffer("table", torch.zeros(2).half())
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("check", RULES, ids=lambda check: check.__name__)
def test_each_fault_is_named(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_STEPS", 2)
    told = {wanted: said(check, cls) for wanted, cls in RULES[check].items()}
    assert {wanted: text for wanted, text in told.items() if not text.startswith(wanted)} == {}


@pytest.mark.parametrize("cls", [GoodHead, Frames, Vectors, SolvedHead])
def test_what_is_no_fault(cls: Any) -> None:
    passed = {"check_fit", "check_linear", "check_learns"}  # which may have no meaning
    told = {check.__name__: said(check, cls) for check in heads.CHECKS}
    assert {name for name, text in told.items() if text} <= passed, told
    frozen = built(
        lambda h: h.register_parameter("f", nn.Parameter(torch.zeros(1), requires_grad=False))
    )
    counted = built(lambda h: h.register_buffer("steps", torch.zeros(1).long()))
    assert said(heads.check_learns, frozen) == "" == said(heads.check_state, counted)


@pytest.mark.parametrize("cls", [GoodHead, SolvedHead])
def test_checks_draw_from_generators_of_their_own(
    cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "_STEPS", 2)
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    for check in heads.CHECKS:
        said(check, cls)
        assert torch.equal(torch.get_rng_state(), before[0]), check
    assert (str(np.random.get_state()), random.getstate()) == before[1:]


def test_what_is_dropped_in_training_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_STEPS", 2)
    drawn: list[float] = []

    def forward(self: Any, x: Any, lengths: Any) -> Any:
        drawn.append(float(torch.rand(())))
        return GoodHead.forward(self, x, lengths)

    for seed in (1, 2):
        torch.manual_seed(seed)
        said(heads.check_learns, broken(forward=forward))
    # One pass before the steps, two of them, and one after them.
    assert len(drawn) == 8 and drawn[1:3] == drawn[5:7] and drawn[0] != drawn[4]
