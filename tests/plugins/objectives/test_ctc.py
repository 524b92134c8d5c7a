"""Head and objective `ctc` against PyTorch's own modules and a brute-force sum over alignments."""

from __future__ import annotations

from itertools import groupby, product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bab.core.errors import PluginError
from bab.core.options import Options
from bab.core.types import Batch, Clip, Features
from bab.plugins.heads.ctc import Ctc as Head
from bab.plugins.heads.ctc import CtcOptions
from bab.plugins.objectives.ctc import Ctc as Objective


class Fixed(nn.Module):
    """A scorer that says what it was given."""

    def __init__(self, output: Tensor, lengths: Tensor) -> None:
        super().__init__()
        self.output, self.lengths = output, lengths

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.output, self.lengths


def batch_of(targets: list[list[int]], weights: Tensor | None = None) -> Batch:
    rows = [torch.tensor(t, dtype=torch.int64) for t in targets]
    clips = tuple(Clip(str(i), "x.wav", 0.0, 1.0, "g") for i in range(len(rows)))
    inputs = Features(torch.zeros(len(rows), 1, 1, 1), torch.ones(len(rows)))
    sizes = torch.tensor([len(r) for r in rows])
    return Batch(
        inputs, nn.utils.rnn.pad_sequence(rows, batch_first=True), sizes, clips, 0, weights
    )


def loss_of(logits: Tensor, lengths: list[int], batch: Batch) -> Tensor:
    objective = Objective(4, [logits.shape[-1]], Options())
    return objective(Fixed(logits, torch.tensor(lengths)), batch).terms["ctc"].total


def by_hand(logits: Tensor, target: list[int]) -> float:
    """-log of the summed probability of every path of frames that reads as the target."""
    probability = logits.double().softmax(-1)
    total = 0.0
    for path in product(range(logits.shape[-1]), repeat=len(logits)):
        if [label for label, _ in groupby(path) if label] == target:
            total += float(torch.stack([probability[t, c] for t, c in enumerate(path)]).prod())
    return -float(torch.tensor(total).log())


def test_the_loss_is_the_sum_over_all_alignments() -> None:
    torch.manual_seed(0)
    targets = [[1, 2], [1, 1], [], [2]]
    lengths = [5, 4, 3, 1]
    logits = torch.randn(4, 5, 3)
    wanted = sum(
        by_hand(logits[i, :n], t) for i, (n, t) in enumerate(zip(lengths, targets, strict=True))
    )
    padded = logits.clone()
    for i, n in enumerate(lengths):
        padded[i, n:] = float("nan")
    batch = batch_of(targets)
    assert float(loss_of(padded, lengths, batch)) == pytest.approx(wanted, rel=1e-5)
    objective = Objective(4, [3], Options())
    assert objective.counts(batch) == {"ctc": 5.0}
    assert objective(Fixed(padded, torch.tensor(lengths)), batch).terms["ctc"].count == 5.0


def test_cut_up_batches_sum_to_the_whole_with_the_same_gradient() -> None:
    torch.manual_seed(1)
    logits = torch.randn(3, 9, 5, requires_grad=True)
    targets = [[1, 2, 2], [4], [3, 1]]
    whole = loss_of(logits, [9, 5, 7], batch_of(targets))
    (gradient,) = torch.autograd.grad(whole, logits)
    parts = [
        loss_of(logits[i : i + 1, :n], [n], batch_of([targets[i]])) for i, n in enumerate((9, 5, 7))
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)
    torch.testing.assert_close(torch.autograd.grad(torch.stack(parts).sum(), logits)[0], gradient)
    assert not gradient[1, 5:].any()


def test_a_target_that_does_not_fit_adds_nothing_and_is_refused() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    batch = batch_of([[1, 1, 2], [1, 2, 3]])
    loss = loss_of(logits, [3, 3], batch)
    loss.backward()
    assert logits.grad is not None and torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert not logits.grad[0].any() and logits.grad[1].any()
    objective = Objective(4, [4], Options())
    assert objective.refuses(torch.tensor([1, 1, 2]), 3) == "more labels than frames"
    assert objective.refuses(torch.tensor([1, 1, 2]), 4) == ""
    assert objective.refuses(torch.tensor([1, 2, 3]), 3) == ""
    assert objective.refuses(torch.tensor([], dtype=torch.int64), 1) == ""


def test_weights_multiply_and_all_empty_targets_are_fine() -> None:
    torch.manual_seed(2)
    logits = torch.randn(2, 4, 3)
    separate = [loss_of(logits[i : i + 1], [4], batch_of([[]])) for i in (0, 1)]
    weighted = loss_of(logits, [4, 4], batch_of([[], []], torch.tensor([2.0, 0.5])))
    torch.testing.assert_close(weighted, 2 * separate[0] + 0.5 * separate[1])
    assert Objective(4, [3], Options()).counts(batch_of([[], []])) == {"ctc": 0.0}


def test_a_label_that_the_head_lacks_is_an_error() -> None:
    with pytest.raises(PluginError, match="label 7"):
        loss_of(torch.randn(1, 9, 4), [9], batch_of([[7]]))


def copied(head: Head, reference: nn.LSTM) -> None:
    """Our layers' weights into PyTorch's bidirectional LSTM."""
    assert head.rnn is not None
    for layer, (ahead, back) in enumerate(zip(head.rnn.forwards, head.rnn.backwards, strict=True)):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(reference, f"{name}_l{layer}").data.copy_(getattr(ahead, f"{name}_l0"))
            getattr(reference, f"{name}_l{layer}_reverse").data.copy_(getattr(back, f"{name}_l0"))


def test_superbs_head_is_linear_packed_lstm_linear() -> None:
    torch.manual_seed(3)
    options = CtcOptions(widths=(8,), rnn="bilstm", hidden=6, layers=2, dropout=0.5)
    head = Head(5, 4, options).eval()
    reference = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
    copied(head, reference)
    x, lengths = torch.randn(3, 11, 5), torch.tensor([7, 11, 2])
    for i, n in enumerate(lengths):
        x[i, n:] = float("nan")
    clean = x.nan_to_num(0.0)
    packed = pack_padded_sequence(
        head.before[0](clean), lengths, batch_first=True, enforce_sorted=False
    )
    wanted = head.output(pad_packed_sequence(reference(packed)[0], batch_first=True)[0])
    found = head(x, lengths)
    for i, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[i, :n], wanted[i, :n], atol=1e-6, rtol=1e-5)


def test_babars_net_and_the_bare_linear_layer() -> None:
    head = Head(768, 58, CtcOptions(widths=(384,), activation="relu"))
    assert [tuple(p.shape) for p in head.parameters()] == [(384, 768), (384,), (58, 384), (58,)]
    x, lengths = torch.randn(2, 4, 768), torch.tensor([4, 4])
    inner = torch.relu(nn.functional.linear(x, head.before[0].weight, head.before[0].bias))
    torch.testing.assert_close(head.eval()(x, lengths), head.output(inner))
    bare = Head(768, 58, CtcOptions(dropout=0.5))
    torch.testing.assert_close(bare.train()(x, lengths), bare.output(x))


def test_dropout_stands_between_layers_in_training_only() -> None:
    torch.manual_seed(4)
    head = Head(5, 4, CtcOptions(widths=(8,), rnn="bilstm", hidden=6, dropout=0.5))
    x, lengths = torch.randn(1, 6, 5), torch.tensor([6])
    assert not torch.equal(head.train()(x, lengths), head.train()(x, lengths))
    assert torch.equal(head.eval()(x, lengths), head.eval()(x, lengths))
