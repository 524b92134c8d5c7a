"""The training loop: one update whatever the layout, exact resumption, and a clear end."""

from __future__ import annotations

import math
import random
import signal
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

import forks
import pytest
import torch
import transformers
from places import TESTS
from safetensors.torch import load_file
from train_worker import batch, example, examples, make_job

from bab.core import checkpoint
from bab.core.device import one_thread
from bab.core.errors import BabError, DivergedError, InterruptedRunError
from bab.core.observers import hookimpl
from bab.core.options import TrainConfig
from bab.core.trainer import Bundle, Trainer, parameter_groups, schedule
from bab.data.sampling import Share

WORKER = TESTS / "train_worker.py"


def train(out: Path, *options: str, processes: int = 1) -> dict[str, torch.Tensor]:
    """Run the worker to its end; the final weights."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, str(WORKER), str(out), *options]
    done = forks.run(command) if processes == 1 else forks.ranks(processes, command)
    assert done.returncode == 0, done.stderr
    return load_file(out / "final.safetensors")


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """20 steps, one process, one big batch, no dropout: AdamW as usual, and bare."""
    folder = tmp_path_factory.mktemp("reference")
    return {
        kind: train(folder / kind, "--no-dev", *options)
        for kind, options in {"usual": [], "bare": ["--bare"]}.items()
    }


@pytest.mark.parametrize(
    "kind,processes,accumulation",
    [("usual", 1, 4), ("usual", 2, 1), ("bare", 1, 4), ("bare", 2, 3)],
    ids=["accumulate4", "ddp2", "bare-accumulate4", "bare-ddp2x3"],
)
def test_the_update_does_not_depend_on_the_layout(
    tmp_path: Path,
    references: dict[str, dict[str, torch.Tensor]],
    kind: str,
    processes: int,
    accumulation: int,
) -> None:
    """The examples have 3 to 32 frames, so a mean of means would differ in the second digit."""
    options = ["--no-dev", "--accumulation", str(accumulation)]
    options += ["--bare"] if kind == "bare" else []
    trained = train(tmp_path, *options, processes=processes)
    for name, value in references[kind].items():
        torch.testing.assert_close(trained[name], value, atol=1e-5, rtol=0, msg=name)


def test_the_steps_move_the_weights_far_more_than_the_tolerance(
    tmp_path: Path, references: dict[str, dict[str, torch.Tensor]]
) -> None:
    config = TrainConfig(steps=1, batch=12)
    start = make_job(tmp_path, config).model.state_dict()
    for reference in references.values():
        assert max((reference[k] - v).abs().max() for k, v in start.items()) > 0.05


def test_the_processes_have_unequal_shares_of_a_step() -> None:
    """Else a division by a process's own count would pass for one by the count of all."""
    order = examples(12)
    for processes, accumulation in ((2, 1), (2, 3)):
        apart = []
        for step in range(20):
            places = order.at(step)[1]
            parts = [Share(rank, processes, accumulation).cut(places) for rank in range(processes)]
            one, two = (sum(len(example(i)[1]) for i in chain(*part)) for part in parts)
            apart.append(abs(one - two) / (one + two))
        assert sum(apart) / len(apart) > 0.05


