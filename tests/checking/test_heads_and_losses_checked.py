"""What heads, losses and tasks may hand over wrongly, in turn: what is said, to the letter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from breaches import clip, said
from torch import Tensor, nn
from train_worker import Small

import bab
from bab.checking.heads import check_fitted, check_linear, watch_head
from bab.checking.losses import check_loss, watch_objective
from bab.checking.tasks import check_labels, check_metrics, checked_targets
from bab.core.errors import PluginError
from bab.core.types import Batch, Features, Loss, Term, Waves


def waves(count: int, value: float = 0.5) -> Batch:
    clips = tuple(clip(id=f"c{i}") for i in reversed(range(count)))
    inputs = Waves(torch.full((count, 40), value), torch.full((count,), 40))
    return Batch(inputs, torch.ones(1), torch.ones(1), clips, 0)


# ------------------------------------------------------------------------------- heads, losses


class Linear(bab.Head):
    """A linear map of the mean over the valid frames, but for `bend`."""

    level, linear, closed_form = ("clip",), True, True

    def __init__(self, bend: Callable[[Tensor, str], Tensor] = lambda x, place: x) -> None:
        super().__init__(3, 2, None)
        self.bend, self.map = bend, nn.Linear(3, 2)
        nn.init.constant_(self.map.weight, 0.5)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        inside = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
        x = self.bend(x * inside, "before")
        return self.bend(self.map(x.sum(1) / lengths[:, None]), "after")


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("before", "gives something else of frames than of their mean"),
        ("after", "of the mean of two inputs is not the mean of its outputs"),
    ],
)
def test_a_head_that_is_not_linear_is_told(where: str, told: str) -> None:
    bent = Linear(lambda x, place: x.square() if place == where else x)
    claim = f"forward {told}, and the head says linear = True"
    assert said(check_linear, bent.train(), 3) == claim and bent.training
    fine = Linear().eval()
    check_linear(fine, 3)
    assert not fine.training
    check_linear(Linear(lambda x, place: 1e6 * x + 1 if place == "after" else x), 3)
    for share, fine in ((1e-5, True), (1e-2, False)):  # a thousandth of the largest value
        nearly = Linear(lambda x, place, s=share: x + s * x.square() if place == "after" else x)
        if fine:
            check_linear(nearly, 3)
        else:
            assert "is not the mean of its outputs" in said(check_linear, nearly, 3)
    padded = Linear(lambda x, place: x[:, :5] if place == "before" else x)
    assert said(check_linear, padded, 3) == claim.replace(told, "gives something else of frames "
                                                          "than of their mean")  # fmt: skip


def test_only_the_first_output_of_a_head_is_looked_at() -> None:
    head = Linear()
    watch_head(head, "frame")
    x, lengths = torch.rand(2, 4, 3), torch.tensor([4, 2])
    told = "forward gives an output of shape [2, 2] for an input of [2, 4, 3]: [2, 4, 2] expected"
    assert said(head, x, lengths) == told
    head(x, lengths)
    for level in ("clip", "pair"):
        fine = Linear()
        watch_head(fine, level)  # type: ignore[arg-type]
        fine(x, lengths)


def test_weights_that_only_partly_changed_were_fitted() -> None:
    head = Linear()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    x = torch.rand(3, 1, 3)
    told = "fit left the weights as they were, and the head says closed_form"
    assert said(check_fitted, head, before, x) == told
    with torch.no_grad():
        head.map.bias.add_(1)
    check_fitted(head, before, x)
    with torch.no_grad():
        head.map.bias[1] = math.nan
    assert said(check_fitted, head, before, x) == "fit left weights whose output is not finite"


class Squares(bab.Objective):
    """The sum of squares of the valid frames; `change` makes it wrong."""

    level = ("frame",)

    def __init__(self, **change: Any) -> None:
        super().__init__(2, [2], bab.Options())
        self.change = change

    def counts(self, batch: Batch) -> dict[str, float]:
        count = float(batch.target_lengths.sum())
        return self.change.get("counts", lambda batch, count: {"s": count})(batch, count)

    def forward(self, model: Any, batch: Batch) -> Loss:
        x, lengths = model(batch)
        inside = torch.arange(x.shape[1]) < lengths[:, None]
        total = x[inside].square().sum()
        loss = Loss({"s": Term(total, float(lengths.sum()))})
        return self.change.get("loss", lambda loss, total: loss)(loss, total)


class Scores(nn.Module):
    """What is said of features: themselves."""

    encoder = None

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value, self.drop = value, nn.Dropout(0.5)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.drop(batch.inputs.states[:, 0] * self.value), batch.inputs.lengths


def frames(step: int = 0) -> Batch:
    lengths = torch.tensor([3, 5])
    states = torch.rand(2, 1, 5, 2, generator=torch.Generator().manual_seed(0)) + 1
    clips = (clip(id="a"), clip(id="b"))
    return Batch(Features(states, lengths), torch.zeros(2, 5, 2), lengths, clips, step)


def checked(objective: Any, model: Any = None) -> str:
    scorer, batch = (model or Scores()).eval(), frames()
    return said(lambda: check_loss(objective, scorer, batch, objective(scorer, batch)))


def test_a_loss_that_is_a_sum_passes() -> None:
    objective, scorer, batch = Squares(), Scores().train(), frames()
    check_loss(objective, scorer, batch, objective(scorer, batch))
    assert scorer.training and scorer.drop.training and objective.training
    loss = objective(Scores().eval(), batch)
    loss.terms["s"].count *= 1.00009
    check_loss(objective, Scores().eval(), batch, loss)  # within a ten thousandth
    free = Squares(loss=lambda loss, total: Loss({"s": Term(total.sqrt(), 8.0, exact=False)}))
    check_loss(free, Scores().eval(), batch, free(Scores().eval(), batch))
    nothing = Squares(counts=lambda batch, count: {"s": 0.0})
    mean = Loss({"s": Term(torch.tensor(1.0), 0.0)})
    check_loss(nothing, Scores().eval(), batch, mean)  # of nothing, nothing can be said
    known: Any = Scores().eval()
    known.known = True  # it has an answer to this batch alone
    constant = Squares(loss=lambda loss, total: Loss({"s": Term(torch.tensor(5.0), 8.0)}))
    check_loss(constant, known, batch, constant(known, batch))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"loss": lambda loss, total: total}, "forward gives Tensor, not bab.Loss"),
        ({"counts": lambda batch, n: {"t": n}},
         "forward gives terms ['s'], counts announces ['t']"),
        ({"counts": lambda batch, n: [n]},
         "counts gives [8.0]: a finite number per term expected"),
        ({"counts": lambda batch, n: {"s": math.inf}},
         "counts gives {'s': inf}: a finite number per term expected"),
        ({"counts": lambda batch, n: {"s": -1.0}},
         "counts gives {'s': -1.0}: a finite number per term expected"),
        ({"counts": lambda batch, n: {"s": 2 * n}},
         "forward gives count 8 of 's', counts announces 16"),
        ({"loss": lambda loss, total: Loss({"s": (total, 8.0)})}, None),
        ({"loss": lambda loss, total: Loss({"s": Term(total.expand(2), 8.0)})},
         "forward gives no bab.Term(total, count) as 's'"),
        ({"loss": lambda loss, total: Loss({"s": Term(total / 0, loss.terms["s"].count)})},
         "forward gives inf as 's' before any training"),
        ({"loss": lambda loss, total: Loss({"s": Term(total / loss.terms["s"].count,
                                                       loss.terms["s"].count)})},
         "a sum, not a mean, is due"),
        ({"counts": lambda batch, n: {"s": 8.0},
          "loss": lambda loss, total: Loss({"s": Term(total, 8.0)})},
         "counts gives 8 for one example and 8 for two of the same ('s'): it must scale with them"),
    ],
)  # fmt: skip
def test_a_loss_that_is_wrong_is_told(change: dict[str, Any], told: str | None) -> None:
    if told is None:
        with pytest.raises((PluginError, AttributeError)):
            checked(Squares(**change))
    elif told.startswith("a sum"):
        given = checked(Squares(**change))
        assert given.startswith("forward gives ") and given.endswith(f" ('s'): {told}")
        assert " for one example and " in given and " for two of the same " in given
    else:
        assert checked(Squares(**change)) == told


@pytest.mark.parametrize(("off", "fine"), [(9e-4, True), (-9e-4, True), (1.1e-3, False)])
def test_counts_of_twice_the_examples_are_twice_as_many_to_a_thousandth(
    off: float, fine: bool
) -> None:
    """Weighted counts are sums of floats."""

    class Weighted(Squares):
        def counts(self, batch: Batch) -> dict[str, float]:
            count = float(batch.target_lengths.sum())
            return {"s": count * (1 + off) if len(batch.clips) == 2 else count}

        def forward(self, model: Any, batch: Batch) -> Loss:
            total = super().forward(model, batch).terms["s"].total
            return Loss({"s": Term(total, self.counts(batch)["s"])})

    if fine:
        scorer, batch = Scores().eval(), frames()
        check_loss(Weighted(), scorer, batch, Weighted()(scorer, batch))
    else:
        assert checked(Weighted()).endswith("of the same ('s'): it must scale with them")


@pytest.mark.parametrize(("factor", "fine"), [(1.0, True), (1.09, True), (0.91, True),
                                               (1.11, False), (0.89, False)])  # fmt: skip
def test_twice_the_examples_give_about_twice_the_loss(factor: float, fine: bool) -> None:
    """A tenth is let pass: dropout is off, but some losses have parts that are no sums."""
    scorer, batch = Scores().eval(), frames()

    def loss(given: Loss, total: Tensor) -> Loss:
        count = given.terms["s"].count  # of one example five, of two ten
        return Loss({"s": Term(total * (factor if count == 10 else 1.0), count)})

    objective = Squares(loss=loss)
    if fine:
        check_loss(objective, scorer, batch, objective(scorer, batch))
    else:
        assert "a sum, not a mean, is due" in checked(objective)


def test_before_any_training_what_isnt_finite_is_somebodys_fault() -> None:
    told = "forward gives values that are not finite before any training"
    assert checked(Squares(), Scores(math.inf)) == told
    objective, scorer, batch = Squares(), Scores(math.nan).eval(), frames(step=1)
    check_loss(objective, scorer, batch, objective(scorer, batch))  # it may be the training's
    encoder: Any = Small()
    with torch.no_grad():
        encoder.conv.weight.fill_(math.nan)

    class Heard(Scores):
        def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
            out = self.encoder(batch.inputs)
            return out.layers[-1], out.lengths

    model: Any = Heard()
    vars(model)["encoder"] = encoder
    batch = replace(waves(2), target_lengths=torch.tensor([4, 4]))
    loss = Squares()(model, batch)
    assert said(check_loss, Squares(), model, batch, loss) == (
        "forward gives values that are not finite"
    )


@pytest.mark.parametrize(
    ("cut", "who", "what"),
    [(True, "Scores", "an output"), (False, "Squares", "a loss")],
)
def test_a_loss_without_a_gradient_is_told_where_it_is_trained_on(
    cut: bool, who: str, what: str
) -> None:
    """By the head's output, by the objective; and not where nothing is trained."""
    batch = frames()
    batch.inputs.states.requires_grad_(not cut)

    def watched() -> Any:
        detached = Squares(loss=lambda loss, total: Loss({"s": Term(total.detach(), 8.0)}))
        objective = Squares() if cut else detached
        watch_objective(objective)
        return objective

    scorer = Scores().eval()
    with torch.no_grad():
        watched()(scorer, batch)
    watched().eval()(scorer, batch)
    with pytest.raises(PluginError, match=rf":{who} breaks its contract: ") as error:
        watched()(scorer, batch)
    assert f"forward gives {what} without a gradient: it is cut off from the weights" in str(
        error.value
    )


