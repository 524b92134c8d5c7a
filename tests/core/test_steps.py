"""A training step by hand: its numbers in the log, its gradient's norm, its ends and its words."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn
from train_worker import batch, make_job

import bab
from bab.core import loader as loading
from bab.core.checkpoint import State
from bab.core.errors import BabError, DivergedError
from bab.core.loader import Prefetcher
from bab.core.observers import hookimpl
from bab.core.options import TrainConfig
from bab.core.trainer import Bundle, Trainer, adamw, counted, parameter_groups, weighted
from bab.core.types import Batch, Clip, Encoded, Features, Loss, Term, Waves, moved


class Seen:
    """What an observer is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.evaluated: list[tuple[int, str, bool]] = []
        self.saved: list[tuple[int, str]] = []

    @hookimpl
    def bab_step(self, step: int, values: dict[str, float]) -> None:
        self.steps.append((step, values))

    @hookimpl
    def bab_evaluated(self, step: int, split: str, best: bool) -> None:
        self.evaluated.append((step, split, best))

    @hookimpl
    def bab_checkpoint(self, step: int, path: str) -> None:
        self.saved.append((step, Path(path).name))


def job(folder: Path, config: TrainConfig, **changes: Any) -> tuple[Any, Seen]:
    made, seen = make_job(folder, config, **changes), Seen()
    made.watchers.join(seen)
    return made, seen


