"""A small batch of each level with targets that are known, and a model whose output is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bab.core.grid import Grid
from bab.core.interfaces import Encoder, Scorer
from bab.core.types import Batch, Clip, Encoded, Waves

EXAMPLES, CLASSES, DIM, LOCAL, CODES = 4, 3, 8, 5, 7
FRAMES = (9, 5, 7, 3)  # of each example
GRID = Grid(16000, 320, 400)


class Encoding(Encoder):
    """What an objective may ask of an encoder that it is attached to."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.sample_rate, self.dim, self.depth, self.grid = 16000, DIM, 1, GRID
        self.max_seconds, self.local_dim = None, LOCAL
        self.fingerprint = self.resolved = "planted"


class Answers(Scorer):
    """A model whose answer to each example is known. leaves: the tensors that it answers with."""

    def __init__(self, planted: Planted, rows: Sequence[int], values: Tensor | None = None) -> None:
        super().__init__()
        self.encoder = None
        size = max(planted.lengths[row] for row in rows)

        def cut(x: Tensor) -> Tensor:
            kept = x[list(rows)]
            kept = kept[:, :size] if x.ndim == 3 else kept
            return kept.detach().clone().requires_grad_()

        self.values = cut(planted.values if values is None else values)
        self.local = cut(planted.local)
        self.lengths = torch.tensor([planted.lengths[row] for row in rows])
        self.leaves = [self.values, self.local]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.values, self.lengths

    def encode(self, batch: Batch) -> Encoded:
        return Encoded((self.values,), self.lengths, self.local, self.local)


@dataclass(frozen=True)
class Planted:
    """A batch of four examples, and what a model says of them.

    values: f32, logits [B, T, C] (frame, sequence), [B, C] (clip), vectors [B, DIM] (pair) or
        states [B, T, DIM] (pretraining).
    """

    level: str
    batch: Batch
    values: Tensor
    local: Tensor
    lengths: tuple[int, ...]
    sizes: tuple[int, ...]
    encoder: Encoder

    def model(self, rows: Sequence[int] = range(EXAMPLES)) -> Answers:
        """What answers for some of the examples."""
        return Answers(self, rows)

    def right(self, by: float) -> Answers:
        """A model that is right by so many logits; below zero, it is wrong."""
        return Answers(self, range(EXAMPLES), by * _wanted(self))

    def rows(self, rows: Sequence[int]) -> Batch:
        """Some of the examples as a batch of their own, padded to its own longest."""
        b, index = self.batch, list(rows)
        frames = max(self.lengths[row] for row in rows)
        targets = b.targets[index]
        if self.level in ("frame", "pretraining") and targets.ndim > 1:
            targets = targets[:, :frames]
        if self.level == "sequence":
            targets = targets[:, : int(b.target_lengths[index].max())]
        inputs = b.inputs
        assert isinstance(inputs, Waves)
        return replace(
            b,
            inputs=Waves(
                inputs.samples[index, : int(inputs.lengths[index].max())], inputs.lengths[index]
            ),
            targets=targets,
            target_lengths=b.target_lengths[index],
            clips=tuple(b.clips[row] for row in rows),
            mask=None if b.mask is None else b.mask[index, :frames],
            seeds=tuple(b.seeds[row] for row in rows),
        )

    def spoilt(self) -> Planted:
        """The same with other padding: NaN in what the model says, other targets."""
        outside = torch.arange(max(self.lengths)) >= torch.tensor(self.lengths)[:, None]
        values, targets = self.values, self.batch.targets.clone()
        if values.ndim == 3 and self.level != "pretraining":
            values = values.masked_fill(outside[..., None], float("nan"))
        if self.level in ("frame", "pretraining"):
            wide = outside.reshape(*outside.shape, *[1] * (targets.ndim - 2))
            targets = torch.where(wide.expand_as(targets), torch.ones_like(targets), targets)
        if self.level == "sequence":
            past = torch.arange(targets.shape[1]) >= self.batch.target_lengths[:, None]
            targets = targets.masked_fill(past, 2)
        return replace(self, values=values, batch=replace(self.batch, targets=targets))


def plant(level: str) -> Planted:
    """The batch of a level: "frame", "clip", "sequence", "pair" or "pretraining"."""
    draw = torch.Generator().manual_seed(5)
    longest = max(FRAMES)
    lengths, width = torch.tensor(FRAMES), DIM if level in ("pair", "pretraining") else CLASSES
    inside = torch.arange(longest) < lengths[:, None]
    values = torch.randn(EXAMPLES, longest, width, generator=draw)
    local = torch.randn(EXAMPLES, longest, LOCAL, generator=draw) * inside[..., None]
    one = torch.ones(EXAMPLES, dtype=torch.int64)
    mask, sizes, sizes_of = None, (CLASSES,), lengths
    if level == "frame":
        targets = (torch.rand(EXAMPLES, longest, CLASSES, generator=draw) > 0.5).float()
        targets = targets * inside[..., None]
    elif level == "sequence":
        targets = torch.tensor([[1, 2, 1], [2, 0, 0], [1, 1, 0], [2, 0, 0]])
        sizes_of = torch.tensor([3, 1, 2, 1])
    elif level == "pretraining":
        targets = torch.randint(CODES, (EXAMPLES, longest), generator=draw)
        mask = torch.zeros(EXAMPLES, longest, dtype=torch.bool)
        mask[:, 0:3] = True
        sizes = (CODES,)
    else:
        values = values[:, 0]
        targets = torch.tensor([[0], [1], [2], [1]])
        sizes_of = one
    samples = torch.tensor([GRID.samples(size) for size in FRAMES])
    waves = Waves(torch.randn(EXAMPLES, int(samples.max()), generator=draw) * 0.1, samples)
    clips = tuple(Clip(f"clip{i}", f"/clip{i}.wav", 0.0, 1.0, f"g{i}") for i in range(EXAMPLES))
    batch = Batch(waves, targets, sizes_of, clips, 3, None, mask, (11, 12, 13, 14))
    return Planted(level, batch, values, local, FRAMES, sizes, Encoding())


def _wanted(planted: Planted) -> Tensor:
    """Outputs that are right: 1 of what is meant, -1 of the rest; of a sequence, its labels and
    blanks in between, as far as there are frames."""
    targets = planted.batch.targets
    if planted.level == "frame":
        return 2.0 * targets - 1.0
    if planted.level == "clip":
        return 2.0 * nn.functional.one_hot(targets[:, 0], CLASSES).float() - 1.0
    path = torch.zeros(EXAMPLES, max(FRAMES), dtype=torch.int64)
    for row, size in enumerate(planted.batch.target_lengths.tolist()):
        path[row, 0 : 2 * size : 2] = targets[row, :size]
    return 2.0 * nn.functional.one_hot(path, CLASSES).float() - 1.0
