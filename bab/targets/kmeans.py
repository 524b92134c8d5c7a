"""k-means over frames: the centroids of a target store, and what clusters say of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from bab.core.errors import ConfigError
from bab.targets.features import Piece, pieces
from bab.targets.job import TargetJob, extracted, has, wait, write
from bab.targets.store import CENTROIDS, RASTER, centroids

_BLOCK = 64  # sampled pieces in one file
Picked = list[tuple[Piece, NDArray[np.int64]]]  # pieces, and the frames of each that are kept


def fit(frames: NDArray[np.float32], clusters: int, seed: int) -> Tensor:
    """f32[N, D] -> centroids f32[K, D], by MiniBatchKMeans with BabyHuBERT's settings
    (arXiv 2509.15001, and HuBERT's before it): 20 starts by k-means++, batches of 10,000.

    Raises:
        ConfigError: fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(frames) < clusters:
        raise ConfigError(
            f"--clusters {clusters}: there are {len(frames)} frames to fit them on; ask for fewer "
            "clusters, or raise --sample-frames and --sample-hours"
        )
    model = MiniBatchKMeans(
        n_clusters=clusters,
        init="k-means++",
        batch_size=10_000,
        max_iter=100,
        tol=0.0,
        n_init=20,
        max_no_improvement=100,
        reassignment_ratio=0.0,
        random_state=seed % 2**32,
    ).fit(frames)
    return torch.from_numpy(model.cluster_centers_.astype(np.float32))


def assign(frames: Tensor, centroids: Tensor) -> tuple[Tensor, float]:
    """The nearest centroid of each frame, i64[T], and the sum of squared distances to them.

    frames: f32[T, D]; centroids: f32[K, D], on the same device.
    """
    partial = centroids.square().sum(1) - 2 * frames @ centroids.T
    best = partial.min(dim=1)
    apart = (frames.square().sum(1) + best.values).clamp(min=0)
    return best.indices, float(apart.cpu().double().sum())  # not every device has doubles


def use(counts: NDArray[np.int64]) -> dict[str, Any]:
    """How evenly clusters are used: how many at all, and the perplexity (K where all are alike)."""
    share = counts[counts > 0] / counts.sum()
    return {
        "used": len(share),
        "perplexity": round(math.exp(-float((share * np.log(share)).sum())), 2),
        "largest_share": round(float(share.max(initial=0.0)), 4),
    }


def purity(joint: NDArray[np.int64]) -> dict[str, float]:
    """What clusters say of labels. joint: i64[labels, K], frames by label and cluster.

    phone_purity: share of frames whose label is the commonest of their cluster; cluster_purity:
    share whose cluster is the commonest of their label; pnmi: mutual information, as a share of
    the labels' entropy (HuBERT, arXiv 2106.07447, sec. V-A).
    """
    p = joint / joint.sum()
    py, pz = p.sum(axis=1), p.sum(axis=0)
    inside = p > 0
    information = float((p[inside] * np.log(p[inside] / np.outer(py, pz)[inside])).sum())
    entropy = -float((py[py > 0] * np.log(py[py > 0])).sum())
    return {
        "phone_purity": round(float(p.max(axis=0).sum()), 4),
        "cluster_purity": round(float(p.max(axis=1).sum()), 4),
        "pnmi": round(information / entropy, 4) if entropy > 0 else math.nan,
    }


# ------------------------------------------------------------------------------- of a store


def codebook(job: TargetJob) -> Tensor:
    """f32[K, D]: fitted by process 0 on what all have sampled, or given."""
    path, options = job.folder / CENTROIDS, job.options
    if options.given is not None:
        given, about = centroids(options.given)
        if about.get("features") != job.features.identity:
            raise ConfigError(
                f"{options.given}: these centroids are of {about.get('described', 'others')}, not "
                f"of {job.features.described} with these weights"
            )
        if options.rank == 0 and not has(path, job.plan):
            write(path, {"centroids": given.numpy()}, job, job.plan)
    elif not has(path, job.plan):
        files = sample(job)
        if options.rank == 0:
            wait(job, files, job.plan, "sampling")
            job.tell("k-means", 0, 1, "fits")
            fitted = fit(_gather(files), options.clusters, options.seed)
            write(path, {"centroids": fitted.numpy()}, job, job.plan)
            job.tell("k-means", 1, 1, "fits")
    wait(job, [path], job.plan, "")
    return centroids(job.folder)[0]


def sample(job: TargetJob) -> list[Path]:
    """Draw this process's share of the frames that are fitted on; the files of all shares. None
    where the centroids are given, or there already."""
    if job.options.given is not None or has(job.folder / CENTROIDS, job.plan):
        return []
    picked = _picked(job)
    files = [job.folder / "sample" / f"{i:05d}.safetensors" for i in range(len(picked))]
    _sample(job, picked, files)
    return files


def _picked(job: TargetJob) -> list[Picked]:
    """The sample, in blocks: pieces at random until there are enough hours, and of their frames
    as many as memory is to hold. It depends on the seed and the clips alone."""
    everything = [p for s in job.stretches for p in pieces(s, job.features)]
    draw = np.random.default_rng(job.options.seed)
    order = draw.permutation(len(everything))
    sizes = np.array([p.end - p.begin for p in everything])[order]
    hours = sizes.cumsum() * RASTER.seconds_per_frame / 3600
    count = int(np.searchsorted(hours, job.options.sample_hours)) + 1
    chosen = [everything[i] for i in sorted(order[:count])]
    bounds = np.cumsum([0, *(p.end - p.begin for p in chosen)])
    kept = np.arange(bounds[-1])
    if len(kept) > job.options.sample_frames:
        kept = np.sort(draw.choice(bounds[-1], job.options.sample_frames, replace=False))
    cuts = np.searchsorted(kept, bounds)
    rows: Picked = [
        (piece, kept[cuts[i] : cuts[i + 1]] - bounds[i]) for i, piece in enumerate(chosen)
    ]
    return [rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK)]


def _sample(job: TargetJob, picked: Sequence[Picked], files: Sequence[Path]) -> None:
    """Write this process's blocks of the sample."""
    own = range(job.options.rank, len(picked), job.options.world)
    for done, number in enumerate(own):
        job.tell("sampling", done, len(own), "blocks")
        if not has(files[number], job.plan):
            wanted = {id(piece): rows for piece, rows in picked[number]}
            frames = [
                states[torch.from_numpy(wanted[id(piece)]).to(states.device)].cpu().numpy()
                for piece, states in extracted(job, [piece for piece, _ in picked[number]], [])
            ]
            empty = np.empty((0, job.features.dim), np.float32)
            write(files[number], {"frames": np.concatenate([empty, *frames])}, job, job.plan)
    job.tell("sampling", len(own), len(own), "blocks")


def _gather(files: Sequence[Path]) -> NDArray[np.float32]:
    """All sampled frames, f32[N, D], each held once."""
    rows, width = [], 0
    for path in files:
        with safe_open(path, framework="numpy") as block:
            count, width = block.get_slice("frames").get_shape()
        rows.append(count)
    out = np.empty((sum(rows), width), np.float32)
    for path, place in zip(files, np.split(out, np.cumsum(rows)[:-1]), strict=True):
        with safe_open(path, framework="numpy") as block:
            place[:] = block.get_tensor("frames")
    return out
