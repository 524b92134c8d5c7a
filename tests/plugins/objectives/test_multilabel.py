"""Objective `multilabel` against torch's own loss on the frames without padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bab.core.errors import PluginError
from bab.core.interfaces import Scorer
from bab.core.options import Options
from bab.core.types import Batch, Clip, Features
from bab.plugins.objectives.multilabel import Multilabel


class Says(Scorer):
    """A model that gives what it was told to."""

    def __init__(self, logits: Tensor, lengths: Tensor) -> None:
        super().__init__()
        self.answer = logits, lengths

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.answer


def make(lengths: list[int], weights: Tensor | None = None, classes: int = 4) -> Batch:
    size, longest = len(lengths), max(lengths)
    n = torch.tensor(lengths)
    return Batch(
        inputs=Features(torch.zeros(size, 1, longest, 2), n),
        targets=(torch.rand(size, longest, classes) > 0.6).float(),
        target_lengths=n,
        clips=tuple(Clip(f"rec{i}", "x.wav", 0.0, 4.0, "g") for i in range(size)),
        step=0,
        weights=weights,
    )


def objective() -> Multilabel:
    return Multilabel(4, 4, Options())


def test_equals_torch_on_the_unpadded_frames() -> None:
    torch.manual_seed(0)
    batch = make([3, 7, 5])
    logits = 4 * torch.randn(3, 7, 4)
    loss = objective()(Says(logits, batch.target_lengths), batch)
    wanted = sum(
        functional.binary_cross_entropy_with_logits(
            logits[i, :n], batch.targets[i, :n], reduction="sum"
        )
        for i, n in enumerate([3, 7, 5])
    )
    torch.testing.assert_close(loss.terms["bce"].total, wanted)
    assert loss.terms["bce"].count == 15.0
    assert loss.terms["bce"].exact
    assert objective().counts(batch) == {"bce": 15.0}


@pytest.mark.parametrize("junk", [1e4, float("nan")])
def test_padding_has_no_loss_and_no_gradient(junk: float) -> None:
    torch.manual_seed(1)
    batch = make([2, 6])
    logits = torch.randn(2, 8, 4)  # two frames wider than the longest example
    logits[0, 2:] = junk
    logits[:, 6:] = junk
    logits.requires_grad_()
    batch.targets[0, 2:] = junk
    loss = objective()(Says(logits, batch.target_lengths), batch)
    loss.terms["bce"].total.backward()
    assert torch.isfinite(loss.terms["bce"].total)
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert (logits.grad[0, 2:] == 0).all() and (logits.grad[:, 6:] == 0).all()
    assert (logits.grad[0, :2] != 0).all()


def test_sums_over_parts_are_the_sum_over_the_whole() -> None:
    torch.manual_seed(2)
    batch = make([4, 9, 2, 6])
    logits = torch.randn(4, 9, 4)
    whole = objective()(Says(logits, batch.target_lengths), batch).terms["bce"]
    parts = []
    for i, n in enumerate([4, 9, 2, 6]):
        one = make([n])
        one.targets = batch.targets[i : i + 1, :n]
        parts.append(objective()(Says(logits[i : i + 1, :n], one.target_lengths), one))
    torch.testing.assert_close(whole.total, sum(p.terms["bce"].total for p in parts))
    assert whole.count == sum(p.terms["bce"].count for p in parts)


def test_weights_multiply_an_examples_loss_and_not_the_count() -> None:
    torch.manual_seed(3)
    batch = make([4, 4])
    logits = torch.randn(2, 4, 4)
    batch.weights = torch.tensor([1.0, 0.0])
    only = objective()(Says(logits, batch.target_lengths), batch).terms["bce"]
    batch.weights = torch.tensor([1.0, 3.0])
    both = objective()(Says(logits, batch.target_lengths), batch).terms["bce"]
    second = functional.binary_cross_entropy_with_logits(
        logits[1], batch.targets[1], reduction="sum"
    )
    torch.testing.assert_close(both.total - only.total, 3 * second)
    assert only.count == both.count == 8.0


def test_half_precision_logits_are_summed_in_float32() -> None:
    torch.manual_seed(4)
    batch = make([400, 400])
    logits = torch.randn(2, 400, 4).to(torch.bfloat16)
    total = objective()(Says(logits, batch.target_lengths), batch).terms["bce"].total
    wanted = functional.binary_cross_entropy_with_logits(
        logits.double(), batch.targets.double(), reduction="sum"
    )
    assert total.dtype == torch.float32
    torch.testing.assert_close(total.double(), wanted, rtol=1e-5, atol=0)


def test_frames_that_do_not_match_the_targets_are_refused() -> None:
    batch = make([4, 6])
    with pytest.raises(PluginError, match=r"rec1 .*5 frames .* have 6"):
        objective()(Says(torch.randn(2, 6, 4), torch.tensor([4, 5])), batch)
    for lengths in ([4], [4, 6, 6]):  # of another number of clips
        with pytest.raises(ValueError, match=r"zip\(\) argument"):
            objective()(Says(torch.randn(2, 6, 4), torch.tensor(lengths)), batch)
    with pytest.raises(PluginError, match=r"one output per class"):
        objective()(Says(torch.randn(2, 6, 3), batch.target_lengths), batch)
    with pytest.raises(PluginError, match=r"one output per class"):
        objective()(Says(torch.randn(2, 4), batch.target_lengths), batch)
