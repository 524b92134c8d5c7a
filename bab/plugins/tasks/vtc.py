"""Task `vtc`: who speaks when, in four kinds of voice (key child, other child, man, woman).

The task of BabyHuBERT's voice type classifier (VTC 2, arXiv 2509.15001), with its decoding and its
score: F1 by duration, collar 0, overlap kept, seconds pooled over recordings, then the mean of the
classes. Unlike its script, a recording without prediction counts as missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from bab import Clip, Grid, Labels, Output, Prediction
from bab.kit import METRICS, FrameTask
from bab.plugins.tasks.shared import segma
from bab.plugins.tasks.shared.voices import VOICES, VoiceTypeOptions


class VoiceType(FrameTask):
    """Segments of four voices, from frames; scored by duration inside the annotated time."""

    Options = VoiceTypeOptions
    source = "BabyHuBERT and VTC 2 (arXiv 2509.15001; code LAAC-LSCP/BabyHuBERT and segma)"
    corpus = "rttm"
    group = "voice"
    table = "vtc.csv"
    means = frozenset((*METRICS, segma.METRIC))
    units: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(METRICS, ""),
        **{f"{name}/{v}": "" for name in METRICS for v in VOICES},
    }
    # A linear probe on frozen features wants a high rate: on the shipped sample 500 steps at 1e-2
    # gave hubert:random-tiny twice the F1 of 1e-3 (.46, .22). With a BiLSTM set 2e-3.
    # Fine-tuning follows VTC 2: last layer, dropout .5, learning rate 1e-5, 128 windows of 4 s per
    # step (cut into 4, so that it fits in memory). Its length isn't published: 5,000 steps, stopped
    # early by dev. From random weights, set train.lr higher (1e-3 for a small model).
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "probe": {"layers": "mix", "train": {"lr": 1e-2, "steps": 500, "batch": 32}},
        "finetune": {
            "layers": "last",
            "head": {"dropout": 0.5},
            "train": {
                "lr": 1e-5,
                "steps": 5000,
                "batch": 128,
                "accumulation": 4,
                "eval_every": 250,
                "patience": 10,
            },
        },
    }

    options: VoiceTypeOptions

    def __init__(self, options: VoiceTypeOptions) -> None:
        super().__init__(options)
        self.classes = options.classes
        if options.convention == segma.PRESET:
            self.presets = (*self.presets, segma.PRESET)

    def tune(self, outputs: Sequence[Output], grid: Grid, labels: Labels) -> dict[str, Any]:
        """See `FrameTask.tune`; and the published script's thresholds, where they are asked for."""
        tuned = super().tune(outputs, grid, labels)
        if segma.PRESET in self.presets:
            chosen = segma.thresholds(outputs, grid, labels["voice"])
            tuned[segma.PRESET] = {"thresholds": chosen}
        return tuned

    def statistics(self, reference: Clip, prediction: Prediction | None) -> dict[str, float]:
        """See `FrameTask.statistics`; and those of `shared.segma`, where that is asked for."""
        sums = super().statistics(reference, prediction)
        if segma.PRESET in self.presets:
            sums |= segma.statistics(reference, prediction, self.options.classes)
        return sums

    def metrics(self, totals: Mapping[str, float]) -> dict[str, float]:
        """See `FrameTask.metrics`; and those of `shared.segma`."""
        return super().metrics(totals) | segma.shares(totals, self.options.classes)
