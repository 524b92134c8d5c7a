"""The five contracts, with shapes and units; nothing else.

A component is one class in one file and one entry-point line. Each declares its options as a nested
`Options` model: unknown keys are refused, `bab info NAME` prints them, and the run's record keeps
them. B = batch, S = samples, T = frames, D = dimensions, L = layers, C = outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bab.core.errors import BabError
from bab.core.grid import Grid
from bab.core.options import Component
from bab.core.types import (
    Batch,
    Clip,
    Encoded,
    Labels,
    Loss,
    Output,
    Permissions,
    Prediction,
    Trial,
    View,
    Waves,
)

Level = Literal["frame", "clip", "sequence", "pair"]


class Encoder(nn.Module, Component):
    """Audio -> frames. Input normalisation happens inside, over each valid span.

    `load` sets: sample_rate, Hz; dim, D; depth, L: the states returned, the input embedding first;
    grid: when each frame is; max_seconds: longer input must arrive as windows, None: any length;
    resolved: what was really loaded, "hubert:random-tiny"; local_dim: C of `Encoded.local`, None
    where there is none; fingerprint: of weights, options and code, made by the core where unset;
    concurrent: whether several threads may call `forward` at once, on clips without padding.
    A class may say: weights: names after a colon -> what and whose they are, `default` is one of
    them; defaults: of its options by the level of the task, {"clip": {"cmvn": "none"}}; version: of
    the code, for the fingerprint: raised when the output changes."""

    weights: ClassVar[Mapping[str, str]] = {}
    default: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    version: ClassVar[str] = "1"

    sample_rate: int
    dim: int
    depth: int
    grid: Grid
    max_seconds: float | None
    fingerprint: str
    resolved: str
    local_dim: int | None = None
    concurrent: bool = False

    @classmethod
    def load(
        cls, weights: str, options: Any, *, offline: bool = False, trust_code: bool = False
    ) -> Encoder:
        """Build the encoder from what stands after the colon.

        Args:
            weights: a key of `cls.weights`, a local directory or file, or a hub id.
            options: an instance of `cls.Options`.
            offline: never ask a hub; a model that isn't on this machine is an error.
            trust_code: allow code from the model's repository to run (off unless asked).

        Raises:
            BabError: with a remedy, where the weights can't be had.
        """
        raise NotImplementedError

    def forward(
        self, waves: Waves, mask: Tensor | None = None, layers: Literal["last", "all"] = "all"
    ) -> Encoded:
        """Encode a padded batch; no clip's frames depend on the other clips or on the padding.

        Args:
            waves: samples f32[B, S] in [-1, 1], lengths i64[B].
            mask: bool[B, T]; True where the frame is replaced by the mask embedding (pretraining).
            layers: "last" returns one state, "all" returns `depth` of them.
        """
        raise NotImplementedError

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by depth, the input first: {"conv": ..., "layer0": ..., "layer1": ...}.
        `--freeze conv` holds the group "conv"; layer-wise rates decay from last to first."""
        return {"encoder": list(self.parameters())}

    def extras(self) -> Mapping[str, Tensor]:
        """What the loaded checkpoint holds beyond the encoder, by its names there: a quantiser,
        projections. Continued pretraining hands it to `Objective.load_pretrained`."""
        return {}

    def export(self, folder: Path, extras: Mapping[str, Tensor], dtype: str = "float32") -> None:
        """Write the encoder so that `load` reads it back from `folder`, each file whole or not at
        all. extras: further tensors, which `extras` gives back then; dtype: float32 or float16.

        Raises:
            BabError: an encoder that can't be written.
        """
        raise BabError(f"'{self.resolved}' can't be exported: it has no format of its own")