def valid(logits: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Those of frames that are no padding."""
    return logits[torch.arange(logits.shape[1]) < lengths[:, None]]


class Two(bab.Objective):
    """Two terms over counts of their own, one of weight 3; logs sums over counts."""

    def __init__(self) -> None:
        super().__init__(0, (), bab.Options())

    def counts(self, part: Batch) -> dict[str, float]:
        return {"frames": float(part.target_lengths.sum()), "none": 0.0}

    def forward(self, model: Any, part: Batch) -> Loss:
        logits = valid(*model(part))
        frames = Term(logits.square().sum(), self.counts(part)["frames"], weight=3.0)
        logs: dict[str, Any] = {"seen": (10.0, 4.0), "tensor": (torch.tensor([6.0]), 2.0)}
        return Loss(
            {"frames": frames, "none": Term(logits.sum() * 0 + 5, 0.0)}, {**logs, "no": (1.0, 0.0)}
        )


@pytest.mark.parametrize("accumulation", [1, 3])
def test_what_a_step_tells(tmp_path: Path, accumulation: int) -> None:
    config = TrainConfig(
        steps=2, batch=12, accumulation=accumulation, clip=None, warmup=4, lr=0.01, eval_every=9
    )
    made, seen = job(tmp_path, config, objective=Two())
    whole = make_job(tmp_path / "x", config.model_copy(update={"accumulation": 1}))
    (every,) = whole.batches(0)
    own = valid(*whole.model(every)).square().sum() / every.target_lengths.sum()
    (3 * own).backward()
    loss = 3 * own.item() + 5 * accumulation
    norm = math.sqrt(
        sum(float(p.grad.square().sum()) for p in whole.model.parameters() if p.grad is not None)
    )
    seconds = [sum(c.duration for p in made.batches(s) for c in p.clips) for s in (0, 1)]
    state = Trainer(made).fit()
    (one, first), (two, second) = seen.steps
    assert (one, two) == (1, 2)
    assert first["loss"] == pytest.approx(loss, rel=1e-5)
    assert first["loss/none"] == 5 * accumulation
    assert first["loss/frames"] == pytest.approx(3 * own.item(), rel=1e-5)
    assert first["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert (first["seen"], first["tensor"]) == (2.5, 3.0) and "no" not in first
    assert (first["lr"], second["lr"]) == (0.0025, 0.005)
    assert first["audio_seconds"] == pytest.approx(seconds[0])
    assert second["audio_hours"] == pytest.approx(sum(seconds) / 3600)
    assert first["audio_per_second"] > 0
    assert state.audio_seconds == pytest.approx(sum(seconds)) and state.step == 2
    assert 0 < state.seconds < 60


def test_one_term_is_told_as_the_loss_alone(tmp_path: Path) -> None:
    made, seen = job(tmp_path, TrainConfig(steps=1, batch=12))
    Trainer(made).fit()
    assert not any("/" in name for name in seen.steps[0][1])


@pytest.mark.parametrize(
    ("config", "evaluated", "saved"),
    [
        ({"steps": 7, "eval_every": 3, "save_every": 5}, [3, 6, 7], [3, 5, 6, 7]),
        ({"steps": 4, "eval_every": 9, "save_every": 2}, [4], [2, 4]),
        ({"steps": 4, "eval_every": 1, "save_every": 9}, [1, 2, 3, 4], [1, 2, 3, 4]),
    ],
)
def test_when_dev_is_asked_and_the_state_is_saved(
    tmp_path: Path, config: dict[str, int], evaluated: list[int], saved: list[int]
) -> None:
    values = iter([0.5, 0.5, 0.7, 0.6])
    best = [True, False, True, False][: len(evaluated)]
    made, seen = job(
        tmp_path,
        TrainConfig(batch=12, **config),
        evaluate=lambda step: ({"f1": float(step)}, next(values)),
    )
    state = Trainer(made).fit()
    assert seen.evaluated == [(s, "dev", b) for s, b in zip(evaluated, best, strict=True)]
    assert seen.saved == [(s, f"step-{s:09d}.safetensors") for s in saved]
    at = evaluated[2 if len(evaluated) > 2 else 0]
    assert (state.best_step, state.best_metrics) == (at, {"f1": float(at)})
    assert state.stale == len(evaluated) - 1 - evaluated.index(at)


def test_a_state_judges() -> None:
    first = State()
    assert first.judge({}, 5.0) and not first.judge({}, 4.0)
    state = State(step=1)
    assert state.judge({"f1": -5.0}, -5.0) and (state.best_step, state.best_value) == (1, -5.0)
    state.step = 2
    assert not state.judge({"f1": 9.0}, -5.0) and state.stale == 1
    assert not state.judge({}, -6.0) and state.stale == 2 and state.best_metrics == {"f1": -5.0}
    state.step = 3
    assert state.judge({"f1": 0.0}, -4.9) and (state.best_step, state.stale) == (3, 0)


@pytest.mark.parametrize(
    ("clip", "factor"), [(None, 1.0), (5.1, 1.0), (5.0, 1.0), (2.5, 0.5), (0.05, 0.01)]
)
def test_gradients_are_cut_to_the_largest_norm(
    tmp_path: Path, clip: float | None, factor: float
) -> None:
    trainer = Trainer(job(tmp_path, TrainConfig(steps=1, batch=12, clip=clip))[0])
    first, second, *rest = trainer.parameters
    first.grad, second.grad = torch.zeros_like(first), torch.zeros_like(second)
    first.grad.view(-1)[0], second.grad.view(-1)[0] = 3.0, -4.0
    assert float(trainer._clipped()) == pytest.approx(5.0)
    assert float(first.grad.view(-1)[0]) == pytest.approx(3 * factor, rel=1e-5)
    assert float(second.grad.view(-1)[0]) == pytest.approx(-4 * factor, rel=1e-5)
    assert all(p.grad is None for p in rest)
    for p in trainer.parameters:
        p.grad = None
    assert trainer._clipped() == 0.0


@pytest.mark.parametrize("count", [5, 6])
def test_a_loss_that_is_not_finite_names_clips_state_and_remedies(
    tmp_path: Path, count: int
) -> None:
    clips = [Clip(f"c{i}", "", 0, 1, "") for i in reversed(range(count))]
    part = batch(list(range(count)), 0)
    part.clips = tuple(clips)
    made, _ = job(tmp_path, TrainConfig(steps=1, batch=12))
    trainer = Trainer(made)
    trainer._check(1.0, 4, [part, part], "loss")
    ids = "c0, c1, c2, c3, c4" + (", ..." if count > 5 else "")

    def said(state: str) -> str:
        return (
            f"the loss is nan at step 5 (clips: {ids}). The last good state is {state}. A lower "
            "train.lr, a longer train.warmup or a smaller train.clip usually helps; `bab data "
            "check` finds bad audio"
        )

    with pytest.raises(DivergedError) as error:
        trainer._check(math.nan, 4, [part, part], "loss")
    assert str(error.value) == said("the start: nothing was saved yet")
    made.folder.mkdir()
    newest = made.folder / "step-000000004.safetensors"
    newest.touch()
    with pytest.raises(DivergedError) as error:
        trainer._check(math.nan, 4, [part], "loss")
    assert str(error.value) == said(str(newest))
    made.doubt = lambda parts: "it was the encoder" if parts == [part] else ""
    with pytest.raises(DivergedError) as error:
        trainer._check(math.inf, 0, [part], "gradient norm")
    assert str(error.value) == "the gradient norm is inf at step 1: it was the encoder"


def test_terms_are_weighed_and_divided_once() -> None:
    loss = Loss({"a": Term(torch.tensor(6.0), 2.0), "b": Term(torch.tensor(4.0), 1.0, weight=0.5)})
    total, parts = weighted(loss, {"a": 3.0, "b": 8.0})
    assert float(total) == 2.25 and {k: float(v) for k, v in parts.items()} == {"a": 2.0, "b": 0.25}
    each = iter([{"a": 1.0}, {"a": 2.5, "b": 4.0}])
    objective = cast(Any, SimpleNamespace(counts=lambda part: next(each)))
    assert counted(objective, [cast(Any, 1), cast(Any, 2)]) == {"a": 3.5, "b": 4.0}


@pytest.mark.parametrize(("count", "divisor"), [(0.25, 0.75), (2.0, 6.0), (0.0, 1.0)])
def test_a_term_is_divided_by_its_count_and_one_of_nothing_by_one(
    tmp_path: Path, count: float, divisor: float
) -> None:
    """Counts may be weighted, and then less than one."""
    made, _ = job(tmp_path, TrainConfig(steps=1, batch=12))
    made.objective.counts = lambda part: {"a": count}
    assert Trainer(made)._divisors([batch([i], 0) for i in range(3)]) == {"a": divisor}


def test_the_optimizer_is_adamw_as_the_options_have_it() -> None:
    config = TrainConfig(lr=0.3, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.25)
    made = adamw([{"params": [nn.Parameter(torch.ones(1))]}], config, fused=True)
    assert isinstance(made, torch.optim.AdamW)
    defaults = {k: made.defaults[k] for k in ("lr", "betas", "eps", "weight_decay", "fused")}
    assert defaults == {"lr": 0.3, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.25,
                        "fused": True}  # fmt: skip


def test_layers_further_from_the_head_learn_slower(tmp_path: Path) -> None:
    made, _ = job(tmp_path, TrainConfig(steps=1, batch=12, layer_decay=0.5))
    model = made.model
    conv, layer = model.encoder.groups().values()
    groups = parameter_groups(Bundle(model, made.objective), made.config)
    assert [g["scale"] for g in groups] == [1.0, 0.5, 0.25]
    assert [list(map(id, g["params"])) for g in groups[1:]] == [
        list(map(id, layer)), list(map(id, conv)),
    ]  # fmt: skip
    for p in layer:
        p.requires_grad_(False)
    rest = parameter_groups(Bundle(model, made.objective), made.config)
    assert [g["scale"] for g in rest] == [1.0, 0.25]  # what is held still counts as a layer
    model.encoder = None
    assert len(parameter_groups(Bundle(model, made.objective), made.config)) == 1


def test_where_processes_stand_apart_the_step_is_named(tmp_path: Path) -> None:
    trainer = Trainer(job(tmp_path, TrainConfig(steps=1, batch=12))[0])
    trainer.state.step = 7
    trainer._refuse_apart()
    trainer._reduce = lambda values: [v + 1 for v in values]  # type: ignore[method-assign]
    with pytest.raises(BabError) as error:
        trainer._refuse_apart()
    assert str(error.value) == (
        f"the processes can't all read the checkpoints in {tmp_path / 'checkpoints'} (this one "
        "goes on from step 7): give the same command again"
    )


# ------------------------------------------------------------------------------- what is handed on


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cheap", [False, True])
def test_batches_come_in_order_whoever_makes_them(
    workers: int, cheap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make(step: int) -> Any:
        made.append(step)
        return [step]

    loader = Prefetcher(make, 3, 9, workers)
    monkeypatch.setattr(loader, "_timed", lambda step: (make(step), 0.0 if cheap else 1.0))
    steps = iter(loader)
    assert next(steps) == (3, [3])
    assert len(made) <= 1 + workers
    assert list(steps) == [(step, [step]) for step in range(4, 9)] and sorted(made) == list(
        range(3, 9)
    )
    assert list(Prefetcher(make, 4, 4)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_one_more_step_than_there_are_workers_is_made_ahead(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AtOnce(ThreadPoolExecutor):
        def submit(self, work: Any, *given: Any) -> Any:
            future: Future[Any] = Future()
            future.set_result(work(*given))
            return future

    monkeypatch.setattr(loading, "ThreadPoolExecutor", AtOnce)
    made: list[int] = []
    for took, ahead in ((1.0, workers), (0.0, 0)):
        made.clear()
        loader = Prefetcher(lambda step: made.append(step) or [], 0, 9, workers)  # type: ignore
        timed = loader._timed
        monkeypatch.setattr(loader, "_timed", lambda step, timed=timed, t=took: (timed(step)[0], t))
        counts = [(step, len(made)) for step, _ in loader]
        if took:  # then each step takes one more, until there is none
            assert counts == [(s, min(9, s + 1 + ahead)) for s in range(9)]
        else:  # what is cheap is made on the spot, once that is known
            assert counts[workers:] == [(s, s + 1) for s in range(workers, 9)]


def test_what_goes_wrong_in_a_loader_is_raised_where_it_is_wanted() -> None:
    def make(step: int) -> Any:
        if step == 2:
            raise KeyError("no file")
        return step

    got = []
    with pytest.raises(KeyError, match="no file"):
        for step, _ in Prefetcher(make, 0, 5, 2):
            got.append(step)
    assert got == [0, 1]


def tensors(part: Batch) -> list[torch.Tensor]:
    inputs = part.inputs
    own = [inputs.samples, inputs.lengths, inputs.keep] if isinstance(inputs, Waves) else []
    own += [inputs.states, inputs.lengths] if isinstance(inputs, Features) else []
    every = [*own, part.targets, part.target_lengths, part.weights, part.mask]
    return [x for x in every if x is not None]


@pytest.mark.parametrize("kind", ["waves", "kept", "features"])
def test_a_batch_moves_with_all_that_it_holds(kind: str) -> None:
    one = torch.ones(2, 3)
    inputs: Any = Features(one, torch.ones(2)) if kind == "features" else Waves(
        one, torch.ones(2), torch.ones(2, 2) if kind == "kept" else None
    )  # fmt: skip
    clips = (Clip("a", "", 0, 1, ""),) * 2
    given = Batch(inputs, one, one, clips, 5, one, one.bool(), (1, 2))
    doubled = given.each(lambda x: x * 2)
    assert [float(x.max()) for x in tensors(doubled)] == [2.0] * len(tensors(given))
    assert (doubled.clips, doubled.step, doubled.seeds) == (clips, 5, (1, 2))
    bare = Batch(inputs, one, one, clips, 5).each(lambda x: x * 2)
    assert bare.weights is None and bare.mask is None and bare.seeds == ()
    there = given.to("meta")
    assert all(x.device.type == "meta" for x in tensors(there)) and there.host is given
    assert there.here is given and given.here is given and given.to("cpu").host is None
    if kind != "features":
        assert there.inputs.sizes is given.inputs.lengths is given.inputs.sizes
        assert doubled.inputs.sizes is inputs.lengths and (doubled.inputs.keep is None) == (
            kind == "waves"
        )
    asked: list[Any] = []
    fake = cast(Any, SimpleNamespace(to=lambda *where, **how: asked.append((where, how))))
    moved(fake, "cpu"), moved(fake, torch.device("cuda"))
    assert [how["non_blocking"] for _, how in asked] == [False, True]


def test_values_start_with_nothing_but_what_is_given() -> None:
    encoded = Encoded((torch.ones(1),), torch.ones(1))
    assert encoded.local is None and encoded.normed is None
    term = Term(torch.ones(1), 2.0)
    assert (term.weight, term.exact) == (1.0, True)
    clip = Clip("a", "a.wav", 1.0, 4.0, "g", scored=((0, 1),))
    part = clip.within(2.0, 3.0, ())
    assert (part.start, part.end, part.scored, part.duration, clip.duration) == (2, 3, None, 1, 3)
