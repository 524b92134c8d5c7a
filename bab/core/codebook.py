"""The centroids of a target store: sample frames in all processes, fit k-means in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from bab.core import cluster
from bab.core.errors import ConfigError
from bab.core.framefeatures import Piece, pieces
from bab.core.targetjob import Job, extracted, has, wait, write
from bab.core.targets import CENTROIDS, RASTER, centroids

_BLOCK = 64  # sampled pieces in one file


def codebook(job: Job) -> Tensor:
    """f32[K, D]: fitted by process 0 on what all have sampled, or given."""
    path, settings = job.folder / CENTROIDS, job.settings
    if settings.given is not None:
        found, about = centroids(settings.given)
        if about.get("features") != job.features.identity:
            raise ConfigError(
                f"{settings.given}: these centroids are of {about.get('described', 'others')}, not "
                f"of {job.features.described} with these weights"
            )
        if settings.rank == 0 and not has(path, job.plan):
            write(path, {"centroids": found.numpy()}, job, job.plan)
    elif not has(path, job.plan):
        picked = _picked(job)
        files = [job.folder / "sample" / f"{i:05d}.safetensors" for i in range(len(picked))]
        _sample(job, picked, files)
        if settings.rank == 0:
            wait(job, files, job.plan, "sampling")
            job.tell("k-means", 0, 1, "fits")
            fitted = cluster.fit(_gather(files), settings.clusters, settings.seed)
            write(path, {"centroids": fitted.numpy()}, job, job.plan)
            job.tell("k-means", 1, 1, "fits")
    wait(job, [path], job.plan, "")
    return centroids(job.folder)[0]


Picked = list[tuple[Piece, NDArray[np.int64]]]  # pieces, and the frames of each that are kept


def _picked(job: Job) -> list[Picked]:
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


def _sample(job: Job, picked: Sequence[Picked], files: Sequence[Path]) -> None:
    """Write this process's blocks of the sample."""
    own = range(job.settings.rank, len(picked), job.settings.world)
    for done, number in enumerate(own):
        job.tell("sampling", done, len(own), "blocks")
        if not has(files[number], job.plan):
            wanted = {id(piece): rows for piece, rows in picked[number]}
            found = [
                states[torch.from_numpy(wanted[id(piece)]).to(states.device)].cpu().numpy()
                for piece, states in extracted(job, [piece for piece, _ in picked[number]], [])
            ]
            empty = np.empty((0, job.features.dim), np.float32)
            write(files[number], {"frames": np.concatenate([empty, *found])}, job, job.plan)
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