class Head(nn.Module, Component):
    """A map with weights: frames -> outputs. No loss, no metric.

    linear: it is linear up to its mean over time, so the mean may be taken before it (exactly);
        the core then keeps one frame per clip and layer.
    closed_form: `fit` finds its weights from all examples at once; no training steps.
    outputs: C, or E of an embedding: what an objective is handed.
    """

    level: ClassVar[tuple[Level, ...]] = ()
    linear: ClassVar[bool] = False
    closed_form: ClassVar[bool] = False
    outputs: int

    def __init__(self, dim: int, classes: int, options: Any) -> None:
        """dim: D of the input; classes: C of the output; options: an instance of `Options`."""
        super().__init__()
        self.outputs = classes

    def embed(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Pair tasks: the vector that is compared, f32[B, E]."""
        raise NotImplementedError

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Closed-form heads: f32[N, D], i64[N] -> copy coefficients into buffers."""
        raise NotImplementedError

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """f32[B, T, D], i64[B] -> [B, T, C] (frame, sequence), [B, C] (clip) or [B, E] (pair)."""
        raise NotImplementedError


class Scorer(nn.Module):
    """What an objective is handed: `model(batch)` -> the head's output and its lengths. It never
    learns whether the batch held audio or cached features."""

    encoder: Encoder | None
    pool: bool = False  # the head gets one frame of each example

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def encode(self, batch: Batch) -> Encoded:
        """Pretraining objectives: the encoder's last state of the masked batch, and its `local`."""
        raise NotImplementedError


class Objective(nn.Module, Component):
    """A loss; it may own weights (quantiser, code book, AM-softmax centres).

    pretrains: it learns from audio alone, by `model.encode` and `batch.mask` (`bab pretrain`).
    level: of the tasks that it is for; () = any.
    """

    level: ClassVar[tuple[Level, ...]] = ()
    pretrains: ClassVar[bool] = False
    # Pretraining: defaults of the run's keys, as a recipe would give them: {"mask": {"prob": 0.8}}.
    defaults: ClassVar[Mapping[str, Any]] = {}
    targets: ClassVar[bool] = False  # it needs frame labels made beforehand (`bab targets`)

    def __init__(self, dim: int, sizes: Sequence[int], options: Any) -> None:
        """dim: what the model gives (the head's `outputs`, or a bare encoder's D); sizes: how many
        classes each output group of the labels has."""
        super().__init__()

    def counts(self, batch: Batch) -> dict[str, float]:
        """How many things each term sums over, known from the batch alone, before any forward pass.

        The trainer adds them up over all micro-batches and ranks of a step, and divides once.
        """
        raise NotImplementedError

    def forward(self, model: Scorer, batch: Batch) -> Loss:
        """The terms as sums, with the counts that `counts` announced."""
        raise NotImplementedError

    def observe(self, targets: Tensor) -> None:
        """Told once, before training: the targets of all training clips, i64[N, G] (clip level).

        For what a loss has to know beforehand, such as how frequent the classes are.
        """

    def refuses(self, target: Tensor, frames: int) -> str:
        """Sequence tasks: why an example can't be trained on, in a few words that are the same for
        all of its kind; "" where it can. Such examples are left out, and counted in the record.

        target: i64[U]; frames: how many the example has.
        """
        return ""

    def attach(self, encoder: Encoder) -> None:
        """Told once, before anything else, which encoder it will pretrain: here weights that
        depend on the width of its local features are made.

        Raises:
            ConfigError: an encoder that lacks what the objective needs.
        """

    def load_pretrained(self, tensors: Mapping[str, Tensor]) -> bool:
        """Take what a checkpoint holds beyond the encoder (continued pretraining); False where it
        holds nothing of this objective's."""
        return False

    def extras(self) -> Mapping[str, Tensor]:
        """What an exported checkpoint holds beyond the encoder, by the names `load_pretrained`
        looks for."""
        return {}


class Corpus(Component):
    """Annotated time: no torch, no frames. Listing it opens no audio beyond headers."""

    version: ClassVar[str] = "1"
    # segments, text, speaker, or a key of the clips' labels; an instance may say more or less
    provides: ClassVar[frozenset[str]] = frozenset()
    unit: ClassVar[str] = "group"  # what a clip's group is, for the record: "child", "speaker", ...
    sample: ClassVar[Path | None] = None  # the small corpus of this layout that ships with bab
    hub: ClassVar[bool] = False  # whether a root that is no folder may be a name on a hub

    name: str
    root: Path
    notices: list[str]  # what was assumed or left out, for the record
    listed: tuple[str, ...] = ()  # the splits that the corpus names; () too where it can't say
    splits_given: bool = True  # an instance says so where it lists none, and they are made by group

    def __init__(self, root: Path, options: Any, permissions: Permissions = Permissions()) -> None:
        """root: the corpus's folder; options: an instance of `Options`; permissions: what the user
        allowed. A corpus without a use for these may leave the argument out of its `__init__`.

        Raises:
            CorpusError: naming the file, the line and the remedy.
        """
        self.root = root
        self.options = options
        self.permissions = permissions
        self.notices = []

    def splits(self) -> tuple[str, ...]:
        """Names of the given splits, usually ("train", "dev", "test")."""
        return ("train", "dev", "test")

    def clips(self, split: str | None = None) -> Iterable[Clip]:
        """The clips of a split, or of the whole corpus, in a stable order."""
        raise NotImplementedError

    def testable(self, clip: Clip) -> bool:
        """Whether a clip may be tuned or tested on; what may not only ever trains. For a union of
        corpora where only some of the sources make a fair test. Protocols that make their own folds
        ask it; given splits hold such clips in "train" alone."""
        return True

    def trials(self, split: str) -> Iterable[Trial]:
        """The verification trials of a split (pair tasks only)."""
        return ()


class Task(Component):
    """The join of a corpus and a model: labels, targets, decoding, score."""

    version: ClassVar[str] = "1"
    # What its corpus must provide; an instance may ask for more or less, as its options say.
    needs: frozenset[str] = frozenset()
    level: ClassVar[Level] = "frame"
    corpus: ClassVar[str] = ""  # defaults, by name
    head: ClassVar[str] = ""
    objective: ClassVar[str] = ""
    view: ClassVar[View] = View()
    presets: tuple[str, ...] = ("default",)  # ways to decode; the first is the headline
    # The metric that selects checkpoints and stands in tables; options may choose another.
    primary: str = ""
    select: ClassVar[str] = ""  # the metric that selects checkpoints, where it isn't `primary`
    higher_is_better: ClassVar[bool] = True  # of both
    units: ClassVar[Mapping[str, str]] = {}  # metric -> unit, "" for a share in [0, 1]
    # Defaults of the run's options by mode, as a recipe would give them:
    # {"probe": {"train": {"lr": 1e-3}}, "finetune": {"layers": "last"}}
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    # True: metrics follow from summed `statistics`. False (AUC, EER): only `score` gives them.
    additive: ClassVar[bool] = True
    means: ClassVar[frozenset[str]] = frozenset()  # metrics that are means over classes
    rates: ClassVar[frozenset[str]] = frozenset()  # metrics of "%" that may exceed 100: word errors
    notice: ClassVar[str] = ""  # stands in every output (e.g. "research only")

    def __init__(self, options: Any) -> None:
        """options: an instance of `Options`."""
        self.options = options

    @property
    def whole_clips(self) -> bool:
        """An example is a whole clip, of one or more windows; of a frame task it is a window."""
        return self.level != "frame"

    @property
    def one_output(self) -> bool:
        """The head's output is one row of logits for a whole clip."""
        return self.level == "clip"

    @property
    def one_target(self) -> bool:
        """A clip has one target per label group, i64[G]; else the head needs every frame."""
        return self.level in ("clip", "pair")

    @property
    def in_order(self) -> bool:
        """Targets are labels in order, i64[U], and may be too long for their clip."""
        return self.level == "sequence"

    @property
    def pairs(self) -> bool:
        """Trials of two clips are scored, by the head's embeddings."""
        return self.level == "pair"

    def suit(self, provides: frozenset[str]) -> None:
        """Told what the run's corpus provides, before `needs` is asked for: options may be short
        for something that only the corpus can say.

        Raises:
            ConfigError: options that this corpus can't meet.
        """

    def refuses(self, clip: Clip) -> str:
        """Why a clip can't be used, in a few words that are the same for all of its kind ("no
        gender"); "" where it can. Such clips are in no split, and counted in the record."""
        return ""

    def check(self, labels: Labels, clips: Sequence[Clip], split: str) -> None:
        """Refuse the clips of a split ("dev", "test") that `fit`'s labels can't describe, or that
        hold nothing to tune on or score. Called before anything slow begins.

        Raises:
            CorpusError: naming the split and what is wrong with it.
        """

    def fit(self, clips: Sequence[Clip]) -> Labels:
        """Classes, vocabulary or speakers, from the training clips alone; saved with the model."""
        raise NotImplementedError

    def targets(self, clip: Clip, grid: Grid, frames: int, labels: Labels) -> Tensor:
        """What the model should say of one example (a clip narrowed to a window): f32 or i64
        [frames, C] (frame), i64[G], a class per label group (clip, pair), or i64[U], the labels in
        order (sequence)."""
        raise NotImplementedError

    def tune(self, outputs: Sequence[Output], grid: Grid, labels: Labels) -> dict[str, Any]:
        """Thresholds and the like for each of `presets`, from dev outputs only. What a preset has
        under "notices", a list of texts, stands among the record's notices."""
        return {name: {} for name in self.presets}

    def decode(
        self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]
    ) -> Prediction:
        """One clip's (or annotated span's) output -> prediction. tuned: one preset's values."""
        raise NotImplementedError

    def cut(self, output: Output, grid: Grid, labels: Labels, tuned: Mapping[str, Any]) -> int:
        """Frame and sequence tasks: how many of an output's first frames can be decoded by
        themselves, because nothing that follows changes what they say; 0 = none. So recordings of
        any length are decoded in bounded memory, where `decode` heeds `output.first`."""
        return 0

    def statistics(self, reference: Clip, prediction: Prediction | None) -> dict[str, float]:
        """Sums that `metrics` is a function of, for one clip; None = nothing was predicted for it.
        Additive, so that pooling over clips and leaving groups out are exact and fast. Sums called
        "confusion\\tNAME\\tROW\\tCOLUMN" stand in the record as a matrix."""
        raise NotImplementedError

    def metrics(self, totals: Mapping[str, float]) -> dict[str, float]:
        """The metrics from summed statistics."""
        raise NotImplementedError

    def amounts(self, reference: Clip) -> dict[str, float]:
        """How much of each class (the CLASS of a metric "f1/CLASS") a clip's reference holds, in
        seconds, clips or words; "" where there are no classes. Intervals weigh groups by it."""
        return {"": 1.0}

    def score(
        self, references: Sequence[Clip | Trial], predictions: Mapping[str, Prediction]
    ) -> dict[str, float]:
        """The metrics of a set of clips, or of trials (pair tasks); predictions are by clip id. A
        clip without a prediction counts as missed. Tasks that are not `additive` replace this, but
        for pair tasks, which have `compare` and `rate`."""
        if self.pairs:
            trials = [r for r in references if isinstance(r, Trial)]
            same = np.array([t.same for t in trials], dtype=bool)
            return self.rate(same, self.compare(trials, predictions))
        totals: dict[str, float] = {}
        for clip in references:
            assert isinstance(clip, Clip)
            for key, value in self.statistics(clip, predictions.get(clip.id)).items():
                totals[key] = totals.get(key, 0.0) + value
        return self.metrics(totals)

    def compare(
        self, trials: Sequence[Trial], predictions: Mapping[str, Prediction]
    ) -> NDArray[np.float64]:
        """Pair tasks: f64[N], how alike the two sides of each trial are; higher is more alike."""
        raise NotImplementedError

    def rate(self, same: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
        """Pair tasks: the metrics of some trials, from which are of one speaker, bool[N], and
        their scores, f64[N]; a metric that is undefined (all of one kind) is left out."""
        raise NotImplementedError

    def write(self, predictions: Sequence[Prediction], folder: Path) -> None:
        """Write predictions in the field's own format, one atomic file each."""
        raise NotImplementedError
