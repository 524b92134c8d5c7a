"""What a GPU run asks of the machine, on a machine that has none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from train_worker import make_job

from bab.core import checkpoint, device
from bab.core.errors import BabError, BusyError, ConfigError
from bab.core.options import TrainConfig
from bab.core.trainer import Trainer
from bab.machine import measure, processes
from bab.machine.arithmetic import reproducible
from bab.machine.processes import Alone, same_checkpoint
from bab.starting import folders
from bab.starting.lifecycle import lifecycle


def test_the_fast_suite_sees_no_gpu() -> None:
    """Its runs say `auto`, and are compared to the byte."""
    if os.environ.get("BAB_GPU_TESTS"):
        pytest.skip("they are asked for")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not torch.cuda.is_available()


def a_gpu(monkeypatch: pytest.MonkeyPatch, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated=True: bf16)


def test_auto_is_bf16_where_a_gpu_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.resolve_precision("auto", "auto") == "fp32"
    a_gpu(monkeypatch)
    assert device.resolve_precision("auto", "auto") == "bf16"
    assert device.resolve_precision("cuda", "auto") == "bf16"
    assert device.resolve_precision("cpu", "auto") == "fp32"
    assert device.resolve_precision("cuda", "tf32") == "tf32"
    a_gpu(monkeypatch, bf16=False)
    assert device.resolve_precision("cuda", "auto") == "fp32"


def test_a_resolved_run_says_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """So its id, its cache and its record do."""
    from bab.config.resolve import pretrain_config, run_config

    asked = {"encoder": "fbank", "task": "vtc"}
    here = run_config(None, asked, [])
    assert here.train.precision == "fp32"
    a_gpu(monkeypatch)
    there = run_config(None, asked, [])
    assert there.train.precision == "bf16" and there.identity() != here.identity()
    assert run_config(None, {**asked, "device": "cpu"}, []).train.precision == "fp32"
    pre = {"encoder": "wav2vec2:random-tiny", "objective": "contrastive", "corpus": "rttm"}
    assert pretrain_config(None, pre, []).train.precision == "bf16"


def test_tf32_is_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="tf32"):
        device.refuse_precision("cpu", "tf32")
    device.refuse_precision("cuda", "tf32")
    with pytest.raises(ConfigError, match="precision tf32: mps doesn't compute in it; use fp32"):
        device.refuse_precision("mps", "tf32")


def test_half_precision_only_where_there_are_units(monkeypatch: pytest.MonkeyPatch) -> None:
    def cpu(bf16: bool, tiles: bool) -> None:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)

    cpu(False, False)
    with pytest.raises(ConfigError, match=r"this CPU has no bf16 units \(AVX512-bf16, AMX\), so"):
        device.refuse_precision("cpu", "bf16")
    device.refuse_precision("cpu", "fp32")
    for here in ((True, False), (False, True)):
        cpu(*here)
        device.refuse_precision("cpu", "bf16")
        with pytest.raises(ConfigError, match=r"precision fp16: this CPU has no fp16 units, so"):
            device.refuse_precision("cpu", "fp16")
    a_gpu(monkeypatch, bf16=False)
    with pytest.raises(ConfigError, match="precision bf16: this GPU has no bf16 units; use fp16"):
        device.refuse_precision("cuda", "bf16")
    device.refuse_precision("cuda", "fp16")
    a_gpu(monkeypatch)
    device.refuse_precision("cuda", "bf16")


def test_the_first_device_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def there(cuda: bool, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    for cuda, mps, first in ((1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")):
        there(bool(cuda), bool(mps))
        assert device.resolve_device("auto") == first
        assert device.resolve_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match=r"'cuda' is not available here \(there is cpu\)"):
        device.resolve_device("cuda")


@pytest.mark.parametrize("precision, on", [("fp32", False), ("tf32", True), ("bf16", False)])
def test_products_and_convolutions_compute_alike(
    monkeypatch: pytest.MonkeyPatch, precision: str, on: bool
) -> None:
    a_gpu(monkeypatch)
    was_reset: list[bool] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: was_reset.append(True))
    monkeypatch.setattr("accelerate.Accelerator", lambda **asked: SimpleNamespace(**asked))
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = not on
    try:
        handle = device.accelerator("cuda", precision, False)
        assert torch.backends.cuda.matmul.allow_tf32 is on
        assert torch.backends.cudnn.allow_tf32 is on
        assert handle.mixed_precision == ("bf16" if precision == "bf16" else "no")
        assert was_reset  # a run's peak is its own
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


def test_a_second_run_has_a_device_of_its_own() -> None:
    from accelerate.state import PartialState

    with lifecycle("cpu", "fp32", False, []):
        PartialState._shared_state["device"] = torch.device("meta")  # as an earlier run's GPU
    with lifecycle("cpu", "fp32", False, []) as life:
        assert life.accelerator.device == torch.device("cpu")


def test_a_finished_training_is_forgotten(tmp_path: Path) -> None:
    """Else each fold of a fine-tuning would leave its model and its optimizer behind."""
    job = make_job(tmp_path, TrainConfig(steps=2, batch=12))
    trainer = Trainer(job)
    bundle, optimizer = weakref.ref(trainer.bundle), weakref.ref(trainer.optimizer)
    trainer.fit()
    del trainer
    assert bundle() is None and optimizer() is None
    assert job.accelerator._models == []


def test_why_a_gpu_is_overlooked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    driver = tmp_path / "version"
    monkeypatch.setattr(measure, "_DRIVER", driver)
    monkeypatch.setattr(measure.shutil, "which", lambda name: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert measure.overlooked(cpu) == ""
    driver.write_text("NVRM version: 470\n")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    here = "computing on the CPU, though this machine has NVIDIA's driver: torch "
    assert measure.overlooked(cpu) == (
        f"{here}{torch.__version__} is built for CUDA 13.0, which the driver may be too old for "
        "(nvidia-smi names the newest it can run): install a build for that CUDA, or a newer driver"
    )
    monkeypatch.setattr(torch.version, "cuda", None)
    told = f"{here}{torch.__version__} is built without CUDA: install a CUDA build"
    assert measure.overlooked(cpu) == told
    assert measure.overlooked(torch.device("cuda")) == ""
    for hidden in ("", "-1"):  # somebody hid it
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert measure.overlooked(cpu) == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    driver.unlink()
    assert measure.overlooked(cpu) == ""
    monkeypatch.setattr(measure.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert measure.overlooked(cpu) == told  # the driver's program tells of it as well
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert measure.overlooked(cpu) == ""


def test_which_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-abc")
    assert measure.visible_gpus() == ["2", "GPU-abc"]
    for nothing in ("", "-1", " , -1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert measure.visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert measure.visible_gpus() == ["0", "1"]


def pretended(monkeypatch: pytest.MonkeyPatch, said: str | None, lacking: list[bool]) -> None:
    """Two ranks: what the first one says, and which of them miss it besides this one."""
    monkeypatch.setattr("accelerate.utils.broadcast_object_list", lambda own: [said])
    monkeypatch.setattr("accelerate.utils.gather_object", lambda own: [*own, *lacking])


def test_ranks_go_on_from_one_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    two = SimpleNamespace(num_processes=2)
    name = "step-000000004.safetensors"
    pretended(monkeypatch, name, [False])
    with pytest.raises(BabError, match="all machines share"):
        same_checkpoint(tmp_path, two)
    (tmp_path / name).write_bytes(b"")
    same_checkpoint(tmp_path, two)
    assert checkpoint.latest(tmp_path) == tmp_path / name
    pretended(monkeypatch, name, [True])  # the other one lacks it: this one ends, too
    with pytest.raises(BabError, match=name):
        same_checkpoint(tmp_path, two)
    pretended(monkeypatch, None, [False])  # this one has what the first hasn't
    with pytest.raises(BabError, match="none"):
        same_checkpoint(tmp_path, two)
    same_checkpoint(tmp_path, SimpleNamespace(num_processes=1))


def test_a_file_system_without_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NFS without its lock daemon, Lustre without flock: their errors aren't `would block`."""
    import fcntl

    def refuses(*asked: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuses)
    held = folders.locked(tmp_path, True)
    with held, pytest.raises(BusyError), folders.locked(tmp_path, True):
        pass
    with folders.locked(tmp_path, True):
        pass


