"""Plain typed values that pass between the rooms. Seconds are floats, from the start of the FILE.

Importing this module imports neither torch nor numpy: a Corpus is made of these values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from datetime import datetime, time

    import numpy as np
    from torch import Tensor

# What a task learns from the training split: output group -> class names, in the head's order.
# `{"voice": ("KCHI", ...)}`, `{"char": (...)}`, `{"gender": (...), "age": (...)}`.
Labels = Mapping[str, tuple[str, ...]]


class Tell(Protocol):
    """Is told how far a stage has come: `done` of `total` units ("s" of audio, "files", ...)."""

    def __call__(self, stage: str, done: float, total: float, unit: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the user allowed, for a corpus that has to know.

    offline: no hub may be asked (`--offline`). leakage: splits may share speakers, groups and
    recordings (`--allow-leakage`); whoever scores on them finds out for itself, and says so.
    """

    offline: bool = False
    leakage: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A labelled stretch of time: [start, end) in seconds from the start of the file."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of one audio file and what is known about it.

    A corpus yields clips (a whole recording or an utterance); `within` narrows one to a window.
    `start`, `end`, `segments` and `scored` all count seconds from the start of the file at `path`.
    """

    id: str  # unique in the corpus: the recording or utterance
    path: str
    start: float
    end: float
    group: str  # child, speaker or family: never in two splits; what intervals leave out
    speaker: str | None = None
    voices: tuple[str, ...] = ()  # who is heard, where known: none may be in two splits
    labels: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    segments: tuple[Segment, ...] = ()  # sorted by start
    scored: tuple[tuple[float, float], ...] | None = None  # annotated spans (UEM); None = all of it
    began: datetime | time | None = None  # local time at the start of the file, where known

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.end - self.start

    def within(self, start: float, end: float, segments: tuple[Segment, ...]) -> Clip:
        """This clip narrowed to [start, end), with the segments that touch it."""
        return replace(self, start=start, end=end, segments=segments, scored=None)


@dataclass(frozen=True, slots=True)
class Trial:
    """A verification trial: do these two clips (by id) share a speaker?"""

    enrol: str
    test: str
    same: bool


@dataclass(frozen=True, slots=True)
class View:
    """What one example is, in seconds.

    window: length of a window; None = the whole clip, as far as the encoder can take it in.
    hop: step between windows; None = the windows' frames tile, each time spoken once.
    crop: fine-tuning a frame task draws windows at random places instead of a fixed raster.
    context: heard on each side of a clip, where the file has it; only the clip's frames are kept.
    train_seconds: what is longer is cut to this in training, at a random place: clips of clip and
        pair tasks, windows of frame tasks (which may then be long).
    train_minimum: clips no longer than this are left out of training, and counted.
    pool: "mean" gives the head one frame, the mean over all frames of the clip's windows.
    tail: where no whole window is left, the last one is moved "back" to fit, or is "short"er.
    """

    window: float | None = None
    hop: float | None = None
    crop: bool = False
    context: float = 0.0
    train_seconds: float | None = None
    train_minimum: float = 0.0
    pool: Literal["frames", "mean"] = "frames"
    tail: Literal["back", "short"] = "back"


@dataclass(frozen=True, slots=True)
class Window:
    """What the encoder reads at once, and which of its frames count: [first, last), None = all."""

    clip: Clip  # narrowed to what is heard
    keep: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One example: what targets are asked for, and the windows that its frames come from.

    crop: frames [first, last) of the joined windows, drawn in training; None = all.
    """

    clip: Clip
    windows: tuple[Window, ...]
    crop: tuple[int, int] | None = None


def moved(x: Tensor, device: Any) -> Tensor:
    """On another device; to a GPU without waiting, where the memory is `pinned`."""
    return x.to(device, non_blocking=str(device) != "cpu")


def pinned(x: Tensor) -> Tensor:
    """In memory that a GPU reads by itself, while this process goes on."""
    return x.pin_memory() if x.device.type == "cpu" else x


