"""Make a target store: sample frames, fit k-means, label everything; resumable, in any number of
processes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from bab.core import atomic
from bab.core.errors import BabError, ConfigError
from bab.core.sealed import DamagedError
from bab.core.types import Clip, Segment, Tell
from bab.data.content import content_id
from bab.data.sealed import read_json, write_json
from bab.machine.processes import share_cpus
from bab.starting.folders import locked
from bab.targets import kmeans
from bab.targets.features import FrameFeatures, pieces
from bab.targets.job import (
    WAIT,
    TargetJob,
    TargetOptions,
    digest,
    extracted,
    file_digest,
    has,
    shard_path,
    wait,
    write,
)
from bab.targets.store import CENTROIDS, FORMAT, INDEX, META, RASTER, Stretch, stretches

_BUSY = ".busy"  # a folder that holds the lock
_SHARD = 180_000  # frames (1 h): what is lost when a process is killed


def make(
    clips: Sequence[Clip],
    features: FrameFeatures,
    folder: Path,
    options: TargetOptions,
    described: dict[str, Any],
    tell: Tell,
) -> dict[str, Any]:
    """Write the targets of some clips into a folder, or finish what was begun there.

    described: further facts for targets.json. Every process of a group is given the same.

    Returns:
        What targets.json holds; of a stage, nothing.

    Raises:
        ConfigError: the folder holds targets that were made otherwise.
        AudioError: a file that can't be read, unless `skip_bad`.
        BusyError: another command is making targets there.
    """
    if not clips:
        raise BabError("there is no clip to make targets of: name another --corpus or --split")
    share_cpus(options.world)
    job = _begin(clips, features, folder, options, tell)
    done = _finished(job, whole=True)
    if done is not None:
        return done
    # A folder of its own: the others of this group may be writing beside it, and aren't swept away.
    with locked(folder / _BUSY, options.rank == 0):
        _refuse_other(job)
        return _made(job, described)


def _made(job: TargetJob, described: dict[str, Any]) -> dict[str, Any]:
    """Do what is left of a job, or of the stage that is asked for."""
    options = job.options
    if options.stage == "sample":
        kmeans.sample(job)
        return {}
    centres = kmeans.codebook(job)
    if options.stage == "fit":
        return {}
    identity = digest(job.plan, centres.numpy().tobytes().hex())
    _label(job, centres, identity)
    if options.stage == "label":
        return {}
    if options.rank == 0:
        wait(job, [shard_path(job, i) for i in range(len(job.shards))], identity, "labelling")
        _finish(job, centres, described, identity)
    return _await_meta(job)


def _begin(
    clips: Sequence[Clip], features: FrameFeatures, folder: Path, options: TargetOptions, tell: Tell
) -> TargetJob:
    spans = stretches(clips)
    segments: dict[str, list[Segment]] = {}
    for clip in clips:
        if clip.segments:  # of millions of clips without, no list each
            segments.setdefault(clip.path, []).extend(clip.segments)
    facts = [(Path(s.path).name, Path(s.path).stat().st_size, s.first, s.samples) for s in spans]
    names = sorted({s.label for listed in segments.values() for s in listed})
    given = None if options.given is None else file_digest(Path(options.given) / CENTROIDS)
    asked = (options.clusters, options.seed, options.sample_frames, options.sample_hours)
    plan = digest(FORMAT, features.identity, given or asked, names, facts)
    job = TargetJob(folder, features, options, spans, segments, names, plan, tell)
    job.shards = list(_shards(spans))
    return job


def _refuse_other(job: TargetJob) -> None:
    """Claim the folder for a plan.

    Raises:
        ConfigError: it holds targets of another one.
    """
    path = job.folder / "plan.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(path.read_text(encoding="utf-8"))["plan"] != job.plan:
            raise ConfigError(
                f"{job.folder} holds targets of other clips or options (features, clusters, seed, "
                "sample): name another --out, or delete that folder"
            )
        return
    if job.options.rank == 0:
        atomic.write_json(path, {"plan": job.plan, "features": job.features.described})


def _finished(job: TargetJob, whole: bool = False) -> dict[str, Any] | None:
    """What a finished store says of itself. whole: only if all of its files are sound."""
    with suppress(OSError, DamagedError):
        meta = read_json(job.folder / META, ("plan",), "")
        shards = [shard_path(job, i) for i in range(len(job.shards))]
        plan, identity = job.plan, str(meta.get("identity", ""))
        ready = all(path.exists() for path in (job.folder / INDEX, *shards))
        if whole and identity:
            ready = ready and all(has(job.folder / name, plan) for name in (INDEX, CENTROIDS))
            ready = ready and all(has(path, identity) for path in shards)
        if meta["plan"] == plan and ready:
            return meta
    return None


def _await_meta(job: TargetJob) -> dict[str, Any]:
    while (meta := _finished(job)) is None:
        time.sleep(WAIT)
    return meta


def _shards(spans: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    part: list[Stretch] = []
    frames = 0
    for stretch in spans:
        part.append(stretch)
        frames += stretch.frames
        if frames >= _SHARD:
            yield part
            part, frames = [], 0
    if part:
        yield part


def _label(job: TargetJob, centres: Tensor, identity: str) -> None:
    """Write this process's shards."""
    own = range(job.options.rank, len(job.shards), job.options.world)
    rate = RASTER.sample_rate
    total = sum(s.samples for number in own for s in job.shards[number]) / rate
    done = 0.0
    for number in own:
        path = shard_path(job, number)
        seconds = sum(s.samples for s in job.shards[number]) / rate
        if not has(path, identity):
            before = done
            tensors, failed = _shard(
                job,
                job.shards[number],
                centres,
                lambda more, before=before: job.tell("labelling", before + more, total, "s"),  # type: ignore[misc]
            )
            write(path, tensors, job, identity, {"failed": json.dumps(failed)})
        done += seconds
        job.tell("labelling", min(done, total), total, "s")


