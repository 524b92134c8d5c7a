"""Frame targets made offline (k-means labels): how they lie on disk, and how crops read them.

A store holds the labels of *stretches* of audio, by the content of the file that they are in:
what a file is called, and where it lies, doesn't matter. Labels stand on one raster per stretch,
that of a 20 ms encoder: frame t of a stretch sees its samples [320 t, 320 t + 400) at 16 kHz.

    FOLDER/targets.json            what the labels are, and the store's fingerprint
    FOLDER/centroids.safetensors   f32[K, D]
    FOLDER/index.safetensors       where the labels of each stretch lie
    FOLDER/labels-00000.safetensors ...
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from bab.audio import reading
from bab.core import sealed
from bab.core.errors import AudioError, BabError
from bab.core.grid import Grid
from bab.core.types import Clip
from bab.data.content import content_id
from bab.data.sealed import read_json

RASTER = Grid(16000, 320, 400)
FORMAT = 1
META, CENTROIDS, INDEX = "targets.json", "centroids.safetensors", "index.safetensors"
_COLUMNS = ("ids", "shard", "offset", "first", "frames")  # of the index
_REMEDY = "the `bab targets` command that made it repairs it"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a file, in samples at 16 kHz."""

    path: str
    first: int
    samples: int

    @property
    def frames(self) -> int:
        return RASTER.frames(self.samples)


def stretches(clips: Iterable[Clip]) -> list[Stretch]:
    """The union of the clips' spans: those of a file that touch or overlap become one.

    Files in the order of the clips, spans by their start; what lies beyond a file's end is cut.
    """
    rate = RASTER.sample_rate
    spans: dict[str, list[tuple[int, int]]] = {}
    for clip in clips:
        spans.setdefault(clip.path, []).append((round(clip.start * rate), round(clip.end * rate)))
    joint = []
    for path, listed in spans.items():
        about = reading.info(path)
        total = (2 * about.frames * rate + about.rate) // (2 * about.rate)
        joined: list[tuple[int, int]] = []
        for first, last in sorted(listed):
            last = min(last, total)
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            elif first < last:
                joined.append((first, last))
        joint += [Stretch(path, first, last - first) for first, last in joined]
    return joint


