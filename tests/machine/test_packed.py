"""Packed weights give what torch's own layers give, and nothing else changes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bab import Waves
from bab.config.resolve import run_config
from bab.kit import ValidGroupNorm
from bab.machine import packed
from bab.machine.arithmetic import arithmetic, halve
from bab.machine.packed import can_pack, pack
from bab.plugins.encoders.hubert import Hubert
from bab.running.session import Session

CPU = torch.device("cpu")
able = pytest.mark.skipif(not can_pack(), reason="this CPU or torch has no use for packed weights")


def apart(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype
    return float((a - b).detach().float().norm() / b.detach().float().norm())


def layers() -> list[tuple[nn.Module, Tensor]]:
    """Each kind that is packed, and an input of it; the first and the last convolution's channels
    come last in memory, and the grouped one is wider than its input."""
    torch.manual_seed(0)
    positions = nn.Conv1d(64, 64, 128, padding=64, groups=4)
    return [
        (nn.Linear(96, 160), torch.randn(2, 7, 96)),
        (nn.Linear(96, 160, bias=False), torch.randn(5, 96)),
        (nn.utils.parametrizations.weight_norm(positions, dim=2), torch.randn(2, 64, 9)),
        (nn.Conv1d(48, 64, 3, stride=2, bias=False), torch.randn(1, 201, 48).transpose(1, 2)),
        (nn.Conv1d(1, 32, 10, stride=5), torch.randn(1, 1, 400)),
        (nn.Conv1d(48, 64, 2, stride=2), torch.randn(3, 48, 50)),  # several clips: torch's own
    ]


@able
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_as_torchs_own(precision: str) -> None:
    for layer, given in layers():
        layer.requires_grad_(False)
        with arithmetic(CPU, precision):
            wanted = layer(given)
            halve(layer, precision)
            assert pack(layer, CPU)
            assert isinstance(layer, packed._Packed)
            assert apart(layer(given), wanted) < (2e-6 if precision == "fp32" else 5e-3)
            copied = deepcopy(layer)
            assert torch.equal(copied(given), layer(given))


@able
def test_weights_that_change_are_packed_again() -> None:
    layer = nn.Linear(32, 64).requires_grad_(False)
    given = torch.randn(4, 32)
    pack(layer, CPU)
    before = layer(given)
    layer.weight.mul_(2.0)
    assert apart(layer(given) - layer.bias, 2 * (before - layer.bias)) < 1e-5
    layer.weight.data = torch.zeros(64, 32)
    assert torch.equal(layer(given), layer.bias.expand(4, 64))


@able
def test_gradients_go_through_torchs_own() -> None:
    layer = nn.Linear(32, 64)
    plain, given = deepcopy(layer), torch.randn(4, 32)
    pack(layer, CPU)
    out = layer(given)
    assert torch.equal(out, plain(given))
    out.sum().backward()
    assert layer.weight.grad is not None


@able
def test_what_is_no_plain_layer_stays() -> None:
    class Own(nn.Linear):
        pass

    watched = nn.Linear(4, 4)
    watched.register_forward_pre_hook(lambda module, given: None)
    deep = nn.Conv1d(8, 8, 3, groups=8)  # one channel each
    some = nn.ModuleList([Own(4, 4), watched, deep, nn.Conv1d(4, 4, 3), nn.LayerNorm(4)])
    kinds = [type(one) for one in some]
    assert not pack(some, CPU)
    assert [type(one) for one in some] == kinds
    assert not pack(nn.Linear(4, 4), torch.device("meta"))


def test_a_torch_without_the_operators_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_OPERATORS", ("_no_such_operator",))
    layer = nn.Linear(4, 4)
    assert not pack(layer, CPU)
    assert type(layer) is nn.Linear


def test_group_norm_of_channels_last() -> None:
    norm = ValidGroupNorm(24, 24)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    given = 3 * torch.randn(1, 50, 24).transpose(1, 2) + 1
    assert apart(norm(given), norm(given.contiguous())) < 1e-6


@able
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_encoder_says_the_same(precision: str) -> None:
    encoder = Hubert.load("tiny", Hubert.Options()).requires_grad_(False)
    torch.manual_seed(0)
    clips = [0.1 * torch.randn(1, samples) for samples in (300, 8000, 20_000)]
    given = [Waves(clip, torch.tensor([clip.shape[1]])) for clip in clips]
    with torch.no_grad(), arithmetic(CPU, precision):
        wanted = [encoder(waves) for waves in given]
        halve(encoder, precision)
        assert pack(encoder, CPU)
        for waves, before in zip(given, wanted, strict=True):
            out = encoder(waves)
            for a, b in zip(out.layers, before.layers, strict=True):
                assert apart(a, b) < (1e-5 if precision == "fp32" else 0.02)
            again = encoder(waves)
            assert all(map(torch.equal, again.layers, out.layers))


@pytest.mark.parametrize("name", ["hubert:tiny", "fbank"])
def test_a_probe_packs_its_encoder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has nothing to pack keeps the addresses that its features always had."""
    monkeypatch.setenv("BAB_CACHE", str(tmp_path))
    asked = {"encoder": name, "task": "vtc", "device": "cpu"}
    config = run_config(None, asked, ["cache.dtype=float32"])
    session = Session()
    parts = session.parts(config)
    source = session.features(config, parts, SimpleNamespace(device=CPU), [])
    assert source.packed == (can_pack() and name != "fbank")
    kinds = {type(one) for one in parts.encoder.modules()}
    assert (packed.PackedLinear in kinds) == source.packed
