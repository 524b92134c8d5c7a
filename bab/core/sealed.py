"""Safetensors files that hold their own key and checksum, so that a flipped bit, or another file's
bytes, is found when they are read. What has none (other tools, earlier versions) is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bab.core import atomic
from bab.core.errors import BabError

KEY, SUM = "bab.key", "bab.sum"  # of the metadata
_PAGE = 4096


class DamagedError(BabError):
    """A file that doesn't hold what was written into it."""


def checksum(data: Any) -> int:
    """32 bits of a tensor, array or buffer: the CRC of its pages' sums, as words of 64 bits, and of
    what is left. At 30 GB/s, seven times a CRC of all, a cached epoch hardly notices. Any flipped
    bit, lost page, or page in another's place changes it."""
    if hasattr(data, "detach"):  # numpy has no bfloat16
        import torch

        data = data.detach().cpu().contiguous().reshape(-1, 1).view(torch.uint8).numpy()
    flat = np.frombuffer(data, np.uint8)
    whole = len(flat) // _PAGE * _PAGE
    sums = flat[:whole].view(np.uint64).reshape(-1, _PAGE // 8).sum(axis=1, dtype=np.uint64)
    return zlib.crc32(flat[whole:].data, zlib.crc32(sums.data))


def digest(facts: object) -> str:
    """16 hexadecimal digits of plain values."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def _total(tensors: Mapping[str, Any], about: Mapping[str, str]) -> str:
    listed = [
        (name, str(t.dtype).removeprefix("torch."), tuple(t.shape), checksum(t))
        for name, t in sorted(tensors.items())
    ]
    return digest((listed, sorted(item for item in about.items() if item[0] != SUM)))


def write_tensors(path: Path, tensors: Mapping[str, Any], key: str, **about: str) -> str:
    """Write tensors of torch, atomically; returns the checksum. key: what the file is, which `read`
    asks for."""
    plain = {name: t.cpu().contiguous() for name, t in tensors.items()}
    about[KEY] = key
    about[SUM] = _total(plain, about)
    save(path, plain, about)
    return about[SUM]


def save(path: Path, tensors: dict[str, Any], about: Mapping[str, str]) -> None:
    """Write contiguous tensors of the CPU, atomically; the same ones give the same bytes."""
    from safetensors.torch import save_file

    with atomic.atomic_path(path, sum(t.nbytes for t in tensors.values())) as temporary:
        save_file(tensors, temporary, dict(about))
        with temporary.open("r+b") as file:  # metadata come in random order: sort them in place
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            header["__metadata__"] = dict(sorted(about.items()))
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
            if len(text) <= size:
                file.seek(8)
                file.write(text.ljust(size))


def read(
    path: Path, key: str = "", remedy: str = "", checked: bool = True
) -> tuple[dict[str, Any], dict[str, str]]:
    """The tensors of torch, on the CPU, mapped from the file, and the metadata. checked=False: of a
    file that was read just now.

    Raises:
        FileNotFoundError: no such file.
        DamagedError: naming the file and the remedy, where it can't be read, its checksum doesn't
            hold, or it has another key than is asked for.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise DamagedError(f"{path} is damaged ({error}): {remedy}") from None
    if checked and (KEY in about or SUM in about):
        if about.get(SUM) != _total(tensors, about):
            raise DamagedError(f"{path} is damaged (its checksum doesn't hold): {remedy}")
        if key and about.get(KEY) != key:
            raise DamagedError(f"{path} is another's, '{about.get(KEY)}' not '{key}': {remedy}")
    return tensors, about
