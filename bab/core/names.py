"""How a component, an ensemble and a corpus are spelt. Imports no torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bab.core import registry
from bab.core.errors import ConfigError

# Section -> the registry's kind, and what may follow the colon in its spelling.
COMPONENTS: Mapping[str, tuple[str, str]] = {
    "encoder": ("encoders", "weights"),
    "task": ("tasks", ""),
    "corpus": ("datasets", "root"),
    "test_corpus": ("datasets", "root"),
    "head": ("heads", ""),
    "objective": ("objectives", ""),
}
_LONGEST = 200  # bytes
FUSIONS = ("concat", "late")  # of an ensemble


class Member(NamedTuple):
    """One encoder of a spelling: `ast:base` -> ("ast", "base")."""

    name: str
    weights: str

    @property
    def spec(self) -> str:
        """As a person types it."""
        return f"{self.name}:{self.weights}" if self.weights else self.name


def members(spec: str) -> tuple[Member, ...]:
    """The encoders that a spelling names, in order: of `ast+wav2vec2:base+clap` three.

    A `+` parts two members only where an encoder's name follows it, so that a folder or a hub id
    may hold one.
    """
    pieces = spec.strip().split("+") if "+" in spec else [spec]
    parts: list[str] = []
    for piece in pieces:
        if not parts or registry.known("encoders", piece.partition(":")[0].strip()):
            parts.append(piece.strip())
        else:
            parts[-1] += f"+{piece}"
    split = (part.removeprefix(f"{registry.OWN}/").partition(":") for part in parts)
    return tuple(Member(name, rest) for name, _, rest in split)


def spelling(section: str, text: str) -> dict[str, Any]:
    """`hubert:base` -> {"name": "hubert", "weights": "base"}; `rttm:/data` has a `root`; an
    ensemble `ast+clap:tiny` is all name.

    Raises:
        ConfigError: nothing before the colon, or a colon where none belongs.
    """
    if section == "encoder" and len(members(text)) > 1:
        return {"name": text.strip()}
    name, colon, rest = text.strip().removeprefix(f"{registry.OWN}/").partition(":")
    after = COMPONENTS[section][1]
    if not name or (colon and not rest) or (colon and not after):
        form = f"NAME or NAME:{after.upper()}" if after else "NAME"
        raise ConfigError(f"{section} '{text}' is not spelled {form}")
    return {"name": name, after: rest} if colon else {"name": name}


def short(resolved: str, fingerprint: str) -> str:
    """An encoder's name in a path: `hubert:base` -> `hubert-base`; with the beginning of its
    fingerprint where it is a folder: `hubert:/data/mine` -> `hubert-mine-1a2b3c4d`."""
    parts = members(resolved)
    own = f"-{fingerprint[:8]}" if any(Path(m.weights).is_absolute() for m in parts) else ""
    return "+".join(_called(m) for m in parts) + own


def _called(member: Member) -> str:
    """What a folder is called by: not `model`, nor the id of a run."""
    parts = Path(member.weights).parts
    told = [p for p in parts[1:] if p != "model" and not re.fullmatch("[0-9a-f]{12}", p)] or parts
    name = told[-1] if told else ""
    own = Path(member.weights).is_absolute() and name.startswith(f"{member.name}-")
    return name if own else f"{member.name}-{name}".rstrip("-")


def file_name(text: str) -> str:
    """A text as part of a path, in letters that every file system takes."""
    return fitted(re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.") or "x")


def fitted(part: str) -> str:
    """A part of a path, with room for an ending: one of over 200 bytes is cut, and ends with a hash
    of the whole. File systems take 255 bytes, however few letters that is."""
    letters = part.encode("utf-8", "surrogateescape")
    if len(letters) <= _LONGEST:
        return part
    digest = hashlib.blake2b(letters, digest_size=4).hexdigest()
    return f"{letters[: _LONGEST - 9].decode('utf-8', 'ignore')}-{digest}"
