"""Make a target store: sample frames, fit k-means, label everything; resumable, in any number of
processes.

Processes meet in the folder alone: each makes its share of the samples and shards, in files that
appear whole, and waits for those of the others. What is there already isn't made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from bab.core import atomic, cluster
from bab.core.build import content_memo
from bab.core.content import content_id
from bab.core.errors import AudioError, BabError, ConfigError
from bab.core.framefeatures import FrameFeatures, Piece, passes, pieces
from bab.core.records import Clip, Segment
from bab.core.targets import (
    CENTROIDS,
    FORMAT,
    INDEX,
    META,
    RASTER,
    Stretch,
    centroids,
    shard_name,
    stretches,
)


class Tell(Protocol):
    """Is told how far a stage is; the unit is seconds of audio where none is named."""

    def __call__(self, stage: str, done: float, total: float, unit: str = "s") -> None: ...


_SHARD = 180_000  # frames (1 h): what is lost when a process is killed
_BLOCK = 64  # sampled pieces in one file
_WAIT = 0.2  # seconds between looks at what other processes have made


@dataclass(frozen=True)
class Settings:
    """What is asked of `make`. sample_frames bounds memory, sample_hours the work of the fit."""

    clusters: int
    seed: int = 0
    sample_frames: int = 500_000
    sample_hours: float = 20.0
    given: Path | None = None  # the folder of a fitted k-means
    skip_bad: bool = False
    rank: int = 0
    world: int = 1


@dataclass
class _Job:
    """The state of one process."""

    folder: Path
    features: FrameFeatures
    settings: Settings
    stretches: list[Stretch]
    segments: dict[str, list[Segment]]
    classes: list[str]  # labels of the segments, for the purity
    plan: str  # digest of all that the labels depend on, but for the audio itself
    tell: Tell
    shards: list[list[Stretch]] = field(default_factory=list)


def make(
    clips: Sequence[Clip],
    features: FrameFeatures,
    folder: Path,
    settings: Settings,
    described: dict[str, Any],
    tell: Tell,
) -> dict[str, Any]:
    """Write the targets of some clips into a folder, or finish what was begun there.

    described: further facts for targets.json. Every process of a group is given the same.

    Returns:
        What targets.json holds.

    Raises:
        ConfigError: the folder holds targets that were made otherwise.
        AudioError: a file that can't be read, unless `skip_bad`.
    """
    if not clips:
        raise BabError("there is no clip to make targets of: name another --corpus or --split")
    job = _begin(clips, features, folder, settings, tell)
    done = _finished(job)
    if done is not None:
        return done
    codebook = _codebook(job)
    identity = _digest(job.plan, codebook.numpy().tobytes().hex())
    _label(job, codebook, identity)
    if settings.rank == 0:
        _wait(job, [_shard_path(job, i) for i in range(len(job.shards))], identity, "labelling")
        _finish(job, codebook, described)
    return _await_meta(job)


def _begin(
    clips: Sequence[Clip], features: FrameFeatures, folder: Path, settings: Settings, tell: Tell
) -> _Job:
    found = stretches(clips)
    segments: dict[str, list[Segment]] = {}
    for clip in clips:
        if clip.segments:
            segments.setdefault(clip.path, []).extend(clip.segments)
    facts = [(Path(s.path).name, Path(s.path).stat().st_size, s.first, s.samples) for s in found]
    names = sorted({s.label for listed in segments.values() for s in listed})
    given = None if settings.given is None else _file_digest(Path(settings.given) / CENTROIDS)
    asked = (settings.clusters, settings.seed, settings.sample_frames, settings.sample_hours)
    plan = _digest(FORMAT, features.identity, given or asked, names, facts)
    job = _Job(folder, features, settings, found, segments, names, plan, tell)
    job.shards = list(_shards(found))
    _refuse_other(job)
    return job


def _refuse_other(job: _Job) -> None:
    """Claim the folder for a plan.

    Raises:
        ConfigError: it holds targets of another one.
    """
    path = job.folder / "plan.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(path.read_text())["plan"] != job.plan:
            raise ConfigError(
                f"{job.folder} holds targets of other clips or settings (features, clusters, seed, "
                "sample): name another --out, or delete that folder"
            )
        return
    if job.settings.rank == 0:
        atomic.write_json(path, {"plan": job.plan, "features": job.features.described})


def _finished(job: _Job) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        meta = json.loads((job.folder / META).read_text(encoding="utf-8"))
        if isinstance(meta, dict) and meta.get("plan") == job.plan:
            return meta
    return None


def _await_meta(job: _Job) -> dict[str, Any]:
    while (meta := _finished(job)) is None:
        time.sleep(_WAIT)
    return meta


# --- k-means ---------------------------------------------------------------------------------


def _codebook(job: _Job) -> Tensor:
    """f32[K, D]: fitted by process 0 on what all have sampled, or given."""
    path, settings = job.folder / CENTROIDS, job.settings
    if settings.given is not None:
        found, about = centroids(settings.given)
        if about.get("features") != job.features.identity:
            raise ConfigError(
                f"{settings.given}: these centroids are of {about.get('described', 'others')}, not "
                f"of {job.features.described} with these weights"
            )
        if settings.rank == 0 and not _has(path, job.plan):
            _write(path, {"centroids": found.numpy()}, job, job.plan)
    elif not _has(path, job.plan):
        picked = _picked(job)
        files = [job.folder / "sample" / f"{i:05d}.safetensors" for i in range(len(picked))]
        _sample(job, picked, files)
        if settings.rank == 0:
            _wait(job, files, job.plan, "sampling")
            job.tell("k-means", 0, 1, "fits")
            fitted = cluster.fit(_gather(files), settings.clusters, settings.seed)
            _write(path, {"centroids": fitted.numpy()}, job, job.plan)
            job.tell("k-means", 1, 1, "fits")
    _wait(job, [path], job.plan, "")
    return centroids(job.folder)[0]


Picked = list[tuple[Piece, NDArray[np.int64]]]  # pieces, and the frames of each that are kept


def _picked(job: _Job) -> list[Picked]:
    """The sample, in blocks: pieces at random until there are enough hours, and of their frames
    as many as memory is to hold. It depends on the seed and the clips alone."""
    everything = [p for s in job.stretches for p in pieces(s, job.features)]
    draw = np.random.default_rng(job.settings.seed)
    order = draw.permutation(len(everything))
    sizes = np.array([p.end - p.begin for p in everything])[order]
    hours = sizes.cumsum() * RASTER.seconds_per_frame / 3600
    count = int(np.searchsorted(hours, job.settings.sample_hours)) + 1
    chosen = [everything[i] for i in sorted(order[:count])]
    bounds = np.cumsum([0, *(p.end - p.begin for p in chosen)])
    kept = np.arange(bounds[-1])
    if len(kept) > job.settings.sample_frames:
        kept = np.sort(draw.choice(bounds[-1], job.settings.sample_frames, replace=False))
    cuts = np.searchsorted(kept, bounds)
    rows: Picked = [
        (piece, kept[cuts[i] : cuts[i + 1]] - bounds[i]) for i, piece in enumerate(chosen)
    ]
    return [rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK)]


def _sample(job: _Job, picked: Sequence[Picked], files: Sequence[Path]) -> None:
    """Write this process's blocks of the sample."""
    own = range(job.settings.rank, len(picked), job.settings.world)
    for done, number in enumerate(own):
        job.tell("sampling", done, len(own), "blocks")
        if not _has(files[number], job.plan):
            wanted = {id(piece): rows for piece, rows in picked[number]}
            found = [
                states[torch.from_numpy(wanted[id(piece)]).to(states.device)].cpu().numpy()
                for piece, states in _extracted(job, [piece for piece, _ in picked[number]], [])
            ]
            empty = np.empty((0, job.features.dim), np.float32)
            _write(files[number], {"frames": np.concatenate([empty, *found])}, job, job.plan)
    job.tell("sampling", len(own), len(own), "blocks")


