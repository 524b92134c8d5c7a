"""k-means over frames, and how well clusters say what labels say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bab.core.errors import ConfigError


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
    share = counts[counts > 0] / max(1, counts.sum())
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