def test_the_step_equals_plain_torch(tmp_path: Path) -> None:
    """One step of plain torch on the whole batch gives the same weights."""
    config = TrainConfig(steps=1, batch=12, accumulation=3, lr=1e-2, weight_decay=0.1, clip=0.05)
    job = make_job(tmp_path, config, evaluate=None)
    plain = make_job(tmp_path, config.model_copy(update={"accumulation": 1})).model
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.1)
    whole = make_job(tmp_path, config.model_copy(update={"accumulation": 1})).batches(0)[0]
    logits, lengths = plain(whole)
    valid = torch.arange(logits.shape[1]) < lengths[:, None]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[valid], whole.targets[valid], reduction="sum"
    )
    (loss / valid.sum()).backward()
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.05)
    optimizer.step()
    Trainer(job).fit()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(job.model.state_dict()[name], value, atol=1e-6, rtol=0)


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL again and again, with dropout on; the last attempt gives the bytes of one run."""
    options = ["--steps", "30", "--dropout", "0.3"]
    expected = tmp_path / "whole"
    train(expected, *options)
    out = tmp_path / "killed"
    out.mkdir()
    draw = random.Random(0)
    kills = 0
    command = [sys.executable, str(WORKER), str(out), *options, "--delay", "0.05"]
    for _ in range(4):
        process = forks.Forked(command)
        before = checkpoint.latest(out / "checkpoints")
        deadline = time.monotonic() + 60
        # Let it get past the newest checkpoint, then a random moment further.
        while checkpoint.latest(out / "checkpoints") == before and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate(60)
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 3
    train(out, *options)
    assert (out / "final.safetensors").read_bytes() == (expected / "final.safetensors").read_bytes()
    best = [list((folder / "checkpoints").glob("best-*")) for folder in (out, expected)]
    assert [p.name for p in best[0]] == [p.name for p in best[1]] and len(best[0]) == 1
    assert best[0][0].read_bytes() == best[1][0].read_bytes()


def test_asked_to_stop_it_saves_and_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config = TrainConfig(steps=12, batch=12, eval_every=5, save_every=100)
    asked = iter([False] * 6 + [True])
    with pytest.raises(InterruptedRunError, match="step 7 of 12"):
        Trainer(make_job(tmp_path / "a", config, dropout=0.2, stop=lambda: next(asked))).fit()
    # The last weights: the best ones were reached before the stop.
    resumed = make_job(tmp_path / "a", config, dropout=0.2, keep="last")
    Trainer(resumed).fit()
    whole = make_job(tmp_path / "b", config, dropout=0.2, keep="last")
    Trainer(whole).fit()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_time_makes_a_checkpoint_due_too_and_resuming_is_told(tmp_path: Path) -> None:
    config = TrainConfig(steps=6, batch=12, eval_every=100, save_every=100, save_minutes=1e-9)
    asked = iter([False] * 3 + [True])
    first = make_job(tmp_path, config, stop=lambda: next(asked))
    saved: list[int] = []
    first.watchers.join(Told(saved, []))
    with pytest.raises(InterruptedRunError):
        Trainer(first).fit()
    assert saved == [1, 2, 3, 4]
    again, lines = make_job(tmp_path, config), list[str]()
    again.watchers.join(Told([], lines))
    Trainer(again).fit()
    assert lines == ["resuming from step 4 of 6"]


class Told:
    """What was saved, and said."""

    def __init__(self, saved: list[int], lines: list[str]) -> None:
        self.saved, self.lines = saved, lines

    @hookimpl
    def bab_checkpoint(self, step: int) -> None:
        self.saved.append(step)

    @hookimpl
    def bab_notice(self, message: str) -> None:
        self.lines.append(message)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    config = TrainConfig(steps=12, batch=12, save_every=2)
    with pytest.raises(DivergedError, match=r"loss is nan at step 6.*step-000000004"):
        Trainer(make_job(tmp_path, config, spoil_at=5)).fit()
    saved = load_file(checkpoint.latest(tmp_path / "checkpoints"))
    assert saved and all(torch.isfinite(value).all() for value in saved.values())


class Halved:
    """What a Trainer asks of Accelerate in fp16, with a gradient that never is a number."""

    scaler = object()

    def clip_grad_norm_(self, parameters: object, limit: float) -> torch.Tensor:
        return torch.tensor(float("nan"))


def test_skipped_updates_without_end_are_an_error(tmp_path: Path) -> None:
    trainer = Trainer(make_job(tmp_path, TrainConfig(steps=12, batch=12)))
    trainer.accelerator, trainer.plain = Halved(), False
    parts = [batch([0], 0)]
    for step in range(50):  # fp16's scale is looking for its size
        norm = float(trainer._clipped())
        assert math.isnan(norm)
        trainer._update(step, parts, norm)
    with pytest.raises(DivergedError, match="gradient norm is nan at step 51"):
        trainer._update(50, parts, float(trainer._clipped()))


def test_terms_of_any_shape_with_one_number_are_told(tmp_path: Path) -> None:
    trainer = Trainer(make_job(tmp_path, TrainConfig(steps=2, batch=12)))
    sums = [("a", torch.ones(1), 0.0), ("a", torch.ones(1, 1), 0.0)]
    logs = [("b", torch.tensor(2, dtype=torch.float64), 1.0), ("b", 3.0, 1.0)]
    told = trainer._fetched(sums, logs, torch.tensor(4.0))
    assert told == ({"a": 2.0}, {"b": (5.0, 2.0)}, 4.0)


class Two:
    """Accelerate's handle, with another process that stands `apart` steps further."""

    def __init__(self, own: Any, apart: int) -> None:
        self._own, self._apart, self.num_processes = own, apart, 2

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def reduce(self, values: torch.Tensor, reduction: str) -> torch.Tensor:
        return 2 * values + self._apart


def test_processes_that_stand_at_two_steps_do_not_go_on(tmp_path: Path) -> None:
    """One of them alone couldn't read the newest checkpoint, and went back."""
    config = TrainConfig(steps=4, batch=12, save_every=2)
    Trainer(make_job(tmp_path, config)).fit()
    job = make_job(tmp_path, config)
    job.accelerator = Two(job.accelerator, 0)
    assert Trainer(job).state.step == 4
    job.accelerator = Two(job.accelerator, -2)
    with pytest.raises(BabError, match="goes on from step 4"):
        Trainer(job)


