"""On a CUDA device: `make gpu`, or `BAB_GPU_TESTS=1 pytest -m gpu`. Here, all of it in tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import forks
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
sys.path.append(str(SCRIPT.parent))
import gpu  # noqa: E402
import gpu_checks as checks  # noqa: E402

CHECKS = ("encoders", "heads", "objectives", "batches", "resume", "folds")


def said(*asked: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *asked]
    return forks.run(command, cwd=folder)


def test_all_of_it_runs_in_tiny_on_the_cpu(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text(f"# Speed\n\n{gpu.BEGIN}\nthe last one\n{gpu.END}\nafter\n")
    parts = "checks,steps,flow,curves"
    done = said("--smoke", "--device=cpu", "--only", parts, "--docs", "speed.md", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert set(parts.split(",")) <= set(result) and not result["problems"]
    assert len(result["steps"]) == 8  # two objectives, two sizes, alike and padded
    assert all(row["ms"] > 0 for row in result["steps"])
    assert {*CHECKS, "encoders bf16"} <= set(result["checks"])
    assert all(value > 0 for value in result["flow"].values())
    text = page.read_text()
    assert "the last one" not in text and text.endswith(f"{gpu.END}\nafter\n")
    assert text.count("| contrastive | fp32 |") == 4


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = said(folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["make gpu: no CUDA device here, so nothing was measured"]
    assert not (tmp_path / "gpu.json").exists()


def test_what_is_wrong_ends_in_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*asked: object) -> None:
        checks.within("encoder hubert in fp32", 0.5, 1e-4)

    monkeypatch.setattr(checks, "encoders", wrong)
    for name in ("heads", "objectives", "batches", "resume", "folds"):
        monkeypatch.setattr(checks, name, lambda *asked: {"x": 0.0})
    out = tmp_path / "gpu.json"
    asked = ["gpu.py", "--smoke", "--device=cpu", "--only=checks", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", asked)
    assert gpu.main() == 1
    problems = json.loads(out.read_text())["problems"]
    assert "encoder hubert in fp32: 5.00e-01 apart" in problems["checks"]


def test_a_second_of_audio_has_a_price() -> None:
    def row(audio: float, gb: float) -> dict[str, object]:
        return {"objective": "masked", "precision": "bf16", "audio": audio, "padded": False,
                "peak_gpu_memory_gb": gb}  # fmt: skip

    assert gpu.seconds_per_gb([row(128.0, 10.0), row(512.0, 34.0)]) == {"masked bf16": 16.0}


@pytest.mark.slow
def test_two_processes_in_tiny(tmp_path: Path) -> None:
    done = said("--smoke", "--device=cpu", "--only=pair", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "gpu.json").read_text())["pair"]["weights"] < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("check", CHECKS)
def test_a_gpu_computes_what_the_cpu_does(check: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    getattr(checks, check)(torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("half", ["bf16", "fp16"])
def test_half_precision_is_near(half: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    checks.encoders(torch.device("cuda"), half)
    checks.heads(torch.device("cuda"), half)