@dataclass(slots=True)
class Waves:
    """A padded batch of audio: samples f32[B, S], mono in [-1, 1]; lengths i64[B] in samples.

    keep: i64[B, 2], the frames [first, last) that count (the rest is context); None = all.
    sizes: `lengths` on the CPU. Reading these makes nobody wait for a GPU.
    """

    samples: Tensor
    lengths: Tensor
    keep: Tensor | None = None
    sizes: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.sizes = self.lengths if self.sizes is None else self.sizes

    def each(self, do: Callable[[Tensor], Tensor]) -> Waves:
        """With `do` of every tensor but `sizes`."""
        keep = None if self.keep is None else do(self.keep)
        return Waves(do(self.samples), do(self.lengths), keep, self.sizes)

    def to(self, device: Any) -> Waves:
        return self.each(lambda x: moved(x, device))


@dataclass(slots=True)
class Encoded:
    """An encoder's answer: layers, each f32[B, T, D]; lengths i64[B] in frames.

    local: f32[B, T, C], the convolutional features before masking and projection, or None.
    normed: f32[B, T, C], `local` after the encoder's own layer norm, where it has one: what
        wav2vec 2.0 quantises (HuBERT's feature penalty is on `local`).
    """

    layers: tuple[Tensor, ...]
    lengths: Tensor
    local: Tensor | None = None
    normed: Tensor | None = None


@dataclass(slots=True)
class Features:
    """Cached frozen features: states f32[B, L, T, D] of all layers; lengths i64[B] in frames."""

    states: Tensor
    lengths: Tensor

    def each(self, do: Callable[[Tensor], Tensor]) -> Features:
        """With `do` of every tensor."""
        return Features(do(self.states), do(self.lengths))

    def to(self, device: Any) -> Features:
        return self.each(lambda x: moved(x, device))


@dataclass(slots=True)
class Batch:
    """What an objective sees: inputs are audio or cached features, and it never asks which.

    targets: frame level f32 or i64 [B, T, ...] padded to the longest; clip level [B, ...].
    target_lengths: i64[B]; weights: f32[B] or None; mask: bool[B, T] (pretraining) or None.
    step: the optimizer step, from which all randomness is drawn.
    seeds: one integer per example, drawn from (run's seed, step, clip): what an objective draws for
        an example (negatives, Gumbel noise) comes from it, and so is the same in any batch.
    host: the batch before it went to a GPU, where it did; see `here`.
    """

    inputs: Waves | Features
    targets: Tensor
    target_lengths: Tensor
    clips: tuple[Clip, ...]
    step: int
    weights: Tensor | None = None
    mask: Tensor | None = None
    seeds: tuple[int, ...] = ()
    host: Batch | None = None

    @property
    def here(self) -> Batch:
        """The batch as it was on the CPU: what is counted there makes nobody wait for a GPU."""
        return self.host or self

    def each(self, do: Callable[[Tensor], Tensor]) -> Batch:
        """With `do` of every tensor."""
        return replace(
            self,
            inputs=self.inputs.each(do),
            targets=do(self.targets),
            target_lengths=do(self.target_lengths),
            weights=None if self.weights is None else do(self.weights),
            mask=None if self.mask is None else do(self.mask),
        )

    def to(self, device: Any) -> Batch:
        if self.targets.device == device:
            return self
        batch = self.each(lambda x: moved(x, device))
        if self.targets.device.type == "cpu" != batch.targets.device.type:
            batch.host = self
        return batch


@dataclass(slots=True)
class Term:
    """One part of a loss: a SUM over `count` things. The trainer divides, once, by the count over
    all micro-batches and ranks, so the update doesn't depend on how the batch was cut up.

    exact=False marks a term that is not a sum over examples (code diversity, from marginals).
    """

    total: Tensor
    count: float
    weight: float = 1.0
    exact: bool = True


@dataclass(slots=True)
class Loss:
    """The terms of a loss by name, and numbers worth logging (sums, with their own counts). A sum
    that is still on a GPU may be given as it is: the trainer fetches all of a step's at once."""

    terms: dict[str, Term]
    logs: Mapping[str, tuple[float | Tensor, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Output:
    """What a model said of one clip, windows already joined.

    values: f32, logits [T, C] (frame, sequence), [C] (clip) or an embedding [E] (pair).
    For frames, row t is frame `first + t`, whose centre is `clip.start + grid.centre(first + t)`
    seconds. first is 0, but where a long recording is decoded piece by piece (`Task.cut`).
    """

    clip: Clip
    values: np.ndarray[Any, Any]
    first: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """A decoded output: what is written to disk and scored. Only what the task predicts is set."""

    id: str
    segments: tuple[Segment, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None
    vector: tuple[float, ...] = ()  # pair tasks: the embedding that is compared