class TargetStore:
    """Reads the labels of crops; opening it reads the index alone, and a crop touches its own
    labels alone. It may be used by several threads, and sent to other processes.

    clusters: K. rate: Hz; hop, field: samples at that rate. meta: all of targets.json.
    """

    def __init__(self, folder: Path) -> None:
        """folder: where `bab targets` wrote.

        Raises:
            BabError: no targets there, or unfinished ones.
        """
        self.folder = Path(folder)
        self.meta: dict[str, Any] = _meta(self.folder)
        self.clusters = int(self.meta["clusters"])
        known = len(centroids(self.folder, str(self.meta["plan"]))[0])
        if known != self.clusters:
            raise BabError(
                f"{self.folder / META}: {self.clusters} clusters, and {known} centroids beside it; "
                f"{_REMEDY}"
            )
        self.rate, self.hop, self.field = RASTER.sample_rate, RASTER.hop, RASTER.field
        self.fingerprint = str(self.meta["fingerprint"])
        index = _read(self.folder / INDEX, str(self.meta["plan"]), _COLUMNS)[0]
        columns = [index[name].numpy() for name in _COLUMNS]
        self._ids, self._shard, self._offset, self._first, self._frames = columns
        self._keys = _keys(self._ids)
        self._files: dict[int, Any] = {}
        self._rows: dict[str, tuple[int, int]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return TargetStore, (self.folder,)

    def labels(self, clip: Clip, frames: int) -> Tensor:
        """i64[frames], each in [0, clusters): the labels of a clip's frames.

        The clip may start on any sample. Frame t gets the label of the stored frame whose centre
        is nearest to its own (of two, the later): the frame itself where the clip starts on the
        raster of the stretch, otherwise one at most 10 ms away. A frame at the end may get the
        label of the one before it.

        Raises:
            BabError: audio that the store holds no labels for.
        """
        first = round(clip.start * self.rate)
        begin, end = self._range(clip.path)
        for row in range(begin, end):
            shift = (2 * (first - int(self._first[row])) + self.hop) // (2 * self.hop)
            there = int(self._frames[row])
            # The last frame of a crop between two frames may lie half a hop beyond the last one.
            if shift >= 0 and shift + frames <= there + 1:
                return self._read(row, shift, frames)
        raise self._missing(clip, begin, end)

    def require(self, clips: Iterable[Clip]) -> None:
        """Have a file without any labels told before anything is trained, and not hours later.

        Raises:
            BabError: the store holds nothing of a file of which these clips name a second or more.
        """
        for clip in {c.path: c for c in clips if c.duration >= 1}.values():
            if self._range(clip.path) == (0, 0):
                raise self._missing(clip, 0, 0)

    def _read(self, row: int, shift: int, frames: int) -> Tensor:
        shard, offset = int(self._shard[row]), int(self._offset[row])
        there = int(self._frames[row])
        begin, stop = min(shift, there - 1), min(shift + frames, there)
        file = self._files.get(shard)
        if file is None:
            path = self.folder / shard_name(shard)
            _read(path, str(self.meta.get("identity", "")), ("labels",))
            file = self._files[shard] = safe_open(path, framework="numpy")
        labels = file.get_slice("labels")[offset + begin : offset + stop].astype(np.int64)
        if len(labels) < frames:
            labels = np.concatenate([labels, labels[-1:]])
        return torch.from_numpy(labels)

    def _range(self, path: str) -> tuple[int, int]:
        """The rows of the index that belong to a file."""
        known = self._rows.get(path)
        if known is None:
            name = np.frombuffer(bytes.fromhex(content_id(path)), np.uint8)
            key = _keys(name[None])[0]
            begin = int(np.searchsorted(self._keys, key, "left"))
            end = int(np.searchsorted(self._keys, key, "right"))
            same = (self._ids[begin:end] == name).all(axis=1).nonzero()[0]
            known = (begin + int(same[0]), begin + int(same[-1]) + 1) if len(same) else (0, 0)
            self._rows[path] = known
        return known

    def _missing(self, clip: Clip, begin: int, end: int) -> BabError:
        asked = f"{clip.path}: no targets for {clip.start:.3f} to {clip.end:.3f} s"
        for why in self.meta.get("left_out", ()):
            if clip.path in why:  # a part of it couldn't be read then
                return AudioError(f"{asked}: left out when they were made: {why}")
        remedy = (
            f"Make targets of the same clips: bab targets --corpus CORPUS --centroids "
            f"{shlex.quote(str(self.folder))}"
            " --out NEW (or --encoder ... to fit anew)"
        )
        if begin == end:
            return BabError(
                f"{asked}: {self.folder} has none of this file's content: did it change, or was "
                f"its split left out (a run reads train and dev)? {remedy}"
            )
        spans = [
            f"{self._first[i] / self.rate:.3f} to "
            f"{(self._first[i] + self._frames[i] * self.hop) / self.rate:.3f} s"
            for i in range(begin, min(end, begin + 3))
        ]
        more = f" and {end - begin - 3} more" if end - begin > 3 else ""
        return BabError(f"{asked}: {self.folder} covers {', '.join(spans)}{more}. {remedy}")


def shard_name(number: int) -> str:
    return f"labels-{number:05d}.safetensors"


def centroids(folder: Path, plan: str = "") -> tuple[Tensor, dict[str, str]]:
    """f32[K, D], and what they were fitted on: `features` (its identity) and `described`.

    Raises:
        BabError: none there.
    """
    tensors, about = _read(Path(folder) / CENTROIDS, plan, ("centroids",))
    return tensors["centroids"], about


def key_of(path: Path, identity: str) -> str:
    """The key of a store's file. identity: of what it was made of; "" = not known."""
    return f"{identity}/{path.stem}" if identity else ""


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / META
    try:
        meta = read_json(path, ("format",), _REMEDY)
    except FileNotFoundError:
        begun = (folder / CENTROIDS).exists() or any(folder.glob("labels-*"))
        remedy = "finish them with the command that began them" if begun else "`bab targets` makes"
        what = "unfinished targets" if begun else "no targets there"
        raise BabError(f"{folder}: {what}; {remedy}{'' if begun else ' them'}") from None
    except OSError as error:
        raise BabError(f"{path}: can't be read ({error.strerror}); {_REMEDY}") from error
    if meta["format"] != FORMAT:
        raise BabError(f"{path}: not targets of format {FORMAT}; make them again")
    if lost := [key for key in ("clusters", "fingerprint", "plan") if meta.get(key) is None]:
        raise BabError(f"{path}: damaged (it lacks '{lost[0]}'); {_REMEDY}")
    if type(meta["clusters"]) is not int or meta["clusters"] < 1:
        raise BabError(f"{path}: damaged ({meta['clusters']!r:.60} clusters); {_REMEDY}")
    return meta


def _read(
    path: Path, identity: str, names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A file's tensors and metadata; names: of tensors that it must have."""
    try:
        tensors, about = sealed.read(path, key_of(path, identity), _REMEDY)
    except FileNotFoundError:
        raise BabError(f"{path}: not there; {_REMEDY}") from None
    if lost := [name for name in names if name not in tensors]:
        raise BabError(f"{path}: damaged (it lacks '{lost[0]}'); {_REMEDY}")
    return tensors, about


def _keys(ids: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """u64[N]: the first 8 bytes of each id, big-endian, so that they sort as the ids do."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8")[:, 0].astype(np.uint64)
