"""Many heads at once, against one after the other through the Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from bab.benching import sweep
from bab.benching.sweep import Sweep, unfit
from bab.core import checkpoint
from bab.core.errors import InterruptedRunError
from bab.core.observers import Watchers
from bab.core.options import TrainConfig
from bab.core.record import RunInfo
from bab.core.seeds import derive
from bab.core.trainer import Trainer, Training
from bab.core.types import Batch, Clip, Features
from bab.data.sampling import Counted, Order, Share
from bab.plugins.heads.pooled import Pooled, PooledOptions
from bab.plugins.objectives.cross_entropy import CrossEntropy, CrossEntropyOptions
from bab.running.model import LayerMix, Model

N, L, D, C = 50, 4, 12, 3
draw = torch.Generator().manual_seed(0)
TARGETS = torch.randint(0, C, (N, 1), generator=draw)
STATES = torch.randn(N, L, 1, D, generator=draw) + 0.8 * TARGETS[:, :, None, None]
CONFIG = TrainConfig(
    steps=40, batch=8, eval_every=20, warmup=5, schedule="linear", weight_decay=0.1, clip=0.5,
    precision="fp32",
)  # fmt: skip


class Recorder(Watchers):
    """Counts the steps that a trainer takes."""

    steps = 0

    def bab_step(self, run: RunInfo, step: int, values: Any) -> None:
        self.steps += 1


def make(
    folder: Path,
    rate: float,
    seed: int,
    config: TrainConfig = CONFIG,
    hidden: int = 8,
    dropout: float = 0.0,
    weights: str = "none",
) -> Training:
    """A job as a run makes it: weights and order from the seed."""
    torch.manual_seed(derive(seed, "weights", 0))
    head = Pooled(D, C, PooledOptions(hidden=hidden, dropout=dropout))
    objective = CrossEntropy(C, [C], CrossEntropyOptions(class_weights=weights))  # type: ignore[arg-type]
    objective.observe(TARGETS[:33])
    model = Model(None, LayerMix(L, "mix"), head, pool=True)
    order = Order([1] * N, derive(seed, "order", 0), Counted(config.batch))
    share = Share(accumulation=config.accumulation)

    def batches(step: int) -> list[Batch]:
        return [part(indices, step) for indices in share.cut(order.at(step)[1])]

    def part(indices: list[int], step: int) -> Batch:
        clips = tuple(Clip(str(i), "x.wav", 0.0, 2.0, "g") for i in indices)
        lengths = torch.ones(len(indices), dtype=torch.long)
        return Batch(Features(STATES[indices], lengths), TARGETS[indices], lengths, clips, step)

    def evaluate(step: int) -> tuple[dict[str, float], float]:
        with torch.no_grad():
            logits, _ = model(part(list(range(N)), 0))
        loss = torch.nn.functional.cross_entropy(logits, TARGETS[:, 0]).item()
        return {"loss": loss}, -loss

    return Training(
        model, objective, batches, evaluate, config.model_copy(update={"lr": rate}), seed,
        folder / f"{rate}-{seed}", Accelerator(cpu=True), Recorder(),
        RunInfo("r", str(folder), "t", "c", "e", config.steps, {}), lambda: False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("hidden", "weights", "accumulation"), [(8, "none", 1), (0, "balanced", 2)]
)
def test_together_they_end_where_each_alone_does(
    tmp_path: Path, hidden: int, weights: str, accumulation: int
) -> None:
    config = CONFIG.model_copy(update={"accumulation": accumulation})
    grid = [(rate, seed) for rate in (1e-3, 1e-2) for seed in (0, 1)]
    options: dict[str, Any] = {"config": config, "hidden": hidden, "weights": weights}
    alone = [make(tmp_path / "alone", rate, seed, **options) for rate, seed in grid]
    start = [{k: v.clone() for k, v in job.model.state_dict().items()} for job in alone]
    states = [Trainer(job).fit() for job in alone]
    jobs = [make(tmp_path / "together", rate, seed, **options) for rate, seed in grid]
    assert unfit(jobs) == ""
    found = Sweep(jobs).fit()
    for one, other, job, own, before in zip(states, found, alone, jobs, start, strict=True):
        assert other is not None
        assert (other.step, other.best_step, other.stale) == (one.step, one.best_step, one.stale)
        assert other.best_metrics == pytest.approx(one.best_metrics, abs=1e-5)
        assert other.audio_seconds == one.audio_seconds
        trained = Trainer(own)  # the run goes on from the checkpoint: no step is left to take
        trained.fit()
        assert own.watchers.steps == 0 and job.watchers.steps == config.steps
        for name, value in job.model.state_dict().items():
            torch.testing.assert_close(own.model.state_dict()[name], value, atol=1e-5, rtol=0)
            assert (value - before[name]).abs().max() > 5e-4  # 50 times the tolerance
        new, old = trained.optimizer.state_dict(), checkpoint.latest(job.folder)
        assert old is not None and len(new["state"]) == len(list(own.model.parameters()))


def test_the_optimizer_is_left_as_a_trainer_leaves_it(tmp_path: Path) -> None:
    """A run whose checkpoint came from a sweep, told to take more steps, goes on alike."""
    short = CONFIG.model_copy(update={"schedule": "constant", "steps": 20})
    longer = short.model_copy(update={"steps": 40})
    alone = make(tmp_path / "alone", 1e-2, 0, longer)
    Trainer(alone).fit()
    Sweep([make(tmp_path / "s", 1e-2, 0, short), make(tmp_path / "s", 0.1, 0, short)]).fit()
    rest = make(tmp_path / "s", 1e-2, 0, longer)
    Trainer(rest).fit()
    assert rest.watchers.steps == 20
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(rest.model.state_dict()[name], value, atol=1e-5, rtol=0)


def test_one_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    wild = CONFIG.model_copy(update={"clip": None, "schedule": "constant", "warmup": 0})
    jobs = [make(tmp_path, rate, 0, wild) for rate in (1e-2, 1e38)]
    fine, lost = Sweep(jobs).fit()
    assert fine is not None and lost is None
    assert checkpoint.latest(jobs[1].folder) is None
    (alone,) = Sweep([make(tmp_path / "alone", 1e-2, 0, wild)]).fit()
    assert alone is not None and alone.best_metrics == pytest.approx(fine.best_metrics, abs=1e-6)


FIRST = "they differ in more than the learning rate and the seed"
CACHED = "the head does not get one cached frame per clip"
DROPS = "the head has dropout"
LOWER = "only fp32 in one process is trained together"


@pytest.mark.parametrize(
    ("changes", "options", "why"),
    [
        ({}, {}, ""),
        ({"patience": 2}, {}, "train.patience ends each run at a step of its own"),
        ({"precision": "bf16"}, {}, LOWER),
        ({"precision": "tf32"}, {}, LOWER),
        ({}, {"dropout": 0.5}, DROPS),
    ],
)
def test_what_is_not_exact_is_refused(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], why: str
) -> None:
    config = CONFIG.model_copy(update=changes)
    assert unfit([make(tmp_path, rate, 0, config, **options) for rate in (1e-3, 1e-2)]) == why


def test_each_reason_not_to_train_together_is_told(tmp_path: Path) -> None:
    def job() -> Training:
        return make(tmp_path, 1e-3, 0)

    good = job()
    other = make(tmp_path, 1e-3, 1, CONFIG.model_copy(update={"weight_decay": 0.0}))
    assert unfit([good, other]) == unfit([good, good, other]) == FIRST
    frames = job()
    frames.model.pool = False
    assert unfit([frames]) == CACHED
    assert unfit([frames], D) == (
        "the head gets more than one cached frame per clip, and is not linear on each"
    )
    heard = job()
    heard.model.encoder = torch.nn.Identity()
    assert unfit([heard]) == unfit([heard], D) == CACHED
    bent = job()
    bent.model.head.linear = False  # type: ignore[misc]
    assert unfit([bent]) == "the head is not linear after pooling"
    weighing = job()
    weighing.objective.scale = torch.nn.Parameter(torch.ones(1))
    assert unfit([weighing]) == "the objective has weights of its own"


def test_members_of_other_steps_are_refused(tmp_path: Path) -> None:
    short = CONFIG.model_copy(update={"steps": 5})
    Sweep([make(tmp_path, 1e-3, 0, short)]).fit()
    with pytest.raises(ValueError, match="jobs of different steps can't be trained together"):
        Sweep([make(tmp_path, 1e-3, 0), make(tmp_path, 1e-3, 1)])


@pytest.mark.parametrize("stop_at", [7, 20])
def test_stopped_and_started_again_they_end_where_they_would_have(
    tmp_path: Path, stop_at: int
) -> None:
    """Optimizer, best weights and the audio that was heard go on from the checkpoints."""
    grid = [(1e-2, 0), (1e-3, 1), (1e-2, 1)]
    whole = [make(tmp_path / "whole", rate, seed) for rate, seed in grid]
    ended = Sweep(whole).fit()
    first = [make(tmp_path / "parts", rate, seed) for rate, seed in grid]
    steps = iter(range(1, 100))
    first[1].stop = lambda: next(steps) == stop_at  # the member that leads, by rate
    with pytest.raises(InterruptedRunError) as raised:
        Sweep(first).fit()
    assert str(raised.value) == (
        f"stopped at step {stop_at} of 40; the same command goes on from here"
    )
    again = [make(tmp_path / "parts", rate, seed) for rate, seed in grid]
    told: list[tuple[str, int, int, str]] = []
    again[1].watchers.bab_progress = lambda run, stage, done, total, unit: told.append(  # type: ignore[method-assign]
        (stage, done, total, unit)
    )
    states = Sweep(again).fit()
    assert told == [("training together", done, 40, "steps") for done in range(stop_at + 1, 41)]
    for one, other, job, own in zip(ended, states, whole, again, strict=True):
        assert one is not None and other is not None
        assert (other.step, other.best_step) == (one.step, one.best_step)
        assert other.audio_seconds == one.audio_seconds == 40 * 8 * 2.0
        assert other.best_metrics == pytest.approx(one.best_metrics, abs=1e-6)
        assert 0 < other.seconds < 60
        Trainer(job).fit(), Trainer(own).fit()
        for name, value in job.model.state_dict().items():
            torch.testing.assert_close(own.model.state_dict()[name], value, atol=1e-6, rtol=0)


def test_dev_is_asked_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 5, "eval_every": 2})
    jobs = [make(tmp_path, rate, 0, config) for rate in (1e-3, 1e-2)]
    asked: list[tuple[int, int, bool]] = []

    def evaluated(number: int) -> Any:
        def evaluate(step: int) -> tuple[dict[str, float], float]:
            asked.append((number, step, jobs[number].model.training))
            return {"loss": 1.0}, float(step)

        return evaluate

    for number, job in enumerate(jobs):
        job.evaluate = evaluated(number)
    states = Sweep(jobs).fit()
    assert asked == [(number, step, False) for step in (2, 4, 5) for number in (0, 1)]
    assert [state.best_step for state in states if state] == [5, 5]


def test_a_gradient_gets_its_parameters_order_in_memory() -> None:
    parameter = torch.zeros(2, 3, 4).transpose(1, 2)
    gradient = torch.arange(24.0).reshape(2, 4, 3)
    made = sweep._like(gradient, parameter)
    assert made.stride() == parameter.stride() != gradient.stride()
    assert torch.equal(made, gradient)
    assert sweep._like(made, parameter) is made


def test_it_stops_when_asked(tmp_path: Path) -> None:
    job = make(tmp_path, 1e-3, 0)
    job.stop = lambda: True
    with pytest.raises(InterruptedRunError):
        Sweep([job]).fit()


def test_members_are_saved_where_the_options_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_OFTEN", 0.0)
    job = make(tmp_path, 1e-3, 0, CONFIG.model_copy(update={"save_every": 15}))
    told = iter([False] * 16 + [True] * 9)
    job.stop = lambda: next(told)
    saved: list[int] = []
    monkeypatch.setattr(
        Sweep, "_save", lambda self: saved.append(self.states[0].step) or [], raising=True
    )
    with pytest.raises(InterruptedRunError):
        Sweep([job]).fit()
    assert saved == [15, 17]
