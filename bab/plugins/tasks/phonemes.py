"""Task `phonemes`: which phones are said, in their order.

BabAR's phoneme recognition of child speech, built on BabyHuBERT (LAAC-LSCP): CTC over phones, a
small net on each frame, greedy decoding, phone error rate. Its 20 s of context around an
utterance, with the loss on the utterance's frames alone, is `--set view.context=20`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor

from bab import Clip, CorpusError, Grid, Labels, Options, Output, Prediction, Task, View
from bab.kit import word_errors
from bab.plugins.tasks.shared import sequences

_STRESS = re.compile(r"^([A-Z]+)[012]$")  # ARPAbet's vowels: AH0, AY1


class PhonemesOptions(Options):
    """What can be set under `task`."""

    strip_stress: bool = Field(True, description="AY1 -> AY: leave ARPAbet's stress digits out")


class Phonemes(Task):
    """Phones from frames, from a corpus whose label `phones` holds them between spaces."""

    Options = PhonemesOptions
    source = "BabAR (LAAC-LSCP): MLP 768-384-58, CTC, greedy; phone error rate by jiwer"
    needs = frozenset({"phones"})
    level = "sequence"
    corpus = "kaldi"
    head = "ctc"
    objective = "ctc"
    view = View()
    presets = ("greedy",)
    primary = "per"
    higher_is_better = False
    units: ClassVar[Mapping[str, str]] = {"per": "%"}
    rates = frozenset(units)
    # BabAR's net; steps and rates are ours.
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "probe": {
            "layers": "mix",
            "head": {"widths": [384], "activation": "relu"},
            "train": {"lr": 1e-3, "steps": 2000, "batch": 16, "eval_every": 200},
        },
        "finetune": {
            "layers": "last",
            "head": {"widths": [384], "activation": "relu"},
            "train": {
                "lr": 5e-5,
                "steps": 5000,
                "warmup": 500,
                "schedule": "linear",
                "batch": 16,
                "accumulation": 4,
                "eval_every": 250,
            },
        },
    }

    options: PhonemesOptions

    def refuses(self, clip: Clip) -> str:
        """A clip without the label; an empty one is used."""
        return "" if "phones" in clip.labels else "no phones"

    def fit(self, clips: Sequence[Clip]) -> Labels:
        """{"phone": (blank, every phone of the training clips, sorted)}.

        Raises:
            CorpusError: no phone at all.
        """
        names = sequences.vocabulary(self._phones(clip) for clip in clips)
        if len(names) == 1:
            raise CorpusError("no training clip has a phone: check the corpus's label 'phones'")
        return {"phone": names}

    def targets(self, clip: Clip, grid: Grid, frames: int, labels: Labels) -> Tensor:
        """i64[U]: the phones."""
        return sequences.targets(self._phones(clip), labels["phone"])

    def decode(
        self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]
    ) -> Prediction:
        """Logits f32[T, C] -> phones, between spaces."""
        spelt = sequences.greedy(output, labels["phone"])
        phones = sequences.timed(spelt, output, grid)
        return Prediction(output.clip.id, phones, text=" ".join(one.unit for one in spelt))

    def cut(self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]) -> int:
        """After the last blank frame."""
        return sequences.pause(output, labels["phone"])

    def statistics(self, reference: Clip, prediction: Prediction | None) -> dict[str, float]:
        """Errors and phones; a clip without a prediction is all deletions."""
        said = "" if prediction is None else prediction.text or ""
        wrong, count = word_errors(" ".join(self._phones(reference)), said)
        return {"per_errors": wrong, "phones": count}

    def amounts(self, reference: Clip) -> dict[str, float]:
        """Phones."""
        return {"": float(len(self._phones(reference)))}

    def metrics(self, totals: Mapping[str, float]) -> dict[str, float]:
        """{"per": errors per hundred phones of the references, all utterances pooled}."""
        return sequences.rate(totals, "per", "phones")

    def write(self, predictions: Sequence[Prediction], folder: Path) -> None:
        """`phonemes.csv`: `id,hypothesis`."""
        sequences.write_texts(predictions, folder / "phonemes.csv")

    def _phones(self, clip: Clip) -> list[str]:
        phones = clip.labels["phones"].split()
        return [_STRESS.sub(r"\1", p) for p in phones] if self.options.strip_stress else phones
