"""Trees on traits, and their answers as a model's outputs: logits of the task's classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bab.core.types import Labels

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Weight = str | None  # of the classes, as scikit-learn has it: "balanced" or None
_SURE = 1e-6  # the least probability that a class is given, so that its logit is finite


class Trees:
    """One classifier for each kind of label. Kinds are columns of y, -1 where a clip has none."""

    def __init__(self, labels: Labels, make: Callable[[Indices], Any]) -> None:
        """make: gives a classifier for clips of such classes."""
        self.sizes = [len(names) for names in labels.values()]
        self.make = make
        self.fitted: list[Any] = []

    def fit(self, x: Floats, y: Indices) -> Trees:
        """x f64[N, traits], y i64[N, kinds]."""
        self.fitted = []
        for own in y.T:
            there = own >= 0
            self.fitted.append(self.make(own[there]).fit(x[there], own[there]))
        return self

    def logits(self, x: Floats) -> Floats:
        """f64[N, C of all kinds]: logarithms of probabilities."""
        parts = []
        for size, model in zip(self.sizes, self.fitted, strict=True):
            shares = np.zeros((len(x), size))
            shares[:, model.classes_] = model.predict_proba(x)
            parts.append(np.log(np.maximum(shares, _SURE)))
        return np.concatenate(parts, axis=1)


def boosted(weight: Weight) -> Callable[[Indices], Any]:
    """A hundred small boosted trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return lambda y: HistGradientBoostingClassifier(
        max_iter=100,
        max_leaf_nodes=8,
        min_samples_leaf=_leaf(y),
        l2_regularization=1.0,
        early_stopping=False,
        class_weight=weight,
        random_state=0,
    )


def single(weight: Weight) -> Callable[[Indices], Any]:
    """One tree of eight leaves: what a single trait says needs no more."""
    from sklearn.tree import DecisionTreeClassifier

    return lambda y: DecisionTreeClassifier(
        max_leaf_nodes=8, min_samples_leaf=_leaf(y), class_weight=weight, random_state=0
    )


def _leaf(y: Indices) -> int:
    """Clips in a leaf: scikit-learn's 20, and fewer where there are few clips, or few of a class:
    else no leaf could be its own."""
    rarest = int(np.unique(y, return_counts=True)[1].min())
    return max(2, min(20, len(y) // 20, rarest // 2))


def majority(y: Indices, sizes: Sequence[int]) -> Floats:
    """f64[C of all kinds]: the logits of what is frequent in training, whatever is heard."""
    parts = []
    for own, size in zip(y.T, sizes, strict=True):
        shares = np.bincount(own[own >= 0], minlength=size) / max(1, int((own >= 0).sum()))
        parts.append(np.log(np.maximum(shares, _SURE)))
    return np.concatenate(parts)
