"""The small trained encoders that ship with the package: there, small, loadable, the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bab.core import registry
from bab.core.config import from_command_line
from bab.core.records import Waves
from bab.plugins.encoders.hubert import Hubert
from bab.plugins.encoders.wav2vec2 import Wav2Vec2

FOLDER = Path(__file__).parents[1] / "bab" / "plugins" / "encoders" / "weights"
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
    assert from_command_line(None, {"encoder": name, "task": "vtc"}).encoder.spec == f"{name}:tiny"
    encoder = registry.load("encoders", name).load("tiny", cls.Options(), offline=True)
    assert encoder.resolved == f"{name}:tiny"
    assert sum(p.numel() for p in encoder.parameters()) < 2e6
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


@BOTH
def test_its_states_depend_on_the_audio_more_than_untrained_ones(cls: type[Hubert]) -> None:
    """Training has to have moved it: its last state differs between a tone and noise by more,
    relative to its size, than that of the same architecture untrained."""

    def apart(weights: str) -> float:
        encoder = cls.load(weights, cls.Options(), offline=True)
        draw = torch.Generator().manual_seed(0)
        tone = torch.sin(torch.arange(16000) * 2 * torch.pi * 440 / 16000) * 0.1
        noise = torch.randn(16000, generator=draw) * 0.1
        waves = Waves(torch.stack([tone, noise]), torch.tensor([16000, 16000]))
        with torch.no_grad():
            one, other = encoder(waves, layers="last").layers[-1].mean(1)
        return float((one - other).norm() / (one.norm() + other.norm()))

    assert apart("tiny") > 1.5 * apart("random-tiny")
