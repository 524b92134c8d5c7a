"""Task `sv`: do two utterances have the same speaker?

SUPERB's speaker verification (Yang et al. 2021, arXiv 2105.01051; s3prl's
`downstream/sv_voxceleb1`): an x-vector net learns to tell the training speakers apart, and trials
are scored by the cosine of their vectors. Trained on crops of 8 s of utterances longer than 2 s,
tested on whole utterances. Unlike s3prl, which picks its checkpoint on the test trials, the dev
trials choose.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bab import (
    Clip,
    CorpusError,
    Grid,
    Labels,
    Output,
    Prediction,
    Task,
    Trial,
    View,
    atomic_path,
)
from bab.kit import equal_error_rate, min_dcf, operating_points, refuse_diverged

# Priors of a trial of one speaker: VoxSRC's (Nagrani et al. 2020, arXiv 2012.06867), and the one of
# NIST SRE 2016 and of many papers on VoxCeleb.
TARGETS = (0.05, 0.01)


class SpeakerVerification(Task):
    """One vector per utterance; trials scored by cosine: equal error rate and minimal cost."""

    source = "SUPERB (arXiv 2105.01051), s3prl downstream/sv_voxceleb1; checkpoint by dev, not test"
    needs = frozenset({"speaker"})
    level = "pair"
    corpus = "voxceleb"
    head = "xvector"
    objective = "am_softmax"
    view = View(train_seconds=8.0, train_minimum=2.0)
    primary = "eer"
    higher_is_better = False
    units: ClassVar[Mapping[str, str]] = {"eer": "%", "min_dcf_05": "", "min_dcf_01": ""}
    additive = False
    # SUPERB: AdamW 1e-4, 200,000 steps of 50 utterances. Here ten times the rate for so many fewer
    # steps: on a CPU, one of 16 crops of 8 s takes some seconds.
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "probe": {
            "layers": "mix",
            "train": {"lr": 1e-3, "steps": 500, "batch": 16, "eval_every": 100},
        },
        "finetune": {
            "layers": "mix",
            "train": {
                "lr": 2e-5,
                "steps": 5000,
                "warmup": 500,
                "batch": 32,
                "accumulation": 4,
                "eval_every": 250,
            },
        },
    }

    def refuses(self, clip: Clip) -> str:
        """A clip whose speaker isn't known."""
        return "" if clip.speaker else "no speaker"

    def fit(self, clips: Sequence[Clip]) -> Labels:
        """{"speaker": the training speakers, sorted}.

        Raises:
            CorpusError: fewer than two speakers.
        """
        names = tuple(sorted({clip.speaker for clip in clips if clip.speaker}))
        if len(names) < 2:
            raise CorpusError(
                f"the training clips have {len(names)} speaker: at least two are needed, to learn "
                "to tell them apart"
            )
        return {"speaker": names}

    def targets(self, clip: Clip, grid: Grid, frames: int, labels: Labels) -> Tensor:
        """i64[1]: which training speaker it is."""
        return torch.tensor([bisect_left(labels["speaker"], clip.speaker or "")])

    def decode(
        self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]
    ) -> Prediction:
        """Embedding f32[E] -> the same of length 1.

        Raises:
            DivergedError: where it is not finite.
        """
        refuse_diverged(output)
        values = output.values.astype(np.float64)
        length = float(np.linalg.norm(values))
        return Prediction(output.clip.id, vector=tuple((values / (length or 1.0)).tolist()))

    def compare(
        self, trials: Sequence[Trial], predictions: Mapping[str, Prediction]
    ) -> NDArray[np.float64]:
        """f64[N]: the cosine of each trial's vectors.

        Raises:
            CorpusError: a trial of a clip without a vector.
        """
        row = {name: i for i, name in enumerate(predictions)}
        vectors = np.array([p.vector for p in predictions.values()])
        try:
            sides = np.array([(row[t.enrol], row[t.test]) for t in trials]).reshape(-1, 2)
        except KeyError as error:
            raise CorpusError(f"a trial names {error}, of which nothing was predicted") from None
        cosines: NDArray[np.float64] = np.sum(vectors[sides[:, 0]] * vectors[sides[:, 1]], axis=1)
        return cosines

    def rate(self, same: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
        """ "eer" in per cent, "min_dcf_05" and "min_dcf_01" as shares of the best constant answer's
        cost. Nothing where all trials are of one kind."""
        if same.all() or not same.any():
            return {}
        false_alarm, miss = operating_points(same, scores)
        costs = {f"min_dcf_{round(100 * p):02}": min_dcf(false_alarm, miss, p) for p in TARGETS}
        return {"eer": 100.0 * equal_error_rate(false_alarm, miss)} | costs

    def write(self, predictions: Sequence[Prediction], folder: Path) -> None:
        """`embeddings.safetensors`: clip id -> f32[E], of length 1."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "embeddings.safetensors") as temporary:
            save_file({p.id: torch.tensor(p.vector) for p in predictions}, temporary)
