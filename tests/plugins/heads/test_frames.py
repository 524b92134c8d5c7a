"""Head `frames`: shape, equality with the published head, independence of padding."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bab.plugins.heads.frames import BiLSTM, Frames, FramesOptions

VARIANTS = [
    FramesOptions(),
    FramesOptions(conv=12),
    FramesOptions(rnn="bilstm", hidden=8, layers=2),
    FramesOptions(conv=12, rnn="bilstm", hidden=8, layers=1, dropout=0.5),
]


def test_one_linear_is_the_published_row_of_linears() -> None:
    head = Frames(16, 4, FramesOptions())
    published = nn.ModuleList(nn.Linear(16, 1) for _ in range(4))
    head.load_state_dict(
        {
            "output.weight": torch.cat([row.weight for row in published]),
            "output.bias": torch.cat([row.bias for row in published]),
        }
    )
    x = torch.randn(3, 11, 16)
    wanted = torch.cat([row(x) for row in published], dim=-1)
    torch.testing.assert_close(head(x, torch.full((3,), 11)), wanted)


def test_initial_weights_are_drawn_as_for_single_outputs() -> None:
    torch.manual_seed(0)
    ours = torch.cat([Frames(64, 4, FramesOptions()).output.weight.flatten() for _ in range(80)])
    theirs = torch.cat([nn.Linear(64, 1).weight.flatten() for _ in range(320)])
    assert ours.abs().max() <= 1 / math.sqrt(64)
    quantiles = torch.linspace(0, 1, 21)
    torch.testing.assert_close(
        torch.quantile(ours, quantiles), torch.quantile(theirs, quantiles), atol=0.004, rtol=0
    )


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("junk", [0.0, 1e3, float("nan")])
def test_padding_and_company_never_change_a_valid_frame(
    options: FramesOptions, junk: float
) -> None:
    torch.manual_seed(1)
    head = Frames(6, 3, options).eval()
    lengths = torch.tensor([9, 20, 1, 14])
    x = torch.randn(4, 20, 6)
    alone = [head(x[i : i + 1, :n], lengths[i : i + 1])[0] for i, n in enumerate(lengths.tolist())]
    for i, n in enumerate(lengths.tolist()):
        x[i, n:] = junk
    together = head(x, lengths)
    assert together.shape == (4, 20, 3)
    for i, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(together[i, :n], alone[i], atol=1e-6, rtol=1e-5)


def test_the_bilstm_hears_both_sides() -> None:
    torch.manual_seed(2)
    head = Frames(6, 3, FramesOptions(rnn="bilstm", hidden=8, layers=1))
    x = torch.randn(1, 9, 6, requires_grad=True)
    head(x, torch.tensor([9]))[0, 4].sum().backward()
    assert x.grad is not None
    assert (x.grad[0].abs().sum(-1) > 0).all()


def test_the_bilstm_is_pytorchs_on_packed_sequences() -> None:
    torch.manual_seed(4)
    ours, theirs = BiLSTM(6, 8, 2), nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for layer in range(2):
            for rows, suffix in ((ours.forwards, ""), (ours.backwards, "_reverse")):
                for name, value in rows[layer].named_parameters():
                    value.copy_(getattr(theirs, name.replace("_l0", f"_l{layer}") + suffix))
    lengths = torch.tensor([9, 20, 1, 14])
    x = torch.randn(4, 20, 6)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    wanted, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True, total_length=20)
    found = ours(x, lengths)
    for i, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[i, :n], wanted[i, :n], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_nan_in_the_padding_stays_out_of_the_gradient(options: FramesOptions) -> None:
    head = Frames(6, 3, options)
    x = torch.randn(2, 10, 6)
    x[0, 4:] = float("nan")
    out = head(x, torch.tensor([4, 10]))
    (out[0, :4].sum() + out[1].sum()).backward()
    gradients = [p.grad for p in head.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_dropout_acts_in_training_only() -> None:
    head = Frames(6, 3, FramesOptions(dropout=0.5))
    x, lengths = torch.randn(1, 50, 6), torch.tensor([50])
    assert not torch.equal(head(x, lengths), head(x, lengths))
    head.eval()
    assert torch.equal(head(x, lengths), head(x, lengths))


def test_the_options_shape_the_head() -> None:
    head = Frames(6, 3, FramesOptions(rnn="bilstm", hidden=5, layers=3, conv=7))
    assert head.rnn is not None and head.conv is not None
    sizes = [(net.input_size, net.hidden_size) for net in head.rnn.backwards]
    assert sizes == [(7, 5), (10, 5), (10, 5)]
    with pytest.raises(ValidationError):
        FramesOptions.model_validate({"rnn": "gru"})
    with pytest.raises(ValidationError):
        FramesOptions.model_validate({"hiden": 5})
