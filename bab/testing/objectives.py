"""The contract of an objective, as checks that the author of a plugin runs.

    from bab.testing import ObjectiveContract

    class TestMine(ObjectiveContract):
        component = Mine
        level = "clip"       # whose targets it takes: frame, clip, sequence, pair, or pretraining

Each check takes an `ObjectiveCase`: the class, its options and the level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bab.core.interfaces import Objective
from bab.core.types import Loss, Term
from bab.testing.declared import described, seeded_by, standard, untouched
from bab.testing.planted import CLASSES, DIM, EXAMPLES, Planted, plant
from bab.testing.suite import Contract

Where = Literal["frame", "clip", "sequence", "pair", "pretraining"]
# In the order of trying: what takes vectors of any width is for pairs, before it is for clips.
LEVELS: tuple[Where, ...] = ("frame", "pair", "clip", "sequence")
_NEAR = 1e-4  # relative


@dataclass(frozen=True)
class ObjectiveCase:
    """An objective's class, its options, and the level whose targets it takes."""

    cls: type[Objective]
    options: Any
    level: Where

    def __call__(self, planted: Planted) -> Objective:
        """Built, and told of the encoder and the targets as a run would."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = self.build(planted)
            made.attach(planted.encoder)
            if self.level in ("clip", "pair"):
                made.observe(planted.batch.targets)
        return made.eval()

    def build(self, planted: Planted) -> Objective:
        """Built, and no more."""
        dim = CLASSES if self.level in ("frame", "clip", "sequence") else DIM
        return self.cls(dim, planted.sizes, self.options)

    def planted(self) -> Planted:
        return plant(self.level)


def level_of(cls: type[Objective], options: Any) -> Where:
    """The level of an objective: what it declares, else the first whose batch it takes.

    Raises:
        AssertionError: it takes none of them; the message says what each attempt raised.
    """
    if cls.pretrains:
        return "pretraining"
    declared = getattr(cls, "level", "")
    said = (declared,) if isinstance(declared, str) else tuple(declared)
    for one in LEVELS:
        if one in said:
            return one
    told = []
    for one in LEVELS:
        case = ObjectiveCase(cls, options, one)
        try:
            planted = case.planted()
            case(planted)(planted.model(), planted.batch)
            return one
        except Exception as error:
            told.append(f"{one}: {type(error).__name__}: {error}")
    raise AssertionError("it takes the targets of no level: " + "; ".join(told))


def check_described(case: ObjectiveCase) -> None:
    """The class has a docstring, and each option a description.

    To do: write them; `bab info NAME` shows them.
    """
    described(case.cls)


def check_terms(case: ObjectiveCase) -> None:
    """forward returns bab.Loss: named terms, each one number with a count, and logs in pairs.

    To do: return Loss({"loss": Term(losses.sum(), count)}).
    """
    loss, _, _ = _loss(case)
    assert isinstance(loss, Loss), f"forward returns {type(loss).__name__}, not bab.Loss"
    assert loss.terms, "the loss has no term"
    for name, term in loss.terms.items():
        assert isinstance(term, Term), f"term '{name}' is a {type(term).__name__}, not bab.Term"
        assert term.total.ndim == 0, f"term '{name}' has shape {tuple(term.total.shape)}: sum it"
        assert bool(term.total.isfinite()), f"term '{name}' is {float(term.total.detach())}"
    for name, log in loss.logs.items():
        assert len(log) == 2, f"log '{name}' is {log!r}, not (sum, count)"


def check_counts(case: ObjectiveCase) -> None:
    """The counts that `counts` announces from the batch alone are those of the terms.

    To do: let forward use self.counts(batch); a count never depends on the model's output.
    """
    loss, objective, planted = _loss(case)
    announced = objective.counts(planted.batch)
    given = {name: float(term.count) for name, term in loss.terms.items()}
    assert set(announced) == set(given), f"counts names {sorted(announced)}, terms {sorted(given)}"
    for name, count in announced.items():
        assert count > 0, f"the count of '{name}' is {count}"
        near = abs(count - given[name]) <= _NEAR * count
        assert near, f"'{name}': counts says {count}, the term has {given[name]}"


def check_scale(case: ObjectiveCase) -> None:
    """A loss is a sum: two micro-batches have the counts and, for exact terms, the totals that
    both together have. So an update doesn't depend on how the batch was cut.

    To do: sum over the examples, never mean; reduction="sum". Mark what can't be with exact=False.
    """
    whole, objective, planted = _loss(case)
    parts = [_pass(objective, planted, rows) for rows in ((0, 1), (2, 3))]
    batches = [planted.rows(rows) for rows in ((0, 1), (2, 3))]
    for name, term in whole.terms.items():
        count = sum(objective.counts(batch)[name] for batch in batches)
        near = abs(count - term.count) <= _NEAR * abs(term.count)
        assert near, f"'{name}': two halves count {count}, together {term.count}"
        if not term.exact:
            continue
        total, both = (
            float(term.total.detach()),
            sum(float(part.terms[name].total.detach()) for part in parts),
        )
        near = abs(total - both) <= _NEAR * max(1.0, abs(total))
        assert near, f"'{name}': two halves sum to {both:.6g}, together they are {total:.6g}"


def check_padding(case: ObjectiveCase) -> None:
    """What stands in the padding, NaN or anything else, changes neither loss nor gradient.

    To do: replace the padding (masked_fill) before the loss, by `lengths` and `target_lengths`.
    """
    whole, objective, planted = _loss(case)
    spoilt = planted.spoilt()
    model = spoilt.model()
    loss = objective(model, spoilt.batch)
    for name, term in whole.terms.items():
        one, two = float(term.total.detach()), float(loss.terms[name].total.detach())
        near = abs(one - two) <= _NEAR * max(1.0, abs(one))
        assert near, f"'{name}' is {two:.6g} with other padding, {one:.6g} without"
    torch.autograd.backward(torch.stack([term.total for term in loss.terms.values()]).sum())
    for tensor in model.leaves:
        if tensor.grad is not None:
            assert bool(tensor.grad.isfinite().all()), "NaN of the padding reaches the gradient"


def check_gradient(case: ObjectiveCase) -> None:
    """The loss has a gradient to the model's output, and to every weight of the objective.

    To do: no detach, no .item(), no argmax on the way from the output to the loss.
    """
    planted = case.planted()
    objective, model = case(planted).train(), planted.model()
    loss = objective(model, planted.batch)
    total = torch.stack([term.total * term.weight for term in loss.terms.values()]).sum()
    assert total.requires_grad, "the loss has no gradient"
    torch.autograd.backward(total)
    moved = [t for t in model.leaves if t.grad is not None and bool((t.grad != 0).any())]
    assert moved, "the gradient to the model's output is zero"
    missing = [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing, f"without a gradient: {', '.join(missing[:5])}"


def check_direction(case: ObjectiveCase) -> str | None:
    """An output that is right costs less than one that is wrong.

    To do: look at the sign, and at which axis holds the classes.
    """
    if case.level not in ("frame", "clip", "sequence"):
        return "what a right output is, the objective's own weights decide"
    planted = case.planted()
    objective = case(planted)
    right = _total(objective(planted.right(5.0), planted.batch))
    wrong = _total(objective(planted.right(-5.0), planted.batch))
    assert right < wrong, f"a right output costs {right:.4g}, a wrong one {wrong:.4g}"
    return None


def check_weights(case: ObjectiveCase) -> str | None:
    """Weights of examples multiply their losses and leave the counts alone.

    To do: losses * batch.weights before the sum, where batch.weights is not None.
    """
    if case.level == "pretraining":
        return "examples have no weights in pretraining"
    whole, objective, planted = _loss(case)
    double = replace(planted.batch, weights=torch.full((EXAMPLES,), 2.0))
    loss = objective(planted.model(), double)
    for name, term in whole.terms.items():
        one, two = float(term.total.detach()), float(loss.terms[name].total.detach())
        near = abs(2 * one - two) <= _NEAR * max(1.0, abs(two))
        assert near, f"'{name}' is {one:.6g}; with all weights 2 it is {two:.6g}, not {2 * one:.6g}"
        same = abs(term.count - loss.terms[name].count) <= _NEAR
        assert same, f"'{name}': weights change the count"
    return None


def check_effects(case: ObjectiveCase) -> None:
    """The same batch gives the same loss, in training mode too; it is left as it was, and no global
    random generator is used: randomness comes from batch.seeds.

    To do: torch.Generator().manual_seed(bab.derive_seed(seed, "what for")) for each example.
    """
    seeded = seeded_by(lambda: case.build(case.planted()))
    assert not seeded, f"building it seeds {' and '.join(seeded)} global generator"
    planted = case.planted()
    objective = case(planted).train()
    before = planted.batch.targets.clone()
    with untouched() as used:
        first, second = (_total(objective(planted.model(), planted.batch)) for _ in range(2))
        drawn = used()
    assert not drawn, f"it draws from {' and '.join(drawn)} global generator"
    assert abs(first - second) <= _NEAR * max(1.0, abs(first)), f"{first}, then {second}"
    assert torch.equal(before, planted.batch.targets), "forward changed the targets"


def check_extras(case: ObjectiveCase) -> str | None:
    """What `extras` exports, `load_pretrained` takes; a checkpoint without it is False.

    To do: use the same names in both.
    """
    planted = case.planted()
    objective = case(planted)
    extras = {name: tensor.clone() for name, tensor in objective.extras().items()}
    assert objective.load_pretrained({}) is False, "load_pretrained({}) must be False"
    if not extras:
        return "it exports nothing"
    assert objective.load_pretrained(extras), f"load_pretrained refuses extras: {sorted(extras)}"
    return None


CHECKS: tuple[Callable[[ObjectiveCase], str | None], ...] = (
    check_described,
    check_terms,
    check_counts,
    check_scale,
    check_padding,
    check_gradient,
    check_direction,
    check_weights,
    check_effects,
    check_extras,
)


class ObjectiveContract(Contract):
    """`component` is the class, `options` what it is built with (None: its defaults), `level` whose
    targets it takes (None: what it declares, or the first that works)."""

    checks: ClassVar = CHECKS
    component: ClassVar[type[Objective]]
    options: ClassVar[Any] = None
    level: ClassVar[Where | None] = None

    def subject(self, folder: Path) -> ObjectiveCase:
        options = self.options or standard(self.component)
        return ObjectiveCase(
            self.component, options, self.level or level_of(self.component, options)
        )


# ------------------------------------------------------------------------------ tools


def _loss(case: ObjectiveCase) -> tuple[Loss, Objective, Planted]:
    planted = case.planted()
    objective = case(planted)
    return objective(planted.model(), planted.batch), objective, planted


def _pass(objective: Objective, planted: Planted, rows: Sequence[int]) -> Loss:
    loss: Loss = objective(planted.model(rows), planted.rows(rows))
    return loss


def _total(loss: Loss) -> float:
    totals: Tensor = torch.stack([t.total.detach() * t.weight for t in loss.terms.values()])
    return float(totals.sum())