def test_deterministic_is_for_gpus_and_ends_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    reproducible("cpu", True)
    assert not torch.are_deterministic_algorithms_enabled()
    a_gpu(monkeypatch)
    try:
        reproducible("cuda", True)
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        reproducible("cpu", False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_pooled_heads_train_on_the_cpu() -> None:
    from bab.running.context import Context

    def trainer(kind: str, pooled: bool, world: int = 1, features: object = object()) -> object:
        handle = SimpleNamespace(device=torch.device(kind), num_processes=world)
        context = SimpleNamespace(
            accelerator=handle, features=features, parts=SimpleNamespace(pooled=pooled)
        )
        chosen = Context.trainer.fget(context)  # type: ignore[attr-defined]
        return "own" if chosen is handle else chosen

    assert isinstance(trainer("cuda", True), Alone)
    assert trainer("cpu", True) == trainer("cuda", False) == trainer("cuda", True, 2) == "own"
    assert trainer("cuda", True, features=None) == "own"


def test_alone_trains_as_accelerate_does(tmp_path: Path) -> None:
    """To the bit."""
    weights = []
    for name, handle in (("a", None), ("b", processes.Alone())):
        job = make_job(tmp_path / name, TrainConfig(steps=3, batch=12, accumulation=2))
        job.accelerator = handle or job.accelerator
        Trainer(job).fit()
        weights.append([p.clone() for p in job.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_hidden_gpus_are_hidden_from_children() -> None:
    if os.environ.get("BAB_GPU_TESTS"):
        pytest.skip("GPUs are asked for")
    code = "import os; print(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "''"
