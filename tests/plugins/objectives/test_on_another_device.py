"""Heads and objectives on a device that isn't the CPU: all that they make is made there.

PyTorch's `meta` has no numbers, only shapes: what is left on the CPU by mistake is refused beside
it, and so is what waits for a number, as a GPU would have to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from bab.core.grid import Grid
from bab.core.interfaces import Scorer
from bab.core.types import Batch, Clip, Encoded, Features, Waves
from bab.plugins.heads.ctc import Ctc, CtcOptions
from bab.plugins.heads.frames import Frames, FramesOptions
from bab.plugins.heads.logistic import Logistic, LogisticOptions
from bab.plugins.heads.pooled import Pooled, PooledOptions
from bab.plugins.heads.xvector import XVector, XVectorOptions
from bab.plugins.objectives.am_softmax import AmSoftmax, AmSoftmaxOptions
from bab.plugins.objectives.contrastive import Contrastive
from bab.plugins.objectives.cross_entropy import CrossEntropy, CrossEntropyOptions
from bab.plugins.objectives.masked import Masked
from bab.plugins.objectives.multilabel import Multilabel
from bab.plugins.objectives.shared.quantiser import gumbel

META = torch.device("meta")
GRID = Grid(16000, 320, 400)


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which `meta` doesn't know."""
    monkeypatch.setattr(torch, "autocast", lambda *a, **b: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *a: False)


BILSTM: dict[str, Any] = {"rnn": "bilstm", "hidden": 4}


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (lambda: Frames(6, 3, FramesOptions(conv=5, **BILSTM)), (2, 9, 3)),
        (lambda: Ctc(6, 3, CtcOptions(widths=(5,), **BILSTM)), (2, 9, 3)),
        (lambda: Pooled(6, 3, PooledOptions()), (2, 3)),
        (lambda: Logistic(6, 3, LogisticOptions()), (2, 3)),
        (lambda: XVector(6, 3, XVectorOptions(size=7)), (2, 7)),
    ],
)
def test_heads(head: Callable[[], Any], shape: tuple[int, ...]) -> None:
    made = head().to(META)
    for lengths in (torch.tensor([9, 4]), torch.empty(2, dtype=torch.long, device=META)):
        out = made(torch.empty(2, 9, 6, device=META), lengths)
        assert out.device == META and out.shape == shape and out.dtype == torch.float32


class Says(Scorer):
    """Gives an output of some shape; of an encoder, states and local features."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.answer = torch.empty(*shape, device=META)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.answer, batch.target_lengths

    def encode(self, batch: Batch) -> Encoded:
        return Encoded((self.answer,), batch.target_lengths, local=self.answer)


def batch(targets: Tensor, weights: bool = True, **more: Any) -> Batch:
    """Two examples, moved: the batch as it was stays known."""
    clips = tuple(Clip(str(i), "x", 0.0, 1.0, "g") for i in range(2))
    inputs = more.pop("inputs", Features(torch.zeros(2, 1, 1, 1), torch.ones(2)))
    sizes = more.pop("sizes", torch.tensor([1, 1]))
    given = torch.ones(2) if weights else None
    made = Batch(inputs, targets, sizes, clips, 0, given, **more).to(META)
    assert made.targets.device == META and made.here.targets.device.type == "cpu"
    return made


@pytest.mark.parametrize(
    ("objective", "shape", "targets", "count"),
    [
        (lambda: CrossEntropy(3, [3], CrossEntropyOptions()), (2, 3), [[0], [-1]], 1.0),
        (lambda: AmSoftmax(4, [3], AmSoftmaxOptions()), (2, 4), [[0], [2]], 2.0),
    ],
)
def test_losses_of_clips(
    objective: Callable[[], Any], shape: tuple[int, ...], targets: Any, count: float
) -> None:
    loss = objective().to(META)(Says(*shape), batch(torch.tensor(targets)))
    (term,) = loss.terms.values()
    assert term.total.device == META and term.total.shape == () and term.count == count


@pytest.mark.parametrize("sizes", [[5, 5], [5, 3]])
def test_losses_of_frames(sizes: list[int]) -> None:
    model = Says(2, 5, 3)
    model.forward = lambda batch: (model.answer, torch.tensor(sizes))  # type: ignore[method-assign]
    given = batch(torch.zeros(2, 5, 3), sizes=torch.tensor(sizes))
    term = Multilabel(3, [3], Multilabel.Options()).to(META)(model, given).terms["bce"]
    assert term.total.device == META and term.total.shape == () and term.count == sum(sizes)


def pretraining() -> Batch:
    """Of 49 and 24 frames, 10 and 5 of them hidden."""
    mask = torch.zeros(2, 49, dtype=torch.bool)
    mask[0, 5:15], mask[1, :5] = True, True
    waves = Waves(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    targets, sizes = torch.zeros(2, 49, dtype=torch.long), torch.tensor([49, 24])
    return batch(targets, False, inputs=waves, sizes=sizes, mask=mask, seeds=(5, 6))


class Encodes:
    """What an objective asks of an encoder, once."""

    grid, local_dim, dim = GRID, 6, 6

    def extras(self) -> dict[str, Tensor]:
        return {}


def test_masked() -> None:
    options = Masked.Options(unmasked_weight=0.5, feature_penalty=1.0)
    objective = Masked(6, [4], options)
    objective.attach(Encodes())  # type: ignore[arg-type]
    loss = objective.to(META)(Says(2, 49, 6), pretraining())
    assert {name: term.count for name, term in loss.terms.items()} == {
        "masked": 15.0, "penalty": 73.0, "unmasked": 15.0,
    }  # fmt: skip
    assert all(term.total.device == META for term in loss.terms.values())
    assert loss.logs["mask_share"] == (15.0, 73.0)
    for name in ("accuracy", "perplexity"):  # which the trainer fetches with the rest
        value, count = loss.logs[name]
        assert isinstance(value, Tensor) and value.device == META and count == 15.0


@pytest.mark.parametrize("training", [True, False])
def test_contrastive(training: bool) -> None:
    options = Contrastive.Options(groups=2, codes=3, codevector_dim=8, projection=5, negatives=7)
    objective = Contrastive(6, [], options)
    objective.attach(Encodes())  # type: ignore[arg-type]
    loss = objective.to(META).train(training)(Says(2, 49, 6), pretraining())
    assert {name: term.count for name, term in loss.terms.items()} == {
        "contrastive": 15.0, "diversity": 15.0,
    }  # fmt: skip
    assert all(term.total.device == META for term in loss.terms.values())
    assert loss.logs["mask_share"] == (15.0, 73.0)
    for name in ("accuracy", "perplexity"):
        value, count = loss.logs[name]
        assert isinstance(value, Tensor) and value.device == META and count == 15.0


def test_noise_of_the_cpu_is_there() -> None:
    assert gumbel(3, 2, 4, 5).device.type == "cpu" and gumbel(3, 2, 4, 5).shape == (3, 2, 4)
