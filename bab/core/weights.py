"""Weights in files: read without unpickling objects, and what identifies them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bab.core.errors import BabError

if TYPE_CHECKING:
    from torch import Tensor, nn

CHECKPOINTS = (".ckpt", ".pt", ".pth")
TENSORS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


class WeightsError(BabError):
    """Weights that are not there, can't be fetched, or are not what they are asked to be."""


def one_checkpoint(checkpoints: list[str], where: str) -> str:
    """The only one of a folder's or a repository's checkpoints.

    Raises:
        WeightsError: there is none, or several.
    """
    if not checkpoints:
        raise WeightsError(
            f"{where} holds no weights: looked for config.json with {' or '.join(TENSORS)}, "
            f"or one {' / '.join(CHECKPOINTS)} file"
        )
    if len(checkpoints) > 1:
        listed = ", ".join(sorted(checkpoints)[:8])
        raise WeightsError(f"{where} holds several checkpoints: name one, {where}/FILE ({listed})")
    return checkpoints[0]


# ------------------------------------------------------------------------------ files


def checkpoint(path: Path) -> Path | None:
    """The one checkpoint file that `path` is, or holds where it holds no config.json; else None.

    Raises:
        WeightsError: a folder without config.json that holds no checkpoint, or several.
    """
    if path.is_file():
        return path
    if (path / "config.json").is_file():
        return None
    names = [file.name for file in path.iterdir() if file.suffix in CHECKPOINTS]
    return path / one_checkpoint(names, str(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        WeightsError: naming the file, where it can't be read or is no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"can't read {path}: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is no JSON object: it should hold a model's configuration")
    return value


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of a transformers folder: one safetensors or .bin file, or shards and an index.

    Raises:
        WeightsError: naming the file.
    """
    name = next((name for name in TENSORS if (folder / name).is_file()), None)
    if name is None:
        raise WeightsError(f"{folder} has no weights: looked for {', '.join(TENSORS)}")
    if not name.endswith(".json"):
        return read_tensors(folder / name)
    shards = sorted(set(read_json(folder / name).get("weight_map", {}).values()))
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors.update(read_tensors(folder / shard))
    return tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, on the CPU; a Lightning or torch checkpoint's `state_dict`.

    Raises:
        WeightsError: naming the file, where it is damaged or holds more than plain values.
    """
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    from torch import Tensor

    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name: it should hold a state_dict")
    return tensors


def _safetensors(path: Path) -> Any:
    from bab.core import sealed

    try:
        return sealed.read(path, remedy="copy it again")[0]
    except (sealed.DamagedError, OSError) as error:
        raise WeightsError(f"can't read {path}: {first_line(error)}") from error


def _pickled(path: Path) -> Any:
    import pickle
    from zipfile import is_zipfile

    import torch

    try:  # mapped, not copied, where the format allows it
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged or holds more than tensors, and loading that could run code: "
            "re-save its state_dict alone, where you trust it"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, LookupError) as error:
        raise WeightsError(f"can't read {path}: {first_line(error)}; copy it again") from error


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


# ------------------------------------------------------------------------------ identity


def fingerprint(module: nn.Module, code_version: str, options: Mapping[str, Any]) -> str:
    """What identifies an encoder's output: 32 hexadecimal digits.

    SHA-256 over every tensor of the state dict (name, type, shape, bytes; sorted by name), the
    version of the code that runs them, and the options that change the output (plain JSON values).
    It reads every weight (about half a second for 95 million): compute it once, after loading.
    """
    import torch

    digest = hashlib.sha256()
    digest.update(json.dumps([code_version, dict(options)], sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"\0{name}\0{plain.dtype}\0{tuple(plain.shape)}\0".encode())
        digest.update(memoryview(plain.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()[:32]
