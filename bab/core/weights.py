"""What weights are called, and what identifies them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bab.core.errors import BabError

if TYPE_CHECKING:
    from torch import nn


class WeightsError(BabError):
    """Weights that are not there, can't be fetched, or are not what they are asked to be."""


# ------------------------------------------------------------------------------ files


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        WeightsError: naming the file, where it can't be read or is no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"can't read {path}: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is no JSON object: it should hold a model's configuration")
    return value


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