def _shard(
    job: TargetJob, part: Sequence[Stretch], centres: Tensor, tell: Callable[[float], None]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The tensors of one shard, and why stretches of it were left out."""
    kind = np.uint16 if len(centres) <= 1 << 16 else np.int32
    labels = [np.zeros(s.frames, kind) for s in part]
    inertia, missing = np.zeros(len(part)), np.array([s.frames for s in part])
    place = {id(s): i for i, s in enumerate(part)}
    failed: list[str] = []
    done = 0
    for piece, states in extracted(job, [p for s in part for p in pieces(s, job.features)], failed):
        if not torch.isfinite(states).all():
            raise BabError(f"{piece.stretch.path}: its features aren't finite")
        centres = centres.to(states.device)
        best, apart = kmeans.assign(states, centres)
        index = place[id(piece.stretch)]
        labels[index][piece.begin : piece.end] = best.cpu().numpy().astype(kind)
        inertia[index] += apart
        missing[index] -= piece.end - piece.begin
        done += piece.end - piece.begin
        tell(done * RASTER.seconds_per_frame)
    good = np.flatnonzero(missing == 0).tolist()
    tensors = _tensors(job, [part[i] for i in good], [labels[i] for i in good], len(centres))
    tensors["labels"] = np.concatenate([np.empty(0, kind), *(labels[i] for i in good)])
    tensors["inertia"] = inertia[good].sum(keepdims=True)
    return tensors, failed


def _tensors(
    job: TargetJob, part: Sequence[Stretch], labels: Sequence[NDArray[Any]], clusters: int
) -> dict[str, NDArray[Any]]:
    """Where a shard's labels belong, and what is counted in them."""
    joint = np.zeros((len(job.classes), clusters), np.int64)
    counts = np.zeros(clusters, np.int64)
    for stretch, own in zip(part, labels, strict=True):
        counts += np.bincount(own, minlength=clusters)
        reference = _reference(job, stretch)
        known = reference >= 0
        np.add.at(joint, (reference[known], own[known].astype(np.int64)), 1)
    ids = {s.path: content_id(s.path) for s in part}
    names = [np.frombuffer(bytes.fromhex(ids[s.path]), np.uint8) for s in part]
    return {
        "ids": np.array(names, np.uint8).reshape(-1, 16),
        "first": np.array([s.first for s in part], np.int64),
        "frames": np.array([s.frames for s in part], np.int64),
        "counts": counts,
        "joint": joint,
    }


def _reference(job: TargetJob, stretch: Stretch) -> NDArray[np.int64]:
    """i64[T]: the class of each frame's centre; -1 where there is no label, or more than one."""
    centres = RASTER.centres(stretch.frames) + stretch.first / RASTER.sample_rate
    reference = np.full(stretch.frames, -1, np.int64)
    several = np.zeros(stretch.frames, bool)
    classes = {name: i for i, name in enumerate(job.classes)}
    for segment in job.segments.get(stretch.path, ()):
        a, b = np.searchsorted(centres, [segment.start, segment.end])
        own = classes[segment.label]
        several[a:b] |= (reference[a:b] >= 0) & (reference[a:b] != own)
        reference[a:b] = own
    reference[several] = -1
    return reference


def _finish(job: TargetJob, centres: Tensor, described: dict[str, Any], identity: str) -> None:
    """The index and targets.json, from what all shards say."""
    columns: dict[str, list[NDArray[Any]]] = {}
    failed: list[str] = []
    state = hashlib.blake2b(centres.numpy().tobytes(), digest_size=16)
    for number in range(len(job.shards)):
        with safe_open(shard_path(job, number), framework="numpy") as shard:
            own = {n: shard.get_tensor(n) for n in shard.keys()}  # noqa: SIM118 (not a mapping)
            failed += json.loads(shard.metadata()["failed"])
        for name in ("ids", "first", "frames", "labels"):
            state.update(own[name].tobytes())
        own["shard"] = np.full(len(own["ids"]), number, np.int32)
        own["offset"] = np.cumsum([0, *own["frames"]])[:-1].astype(np.int64)
        del own["labels"]
        for name, values in own.items():
            columns.setdefault(name, []).append(values)
    kept = ("ids", "shard", "offset", "first", "frames")
    index = {name: np.concatenate(columns[name]) for name in kept}
    if not len(index["ids"]):
        raise BabError("no clip could be read: " + "; ".join(failed[:5]))
    order = np.lexsort([index["first"], *(index["ids"][:, i] for i in range(15, -1, -1))])
    write(job.folder / INDEX, {n: v[order] for n, v in index.items()}, job, job.plan)
    meta = _meta(
        job, index, {n: np.sum(columns[n], axis=0) for n in ("joint", "counts", "inertia")}
    )
    meta |= {"left_out": failed, "fingerprint": state.hexdigest(), "plan": job.plan}
    meta |= {"identity": identity, **described}
    shutil.rmtree(job.folder / "sample", ignore_errors=True)
    atomic.sweep(job.folder)  # the others have made their share, and wait
    write_json(job.folder / META, meta)


def _meta(
    job: TargetJob, index: dict[str, NDArray[Any]], sums: dict[str, NDArray[Any]]
) -> dict[str, Any]:
    """What the store holds. sums: over all shards."""
    frames, known = int(index["frames"].sum()), int(sums["joint"].sum())
    purity, sample = None, None
    if known:
        purity = {**kmeans.purity(sums["joint"]), "frames": known, "labels": job.classes}
    if job.options.given is None:
        sample = {"frames": job.options.sample_frames, "hours": job.options.sample_hours}
    return {
        "format": FORMAT,
        "features": job.features.described,
        "features_identity": job.features.identity,
        "clusters": len(sums["counts"]),
        "rate": RASTER.sample_rate,
        "hop": RASTER.hop,
        "field": RASTER.field,
        "recordings": len(np.unique(index["ids"], axis=0)),
        "stretches": len(index["ids"]),
        "frames": frames,
        "hours": round(frames * RASTER.seconds_per_frame / 3600, 4),
        "inertia": float(sums["inertia"][0]) / frames,
        "use": kmeans.use(sums["counts"]),
        "purity": purity,
        "seed": job.options.seed,
        "sample": sample,
    }
