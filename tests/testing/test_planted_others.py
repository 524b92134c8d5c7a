"""Wrong heads, objectives, tasks and observers: the suites find each, by the check for it."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from good_parts import (
    GoodCorpus,
    GoodHead,
    GoodObjective,
    GoodObserver,
    GoodTask,
    SolvedHead,
    make_corpus,
)
from torch import nn

import bab
from bab import Loss, Prediction, Term
from bab.testing import heads, objectives, observers, tasks
from bab.testing.suite import name_of, run_checks
from bab.testing.taskcase import TaskCase


def broken(base, **members):
    return type("Broken", (base,), {"__doc__": "Broken.", **members})


def failures(checks, subject, only=None):
    chosen = [one for one in checks if only is None or name_of(one) == only]
    return {o.name: o.told for o in run_checks(chosen, subject) if o.verdict == "failed"}


def caught(checks, subject, check):
    failed = failures(checks, subject, check)
    assert check in failed, f"caught by {failures(checks, subject) or 'nothing'}"
    assert len(failed[check]) > 15, "and it says in what"


# ------------------------------------------------------------------------------------- heads


def head(change, **members):
    """The good head with another answer: change(self, x, lengths)."""
    return broken(GoodHead, forward=change, **members)


def good(self, x, lengths):
    return GoodHead.forward(self, x, lengths)


def build(change):
    def init(self, dim, classes, options):
        GoodHead.__init__(self, dim, classes, options)
        change(self)

    return broken(GoodHead, __init__=init)


def first_time(self, x, lengths):
    self.steps = getattr(self, "steps", 0) + 1
    return good(self, x, lengths) + self.steps


HEADS = {
    "of no level": (broken(GoodHead, level=()), "described"),
    "of an unknown level": (broken(GoodHead, level=("word",)), "described"),
    "no docstring": (broken(GoodHead, __doc__=None), "described"),
    "one output for each frame": (head(lambda s, x, n: s.output(x)), "shapes"),
    "other outputs than it says": (build(lambda h: setattr(h, "outputs", 9)), "shapes"),
    "double precision": (head(lambda s, x, n: good(s, x, n).double()), "shapes"),
    "the padding is in the mean": (head(lambda s, x, n: s.output(x.mean(1))), "padding"),
    "NaN of the padding": (
        head(
            lambda s, x, n: s.output(
                (x * (torch.arange(x.shape[1]) < n[:, None])[..., None]).sum(1)
            )
        ),
        "padding",
    ),
    "normalised over the batch": (
        head(lambda s, x, n: (g := good(s, x, n)) - g.mean(0, keepdim=True)),
        "padding",
    ),
    "changes its input": (head(lambda s, x, n: good(s, x.mul_(0.5), n)), "effects"),
    "remembers": (head(first_time), "effects"),
    "dropout in eval mode": (
        head(lambda s, x, n: nn.functional.dropout(good(s, x, n), 0.5)),
        "effects",
    ),
    "seeds": (build(lambda h: torch.manual_seed(0)), "effects"),
    "says linear, and has a ReLU": (
        head(lambda s, x, n: s.output(torch.relu(x).sum(1) / n[:, None])),
        "linear",
    ),
    "says linear, and is a maximum": (head(lambda s, x, n: s.output(x.amax(1))), "linear"),
    "says closed form, and fits nothing": (
        broken(SolvedHead, fit=lambda self, x, y: None),
        "fit",
    ),
    "says closed form, and keeps it outside": (
        broken(
            SolvedHead,
            fit=lambda self, x, y: setattr(
                self,
                "found",
                (SolvedHead.fit(self, x, y), self.weight.clone(), self.weight.zero_())[1],
            ),
            forward=lambda self, x, n: x[:, 0] @ self.found[:, :-1].T + self.found[:, -1],
        ),
        "fit",
    ),
    "random fits": (
        broken(
            SolvedHead,
            fit=lambda self, x, y: SolvedHead.fit(self, x + random.random(), y),
        ),
        "fit",
    ),
    "a layer without a use": (build(lambda h: setattr(h, "more", nn.Linear(2, 2))), "learns"),
    "detached": (head(lambda s, x, n: good(s, x, n).detach() + 0 * s.output.bias), "learns"),
    "a weight that isn't saved": (
        build(
            lambda h: h.register_buffer("shift", torch.rand(1) + torch.rand(1), persistent=False)
        ),
        "state",
    ),
}
HEADS["a weight that isn't saved"] = (
    broken(
        GoodHead,
        __init__=HEADS["a weight that isn't saved"][0].__init__,
        forward=lambda s, x, n: good(s, x, n) + s.shift,
    ),
    "state",
)


@pytest.mark.parametrize("base", [GoodHead, SolvedHead])
def test_good_heads_pass(base):
    assert failures(heads.CHECKS, heads.HeadCase(base, base.Options())) == {}


@pytest.mark.parametrize("fault", HEADS)
def test_a_heads_fault_is_found(fault):
    cls, check = HEADS[fault]
    caught(heads.CHECKS, heads.HeadCase(cls, cls.Options()), check)


# -------------------------------------------------------------------------------- objectives


def loss(change, **members):
    """The good objective with another loss: change(self, its own term, model, batch)."""

    def forward(self, model, batch):
        return change(self, GoodObjective.forward(self, model, batch).terms["error"], model, batch)

    return broken(GoodObjective, forward=forward, **members)


def one(total, count):
    return Loss({"error": Term(total, count)})


def unpadded(self, model, batch):
    logits, _ = model(batch)
    losses = (torch.sigmoid(logits) - batch.targets).square().sum()
    return one(losses, self.counts(batch)["error"])


def spoils(self, term, model, batch):
    batch.targets.zero_()
    return one(term.total, term.count)


OBJECTIVES = {
    "a mean with count 1": (
        loss(lambda s, t, m, b: one(t.total / t.count, 1.0), counts=lambda s, b: {"error": 1.0}),
        "scale",
    ),
    "a mean with the count": (loss(lambda s, t, m, b: one(t.total / t.count, t.count)), "scale"),
    "another count than announced": (loss(lambda s, t, m, b: one(t.total, t.count + 1)), "counts"),
    "a count of zero": (
        loss(lambda s, t, m, b: one(t.total, 0.0), counts=lambda s, b: {"error": 0.0}),
        "counts",
    ),
    "a term that isn't announced": (
        loss(lambda s, t, m, b: Loss({"error": t, "more": Term(t.total, 1.0)})),
        "counts",
    ),
    "a bare tensor": (loss(lambda s, t, m, b: t.total), "terms"),
    "a loss for each example": (loss(lambda s, t, m, b: one(t.total.expand(4), t.count)), "terms"),
    "the padding counts": (broken(GoodObjective, forward=unpadded), "padding"),
    "no gradient": (loss(lambda s, t, m, b: one(t.total.detach(), t.count)), "gradient"),
    "the wrong sign": (loss(lambda s, t, m, b: one(-t.total, t.count)), "direction"),
    "weights are ignored": (
        loss(lambda s, t, m, b: GoodObjective.forward(s, m, bab_without_weights(b))),
        "weights",
    ),
    "noise from the global generator": (
        loss(lambda s, t, m, b: one(t.total + torch.rand(()), t.count)),
        "effects",
    ),
    "changes the targets": (loss(spoils), "effects"),
    "a loss that is no number": (loss(lambda s, t, m, b: one(t.total / 0, t.count)), "terms"),
    "takes any checkpoint": (broken(GoodObjective, load_pretrained=lambda s, t: True), "extras"),
    "no docstring": (broken(GoodObjective, __doc__=None), "described"),
}


def bab_without_weights(batch):
    from dataclasses import replace

    return replace(batch, weights=None)


def objective(cls):
    return objectives.ObjectiveCase(cls, cls.Options(), "frame")


def test_a_good_objective_passes():
    assert failures(objectives.CHECKS, objective(GoodObjective)) == {}
    assert objectives.level_of(GoodObjective, GoodObjective.Options()) == "frame"


@pytest.mark.parametrize("fault", OBJECTIVES)
def test_an_objectives_fault_is_found(fault):
    cls, check = OBJECTIVES[fault]
    caught(objectives.CHECKS, objective(cls), check)


# ------------------------------------------------------------------------------------- tasks


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = make_corpus(tmp_path_factory.mktemp("corpus"))
    return GoodCorpus(root, GoodCorpus.Options())


def task(**members):
    return broken(GoodTask, **members)


def metrics(change):
    return task(metrics=lambda self, totals: change(GoodTask.metrics(self, totals)))


def decoded(change):
    def decode(self, output, grid, labels, tuned):
        return change(GoodTask.decode(self, output, grid, labels, tuned), output, labels)

    return task(decode=decode)


def skipping(self, reference, prediction):
    return {} if prediction is None else GoodTask.statistics(self, reference, prediction)


def in_place(prediction, output, labels):
    output.values[:] = 0.0
    return prediction


def reversed_class(prediction, output, labels):
    return Prediction(output.clip.id, labels={"mood": labels["mood"][int(output.values.argmin())]})


TASKS = {
    "a primary metric without a unit": (task(units={"recall": ""}), "described"),
    "a head that isn't there": (task(head="nothing"), "described"),
    "a head of another level": (task(head="frames"), "described"),
    "labels in a list": (task(fit=lambda s, clips: {"mood": ["calm", "loud"]}), "labels"),
    "labels in the order of the clips": (
        task(fit=lambda s, clips: {"mood": tuple(dict.fromkeys(c.labels["mood"] for c in clips))}),
        "labels",
    ),
    "a label twice": (task(fit=lambda s, clips: {"mood": ("calm", "calm", "loud")}), "labels"),
    "targets of a class too many": (
        task(targets=lambda s, c, g, f, n: torch.tensor([2])),
        "targets",
    ),
    "targets of another shape": (task(targets=lambda s, c, g, f, n: torch.tensor(1)), "targets"),
    "targets in double precision": (
        task(targets=lambda s, c, g, f, n: torch.tensor([0.0, 1.0]).double()),
        "targets",
    ),
    "nothing tuned for a preset": (
        task(presets=("default", "careful"), tune=lambda *a: {}),
        "tuning",
    ),
    "tuned to a tensor": (
        task(tune=lambda s, o, g, n: {"default": {"t": np.float32(0.5)}}),
        "tuning",
    ),
    "predictions of another clip": (
        decoded(lambda p, o, n: Prediction("x", labels=p.labels)),
        "decoding",
    ),
    "the output is changed": (decoded(in_place), "decoding"),
    "scores that are no numbers": (
        decoded(lambda p, o, n: Prediction(p.id, labels=p.labels, scores={"a": float("nan")})),
        "decoding",
    ),
    "segments outside the clip": (
        decoded(lambda p, o, n: Prediction(p.id, (bab.Segment(5.0, 6.0, "a"),), labels=p.labels)),
        "decoding",
    ),
    "classes the wrong way round": (decoded(reversed_class), "planted"),
    "targets the wrong way round": (
        task(targets=lambda s, c, g, f, n: 1 - GoodTask.targets(s, c, g, f, n)),
        "planted",
    ),
    "a constant score": (metrics(lambda m: m | {"accuracy": 0.95} if m else m), "planted"),
    "says that higher is worse": (task(higher_is_better=False), "planted"),
    "missed clips are left out": (task(statistics=skipping), "missing"),
    "a share of 100": (metrics(lambda m: {k: 100 * v for k, v in m.items()}), "bounds"),
    "a metric that is no number": (metrics(lambda m: m | {"recall": float("nan")}), "bounds"),
    "says additive, and isn't": (
        task(score=lambda s, r, p: {"accuracy": 0.5, "recall/calm": 0.5, "recall/loud": 0.5}),
        "additive",
    ),
    "metrics of nothing crash": (
        task(metrics=lambda s, t: {"accuracy": t["right"] / t["clips"]}),
        "additive",
    ),
    "statistics by chance": (
        task(statistics=lambda s, r, p: GoodTask.statistics(s, r, p) | {"right": random.random()}),
        "additive",
    ),
    "writes nothing": (task(write=lambda s, p, folder: None), "write"),
    "no docstring": (task(__doc__=None), "described"),
}


def test_a_good_task_passes(corpus):
    case = TaskCase.of(GoodTask(GoodTask.Options()), corpus)
    assert failures(tasks.CHECKS, case) == {}


@pytest.mark.parametrize("fault", TASKS)
def test_a_tasks_fault_is_found(fault, corpus):
    cls, check = TASKS[fault]
    caught(tasks.CHECKS, TaskCase.of(cls(cls.Options()), corpus), check)


# --------------------------------------------------------------------------------- observers


def hook(**methods):
    return broken(GoodObserver, **{k: bab.hookimpl(v) for k, v in methods.items()})


OBSERVERS = {
    "hears nothing": (type("Deaf", (), {"__doc__": "Deaf."}), "described"),
    "an unmarked method": (broken(GoodObserver, bab_step=lambda self, run: None), "hooks"),
    "an event that isn't there": (hook(bab_epoch=lambda self, run: None), "hooks"),
    "an argument that isn't there": (hook(bab_step=lambda self, run, epoch: None), "hooks"),
    "stops the run": (hook(bab_step=lambda self, step: sys.exit(3)), "run"),
    "divides by the total": (hook(bab_progress=lambda self, done, total: done / total), "run"),
    "needs a metric": (hook(bab_evaluated=lambda self, metrics: metrics["eer"]), "run"),
    "takes a record for granted": (
        hook(bab_run_end=lambda self, record: record.metrics),
        "failure",
    ),
    "changes what it is told": (
        hook(bab_evaluated=lambda self, metrics: metrics.update(f1=1.0)),
        "effects",
    ),
    "writes where it stands": (
        hook(bab_step=lambda self, step: Path("log.txt").write_text("x")),
        "effects",
    ),
    "draws": (hook(bab_step=lambda self, step: random.random()), "effects"),
    "can't be made": (
        broken(GoodObserver, __init__=lambda self: 1 / 0),
        "hooks",
    ),
}


def test_a_good_observer_passes(tmp_path):
    assert failures(observers.CHECKS, observers.ObserverCase(GoodObserver, tmp_path)) == {}


@pytest.mark.parametrize("fault", OBSERVERS)
def test_an_observers_fault_is_found(fault, tmp_path):
    cls, check = OBSERVERS[fault]
    caught(observers.CHECKS, observers.ObserverCase(cls, tmp_path), check)
