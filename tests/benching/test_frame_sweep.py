"""Many linear heads on frames at once, against one after the other through the Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from bab.benching.affine import affine, said
from bab.benching.frames import FrameSweep, Several
from bab.benching.sweep import unfit
from bab.core.interfaces import Head, Objective
from bab.core.observers import Watchers
from bab.core.options import TrainConfig
from bab.core.record import RunInfo
from bab.core.seeds import derive
from bab.core.trainer import Trainer, Training
from bab.core.types import Batch, Clip, Features, Output
from bab.data.sampling import Counted, Order, Share
from bab.plugins.heads.ctc import Ctc, CtcOptions
from bab.plugins.heads.frames import Frames, FramesOptions
from bab.plugins.objectives.ctc import Ctc as CtcLoss
from bab.plugins.objectives.multilabel import Multilabel
from bab.running.model import LayerMix, Model

N, L, D, C = 40, 4, 12, 3
draw = torch.Generator().manual_seed(0)
SIZES = [5 + i % 4 for i in range(N)]
STATES = [torch.randn(L, size, D, generator=draw) for size in SIZES]
MARKED = [(torch.rand(size, C, generator=draw) < 0.3).float() for size in SIZES]
SAID = [torch.randint(1, C, (1 + i % 2,), generator=draw) for i in range(N)]
CONFIG = TrainConfig(
    steps=40, batch=8, eval_every=20, warmup=5, schedule="linear", weight_decay=0.1, clip=0.5,
    precision="fp32",
)  # fmt: skip


def parts(kind: str) -> tuple[Head, Objective, list[Tensor]]:
    if kind == "ctc":
        head = Ctc(D, C, CtcOptions(widths=(6,)))
        return head, CtcLoss(C, [C], CtcLoss.Options()), SAID
    return Frames(D, C, FramesOptions()), Multilabel(C, [C], Multilabel.Options()), MARKED


def make(folder: Path, rate: float, seed: int, kind: str, config: TrainConfig = CONFIG) -> Training:
    """A job as a run makes it: weights and order from the seed."""
    torch.manual_seed(derive(seed, "weights", 0))
    head, objective, targets = parts(kind)
    model = Model(None, LayerMix(L, "mix"), head)
    order = Order(SIZES, derive(seed, "order", 0), Counted(config.batch))
    share = Share(accumulation=config.accumulation)

    def batches(step: int) -> list[Batch]:
        return [part(indices, step) for indices in share.cut(order.at(step)[1])]

    def part(indices: list[int], step: int) -> Batch:
        clips = tuple(Clip(str(i), "x.wav", 0.0, 2.0, "g") for i in indices)
        lengths = torch.tensor([SIZES[i] for i in indices])
        wanted = [targets[i] for i in indices]
        sizes = torch.tensor([len(one) for one in wanted])
        padded = torch.nn.utils.rnn.pad_sequence(wanted, batch_first=True)
        padded_states = [STATES[i].transpose(0, 1) for i in indices]
        states = torch.nn.utils.rnn.pad_sequence(padded_states, batch_first=True).transpose(1, 2)
        return Batch(Features(states, lengths), padded, sizes, clips, step)

    def evaluate(step: int) -> tuple[dict[str, float], float]:
        with torch.no_grad():
            loss = float(objective(model, part(list(range(N)), 0)).terms.popitem()[1].total)
        return {"loss": loss}, -loss

    return Training(
        model, objective, batches, evaluate, config.model_copy(update={"lr": rate}), seed,
        folder / f"{rate}-{seed}", Accelerator(cpu=True), Watchers(),
        RunInfo("r", str(folder), "t", "c", "e", config.steps, {}), lambda: False,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "accumulation"), [("frames", 1), ("frames", 2), ("ctc", 1)])
def test_together_they_end_where_each_alone_does(
    tmp_path: Path, kind: str, accumulation: int
) -> None:
    config = CONFIG.model_copy(update={"accumulation": accumulation})
    grid = [(rate, seed) for rate in (1e-3, 1e-2) for seed in (0, 1)]
    alone = [make(tmp_path / "alone", rate, seed, kind, config) for rate, seed in grid]
    start = [{k: v.clone() for k, v in job.model.state_dict().items()} for job in alone]
    states = [Trainer(job).fit() for job in alone]
    jobs = [make(tmp_path / "together", rate, seed, kind, config) for rate, seed in grid]
    assert unfit(jobs, D) == ""
    ended = FrameSweep(jobs).fit()
    for one, other, job, own, before in zip(states, ended, alone, jobs, start, strict=True):
        assert other is not None
        assert (other.step, other.best_step, other.stale) == (one.step, one.best_step, one.stale)
        assert other.best_metrics == pytest.approx(one.best_metrics, rel=1e-5)
        Trainer(own).fit()  # goes on from the checkpoint: no step is left to take
        for name, value in job.model.state_dict().items():
            torch.testing.assert_close(own.model.state_dict()[name], value, atol=1e-5, rtol=0)
            assert (value - before[name]).abs().max() > 5e-4  # 50 times the tolerance


@pytest.mark.parametrize(
    ("options", "fits"),
    [({}, True), ({"conv": 8}, False), ({"rnn": "bilstm", "hidden": 4}, False)],
)
def test_only_heads_that_map_each_frame_linearly(options: dict[str, Any], fits: bool) -> None:
    torch.manual_seed(0)
    assert affine(Frames(D, C, FramesOptions(**options)), D) is fits


def test_a_relu_is_no_linear_map() -> None:
    torch.manual_seed(0)
    assert affine(Ctc(D, C, CtcOptions(widths=(6,))), D)
    assert not affine(Ctc(D, C, CtcOptions(widths=(6,), activation="relu")), D)


@pytest.mark.parametrize("training", [True, False])
def test_a_head_is_tried_without_its_dropout_and_left_as_it_was(training: bool) -> None:
    head = Frames(D, C, FramesOptions(dropout=0.5)).train(training)
    assert affine(head, D) and head.training == training


class Bent(torch.nn.Module):
    """Linear but for something that a test says."""

    def __init__(self, bend: Any) -> None:
        super().__init__()
        self.linear, self.bend = torch.nn.Linear(D, C), bend

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        said: Tensor = self.bend(self.linear(x), x, lengths)
        return said


@pytest.mark.parametrize(
    ("bend", "fits"),
    [
        (lambda out, x, n: out, True),
        (lambda out, x, n: out * (1 + 1e-6), True),
        (lambda out, x, n: out.mean(1), False),  # one vector per clip
        (lambda out, x, n: out + 1e-3 * x[..., :1].square(), False),
        (lambda out, x, n: out + 0.01 * x.roll(1, 1)[..., :C], False),  # it hears the frame before
        (lambda out, x, n: out + 0.01 * n[:, None, None], False),
        (lambda out, x, n: torch.where(out.abs() > 40, 0.5 * out, out), False),  # of loud frames
        # What stands behind a clip's end is nobody's.
        (lambda out, x, n: out + 9.0 * (torch.arange(x.shape[1]) >= n[:, None])[..., None], True),
    ],
)
def test_what_maps_each_frame_linearly_is_tried_not_declared(bend: Any, fits: bool) -> None:
    torch.manual_seed(0)
    assert affine(Bent(bend), D) is fits


@pytest.mark.parametrize("onednn", [True, False])
def test_rows_of_frames_give_what_layers_give(
    onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By oneDNN, where torch has it, and by layers: products and gradients alike."""
    if not onednn:
        monkeypatch.setattr("bab.benching.affine._onednn", lambda: None)
    states = torch.randn(3, L, 7, D, generator=draw)
    matrices = torch.randn(5, L, D, C, generator=draw, requires_grad=True)
    biases = torch.randn(5, C, generator=draw, requires_grad=True)
    made = []
    for laid_out in (states, states.transpose(1, 2).contiguous().transpose(1, 2)):
        told = said(laid_out, matrices, biases)
        made.append((told, *torch.autograd.grad(told.square().sum(), [matrices, biases])))
    exact = torch.einsum("bltd,mldc->mbtc", states.double(), matrices.double())
    wanted = exact + biases.double()[:, None, None]
    torch.testing.assert_close(made[1][0].double(), wanted, rtol=1e-5, atol=1e-4)
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_several_models_answer_as_each_does_alone() -> None:
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(Model(None, LayerMix(L, "mix"), Frames(D, C, FramesOptions())))
    lengths = torch.tensor([7, 5])
    batch = Batch(Features(torch.randn(2, L, 7, D), lengths), torch.empty(0), lengths, (), 0)
    (alone,) = Several(models[:1]).of(0, [Output(Clip("a", "a.wav", 0, 1, "g"), np.ones((2, C)))])
    assert alone.values.shape == (2, C)
    several = Several(models)
    said_by_all, _ = several(batch)
    clip = Clip("a", "a.wav", 0.0, 1.0, "g")
    outputs = [Output(clip, said_by_all[0].detach().numpy())]
    for place, model in enumerate(models):
        (own,) = several.of(place, outputs)
        assert torch.equal(torch.from_numpy(own.values), model(batch)[0][0].detach())
