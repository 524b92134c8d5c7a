"""Where an objective's suite says yes and where no, with what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from good_parts import GoodObjective
from torch import nn

from bab import Loss, Term
from bab.core import registry
from bab.testing import objectives
from bab.testing.objectives import ObjectiveCase


def made(**members: Any) -> Any:
    return type("It", (GoodObjective,), {"__doc__": "x", **members})


def lost(change: Any) -> Any:
    """The good loss, changed: change(its term, the batch, self)."""

    def forward(self: Any, model: Any, batch: Any) -> Any:
        return change(GoodObjective.forward(self, model, batch).terms["error"], batch, self)

    return made(forward=forward)


def one(total: Any, count: Any, **more: Any) -> Loss:
    return Loss({"error": Term(total, count, **more)})


def said(check: str, cls: Any, level: Any = "frame") -> str:
    try:
        case = ObjectiveCase(cls, cls.Options(), level)
        return getattr(objectives, f"check_{check}")(case) or ""
    except AssertionError as error:
        return str(error)


@pytest.mark.parametrize(
    ("check", "cls", "told"),
    [
        ("terms", GoodObjective, ""),
        ("terms", lost(lambda t, b, s: t.total), "forward returns Tensor, not bab.Loss"),
        ("terms", lost(lambda t, b, s: Loss({})), "the loss has no term"),
        ("terms", lost(lambda t, b, s: Loss({"a": 1.0})), "term 'a' is a float, not bab.Term"),
        ("terms", lost(lambda t, b, s: one(t.total[None], 1.0)),
         "term 'error' has shape (1,): sum it"),
        ("terms", lost(lambda t, b, s: one(t.total * torch.inf, 1.0)), "term 'error' is inf"),
        ("terms", lost(lambda t, b, s: Loss({"error": t}, {"a": (1.0, 2.0, 3.0)})),  # type: ignore[dict-item]
         "log 'a' is (1.0, 2.0, 3.0), not (sum, count)"),
        ("terms", lost(lambda t, b, s: Loss({"error": t}, {"a": (1.0, 2.0)})), ""),
        ("counts", GoodObjective, ""),
        ("counts", lost(lambda t, b, s: Loss({"other": t})),
         "counts names ['error'], terms ['other']"),
        ("counts", lost(lambda t, b, s: one(t.total, t.count * 1.00009)), ""),
        ("counts", lost(lambda t, b, s: one(t.total, t.count * 1.00011)),
         "'error': counts says 24.0, the term has 24.00264"),
        ("counts", made(counts=lambda self, batch: {"error": 0.0}), "the count of 'error' is 0.0"),
        ("scale", GoodObjective, ""),
        ("scale", lost(lambda t, b, s: one(t.total / t.count, t.count)), "'error': two halves sum"),
        ("scale", lost(lambda t, b, s: one(t.total / t.count, t.count, exact=False)), ""),
        ("scale", made(counts=lambda self, batch: {"error": 1.0}),
         "'error': two halves count 2.0, together 1.0"),
        ("padding", GoodObjective, ""),
        ("padding", lost(lambda t, b, s: one(t.total + b.targets.sum(), t.count)), "'error' is "),
        ("gradient", GoodObjective, ""),
        ("gradient", lost(lambda t, b, s: one(t.total.detach(), t.count)),
         "the loss has no gradient"),
        ("gradient", lost(lambda t, b, s: one(0 * t.total, t.count)),
         "the gradient to the model's output is zero"),
        ("direction", GoodObjective, ""),
        ("direction", lost(lambda t, b, s: one(-t.total, t.count)), "a right output costs -"),
        ("direction", lost(lambda t, b, s: one(0 * t.total, t.count)),
         "a right output costs 0, a wrong one 0"),
        ("weights", GoodObjective, ""),
        ("weights", lost(lambda t, b, s: one(
            t.total, t.count + 2e-4 * (b.weights is not None))), "'error': weights change the cou"),
        ("effects", GoodObjective, ""),
        ("effects", lost(lambda t, b, s: one(t.total + 0 * torch.rand(()), t.count)),
         "it draws from torch's global generator"),
        ("extras", GoodObjective, "it exports nothing"),
        ("extras", made(load_pretrained=lambda self, given: True),
         "load_pretrained({}) must be False"),
        ("extras", made(extras=lambda self: {"a": torch.ones(1)},
                        load_pretrained=lambda self, given: False),
         "load_pretrained refuses extras: ['a']"),
        ("extras", made(extras=lambda self: {"a": torch.ones(1)},
                        load_pretrained=lambda self, given: bool(given)), ""),
        ("described", made(__doc__=""), "class It has no docstring: `bab info` shows nothing"),
    ],
)  # fmt: skip
def test_the_edge_of_each_rule(check: str, cls: Any, told: str) -> None:
    got = said(check, cls)
    assert (got == "") if not told else got.startswith(told), got


def test_what_has_no_meaning_at_a_level() -> None:
    for level in ("pair", "pretraining"):
        assert said("direction", GoodObjective, level) == (
            "what a right output is, the objective's own weights decide"
        )
    assert said("weights", GoodObjective, "pretraining") == (
        "examples have no weights in pretraining"
    )


@pytest.mark.parametrize(
    ("level", "name"), [("frame", "multilabel"), ("clip", "cross_entropy"), ("sequence", "ctc")]
)
def test_a_wrong_sign_is_seen_at_each_level_of_known_outputs(level: str, name: str) -> None:
    cls = registry.load("objectives", name)

    def forward(self: Any, model: Any, batch: Any) -> Any:
        loss = cls.forward(self, model, batch)
        terms = {key: Term(-term.total, term.count) for key, term in loss.terms.items()}
        return Loss(terms, loss.logs)

    wrong = type("Wrong", (cls,), {"__doc__": "x", "forward": forward})
    assert said("direction", cls, level) == ""
    assert said("direction", wrong, level).startswith("a right output costs ")


def test_weights_that_are_left_out_of_the_loss() -> None:
    def forward(self: Any, model: Any, batch: Any) -> Any:
        batch.weights = None
        return GoodObjective.forward(self, model, batch)

    got = said("weights", made(forward=forward))
    assert got.startswith("'error' is ") and "with all weights 2 it is" in got


class Weighing(GoodObjective):
    """With a weight of its own that nothing uses."""

    def __init__(self, dim: int, sizes: Any, options: Any) -> None:
        super().__init__(dim, sizes, options)
        self.spare = nn.Parameter(torch.ones(1))


def test_a_weight_without_a_gradient_is_named() -> None:
    assert said("gradient", Weighing) == "without a gradient: spare"


def test_an_objective_is_built_as_a_run_builds_it() -> None:
    """Of as many outputs as classes, or as wide as a vector; told of targets where it may weigh
    them; with weights from a seed of its own."""
    told: list[Any] = []

    class Told(GoodObjective):
        """Keeps what it is told."""

        def __init__(self, dim: int, sizes: Any, options: Any) -> None:
            super().__init__(dim, sizes, options)
            self.weight = nn.Parameter(torch.rand(2))
            told.append((dim, tuple(sizes)))

        def attach(self, encoder: Any) -> None:
            told.append(encoder.local_dim)

        def observe(self, targets: Any) -> None:
            told.append(targets.tolist())

    for level, dim, sizes, seen in (
        ("frame", 3, (3,), []), ("sequence", 3, (3,), []), ("pretraining", 8, (7,), []),
        ("clip", 3, (3,), [[[0], [1], [2], [1]]]), ("pair", 8, (3,), [[[0], [1], [2], [1]]]),
    ):  # fmt: skip
        case = ObjectiveCase(Told, Told.Options(), level)  # type: ignore[arg-type]
        told.clear()
        before = torch.get_rng_state()
        first = case(case.planted())
        assert torch.equal(torch.get_rng_state(), before) and not first.training
        assert told == [(dim, sizes), 5, *seen]
        assert torch.equal(first.weight, case(case.planted()).weight)
