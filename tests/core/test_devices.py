"""Devices, precisions and threads of machines made up here; what accelerate is told of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from bab.core.device import (
    accelerator,
    one_thread,
    refuse_precision,
    resolve_device,
    resolve_precision,
)
from bab.core.errors import ConfigError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what this machine has: of cuda, mps, bf16 (on the GPU), avx512, amx."""

    def have(*there: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)

        def supported(including_emulation: bool = True) -> bool:
            return including_emulation or "bf16" in there

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "avx512" in there)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx" in there)

    have()
    return have


@pytest.mark.parametrize(
    ("there", "name", "expected"),
    [
        ((), "auto", "cpu"),
        (("mps",), "auto", "mps"),
        (("cuda", "mps"), "auto", "cuda"),
        (("cuda",), "cuda", "cuda"),
        (("cuda",), "cpu", "cpu"),
        (("mps",), "mps", "mps"),
    ],
)
def test_which_device_is_meant(
    machine: Any, there: tuple[str, ...], name: str, expected: str
) -> None:
    machine(*there)
    assert resolve_device(name) == expected


def test_a_device_that_isnt_here_is_named_with_those_that_are(machine: Any) -> None:
    machine("mps")
    with pytest.raises(ConfigError) as error:
        resolve_device("cuda")
    told = "device 'cuda' is not available here (there is mps, cpu): --device auto"
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("there", "device", "name", "expected"),
    [
        ((), "cpu", "auto", "fp32"),
        ((), "auto", "auto", "fp32"),
        (("cuda",), "cuda", "auto", "fp32"),
        (("cuda", "bf16"), "cuda", "auto", "bf16"),
        (("cuda", "bf16"), "auto", "auto", "bf16"),
        (("cuda", "bf16"), "cpu", "auto", "fp32"),
        (("cuda", "bf16"), "mps", "auto", "fp32"),
        (("bf16",), "cuda", "auto", "fp32"),
        (("cuda", "bf16"), "cuda", "fp16", "fp16"),
        ((), "cpu", "bf16", "bf16"),
    ],
)
def test_which_precision_is_meant(
    machine: Any, there: tuple[str, ...], device: str, name: str, expected: str
) -> None:
    machine(*there)
    assert resolve_precision(device, name) == expected


SLOWER = "so it would only be slower; use fp32"
UNITS = "this CPU has no bf16 units (AVX512-bf16, AMX)"


@pytest.mark.parametrize(
    ("there", "device", "name", "said"),
    [
        ((), "cpu", "fp32", ""),
        ((), "cuda", "fp32", ""),
        (
            (),
            "cpu",
            "bf16",
            f"precision bf16: {UNITS}, {SLOWER}",
        ),
        (("avx512",), "cpu", "bf16", ""),
        (("amx",), "cpu", "bf16", ""),
        (("amx", "avx512"), "cpu", "fp16", f"precision fp16: this CPU has no fp16 units, {SLOWER}"),
        (("amx",), "cpu", "tf32", f"precision tf32: this CPU has no tf32 units, {SLOWER}"),
        (("cuda",), "cuda", "tf32", ""),
        (("mps",), "mps", "tf32", "precision tf32: mps doesn't compute in it; use fp32"),
        (("mps",), "mps", "fp16", ""),
        (("mps",), "mps", "bf16", ""),
        (("cuda",), "cuda", "fp16", ""),
        (("cuda", "bf16"), "cuda", "bf16", ""),
        (("cuda",), "cuda", "bf16", "precision bf16: this GPU has no bf16 units; use fp16 or fp32"),
    ],
)
def test_precisions_that_only_cost_are_refused(
    machine: Any, there: tuple[str, ...], device: str, name: str, said: str
) -> None:
    machine(*there)
    if said:
        with pytest.raises(ConfigError) as error:
            refuse_precision(device, name)
        assert str(error.value) == said
    else:
        refuse_precision(device, name)


class Asked(Accelerator):
    """Notes what it is asked for, and touches no device."""

    def __init__(self, **asked: Any) -> None:
        self.asked = asked


@pytest.mark.parametrize("unused", [False, True])
@pytest.mark.parametrize(
    ("device", "precision", "mixed", "tf32"),
    [
        ("cpu", "auto", "no", None), ("cuda", "tf32", "no", True), ("cuda", "auto", "bf16", False),
        ("cuda", "fp16", "fp16", False), ("auto", "fp32", "no", False),
    ],
)  # fmt: skip
def test_what_accelerate_is_told(
    machine: Any, monkeypatch: pytest.MonkeyPatch, device: str, precision: str, mixed: str,
    tf32: bool | None, unused: bool,
) -> None:  # fmt: skip
    machine("cuda", "bf16")
    peaks: list[int] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: peaks.append(1))
    monkeypatch.setattr("accelerate.Accelerator", Asked)
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [one.allow_tf32 for one in backends]
    for one in backends:
        one.allow_tf32 = not tf32
    try:
        made = accelerator(device, precision, unused)
        allowed = [one.allow_tf32 for one in backends]
    finally:
        for one, value in zip(backends, before, strict=True):
            one.allow_tf32 = value
    assert (made.asked["cpu"], made.asked["mixed_precision"]) == (device == "cpu", mixed)
    ddp, group = made.asked["kwargs_handlers"]
    assert ddp.find_unused_parameters is unused and group.timeout == timedelta(hours=12)
    assert len(peaks) == (device != "cpu")
    assert allowed == ([not tf32] * 2 if tf32 is None else [tf32] * 2)  # a CPU has none


def test_small_products_take_one_thread_for_as_long_as_they_last() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread(False):
            assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), one_thread(True):
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        with one_thread(True):
            torch.set_num_threads(2)  # somebody else's wish, which stays
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
