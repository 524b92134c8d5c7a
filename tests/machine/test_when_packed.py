"""Which layers are packed, in which passes their packed weights are used, and what is measured."""

from __future__ import annotations

import copy
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from bab.core.errors import ConfigError
from bab.machine import measure, memory, packed
from bab.machine.arithmetic import arithmetic, halve, reproducible
from bab.machine.packed import PackedConv1d, PackedLinear, PackedStride, can_pack, pack
from bab.machine.processes import Alone
from bab.predicting import precision as choosing

CPU = torch.device("cpu")
able = pytest.mark.skipif(not can_pack(), reason="this CPU or torch has no use for packed weights")


@able
@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Linear(4, 4), PackedLinear),
        (nn.Conv1d(8, 8, 3, groups=4), PackedConv1d),
        (nn.Conv1d(8, 8, 3, groups=2, padding=1, stride=2), PackedConv1d),
        (nn.Conv1d(8, 8, 3, groups=8), None),
        (nn.Conv1d(8, 8, 3, groups=4, padding="same"), None),
        (nn.Conv1d(8, 8, 3, groups=4, padding=1, padding_mode="reflect"), None),
        (nn.Conv1d(8, 8, 3, stride=2), PackedStride),
        (nn.Conv1d(8, 8, 3, stride=1), None),
        (nn.Conv1d(8, 8, 3, stride=2, padding=1), None),
        (nn.Conv1d(8, 8, 3, stride=2, dilation=2), None),
        (nn.Conv2d(8, 8, 3), None),
    ],
)
def test_which_layers_are_packed(layer: nn.Module, kind: type | None) -> None:
    before = type(layer)
    assert pack(layer, CPU) is (kind is not None)
    assert type(layer) is (kind or before)
    both = nn.ModuleList([layer, nn.LayerNorm(4)])
    assert pack(both, CPU) is (kind is not None)  # also what was packed before counts


