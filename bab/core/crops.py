"""Pretraining examples: random crops straight out of long files, batched by seconds of audio.

No chunk files: a crop is read by seeking. All draws come from (seed, epoch, place), so the order
is the same with any number of workers and processes, and a resumed run goes on in it.
"""

from __future__ import annotations

import itertools
import random
import threading
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.core import audio
from bab.core.errors import AudioError, ConfigError, CorpusError
from bab.core.grid import Grid
from bab.core.masking import span_mask
from bab.core.pretrain_schema import AudioConfig, MaskConfig
from bab.core.records import Batch, Clip, Waves
from bab.core.seeds import derive
from bab.core.targets import TargetStore
from bab.core.views import samples_of

_INSTEAD = 20  # crops that are tried in the place of one that can't be read
_POOL = 50  # batches that are sorted by length together, as in bab.core.loader


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
        return self.options.per_clip or max(1, round(clip.duration / crop))

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
            return clip, audio.read(clip.path, clip.start, clip.end, rate)
        for trial in range(self.options.retries + 1):
            start = first + random.Random(derive(*seed, trial)).randrange(room) * self.grid.hop
            found = clip.within(start / rate, (start + length) / rate, ())
            wave = audio.read(found.path, found.start, found.end, rate)
            if not self.options.rms or float(np.sqrt(np.mean(np.square(wave)))) >= self.options.rms:
                break
        return found, wave


class BySeconds:
    """Which places make up each step: up to so many seconds, or so many examples, of like length.

    Epochs differ in how many batches they cut into, so a step's epoch is found by counting; an
    epoch's plan is a function of (seed, epoch).
    """

    def __init__(
        self, lengths: Sequence[float], seconds: float | None, count: int, seed: int, parts: int
    ) -> None:
        """lengths: seconds of each place; seconds: of a step, or None for `count` examples; parts:
        processes x micro-batches, so the fewest examples that a step may have.

        Raises:
            CorpusError: nothing to train on.
            ConfigError: fewer examples in a step than parts.
        """
        if not lengths:
            raise CorpusError("there is nothing to pretrain on: no clip of train is long enough")
        if seconds is None and count < parts:
            raise ConfigError(
                f"train.batch={count}: {parts} processes x micro-batches need that many examples"
            )
        if seconds is not None and max(lengths) * parts > seconds:
            raise ConfigError(
                f"train.seconds={seconds:g}: a step must hold {parts} examples (one per process "
                f"and micro-batch) of up to {max(lengths):.1f} s: raise it, or lower audio.crop"
            )
        self.lengths = lengths
        self.seconds = seconds
        self.count = count
        self.seed = seed
        self._ends: list[int] = []  # steps before the end of each epoch
        self._plan: tuple[int, list[list[int]]] = (-1, [])
        self._lock = threading.Lock()

    def at(self, step: int) -> tuple[int, list[int]]:
        """(epoch, places) of a step, from 0."""
        with self._lock:
            while not self._ends or self._ends[-1] <= step:
                plan = self._shuffled(len(self._ends))
                self._ends.append((self._ends[-1] if self._ends else 0) + len(plan))
            epoch = bisect_right(self._ends, step)
            if self._plan[0] != epoch:
                self._plan = (epoch, self._shuffled(epoch))
            return epoch, self._plan[1][step - (self._ends[epoch - 1] if epoch else 0)]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        draw = random.Random(derive(self.seed, "epoch", epoch))
        order = list(range(len(self.lengths)))
        draw.shuffle(order)
        batches = self._counted(order) if self.seconds is None else self._timed(order, self.seconds)
        draw.shuffle(batches)
        return batches

    def _counted(self, order: Sequence[int]) -> list[list[int]]:
        """Batches of `count`. What is over is left out before lengths are looked at, so that every
        clip has the same chance; where there is less than one batch, clips are heard twice."""
        size = self.count
        if len(order) < size:
            return [[order[i % len(order)] for i in range(size)]]
        whole = order[: len(order) // size * size]
        batches: list[list[int]] = []
        for begin in range(0, len(whole), _POOL * size):
            pool = sorted(whole[begin : begin + _POOL * size], key=lambda i: self.lengths[i])
            batches += [pool[i : i + size] for i in range(0, len(pool), size)]
        return batches

    def _timed(self, order: Sequence[int], seconds: float) -> list[list[int]]:
        """Batches whose padded size is within the budget. The last of a pool goes on to the next
        pool; the very last is filled up with clips that are heard twice."""
        size = _POOL * max(1, int(seconds * len(order) / sum(self.lengths)))
        batches: list[list[int]] = []
        rest: list[int] = []
        for begin in range(0, len(order), size):
            pool = sorted([*rest, *order[begin : begin + size]], key=lambda i: self.lengths[i])
            *full, rest = cut(pool, self.lengths, seconds, len(pool))
            batches += full
        longest = max(self.lengths[i] for i in rest)
        for place in itertools.cycle(order):
            longest = max(longest, self.lengths[place])
            if (len(rest) + 1) * longest > seconds + 1e-6:
                return [*batches, rest]
            rest.append(place)
        return batches


def cut(
    places: Sequence[int], lengths: Sequence[float], seconds: float, count: int
) -> list[list[int]]:
    """Places, the shortest first -> batches whose padded size is within the budget; one that is
    longer than the budget stands alone.

    seconds, count: the most audio, padding included, and the most examples of a batch.
    """
    batches: list[list[int]] = []
    for place in places:
        size = len(batches[-1]) + 1 if batches else 1
        if not batches or size > count or size * lengths[place] > seconds + 1e-6:
            batches.append([])
        batches[-1].append(place)
    return batches


def some(lengths: Sequence[float], seconds: float) -> list[int]:
    """Places drawn at random, always the same ones, up to so many seconds (one at least); the
    shortest first."""
    order = list(range(len(lengths)))
    random.Random(derive("some", len(lengths))).shuffle(order)
    taken, total = order[:1], lengths[order[0]]
    for place in order[1:]:
        total += lengths[place]
        if total > seconds:
            break
        taken.append(place)
    return sorted(taken, key=lambda i: lengths[i])


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
        found = [self._crop(p, (self.seed, "crop", epoch, p)) for p in places]
        clips = tuple(clip for clip, _, _ in found)
        waves = [torch.from_numpy(wave) for _, wave, _ in found]
        labels = [own for _, _, own in found]
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
