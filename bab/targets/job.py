"""What the parts of `bab targets` share: the job, its files, and how processes wait for another.

Processes meet in the folder alone: each makes its share, in files that appear whole, and waits for
those of the others. What is there already isn't made again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bab.core import sealed
from bab.core.errors import AudioError, BabError
from bab.core.types import Segment, Tell
from bab.targets.features import FrameFeatures, Piece, passes
from bab.targets.store import Stretch, key_of, shard_name

Stage = Literal["", "sample", "fit", "label"]
WAIT = 0.2  # seconds between looks at what other processes have made


@dataclass(frozen=True)
class TargetOptions:
    """What is asked of `make`. sample_frames bounds memory, sample_hours the work of the fit.

    stage: only that, by processes that don't wait for one another: the sample and the labels of a
    share (rank of world), the fit by one; "" = all.
    """

    clusters: int
    seed: int = 0
    sample_frames: int = 500_000
    sample_hours: float = 20.0
    given: Path | None = None  # the folder of a fitted k-means
    skip_bad: bool = False
    rank: int = 0
    world: int = 1
    stage: Stage = ""


@dataclass
class TargetJob:
    """The state of one process."""

    folder: Path
    features: FrameFeatures
    options: TargetOptions
    stretches: list[Stretch]
    segments: dict[str, list[Segment]]
    classes: list[str]  # labels of the segments, for the purity
    plan: str  # digest of all that the labels depend on, but for the audio itself
    tell: Tell
    shards: list[list[Stretch]] = field(default_factory=list)


def extracted(
    job: TargetJob, wanted: Sequence[Piece], failed: list[str]
) -> Iterator[tuple[Piece, Tensor]]:
    """Features of pieces, in order. Unreadable ones are told in `failed` where that is allowed."""
    for part in passes(wanted, job.features.seconds):
        try:
            yield from zip(part, job.features.extract(part), strict=True)
            continue
        except AudioError:
            if not job.options.skip_bad:
                raise
        for piece in part:
            try:
                yield piece, job.features.extract([piece])[0]
            except AudioError as error:
                failed.append(str(error))


def shard_path(job: TargetJob, number: int) -> Path:
    return job.folder / shard_name(number)


def write(
    path: Path,
    tensors: dict[str, NDArray[Any]],
    job: TargetJob,
    identity: str,
    more: dict[str, str] | None = None,
) -> None:
    about = {
        "identity": identity,
        "features": job.features.identity,
        "described": job.features.described,
        **(more or {}),
    }
    whole = {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in tensors.items()}
    sealed.write_tensors(path, whole, key_of(path, identity), **about)


def has(path: Path, identity: str) -> bool:
    """Whether a whole and sound file of this identity is there."""
    try:
        _, about = sealed.read(path, key_of(path, identity))
    except (OSError, sealed.DamagedError):
        return False
    return about.get("identity") == identity


def wait(job: TargetJob, paths: Sequence[Path], identity: str, stage: str) -> None:
    """Until other processes have made what is theirs."""
    missing = list(paths)
    while missing := [path for path in missing if not has(path, identity)]:
        if stage:
            done = len(paths) - len(missing)
            job.tell(f"{stage} (all processes)", done, len(paths), "files")
        time.sleep(WAIT)


def digest(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise BabError(
            f"{path}: can't be read ({error.strerror}); --centroids names a folder that "
            "`bab targets` wrote"
        ) from None