def test_small_work_takes_one_thread_and_gives_the_others_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread(True):
            assert torch.get_num_threads() == 1
        with one_thread(False):
            assert torch.get_num_threads() == 2
        with pytest.raises(InterruptedRunError), one_thread(True):
            raise InterruptedRunError("stopped")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_best_dev_score_is_what_remains(tmp_path: Path) -> None:
    scores = {4: 0.1, 8: 0.9, 12: 0.5}
    at: dict[int, torch.Tensor] = {}

    def weight() -> torch.Tensor:
        return next(job.model.head.parameters()).detach()

    def evaluate(step: int) -> tuple[dict[str, float], float]:
        at[step] = weight().clone()
        return {"f1": scores[step]}, scores[step]

    config = TrainConfig(steps=12, batch=12, eval_every=4)
    job = make_job(tmp_path, config, evaluate=evaluate)
    state = Trainer(job).fit()
    assert (state.best_step, state.best_metrics) == (8, {"f1": 0.9})
    assert torch.equal(weight(), at[8])
    assert not torch.equal(at[8], at[12])


def test_of_equal_dev_scores_the_first_is_the_best(tmp_path: Path) -> None:
    config = TrainConfig(steps=6, batch=12, eval_every=2, patience=2)
    state = Trainer(make_job(tmp_path, config, evaluate=lambda step: ({}, 0.5))).fit()
    assert (state.best_step, state.stale, state.step) == (2, 2, 6)


def test_every_step_and_process_draws_anew(tmp_path: Path) -> None:
    """Dropout and masks: a draw that comes again is a draw less."""

    def draws(rank: int) -> list[float]:
        job = make_job(tmp_path / str(rank), TrainConfig(steps=4, batch=12), evaluate=None)
        seen: list[float] = []
        inner = job.model.encoder.forward

        def forward(*args: Any, **more: Any) -> Any:
            seen.append(float(torch.rand(1)))
            return inner(*args, **more)

        job.model.encoder.forward = forward
        trainer = Trainer(job)
        trainer.accelerator = Ranked(trainer.accelerator, rank)
        trainer.fit()
        return seen

    first, second = draws(0), draws(1)
    assert len(first) == len(second) == 4 and len({*first, *second}) == 8


class Ranked:
    """An accelerator that says it is another process."""

    def __init__(self, inner: Any, rank: int) -> None:
        self.inner, self.process_index = inner, rank

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_a_frozen_encoder_stays_in_evaluation_mode(tmp_path: Path) -> None:
    """Else its dropout would disturb what it was frozen for; one that is trained is not in it."""
    modes: dict[bool, set[bool]] = {}
    for frozen in (True, False):
        config = TrainConfig(steps=4, batch=12, eval_every=2)
        job = make_job(tmp_path / str(frozen), config, dropout=0.5)
        encoder = job.model.encoder
        encoder.requires_grad_(not frozen)
        seen = modes.setdefault(frozen, set())

        def look(module: Any, inputs: Any, seen: set[bool] = seen) -> None:
            if torch.is_grad_enabled():  # a step, not dev
                seen.add(module.training)

        encoder.register_forward_pre_hook(look)
        Trainer(job).fit()
    assert modes == {True: {False}, False: {True}}


def test_a_checkpoint_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the last rename, there is no file by its name."""
    trainer = Trainer(make_job(tmp_path, TrainConfig(steps=2, batch=12)))

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    folder = tmp_path / "checkpoints"
    for write in (
        lambda: checkpoint.save(folder, trainer.bundle, trainer.optimizer, trainer.state),
        lambda: checkpoint.save_best(folder, trainer.bundle, 1),
    ):
        with pytest.raises(KeyboardInterrupt):
            write()
    assert list(folder.glob("step-*")) == list(folder.glob("best-*")) == []


def test_patience_ends_it_early_also_when_started_again(tmp_path: Path) -> None:
    seen: list[int] = []

    def evaluate(step: int) -> tuple[dict[str, float], float]:
        seen.append(step)
        return {}, -float(step)

    config = TrainConfig(steps=50, batch=12, eval_every=2, patience=3)
    assert Trainer(make_job(tmp_path, config, evaluate=evaluate)).fit().best_step == 2
    assert seen == [2, 4, 6, 8]
    Trainer(make_job(tmp_path, config, evaluate=evaluate)).fit()
    assert seen == [2, 4, 6, 8]


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_schedules_equal_those_of_transformers(name: str) -> None:
    config = TrainConfig(steps=40, warmup=10, schedule=name)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    kind = "constant_with_warmup" if name == "constant" else name
    theirs = transformers.get_scheduler(kind, optimizer, 10, 40)
    for step in range(40):
        # Theirs starts at 0 and never uses the first rate; ours is one step ahead in the warm-up.
        if step >= 10:
            assert schedule(config, step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        else:
            assert schedule(config, step) == pytest.approx((step + 1) / 10)
        optimizer.step()
        theirs.step()


def test_learning_rates_decay_from_head_to_input(tmp_path: Path) -> None:
    config = TrainConfig(steps=1, batch=12, layer_decay=0.5)
    job = make_job(tmp_path, config)
    groups = parameter_groups(Bundle(job.model, job.objective), config)
    assert [g["scale"] for g in groups] == [1.0, 0.5, 0.25]
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in job.model.parameters()}
    assert groups[2]["params"] == list(job.model.encoder.conv.parameters())


def test_the_worker_makes_unequal_examples() -> None:
    lengths = batch(list(range(12)), 0).target_lengths.tolist()
    assert max(lengths) > 3 * min(lengths)
