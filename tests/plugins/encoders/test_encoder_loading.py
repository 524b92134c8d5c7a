"""Weights are read into memory of their own, and none are drawn only to be replaced."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import bab
from bab.hub import files as core
from bab.plugins.encoders.shared import states

SIZE: dict[str, Any] = {
    "hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 400,
    "conv_dim": [32] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    transformers.HubertModel(transformers.HubertConfig(**SIZE)).save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def lose(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors = {key: value.clone() for key, value in tensors.items() if not key.startswith(name)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def encoder(folder: Path) -> bab.Encoder:
    cls = bab.load("encoders", "hubert")
    made: bab.Encoder = cls.load(str(folder), cls.Options(), offline=True)
    return made


def test_nothing_is_imported_where_tensors_are_made_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers imports a model's module, and with it torchaudio, when it is first named: a
    constant of torchaudio's would stay without a value, and fbank fail in that process."""

    where = set()

    class Named:
        def __getattr__(self, name: str) -> object:
            where.add(torch.empty(1).device.type)
            return getattr(transformers, name)

    monkeypatch.setitem(sys.modules, "transformers", Named())
    encoder(folder)
    assert where == {"cpu"}


@pytest.mark.parametrize("lost", ["", "masked_spec_embed"])
def test_built_empty_or_drawn_first_it_is_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """To the bit; also what a checkpoint lacks, which is drawn after all that is not."""
    if lost:
        lose(folder, lost)
    made: list[bool] = []
    own = states._empty

    def noting(*args: object) -> object:
        made.append((empty := own(*args)) is not None)  # type: ignore[arg-type]
        return empty

    monkeypatch.setattr(states, "_LARGE", 1 << 10)
    monkeypatch.setattr(states, "_empty", noting)
    new = encoder(folder)
    monkeypatch.setattr(states, "_empty", lambda *_: None)
    old = encoder(folder)
    assert made == [True] and new.fingerprint == old.fingerprint
    for (name, one), other in zip(new.named_parameters(), old.parameters(), strict=True):
        assert torch.equal(one, other) and one.requires_grad == other.requires_grad, name
    waves = bab.Waves(torch.randn(1, 8000), torch.tensor([8000]))
    assert torch.equal(new(waves).layers[-1], old(waves).layers[-1])


def test_what_is_missing_is_named_as_ever(folder: Path) -> None:
    lose(folder, "encoder.layers.1.")
    with pytest.raises(bab.BabError, match=r"lacks \d+ of the encoder's \d+ tensors"):
        encoder(folder)


@pytest.mark.parametrize("kind", ["safetensors", "ckpt", "legacy"])
def test_a_file_that_is_overwritten_changes_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    tensors = {f"t{n}": torch.full((1000,), float(n)) for n in range(6)}
    path = tmp_path / f"w.{'safetensors' if kind == 'safetensors' else 'ckpt'}"
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        zipped = kind == "ckpt"
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.setattr(core, "_PORTION", 5000)  # every other tensor maps the file anew
    read = core.read_tensors(path)
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
