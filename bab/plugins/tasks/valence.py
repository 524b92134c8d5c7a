"""Task `valence`: does a young child's vocalisation sound positive or distressed?

The protocol of owlgebra-ai/babycry: windows of 2 s every second, the mean over them, a balanced
logistic regression in closed form, one participant left out at a time, and the scores of all
left-out clips together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bab import Clip, Prediction, Trial, View
from bab.kit import FINETUNE, PROBE, ClipTask, column

CLASSES = ("distress", "positive")
POSITIVE = column("valence", "positive")


class Valence(ClipTask):
    """Positive or distress, one vector per clip; the ROC's positive class is "positive"."""

    source = "owlgebra-ai/babycry (Hugging Face hub): CLAP, balanced accuracy .648, AUC .706"
    needs = frozenset({"valence"})
    corpus = "babycry"
    head = "logistic"
    view = View(window=2.0, hop=1.0, pool="mean")
    primary = "balanced_accuracy"
    additive = False
    means = frozenset({"balanced_accuracy", "macro_f1"})
    notice = "Research only: not a medical, safety or child-care device."
    units: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("balanced_accuracy", "auc", "positive_recall", "positive_precision", "macro_f1"), ""
    )
    kinds = ("valence",)
    wanted: Mapping[str, tuple[str, ...]] = {"valence": CLASSES}
    remedy = "Every training set needs both: ask for other folds, or add recordings"
    # The linear head of the same system is `--head pooled`, which takes one layer here as well.
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "probe": {**PROBE, "layers": "last", "protocol": "leave-one-group-out"},
        "finetune": {
            **FINETUNE,
            "protocol": "leave-one-group-out",
            "head": {"name": "pooled", "hidden": 0},
        },
    }

    def metrics(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Shares in [0, 1] that follow from counts: balanced accuracy (the mean recall of both
        classes), recall and precision of "positive", and macro-F1, as scikit-learn defines them."""
        shares = super().metrics(totals)
        names = {
            "balanced_accuracy": "uar",
            "positive_recall": "recall/positive",
            "positive_precision": "precision/positive",
            "macro_f1": "macro_f1",
        }
        return {name: shares[key] for name, key in names.items() if key in shares}

    def score(
        self, references: Sequence[Clip | Trial], predictions: Mapping[str, Prediction]
    ) -> dict[str, float]:
        """`metrics` of the counts, and "auc", the area under the ROC, where both classes occur."""
        # Counted in bulk: it is asked for once for each participant, of all others' clips.
        pairs = [(c, predictions.get(c.id)) for c in references if isinstance(c, Clip)]
        truth = np.array([c.labels["valence"] == "positive" for c, _ in pairs], dtype=bool)
        there = np.array([p is not None for _, p in pairs], dtype=bool)
        heard = [p is not None and p.labels["valence"] == "positive" for _, p in pairs]
        said = np.array(heard, dtype=bool)  # also of no clips
        totals = {"clips": float(len(pairs)), "right": float((there & (truth == said)).sum())}
        for name, true, given in (("positive", truth, said), ("distress", ~truth, there & ~said)):
            counts = {"clips": true, "given": given, "right": true & given}
            totals |= {f"valence\t{name}\t{key}": float(v.sum()) for key, v in counts.items()}
        metrics = self.metrics(totals)
        if truth[there].any() and not truth[there].all():
            shares = np.array([p.scores[POSITIVE] for _, p in pairs if p is not None])
            metrics["auc"] = area_under_roc(truth[there], shares)
        return metrics


def area_under_roc(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """The share of pairs (positive, negative) in which the positive has the higher score, ties
    counting half: the Mann-Whitney U statistic over its largest value, and the area under the ROC
    (Hanley and McNeil 1982). Exact, from one sort; truth bool[N] holds both kinds."""
    positive, negative = scores[truth], np.sort(scores[~truth])
    below = np.searchsorted(negative, positive, "left").sum()
    up_to = np.searchsorted(negative, positive, "right").sum()
    return float(below + up_to) / (2 * len(positive) * len(negative))
