"""Examples -> batches: inputs from a source, targets for just the frames of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.audio import reading
from bab.core.errors import ConfigError
from bab.core.grid import Grid
from bab.core.types import Batch, Clip, Features, Item, Waves, Window

_ALL = 2**31  # more frames than any window has: keep to the end


class Source(Protocol):
    """Where an example's input comes from: its audio, or its cached features.

    by_window: an example of several windows can't be had at once, only window by window.
    """

    by_window: bool

    def inputs(self, items: Sequence[Item]) -> Waves | Features:
        """The padded inputs of some examples."""


class WaveSource:
    """Reads windows from their files, at the encoder's rate."""

    by_window = True

    def __init__(self, rate: int) -> None:
        self.rate = rate

    def inputs(self, items: Sequence[Item]) -> Waves:
        """samples f32[B, S] padded with zeros, lengths i64[B], keep where there is context.

        Raises:
            ConfigError: an example of several windows: those have features, not one wave.
        """
        for item in items:
            if len(item.windows) > 1:
                raise ConfigError(
                    f"clip '{item.clip.id}' ({item.clip.duration:.1f} s) is longer than the "
                    "encoder takes in at once, and can't be cut: probe, or leave it out of train"
                )
        return self.read([item.windows[0] for item in items])

    def read(self, windows: Sequence[Window]) -> Waves:
        """The audio of some windows, padded."""
        clips = [w.clip for w in windows]
        waves = [torch.from_numpy(reading.read(c.path, c.start, c.end, self.rate)) for c in clips]
        lengths = torch.tensor([len(w) for w in waves])
        keep = None
        if any(w.keep is not None for w in windows):
            keep = torch.tensor([w.keep or (0, _ALL) for w in windows])
        return Waves(pad_sequence(waves, batch_first=True), lengths, keep)


Targets = Callable[[Clip, int], Tensor]
_REMEMBERED = 50_000  # clips
_REMEMBERED_BYTES = 64 * 2**20  # of their targets


def remembered(targets: Targets) -> Targets:
    """The same, of each clip asked for once, as far as there is room; for clips that are always
    asked for the same frames."""
    known: dict[int, tuple[Clip, Tensor]] = {}  # with the clip, so that its identity stays its own
    left = [_REMEMBERED_BYTES]

    def look(clip: Clip, frames: int) -> Tensor:
        one = known.get(id(clip))
        if one is None:
            one = (clip, targets(clip, frames))
            left[0] -= one[1].nbytes
            if len(known) < _REMEMBERED and left[0] >= 0:
                known[id(clip)] = one
        return one[1]

    return look


class Collator:
    """Items -> a Batch: inputs from a source, targets for just the frames of each example."""

    def __init__(self, source: Source, grid: Grid, targets: Targets) -> None:
        self.source = source
        self.grid = grid
        self.targets = targets

    def __call__(self, items: Sequence[Item], step: int) -> Batch:
        inputs = self.source.inputs(items)
        lengths = inputs.lengths.tolist()
        if isinstance(inputs, Waves):
            lengths = [self.grid.frames(n) for n in lengths]
        clips = tuple(item.clip for item in items)
        targets = [self.targets(c, t) for c, t in zip(clips, lengths, strict=True)]
        sizes = [len(t) for t in targets]
        alike = min(sizes) == max(sizes)
        padded = torch.stack(targets) if alike else pad_sequence(targets, batch_first=True)
        return Batch(inputs, padded, torch.tensor(sizes), clips, step)