def _gather(files: Sequence[Path]) -> NDArray[np.float32]:
    """All sampled frames, f32[N, D], each held once."""
    shapes = []
    for path in files:
        with safe_open(path, framework="numpy") as block:
            shapes.append(block.get_slice("frames").get_shape())
    out = np.empty((sum(s[0] for s in shapes), shapes[0][1]), np.float32)
    at = 0
    for path, (rows, _) in zip(files, shapes, strict=True):
        with safe_open(path, framework="numpy") as block:
            out[at : at + rows] = block.get_tensor("frames")
        at += rows
    return out


def _extracted(
    job: _Job, wanted: Sequence[Piece], failed: list[str]
) -> Iterator[tuple[Piece, Tensor]]:
    """Features of pieces, in order. Unreadable ones are told in `failed` where that is allowed."""
    for part in passes(wanted):
        try:
            yield from zip(part, job.features.extract(part), strict=True)
            continue
        except AudioError:
            if not job.settings.skip_bad:
                raise
        for piece in part:
            try:
                yield piece, job.features.extract([piece])[0]
            except AudioError as error:
                failed.append(str(error))


# --- labels ----------------------------------------------------------------------------------


def _shards(found: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    part: list[Stretch] = []
    frames = 0
    for stretch in found:
        part.append(stretch)
        frames += stretch.frames
        if frames >= _SHARD:
            yield part
            part, frames = [], 0
    if part:
        yield part


def _label(job: _Job, codebook: Tensor, identity: str) -> None:
    """Write this process's shards."""
    own = range(job.settings.rank, len(job.shards), job.settings.world)
    rate = RASTER.sample_rate
    total = sum(s.samples for number in own for s in job.shards[number]) / rate
    done = 0.0
    for number in own:
        path = _shard_path(job, number)
        seconds = sum(s.samples for s in job.shards[number]) / rate
        if not _has(path, identity):
            before = done
            tensors, failed = _shard(
                job,
                job.shards[number],
                codebook,
                lambda more, before=before: job.tell("labelling", before + more, total),  # type: ignore[misc]
            )
            _write(path, tensors, job, identity, {"failed": json.dumps(failed)})
        done += seconds
        job.tell("labelling", min(done, total), total)


def _shard(
    job: _Job, part: Sequence[Stretch], codebook: Tensor, tell: Callable[[float], None]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The tensors of one shard, and why stretches of it were left out."""
    clusters = len(codebook)
    kind = np.uint16 if clusters <= 1 << 16 else np.int32
    labels = {i: np.zeros(s.frames, kind) for i, s in enumerate(part)}
    place = {id(s): i for i, s in enumerate(part)}
    todo = [piece for s in part for piece in pieces(s, job.features)]
    inertia, done = 0.0, 0
    got = dict.fromkeys(labels, 0)
    failed: list[str] = []
    for piece, states in _extracted(job, todo, failed):
        if not torch.isfinite(states).all():
            raise BabError(f"{piece.stretch.path}: its features aren't finite")
        codebook = codebook.to(states.device)
        best, apart = cluster.assign(states, codebook)
        index = place[id(piece.stretch)]
        labels[index][piece.begin : piece.end] = best.cpu().numpy().astype(kind)
        got[index] += piece.end - piece.begin
        inertia += apart
        done += piece.end - piece.begin
        tell(done * RASTER.seconds_per_frame)
    good = [i for i, s in enumerate(part) if got[i] == s.frames]
    joint = np.zeros((len(job.classes), clusters), np.int64)
    counts = np.zeros(clusters, np.int64)
    for i in good:
        counts += np.bincount(labels[i], minlength=clusters)
        _count_joint(joint, labels[i], _reference(job, part[i]))
    ids = {part[i].path: content_id(part[i].path, content_memo()) for i in good}
    names = [np.frombuffer(bytes.fromhex(ids[part[i].path]), np.uint8) for i in good]
    tensors = {
        "labels": np.concatenate([np.empty(0, kind), *(labels[i] for i in good)]),
        "ids": np.array(names, np.uint8).reshape(-1, 16),
        "first": np.array([part[i].first for i in good], np.int64),
        "frames": np.array([part[i].frames for i in good], np.int64),
        "counts": counts,
        "inertia": np.array([inertia]),
        "joint": joint,
    }
    return tensors, failed


def _reference(job: _Job, stretch: Stretch) -> NDArray[np.int64]:
    """i64[T]: the class of each frame's centre; -1 where there is no label, or more than one."""
    centres = RASTER.centres(stretch.frames) + stretch.first / RASTER.sample_rate
    found = np.full(stretch.frames, -1, np.int64)
    several = np.zeros(stretch.frames, bool)
    classes = {name: i for i, name in enumerate(job.classes)}
    for segment in job.segments.get(stretch.path, ()):
        a, b = np.searchsorted(centres, [segment.start, segment.end])
        own = classes[segment.label]
        several[a:b] |= (found[a:b] >= 0) & (found[a:b] != own)
        found[a:b] = own
    found[several] = -1
    return found


def _count_joint(
    joint: NDArray[np.int64], labels: NDArray[Any], reference: NDArray[np.int64]
) -> None:
    known = reference >= 0
    np.add.at(joint, (reference[known], labels[known].astype(np.int64)), 1)


def _finish(job: _Job, codebook: Tensor, described: dict[str, Any]) -> None:
    """The index and targets.json, from what all shards say."""
    columns: dict[str, list[NDArray[Any]]] = {}
    failed: list[str] = []
    state = hashlib.blake2b(codebook.numpy().tobytes(), digest_size=16)
    for number in range(len(job.shards)):
        with safe_open(_shard_path(job, number), framework="numpy") as shard:
            found = {n: shard.get_tensor(n) for n in shard.keys()}  # noqa: SIM118 (not a mapping)
            failed += json.loads(shard.metadata()["failed"])
        for name in ("ids", "first", "frames", "labels"):
            state.update(found[name].tobytes())
        rows = len(found["ids"])
        found["shard"] = np.full(rows, number, np.int32)
        found["offset"] = np.cumsum([0, *found["frames"]])[:-1].astype(np.int64)
        del found["labels"]
        for name, values in found.items():
            columns.setdefault(name, []).append(values)
    kept = ("ids", "shard", "offset", "first", "frames")
    index = {name: np.concatenate(columns[name]) for name in kept}
    order = np.lexsort([index["first"], *(index["ids"][:, i] for i in range(15, -1, -1))])
    _write(job.folder / INDEX, {n: v[order] for n, v in index.items()}, job, job.plan)
    frames = int(index["frames"].sum())
    if not frames:
        raise BabError("no clip could be read: " + "; ".join(failed[:5]))
    joint = np.sum(columns["joint"], axis=0)
    known = int(joint.sum())
    meta = {
        "format": FORMAT,
        "features": job.features.described,
        "features_identity": job.features.identity,
        "clusters": len(codebook),
        "rate": RASTER.sample_rate,
        "hop": RASTER.hop,
        "field": RASTER.field,
        "recordings": len(np.unique(index["ids"], axis=0)),
        "stretches": len(index["ids"]),
        "frames": frames,
        "hours": round(frames * RASTER.seconds_per_frame / 3600, 4),
        "inertia": float(np.sum(columns["inertia"])) / frames,
        "use": cluster.use(np.sum(columns["counts"], axis=0)),
        "purity": {**cluster.purity(joint), "frames": known, "labels": job.classes}
        if known
        else None,
        "seed": job.settings.seed,
        "sample": {
            "frames": job.settings.sample_frames,
            "hours": job.settings.sample_hours,
        }
        if job.settings.given is None
        else None,
        "left_out": failed,
        "fingerprint": state.hexdigest(),
        "plan": job.plan,
        **described,
    }
    shutil.rmtree(job.folder / "sample", ignore_errors=True)
    atomic.write_json(job.folder / META, meta)


# --- files -----------------------------------------------------------------------------------


def _shard_path(job: _Job, number: int) -> Path:
    return job.folder / shard_name(number)


def _write(
    path: Path,
    tensors: dict[str, NDArray[Any]],
    job: _Job,
    identity: str,
    more: dict[str, str] | None = None,
) -> None:
    about = {
        "identity": identity,
        "features": job.features.identity,
        "described": job.features.described,
        **(more or {}),
    }
    whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    atomic.write_bytes(path, save(whole, metadata=about))


def _has(path: Path, identity: str) -> bool:
    """Whether a whole file of this identity is there."""
    try:
        with safe_open(path, framework="numpy") as file:
            return bool((file.metadata() or {}).get("identity") == identity)
    except (OSError, SafetensorError):
        return False


def _wait(job: _Job, paths: Sequence[Path], identity: str, stage: str) -> None:
    """Until other processes have made what is theirs."""
    missing = list(paths)
    while missing := [path for path in missing if not _has(path, identity)]:
        if stage:
            done = len(paths) - len(missing)
            job.tell(f"{stage} (all processes)", done, len(paths), "files")
        time.sleep(_WAIT)


def _digest(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _file_digest(path: Path) -> str:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise BabError(
            f"{path}: can't be read ({error.strerror}); --centroids names a folder that "
            "`bab targets` wrote"
        ) from None


def process() -> tuple[int, int, int]:
    """(rank, world, local rank) of this process, as torchrun says."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    return rank, world, int(os.environ.get("LOCAL_RANK", str(rank)))
