"""Training in bf16 on a CPU: bab's dropout and attention beside torch's and transformers'."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bab import Waves
from bab.machine.arithmetic import arithmetic
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.shared.half import Dropout, dropped
from bab.plugins.encoders.wav2vec2 import Wav2Vec2

CPU = torch.device("cpu")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "conv_dim": [16] * 7}


def small(cls: Any = Hubert, **options: Any) -> Any:
    return cls.load("random-tiny", cls.Options(size=SMALL, **options))


def as_torch_has_it(encoder: Any) -> Any:
    """A copy without bab's dropout and attention."""
    plain = deepcopy(encoder)
    for module in plain.model.modules():
        if isinstance(module, Dropout):
            module.__class__ = nn.Dropout
        elif type(module).__name__.endswith("Attention"):
            del module.forward
    return plain


def waves(*sizes: int) -> Waves:
    draw = torch.Generator().manual_seed(sum(sizes))
    samples = 0.1 * torch.randn(len(sizes), max(sizes), generator=draw)
    return Waves(samples, torch.tensor(sizes))


def outputs(encoder: Any, given: Waves, precision: str) -> tuple[Tensor, list[Tensor]]:
    """The last state in training, and the gradients of all weights that have one."""
    torch.manual_seed(7)
    with arithmetic(CPU, precision):
        out = encoder.train()(given, layers="last").layers[0].float()
    out.square().mean().backward()
    return out.detach(), [p.grad for p in encoder.parameters() if p.grad is not None]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.937])
def test_the_share_that_is_dropped(share: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(401, 1003, dtype=torch.bfloat16, requires_grad=True)
    out = dropped(x, share)
    sure = 5 * (share * (1 - share) / x.numel()) ** 0.5  # five standard errors
    assert float((out == 0).float().mean()) == pytest.approx(share, abs=sure)
    scale = torch.tensor(1 / (1 - share)).bfloat16()
    assert set(out.detach().unique().tolist()) == {0.0, float(scale)}
    # Each place is drawn for itself: rows and columns are no more alike than chance has it.
    columns = (out == 0).float().mean(0)
    assert float(columns.std()) == pytest.approx((share * (1 - share) / 401) ** 0.5, rel=0.1)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, out.detach())


def test_draws_are_the_generators() -> None:
    x = torch.ones(10_001, dtype=torch.bfloat16)
    torch.manual_seed(3)
    first, second = dropped(x, 0.3), dropped(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(dropped(x, 0.3), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("cls", [Hubert, Wav2Vec2])
@pytest.mark.parametrize("sizes", [(6400, 6400), (6400, 3000)], ids=["even", "padded"])
def test_attention_is_transformers(cls: Any, sizes: tuple[int, ...]) -> None:
    """Without dropout, to the rounding of bf16: both are as far from fp32."""
    encoder, given = small(cls, dropout=0.0), waves(*sizes)
    plain, exact = as_torch_has_it(encoder), as_torch_has_it(encoder)
    (ours, our_grads), (theirs, their_grads) = (
        outputs(one, given, "bf16") for one in (encoder, plain)
    )
    wanted, wanted_grads = outputs(exact, given, "fp32")
    assert not torch.equal(ours, theirs)  # another way was taken
    assert (ours - wanted).norm() < 1.3 * (theirs - wanted).norm() + 1e-3 * wanted.norm()
    assert len(our_grads) == len(their_grads) == len(wanted_grads)
    far = [
        torch.stack([(a - b).norm() for a, b in zip(grads, wanted_grads, strict=True)]).norm()
        for grads in (our_grads, their_grads)
    ]
    assert far[0] < 1.3 * far[1]


@pytest.mark.parametrize("hidden", [False, True])
def test_attention_looks_where_transformers_looks(hidden: bool) -> None:
    """Weights that tell frames apart, as those of trained models do; to the rounding of bf16."""
    encoder = small(dropout=0.0).train()
    attention, draw = encoder.model.encoder.layers[0].attention, torch.Generator().manual_seed(2)
    for part in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
        nn.init.normal_(part.weight, std=0.3, generator=draw)
    states = torch.randn(2, 9, 32, generator=draw)
    mask = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril() if hidden else None
    with torch.no_grad():
        wanted = type(attention).forward(attention, states, attention_mask=mask)[0]
        with arithmetic(CPU, "bf16"):
            ours = attention(states, attention_mask=mask)[0]
    assert ours.dtype == torch.bfloat16 and float((ours - wanted).norm() / wanted.norm()) < 0.02


def test_fp32_keeps_its_draws() -> None:
    encoder = small(dropout=0.2)
    plain = as_torch_has_it(encoder)
    (ours, our_grads), (theirs, their_grads) = (
        outputs(one, waves(6400, 3000), "fp32") for one in (encoder, plain)
    )
    assert torch.equal(ours, theirs)
    assert all(map(torch.equal, our_grads, their_grads))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bf16_repeats_to_the_bit(checkpointing: bool) -> None:
    """With gradient checkpointing, too, which draws each mask twice."""
    runs = []
    for again in (checkpointing, False):
        encoder = small(dropout=0.2, checkpointing=again)
        runs.append(outputs(encoder, waves(6400, 3000), "bf16"))
    assert torch.equal(runs[0][0], runs[1][0])
    assert all(map(torch.equal, runs[0][1], runs[1][1]))


def test_without_training_nothing_is_dropped() -> None:
    encoder, given = small(dropout=0.2).eval(), waves(3200)
    with torch.no_grad(), arithmetic(CPU, "bf16"):
        assert torch.equal(encoder(given).layers[-1], as_torch_has_it(encoder)(given).layers[-1])
