"""Weights in files, and fingerprints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bab.core.weights import WeightsError, fingerprint, first_line, read_json
from bab.hub.files import checkpoint, read_folder, read_tensors

# ------------------------------------------------------------------------------ files


def test_read_tensors_of_each_kind(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    save_file(tensors, tmp_path / "x.safetensors")
    torch.save(tensors, tmp_path / "x.bin")
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "x.ckpt")
    for name in ("x.safetensors", "x.bin", "x.ckpt"):
        read = read_tensors(tmp_path / name)
        assert set(read) == {"a", "b"} and torch.equal(read["b"], tensors["b"])


def test_read_folder_of_shards(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.ones(1)}, tmp_path / "model-2.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert set(read_folder(tmp_path)) == {"a", "b"}
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-2\.safetensors"):
        read_folder(tmp_path)


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_damaged_and_dangerous_files(tmp_path: Path) -> None:
    good = tmp_path / "good.bin"
    torch.save({"a": torch.zeros(1000)}, good)
    (tmp_path / "cut.bin").write_bytes(good.read_bytes()[:2000])
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": Bomb(tmp_path / "boom"), "b": torch.zeros(1)}, tmp_path / "bomb.bin")
    for file in ("cut.bin", "cut.safetensors", "empty.ckpt", "list.pt", "bomb.bin", "gone.pt"):
        with pytest.raises(WeightsError, match=file) as caught:
            read_tensors(tmp_path / file)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "boom").exists()


def test_read_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text in ("", "{", "\xff", "[" * 100_000):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(WeightsError) as error:
            read_json(path)
        assert str(error.value).startswith(f"can't read {path}: ")
    path.write_text("[1]")
    with pytest.raises(WeightsError) as error:
        read_json(path)
    assert str(error.value) == (f"{path} is no JSON object: it should hold a model's configuration")
    path.write_text('{"é": [1]}', encoding="utf-8")
    assert read_json(path) == {"é": [1]}


def test_of_an_error_one_line_is_told() -> None:
    assert first_line(ValueError("  one\ntwo")) == "one"
    assert first_line(ValueError("x" * 201)) == "x" * 200
    assert first_line(ValueError("")) == first_line(ValueError(" \n")) == "ValueError"


def test_checkpoint_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no weights"):
        checkpoint(tmp_path)
    (tmp_path / "a.ckpt").touch()
    assert checkpoint(tmp_path) == tmp_path / "a.ckpt" == checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "b.pt").touch()
    with pytest.raises(WeightsError, match=r"several checkpoints.*\(a\.ckpt, b\.pt\)"):
        checkpoint(tmp_path)
    (tmp_path / "config.json").touch()
    assert checkpoint(tmp_path) is None


# ------------------------------------------------------------------------------ identity


def test_fingerprint_sees_every_weight_option_and_version() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2).half())
    first = fingerprint(module, "1", {"a": 1, "b": [2]})
    assert len(first) == 32 and first == fingerprint(module, "1", {"b": [2], "a": 1})
    seen = {first, fingerprint(module, "2", {"a": 1, "b": [2]}), fingerprint(module, "1", {})}
    state = module.state_dict()
    for tensor in state.values():
        tensor.view(-1)[-1] += 1
        seen.add(fingerprint(module, "1", {"a": 1, "b": [2]}))
        tensor.view(-1)[-1] -= 1
    assert len(seen) == 3 + len(state)
    # Names and shapes count, not bytes alone.
    a, b = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        b.weight.copy_(a.weight.reshape(2, 3))
    assert fingerprint(a, "1", {}) != fingerprint(b, "1", {})