def test_only_the_first_counts_and_the_first_loss_are_looked_at() -> None:
    objective: Any = Squares(counts=lambda batch, count: {"s": math.nan})
    watch_objective(objective)
    with pytest.raises(PluginError, match="a finite number per term"):
        objective.counts(frames())
    assert math.isnan(objective.counts(frames())["s"])
    other: Any = Squares(loss=lambda loss, total: Loss({"t": loss.terms["s"]}))
    watch_objective(other)
    with pytest.raises(PluginError, match="gives terms"):
        other(Scores(), frames())
    other(Scores(), frames())


# ------------------------------------------------------------------------------- tasks


@pytest.mark.parametrize(
    "labels", [None, {}, ["a"], {"k": ["a", "b"]}, {"k": ("a", 1)}, {"k": ("a", "a")},
               {"k": ("a",), "l": ("b", "b")}],
)  # fmt: skip
def test_labels_are_groups_of_names_each_once(labels: Any) -> None:
    task = cast(Any, SimpleNamespace())
    told = f"fit gives {labels!r:.80}: a mapping of group -> tuple of class names expected"
    assert said(check_labels, task, labels) == told
    fine: Any = {"k": (), "l": ("a", "b")}
    assert check_labels(task, fine) is fine


def test_values_of_targets_are_looked_at_twenty_times() -> None:
    task = cast(Any, SimpleNamespace(one_target=True, in_order=False))
    given = [torch.tensor([0])] * 20 + [torch.tensor([9])] * 2
    targets = checked_targets(task, lambda one, frames: given[frames], {"k": ("a", "b")})
    for place in range(22):
        targets(clip(), place)
    again = checked_targets(task, lambda one, frames: given[frames + 1], {"k": ("a", "b")})
    for place in range(19):
        again(clip(), place)
    assert said(again, clip(), 19) == "targets gives [9] for [2] classes (clip 'c')"


@pytest.mark.parametrize("metrics", [None, [1.0], {"f1": "1"}, {1: 1.0}])
def test_metrics_are_names_and_numbers(metrics: Any) -> None:
    task = cast(Any, SimpleNamespace())
    told = f"score gives {metrics!r:.80}: names and numbers expected"
    assert said(check_metrics, task, metrics) == told
    fine = {"f1": 1, "g": math.nan}
    assert check_metrics(task, fine) is fine
