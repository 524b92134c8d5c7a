"""The small trained encoders that ship with the package: there, small, loadable, the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from places import ROOT
from safetensors import safe_open

from bab.config.resolve import run_config
from bab.core import registry
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.wav2vec2 import Wav2Vec2
from bab.running.runner import run

FOLDER = ROOT / "bab" / "plugins" / "encoders" / "weights"
BOTH = pytest.mark.parametrize("cls", [Hubert, Wav2Vec2], ids=["hubert", "wav2vec2"])


def folder(cls: type[Hubert] | type[Wav2Vec2]) -> Path:
    return FOLDER / f"{cls.family.model_type}-tiny"


@BOTH
def test_it_is_small_half_precision_and_has_a_card(cls: type[Hubert]) -> None:
    file = folder(cls) / "model.safetensors"
    assert file.stat().st_size <= 4e6
    with safe_open(file, framework="pt") as tensors:
        kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    assert kinds == {"F16"}
    card = (folder(cls) / "README.md").read_text(encoding="utf-8")
    for credit in ("speechocean762", "DonateACry", "ODbL", "Hindi", "synthetic"):
        assert credit in card
    assert "dev loss" in card and f"recipes/{cls.family.model_type}-tiny.yaml" in card


@BOTH
def test_it_is_the_default_and_loads_without_a_hub(cls: type[Hubert]) -> None:
    name = cls.family.model_type
    assert cls.default == "tiny"
    assert run_config(None, {"encoder": name, "task": "vtc"}).encoder.spec == f"{name}:tiny"
    encoder = registry.load("encoders", name).load("tiny", cls.Options(), offline=True)
    assert encoder.resolved == f"{name}:tiny"
    assert sum(p.numel() for p in encoder.parameters()) < 2e6
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


@pytest.mark.slow  # the shipped weights stay as they are from day to day
@BOTH
def test_it_tells_voices_apart_better_than_untrained(
    cls: type[Hubert], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    name = cls.family.model_type

    def f1(weights: str) -> float:
        asked = {"encoder": f"{name}:{weights}", "task": "vtc", "runs": str(tmp_path / "runs")}
        sets = ["train.steps=100", "train.eval_every=50"]
        record, _ = run(run_config(None, {**asked, "observers": []}, sets))
        return record.metrics["f1"]

    assert f1("tiny") > f1("random-tiny") + 0.03
