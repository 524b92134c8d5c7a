"""Tasks that give whole clips a class: labels, decoding, counts and scores that they share."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bab.core.atomic import write_text
from bab.core.errors import CorpusError
from bab.core.grid import Grid
from bab.core.interfaces import Task
from bab.core.types import Clip, Labels, Output, Prediction
from bab.kit import confusion
from bab.kit.finite import refuse_diverged
from bab.results.cells import CsvWriter

PER_CLASS = 20  # classes above which a record doesn't list each one's scores
_TOLD = 5  # classes that an error names
# AdamW on SUPERB's head. SUPERB trains at 1e-4 for up to 200,000 steps; a run of 1,000 steps needs
# ten times that rate to get anywhere. Search it on dev: it matters more than the encoder.
PROBE: Mapping[str, Any] = {
    "layers": "mix",
    "train": {"lr": 1e-3, "steps": 1000, "batch": 32, "eval_every": 100},
}
FINETUNE: Mapping[str, Any] = {
    "layers": "last",
    "train": {
        "lr": 2e-5,
        "steps": 2000,
        "batch": 32,
        "accumulation": 4,
        "warmup": 200,
        "schedule": "linear",
        "eval_every": 100,
        "patience": 10,
    },
}
UNITS: Mapping[str, str] = dict.fromkeys(("accuracy", "macro_f1", "uar"), "")


class ClipTask(Task):
    """One class per clip for each of `kinds`. A task says what kinds, and how labels are read.

    Scores are functions of three counts per class: clips that have it, that were given it, and
    both. A clip without a prediction counts as missed; one without the label isn't counted.
    """

    level = "clip"
    head = "pooled"
    objective = "cross_entropy"
    units: ClassVar[Mapping[str, str]] = UNITS
    means = frozenset({"macro_f1", "uar"})
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"probe": PROBE, "finetune": FINETUNE}

    kinds: tuple[str, ...] = ()  # the label groups, in the head's order
    wanted: Mapping[str, tuple[str, ...]] = {}  # kind -> its classes in order; others: from train
    remedy: str = ""  # what to do about a CLASS of a KIND that train lacks

    def written(self, kind: str, clip: Clip) -> str:
        """What the corpus says of the clip; "" where it says nothing."""
        return clip.labels.get(kind, "").strip()

    def mapped(self, kind: str, written: str) -> str:
        """The class that a corpus's word stands for; "" = none of ours."""
        return written

    def value(self, kind: str, clip: Clip) -> str:
        """The clip's class, or "" where it has none that this task knows."""
        written = self.written(kind, clip)
        name = self.mapped(kind, written) if written else ""
        return name if name in self.wanted.get(kind, (name,)) else ""

    def refuses(self, clip: Clip) -> str:
        """A clip without any of the labels, or with words that stand for none of the classes."""
        if any(self.value(kind, clip) for kind in self.kinds):
            return ""
        said = [(kind, self.written(kind, clip)) for kind in self.kinds]
        return ", ".join(f"{kind} '{word[:60]}'" if word else f"no {kind}" for kind, word in said)

    def fit(self, clips: Sequence[Clip]) -> Labels:
        """Kind -> classes: the task's own, or those of the training clips in alphabetical order.

        Raises:
            CorpusError: a class that no training clip has, or a kind with fewer than two classes.
        """
        labels: dict[str, tuple[str, ...]] = {}
        for kind in self.kinds:
            occurring = {self.value(kind, clip) for clip in clips} - {""}
            classes = self.wanted.get(kind, tuple(sorted(occurring)))
            missing = [name for name in classes if name not in occurring]
            if missing:
                raise CorpusError(
                    f"no training clip has {kind} {' or '.join(map(repr, missing))} (there is: "
                    f"{', '.join(sorted(occurring)) or 'none'}). {self._remedy(kind, missing[0])}"
                )
            if len(classes) < 2:
                raise CorpusError(
                    f"all training clips have {kind} {' '.join(classes) or 'none'}: there is "
                    "nothing to tell apart"
                )
            labels[kind] = classes
        return labels

    def check(self, labels: Labels, clips: Sequence[Clip], split: str) -> None:
        """Refuse clips of dev or test with classes that no training clip has."""
        for kind in self.kinds:
            known = set(labels[kind])
            first: dict[str, str] = {}  # class -> a clip that has it
            for clip in clips:
                value = self.value(kind, clip)
                if value and value not in known:
                    first.setdefault(value, clip.id)
            if first:
                told = [f"{value!r} (clip '{clip}')" for value, clip in first.items()]
                more = [f"{len(told) - _TOLD} more"] * (len(told) > _TOLD)
                shown = ", ".join(told[:_TOLD] + more)
                are, them = ("is", "it") if len(first) == 1 else ("are", "them")
                raise CorpusError(
                    f"{kind} {shown} {are} in {split}, but no training clip has {them}. "
                    f"{self._remedy(kind, next(iter(first)))}"
                )

    def _remedy(self, kind: str, name: str) -> str:
        return self.remedy.replace("KIND", kind).replace("CLASS", name)

    def targets(self, clip: Clip, grid: Grid, frames: int, labels: Labels) -> Tensor:
        """i64[G]: the index of the clip's class of each kind, -1 where it has none."""
        indices = []
        for kind, classes in labels.items():
            value = self.value(kind, clip)
            indices.append(classes.index(value) if value in classes else -1)
        return torch.tensor(indices)

    def decode(
        self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]
    ) -> Prediction:
        """Logits f32[C of all kinds] -> the likeliest class of each kind, and all probabilities.

        Raises:
            DivergedError: where an output is not finite.
        """
        refuse_diverged(output)
        values = output.values.astype(np.float64)
        chosen: dict[str, str] = {}
        scores: dict[str, float] = {}
        begin = 0
        for kind, classes in labels.items():
            part = values[begin : begin + len(classes)]
            begin += len(classes)
            powers = np.exp(part - part.max())
            shares = (powers / powers.sum()).tolist()
            chosen[kind] = classes[int(part.argmax())]
            scores |= {column(kind, name): p for name, p in zip(classes, shares, strict=True)}
        return Prediction(output.clip.id, labels=chosen, scores=scores)

    def amounts(self, reference: Clip) -> dict[str, float]:
        """A clip of its class, of each kind."""
        prefix = len(self.kinds) > 1
        values = {kind: self.value(kind, reference) for kind in self.kinds}
        return {(f"{k}/{v}" if prefix else v): 1.0 for k, v in values.items() if v}

    def statistics(self, reference: Clip, prediction: Prediction | None) -> dict[str, float]:
        """Counts of one clip: "clips" and "right", and per kind and class "<kind>\t<class>\tclips",
        "...\tgiven" and "...\tright". Right as a whole: in every label that the clip has. And what
        was taken for what (`shared.confusion`)."""
        sums: dict[str, float] = {}
        right = True
        for kind in self.kinds:
            true = self.value(kind, reference)
            if not true:
                continue
            given = "" if prediction is None else prediction.labels[kind]
            sums[confusion.key(kind, true, given or "nothing")] = 1.0
            sums[f"{kind}\t{true}\tclips"] = 1.0
            if given:
                sums[f"{kind}\t{given}\tgiven"] = 1.0
            if given == true:
                sums[f"{kind}\t{true}\tright"] = 1.0
            right = right and given == true
        return {**sums, "clips": 1.0, "right": float(right)} if sums else {}

    def metrics(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Shares in [0, 1]: "accuracy", "macro_f1" and "uar", the headline first; where there are
        several kinds, the accuracy is of all at once (SUPERB's intents), the others are means over
        kinds, and each kind's own is "accuracy/<kind>". Up to 20 classes have their own too:
        "f1/<class>", "recall/<class>", "precision/<class>", or ".../<kind>/<class>".

        As in scikit-learn: macro-F1 is the mean over the classes that occur (`labels`: those of the
        references; one that is predicted and never occurs takes its toll as the others' errors),
        F1 being 0 where nothing is right; UAR (balanced accuracy) is the mean recall of the same;
        precision is 0 where a class is never predicted.
        """
        if not totals.get("clips"):
            return {}
        kinds = {kind: Scores.of(totals, kind) for kind in self.kinds}
        kinds = {kind: scores for kind, scores in kinds.items() if sum(scores.clips)}
        means = {
            "accuracy": totals["right"] / totals["clips"],
            "macro_f1": statistics.fmean(s.macro_f1 for s in kinds.values()),
            "uar": statistics.fmean(s.uar for s in kinds.values()),
        }
        shares = {self.primary: means[self.primary], **means} if self.primary in means else means
        return shares | self._details(kinds)

    def _details(self, kinds: Mapping[str, Any]) -> dict[str, Any]:
        """The scores of each kind, where there are several, and of its classes, where few."""
        details: dict[str, Any] = {}
        several = len(self.kinds) > 1
        for kind, scores in kinds.items():
            for name in ("accuracy", "macro_f1", "uar") if several else ():
                details[f"{name}/{kind}"] = getattr(scores, name)
            if len(scores.classes) <= PER_CLASS:
                details |= scores.each(f"{kind}/" if several else "")
        return details

    def write(self, predictions: Sequence[Prediction], folder: Path) -> None:
        """`predictions.csv`: id, the class of each kind, and the probability of each class."""
        table = io.StringIO()
        writer = CsvWriter(table)
        kinds = list(predictions[0].labels) if predictions else list(self.kinds)
        columns = list(predictions[0].scores) if predictions else []
        notice = [self.notice] if self.notice else []
        writer.writerow(["id", *kinds, *columns, *(["notice"] if notice else [])])
        for p in predictions:
            probabilities = [repr(p.scores[name]) for name in columns]
            writer.writerow([p.id, *(p.labels[kind] for kind in kinds), *probabilities, *notice])
        write_text(folder / "predictions.csv", table.getvalue())


class Scores:
    """The scores of one kind of label, from counts per class: clips, given, right."""

    def __init__(self, classes: Sequence[str], counts: Mapping[str, Sequence[float]]) -> None:
        self.classes = list(classes)
        self.clips, self.given, self.right = (counts[key] for key in ("clips", "given", "right"))
        rows = list(zip(self.clips, self.given, self.right, strict=True))
        self.recall = [right / max(clips, 1) for clips, _, right in rows]
        self.precision = [right / max(given, 1) for _, given, right in rows]
        self.f1 = [2 * right / max(clips + given, 1) for clips, given, right in rows]

    @classmethod
    def of(cls, totals: Mapping[str, float], kind: str) -> Scores:
        """From the summed statistics of a `ClipTask`; classes with a count above zero."""
        rows = [
            (name, [totals.get(key, 0.0) for key in columns])
            for name, columns in _columns(tuple(totals), kind)
        ]
        rows = [(name, counts) for name, counts in rows if any(counts)]
        keys = ("clips", "given", "right")
        return cls(
            [name for name, _ in rows],
            {key: [counts[i] for _, counts in rows] for i, key in enumerate(keys)},
        )

    @property
    def accuracy(self) -> float:
        return sum(self.right) / sum(self.clips)

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that occur."""
        return self._mean(self.f1)

    @property
    def uar(self) -> float:
        """Unweighted average recall, over the classes that occur."""
        return self._mean(self.recall)

    def _mean(self, values: Sequence[float]) -> float:
        rows = zip(values, self.clips, strict=True)
        return statistics.fmean(value for value, clips in rows if clips > 0)

    def each(self, prefix: str) -> dict[str, float]:
        """The scores of each class: "f1/<prefix><class>", ...; no recall of one that is absent."""
        shares = {}
        for name, values in (
            ("f1", self.f1),
            ("recall", self.recall),
            ("precision", self.precision),
        ):
            for label, value, clips in zip(self.classes, values, self.clips, strict=True):
                if clips or name != "recall":
                    shares[f"{name}/{prefix}{label}"] = value
        return shares


def column(kind: str, name: str) -> str:
    """What the probability of a class is called: "gender=female"."""
    return f"{kind}={name}"


@lru_cache(maxsize=16)
def _columns(keys: tuple[str, ...], kind: str) -> list[tuple[str, list[str]]]:
    """The classes that statistics of these names are of, each with its names of "clips", "given"
    and "right"."""
    names = sorted({key.split("\t")[1] for key in keys if key.startswith(f"{kind}\t")})
    return [(c, [f"{kind}\t{c}\t{key}" for key in ("clips", "given", "right")]) for c in names]
