"""What heads are built of, layer by layer, and in which precision heads and losses add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bab.core.interfaces import Scorer
from bab.core.types import Batch, Clip, Features
from bab.plugins.heads.ctc import Ctc, CtcOptions
from bab.plugins.heads.frames import Frames, FramesOptions
from bab.plugins.heads.pooled import Pooled, PooledOptions
from bab.plugins.heads.shared.bilstm import BiLSTM
from bab.plugins.heads.xvector import FIELD, XVector, XVectorOptions, statistics
from bab.plugins.objectives.am_softmax import AmSoftmax, AmSoftmaxOptions
from bab.plugins.objectives.cross_entropy import CrossEntropy, CrossEntropyOptions
from bab.plugins.objectives.ctc import Ctc as CtcLoss
from bab.plugins.objectives.multilabel import Multilabel


def layers(module: nn.Module) -> list[str]:
    """Its parts without parts, in order, in short."""
    told = []
    for part in module.modules():
        if isinstance(part, nn.Linear):
            told.append(f"{part.in_features}-{part.out_features}")
        elif isinstance(part, nn.Dropout):
            told.append(f"drop {part.p:g}")
        elif isinstance(part, nn.LSTM):
            told.append(f"lstm {part.input_size}-{part.hidden_size}")
        elif isinstance(part, nn.Conv1d):
            told.append(f"conv {part.in_channels}-{part.out_channels}")
        elif isinstance(part, nn.ReLU):
            told.append("relu")
    return told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, ["drop 0", "6-3"]),
        ({"dropout": 0.2}, ["drop 0", "6-3"]),  # after each layer but the output
        ({"widths": [4, 5], "dropout": 0.2},
         ["6-4", "drop 0.2", "4-5", "drop 0.2", "drop 0", "5-3"]),
        ({"widths": [4], "activation": "relu"}, ["6-4", "relu", "drop 0", "drop 0", "4-3"]),
        ({"rnn": "bilstm", "hidden": 7, "layers": 2, "dropout": 0.3},
         [*["lstm 6-7", "lstm 14-7"] * 2, "drop 0.3", "drop 0.3", "14-3"]),
        ({"widths": [4], "rnn": "bilstm", "layers": 1},
         ["6-4", "drop 0", "lstm 4-128", "lstm 4-128", "drop 0", "drop 0", "256-3"]),
    ],
)  # fmt: skip
def test_the_layers_of_head_ctc(options: dict[str, Any], told: list[str]) -> None:
    assert layers(Ctc(6, 3, CtcOptions(**options))) == told


def test_the_layers_of_other_heads() -> None:
    assert layers(Frames(6, 3, FramesOptions())) == ["drop 0", "6-3"]
    options = FramesOptions(conv=4, rnn="bilstm", hidden=5, layers=1, dropout=0.5)
    lstm = ["lstm 4-5", "lstm 4-5", "drop 0"]  # no dropout between the layers
    assert layers(Frames(6, 3, options)) == ["conv 6-4", *lstm, "drop 0.5", "10-3"]
    assert layers(Pooled(6, 3, PooledOptions(dropout=0.5))) == ["6-256", "drop 0.5", "256-3"]
    assert layers(Pooled(6, 3, PooledOptions(hidden=0))) == ["drop 0", "6-3"]
    tdnn = ["2560-512", "1536-512", "1536-512", "512-512", "512-1500"]
    assert layers(XVector(6, 3, XVectorOptions(size=8))) == ["6-512", *tdnn, "3000-8", "8-8"]
    made = XVector(6, 3, XVectorOptions())
    assert [(t.context, t.dilation) for t in made.tdnn] == [(5, 1), (3, 2), (3, 3), (1, 1), (1, 1)]
    assert FIELD == 1 + 4 * 1 + 2 * 2 + 2 * 3


def test_dropout_stands_between_the_layers_of_a_bilstm_alone() -> None:
    x, lengths = torch.ones(1, 6, 4), torch.tensor([6])
    torch.manual_seed(0)
    for count, differs in ((1, False), (2, True)):
        net = BiLSTM(4, 5, count, dropout=0.5)
        assert torch.equal(net(x, lengths), net(x, lengths)) != differs
        net.eval()
        assert torch.equal(net(x, lengths), net(x, lengths))


def test_statistics_count_in_single_precision() -> None:
    """bfloat16 has 8 bits, so that 257 frames would be 256, and a mean would drift."""
    x = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    made = statistics(x, torch.tensor([257, 300]))
    assert made.dtype == torch.float32
    wanted = torch.cat([x[0, :257].double().mean(0), x[0, :257].double().std(0)])
    torch.testing.assert_close(made[0].double(), wanted, rtol=1e-5, atol=1e-6)


class Says(Scorer):
    """Gives the logits it holds."""

    def __init__(self, answer: Tensor, lengths: Tensor) -> None:
        super().__init__()
        self.answer, self.lengths = answer, lengths

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.answer, self.lengths


def batch(targets: Tensor, sizes: list[int], weights: Tensor | None) -> Batch:
    clips = tuple(Clip(str(i), "x", 0.0, 1.0, "g") for i in range(len(targets)))
    inputs = Features(torch.zeros(len(targets), 1, 1, 1), torch.ones(len(targets)))
    return Batch(inputs, targets, torch.tensor(sizes), clips, 0, weights)


@pytest.mark.parametrize("kind", ["multilabel", "cross_entropy", "ctc", "am_softmax"])
def test_losses_of_half_precision_are_those_of_the_same_numbers_in_single(kind: str) -> None:
    """And weights of any precision leave a loss in single precision."""
    draw = torch.Generator().manual_seed(1)
    objective, shape, targets, sizes = {
        "multilabel": (Multilabel(2, [2], Multilabel.Options()), (3, 5, 2),
                       torch.randint(2, (3, 5, 2), generator=draw).float(), [5, 5, 2]),
        "cross_entropy": (CrossEntropy(3, [3], CrossEntropyOptions()), (3, 3),
                          torch.tensor([[0], [2], [1]]), [1, 1, 1]),
        "ctc": (CtcLoss(3, [3], CtcLoss.Options()), (3, 5, 3),
                torch.tensor([[1, 2], [1, 1], [2, 0]]), [2, 2, 1]),
        "am_softmax": (AmSoftmax(4, [2], AmSoftmaxOptions()), (3, 4),
                       torch.tensor([[0], [1], [1]]), [1, 1, 1]),
    }[kind]  # fmt: skip
    half = torch.randn(*shape, generator=draw).bfloat16()
    lengths = torch.tensor(sizes if kind == "multilabel" else [5, 5, 5])

    def total(logits: Tensor, weights: Tensor | None) -> Tensor:
        terms = objective(Says(logits, lengths), batch(targets, sizes, weights)).terms
        (term,) = terms.values()
        assert term.total.dtype == torch.float32
        return term.total.detach()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(total(half, None), total(half.float(), None))
    weights = torch.tensor([1.0, 0.5, 3.0])
    for given in (weights.double(), weights.bfloat16()):
        assert torch.equal(total(half, given), total(half.float(), weights))
