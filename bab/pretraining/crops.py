"""Pretraining examples: random crops straight out of long files, batched by seconds of audio.

No chunk files: a crop is read by seeking. All draws come from (seed, epoch, place), so the order
is the same with any number of workers and processes, and a resumed run goes on in it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.audio import reading
from bab.config.pretrain import AudioConfig, MaskConfig, PretrainTrain
from bab.core.errors import AudioError, ConfigError, CorpusError
from bab.core.grid import Grid
from bab.core.seeds import derive
from bab.core.types import Batch, Clip, Waves
from bab.data.sampling import Counted, Order, Timed
from bab.data.windows import samples_of
from bab.pretraining.masking import span_mask
from bab.targets.store import TargetStore

_INSTEAD = 20  # crops that are tried in the place of one that can't be read


class Crops:
    """The examples of a set of clips: each clip once, or as often as crops are drawn from it."""

    def __init__(self, clips: Sequence[Clip], options: AudioConfig, grid: Grid) -> None:
        """clips: at least `options.minimum` long, or they are left out (see `short`)."""
        rate = grid.sample_rate
        least = max(round(options.minimum * rate), grid.field)
        self.clips = [clip for clip in clips if samples_of(clip, rate)[1] >= least]
        self.short = len(clips) - len(self.clips)
        self.options = options
        self.grid = grid
        self.places = [i for i, clip in enumerate(self.clips) for _ in range(self._times(clip))]

    def _times(self, clip: Clip) -> int:
        crop = self.options.crop
        if crop is None or clip.duration <= crop:
            return 1
        return self.options.per_clip or round(clip.duration / crop)

    def seconds(self, place: int) -> float:
        """Length of the example at a place of the epoch."""
        duration, crop = self.clips[self.places[place]].duration, self.options.crop
        return duration if crop is None else min(duration, crop)

    def crop(self, place: int, seed: tuple[object, ...]) -> tuple[Clip, NDArray[np.float32]]:
        """The stretch of a place, drawn anew while it is too quiet, and its audio f32[S].

        A crop begins a whole number of hops after its clip, so that frame labels made beforehand
        fit it exactly.
        """
        clip, rate = self.clips[self.places[place]], self.grid.sample_rate
        first, total = samples_of(clip, rate)
        length = round(self.seconds(place) * rate)
        room = (total - length) // self.grid.hop + 1
        if room <= 1:
            return clip, reading.read(clip.path, clip.start, clip.end, rate)
        for trial in range(self.options.retries + 1):
            start = first + random.Random(derive(*seed, trial)).randrange(room) * self.grid.hop
            cropped = clip.within(start / rate, (start + length) / rate, ())
            wave = reading.read(cropped.path, cropped.start, cropped.end, rate)
            if not self.options.rms or float(np.sqrt(np.mean(np.square(wave)))) >= self.options.rms:
                break
        return cropped, wave


def order_of(crops: Crops, train: PretrainTrain, parts: int, seed: int) -> Order:
    """Which places make up each step: up to `train.seconds`, or `train.batch` of them, of like
    length.

    parts: processes x micro-batches, so the fewest examples that a step may have.

    Raises:
        CorpusError: nothing to train on.
        ConfigError: fewer examples in a step than parts.
    """
    lengths = [crops.seconds(place) for place in range(len(crops.places))]
    if not lengths:
        raise CorpusError("there is nothing to pretrain on: no clip of train is long enough")
    if train.seconds is None:
        if train.batch < parts:
            raise ConfigError(
                f"train.batch={train.batch}: {parts} processes x micro-batches need that many "
                "examples"
            )
        return Order(lengths, seed, Counted(train.batch, refill=True))
    if max(lengths) * parts > train.seconds:
        raise ConfigError(
            f"train.seconds={train.seconds:g}: a step must hold {parts} examples (one per process "
            f"and micro-batch) of up to {max(lengths):.1f} s: raise it, or lower audio.crop"
        )
    return Order(lengths, seed, Timed(train.seconds))


class PretrainCollator:
    """Crops -> a Batch with masks, seeds and, where there are any, frame labels."""

    def __init__(
        self,
        crops: Crops,
        mask: MaskConfig,
        targets: TargetStore | None,
        seed: int,
        skip_bad: bool = False,
    ) -> None:
        """skip_bad: in the place of a crop that can't be read, another is taken; see `failed`."""
        self.skip_bad = skip_bad
        self.failed: dict[str, str] = {}  # file -> why a part of it couldn't be read
        self.crops = crops
        self.mask = mask
        self.targets = targets
        self.seed = seed

    def __call__(self, places: Sequence[int], epoch: int, step: int) -> Batch:
        """The batch of some places of an epoch; `step` seeds masks and noise."""
        cropped = [self._crop(p, (self.seed, "crop", epoch, p)) for p in places]
        clips = tuple(clip for clip, _, _ in cropped)
        waves = [torch.from_numpy(wave) for _, wave, _ in cropped]
        labels = [own for _, _, own in cropped]
        lengths = torch.tensor([len(wave) for wave in waves])
        frames = [self.crops.grid.frames(len(wave)) for wave in waves]
        # The place is part of it: one clip may be drawn twice in a step.
        draws = zip(places, clips, strict=True)
        seeds = tuple(derive(self.seed, "draw", step, p, c.id, c.start) for p, c in draws)
        masks = [self._hidden(t, seed) for t, seed in zip(frames, seeds, strict=True)]
        return Batch(
            Waves(pad_sequence(waves, batch_first=True), lengths),
            pad_sequence(labels, batch_first=True),
            torch.tensor(frames),
            clips,
            step,
            mask=pad_sequence(masks, batch_first=True),
            seeds=seeds,
        )

    def _crop(
        self, place: int, seed: tuple[object, ...]
    ) -> tuple[Clip, NDArray[np.float32], Tensor]:
        """A crop of a place with its labels, or of another where that can't be had."""
        for trial in range(_INSTEAD):
            try:
                clip, wave = self.crops.crop(place, (*seed, trial) if trial else seed)
                return clip, wave, self._labels(clip, self.crops.grid.frames(len(wave)))
            except AudioError as error:
                if not self.skip_bad:
                    raise
                self.failed[self.crops.clips[self.crops.places[place]].path] = str(error)
                place = random.Random(derive(*seed, "instead", trial)).randrange(
                    len(self.crops.places)
                )
        raise AudioError(
            f"{_INSTEAD} crops in a row couldn't be read, the last: {[*self.failed.values()][-1]}"
        )

    def _hidden(self, frames: int, seed: int) -> Tensor:
        m = self.mask
        return span_mask(frames, m.prob, m.length, m.minimum, derive(seed, "mask"), m.overlap)

    def _labels(self, clip: Clip, frames: int) -> Tensor:
        if self.targets is None:
            return torch.zeros(frames, dtype=torch.long)
        return self.targets.labels(clip, frames)
