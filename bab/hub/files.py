"""Weights in files: read without unpickling objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bab.core.weights import WeightsError, first_line, read_json

if TYPE_CHECKING:
    from torch import Tensor


CHECKPOINTS = (".ckpt", ".pt", ".pth")
_PORTION = 64 * 2**20  # bytes of a file that are mapped at a time
TENSORS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


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
    """The tensors of one file, on the CPU; a Lightning or torch checkpoint's `state_dict`. Each is
    in memory of its own (a mapped file may be overwritten), and little of the file beside it.

    Raises:
        WeightsError: naming the file, where it is damaged or holds more than plain values.
    """
    from zipfile import is_zipfile

    content, tensors, size = _mapped(path), {}, _PORTION
    again = path.suffix == ".safetensors" or is_zipfile(path)
    for name in list(content):
        if size >= _PORTION and again:  # a new map lets go of the pages that were read
            content, size = _mapped(path, checked=False), 0
        tensors[name] = content[name].clone()
        size += tensors[name].nbytes
    return tensors


def _mapped(path: Path, checked: bool = True) -> dict[str, Tensor]:
    content = _safetensors(path, checked) if path.suffix == ".safetensors" else _pickled(path)
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    from torch import Tensor

    named = content.items() if isinstance(content, dict) else ()
    tensors = {key: value for key, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name: it should hold a state_dict")
    return tensors


def _safetensors(path: Path, checked: bool) -> Any:
    from bab.core import sealed

    try:
        return sealed.read(path, remedy="copy it again", checked=checked)[0]
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