class Used:
    """How often packed weights were taken, and how often they were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken, self.made = 0, 0
        weights = packed._Packed._weights
        monkeypatch.setattr(
            packed._Packed, "_weights", lambda layer, kind: self.take(weights, layer, kind)
        )
        for kind in (PackedLinear, PackedConv1d, PackedStride):
            own = kind._pack
            monkeypatch.setattr(
                kind, "_pack", lambda layer, weight, own=own: self.make(own, layer, weight)
            )

    def take(self, weights: Any, layer: Any, kind: Any) -> Any:
        self.taken += 1
        return weights(layer, kind)

    def make(self, own: Any, layer: Any, weight: Any) -> Any:
        self.made += 1
        return own(layer, weight)


@able
@pytest.mark.parametrize(
    ("layer", "shape", "used"),
    [
        (nn.Linear(4, 6), (3, 4), True),
        (nn.Linear(4, 6), (2, 3, 4), True),
        (nn.Linear(4, 6), (0, 4), False),
        (nn.Conv1d(8, 8, 5, groups=4), (1, 8, 9), True),
        (nn.Conv1d(8, 8, 5, groups=4), (3, 8, 9), True),
        (nn.Conv1d(8, 8, 5, groups=4), (8, 9), False),
        (nn.Conv1d(2, 8, 5, stride=2), (1, 2, 9), True),
        (nn.Conv1d(2, 8, 5, stride=2), (1, 2, 5), True),
        (nn.Conv1d(2, 8, 5, stride=2), (2, 2, 9), False),
        (nn.Conv1d(2, 8, 5, stride=2), (2, 9), False),
    ],
)
def test_in_which_passes_packed_weights_are_used(
    layer: nn.Module, shape: tuple[int, ...], used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.requires_grad_(False)
    given = torch.randn(shape)
    wanted = layer(given)
    watch = Used(monkeypatch)
    assert pack(layer, CPU)
    torch.testing.assert_close(layer(given), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer(given), wanted, atol=1e-5, rtol=1e-5)
    assert (watch.taken, watch.made) == ((2, 1) if used else (0, 0))  # made once
    if used:
        layer.weight.mul_(1)  # whoever writes into them may have changed them
        layer(given)
        with arithmetic(CPU, "bf16"):
            assert layer(given).dtype == torch.bfloat16
        assert watch.made == 3
        assert copy.deepcopy(layer)._laid is None


@able
def test_too_short_for_a_frame_is_torchs_own_error() -> None:
    layer = nn.Conv1d(2, 8, 5, stride=2).requires_grad_(False)
    pack(layer, CPU)
    with pytest.raises(RuntimeError, match=r"(?i)kernel size"):
        layer(torch.randn(1, 2, 4))


@able
@pytest.mark.parametrize(
    ("trained", "grad", "kind", "used"),
    [
        (True, True, torch.float32, False), (True, False, torch.float32, True),
        (False, True, torch.float32, True), (False, False, torch.float64, False),
        (False, False, torch.bfloat16, False),
    ],
)  # fmt: skip
def test_where_a_gradient_is_taken_or_types_differ_torch_computes(
    trained: bool, grad: bool, kind: torch.dtype, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, watch = nn.Linear(4, 6).requires_grad_(trained), Used(monkeypatch)
    pack(layer, CPU)
    given = torch.ones(2, 4, dtype=kind)
    with torch.set_grad_enabled(grad):
        if kind == torch.float32:
            layer(given)
            assert bool(watch.taken) is used
            if not trained:
                given.requires_grad_(True)
                layer(given).sum().backward()
                assert watch.taken == 1 and given.grad is not None
        else:
            with pytest.raises(RuntimeError):  # types that don't fit are no business of ours
                layer(given)
            assert watch.taken == 0
            with arithmetic(CPU, "bf16"):
                layer(given) if kind == torch.bfloat16 else None
            assert bool(watch.taken) is (kind == torch.bfloat16)


def test_what_is_rounded_once_is_what_autocast_would_round() -> None:
    norm = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3))
    some = nn.Sequential(
        nn.Linear(4, 4), nn.Conv1d(4, 4, 3), nn.LayerNorm(4), norm, nn.Conv2d(1, 1, 1)
    )
    for precision in ("fp32", "tf32"):
        halve(some, precision)
        assert {p.dtype for p in some.parameters()} == {torch.float32}
    halve(some, "fp16")
    kinds = [{p.dtype for p in one.parameters()} for one in some]
    half, single = {torch.float16}, {torch.float32}
    assert kinds == [half, half, single, single, half]
    with arithmetic(CPU, "fp32"):
        assert not torch.is_autocast_enabled("cpu")
    with arithmetic(CPU, "bf16"):
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16 and torch.is_autocast_enabled(
            "cpu"
        )


# ------------------------------------------------------------------------------- measured


def test_memory_is_told_in_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "peak_memory", lambda: 1_234_567_890)
    assert measure.peaks(CPU) == {"peak_memory_gb": 1.235}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2_000_600_000)
    assert measure.peaks(torch.device("cuda")) == {
        "peak_memory_gb": 1.235, "peak_gpu_memory_gb": 2.001,
    }  # fmt: skip
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1003, 4000))
    assert measure.room(torch.device("cuda")) == 250 and measure.room(CPU) == 0


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_most_memory_in_bytes(
    monkeypatch: pytest.MonkeyPatch, platform: str, unit: int
) -> None:
    usage = SimpleNamespace(
        getrusage=lambda who: SimpleNamespace(ru_maxrss=5000 + who), RUSAGE_SELF=7
    )
    monkeypatch.setitem(sys.modules, "resource", usage)  # type: ignore[arg-type]
    monkeypatch.setattr(measure.sys, "platform", platform)
    assert measure.peak_memory() == 5007 * unit
    monkeypatch.setitem(sys.modules, "resource", None)  # type: ignore[arg-type]
    info = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=99))
    monkeypatch.setitem(sys.modules, "psutil", SimpleNamespace(Process=lambda: info))  # type: ignore[arg-type]
    assert measure.peak_memory() == 99


def test_a_device_as_records_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    assert measure.named(CPU) == "cpu (x86_64)" == measure.named(CPU, 1)
    assert measure.named(torch.device("cuda"), 2) == "cuda (NVIDIA H100) x 2 processes"


def test_glibc_alone_keeps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def mallopt(what: int, value: int, answer: int = 1) -> int:
        asked.append((what, value))
        return answer

    monkeypatch.setattr(memory.sys, "platform", "linux")
    library = SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    assert memory.keep_memory() is True and asked == [(-1, -1), (-4, 0)]
    asked.clear()
    assert memory.keep_memory(False) is True and asked == [(-3, 1 << 20)]
    library.mallopt = lambda what, value: int(what != -4)
    assert memory.keep_memory() is False
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert memory.keep_memory() is False and memory.keep_memory(False) is False
    kept: list[bool] = []
    monkeypatch.setattr(memory, "keep_memory", lambda: kept.append(True))
    monkeypatch.setattr(memory, "reproducible", lambda device, wanted: kept.append(wanted))
    memory.set_up("cpu", False)
    assert kept == [False, True]
    monkeypatch.setattr(memory, "resolve_device", lambda device: "cuda")
    memory.set_up("auto", True)
    assert kept == [False, True, True]


def test_only_a_gpu_is_asked_to_repeat_its_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch, "set_deterministic_debug_mode", modes.append)
    before = torch.backends.cudnn.deterministic
    try:
        reproducible("cpu", True)
        assert modes == ["default"] and not torch.backends.cudnn.deterministic
        monkeypatch.setattr("bab.machine.arithmetic.resolve_device", lambda name: "cuda")
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
        reproducible("auto", False)
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
        reproducible("auto", True)
        assert modes[1:] == ["default", "warn"] and torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.backends.cudnn.deterministic = before


def test_one_process_alone_is_as_accelerates() -> None:
    alone: Any = Alone()
    assert (alone.num_processes, alone.process_index, alone.is_main_process) == (1, 0, True)
    assert alone.device == CPU and alone.scaler is None and alone.mixed_precision == "no"


def test_a_precision_is_asked_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def refuse(device: str, precision: str) -> None:
        asked.append((device, precision))
        if precision == "bf16":
            raise ConfigError("no units")

    monkeypatch.setattr(choosing, "refuse_precision", refuse)
    assert choosing.chosen("auto", "cpu", "hubert:tiny", "vtc") == "fp32"
    assert choosing.chosen("auto", "cuda", "x", "vtc", before="fp16") == "fp16"
    assert choosing.chosen("fp32", "mps", "x", "vtc") == "fp32"
    assert asked == [("cpu", "bf16"), ("cuda", "fp16"), ("mps", "fp32")]
