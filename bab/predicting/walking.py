"""Windows over audio of any length: heard as they are read, said as rows as soon as they are final.

Reading and resampling run ahead in a thread of their own. Memory holds a few windows and the frames
that a later window may still speak of, whatever the length. What stops goes on from its last row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bab.data.rolling import Raster, RollingWindow, rolling
from bab.features.ahead import ahead
from bab.machine.abreast import ALONE, Share, abreast
from bab.predicting.recordings import Recording

_AHEAD = 2  # batches that are read before they are asked for
_NOTHING = np.zeros((0, 0), np.float32)
Item = TypeVar("Item")
Values = NDArray[np.floating]
Blocks = Callable[[int], Iterable[NDArray[np.float32]]]  # of the audio, from a sample on
Hear = Callable[[Sequence[RollingWindow]], Any]
Say = Callable[[Any], Sequence[Values]]
Heard = Iterable[tuple[Sequence[RollingWindow], Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that nothing which follows will change. first: of the recording.

    By frame, a row is what is said of a frame, f32. Else it is a window, f64, in which samples of a
    day can be counted: its first sample, its samples, how many frames it speaks for, and what is
    said of it.
    """

    first: int
    values: Values
    seconds: float  # of audio that is done


class Stretches(Protocol):
    """Rows of a recording, some at a time. done: how many there are."""

    @property
    def done(self) -> int: ...

    def read(self) -> Iterator[Values]: ...


class Sink(Stretches, Protocol):
    """Where rows go."""

    def add(self, rows: Rows) -> None: ...


class Held:
    """Rows in memory."""

    def __init__(self, rows: Sequence[Rows] = ()) -> None:
        self._rows = [one.values for one in rows]

    @property
    def done(self) -> int:
        return sum(map(len, self._rows))

    def add(self, rows: Rows) -> None:
        self._rows.append(rows.values)

    def read(self) -> Iterator[Values]:
        if self._rows:
            yield np.concatenate(self._rows)


class Walk:
    """One encoder's way through audio."""

    def __init__(
        self,
        raster: Raster,
        by_frame: bool,
        seconds_per_pass: float,
        hear: Hear,
        say: Say = lambda heard: heard,
        share: Share = ALONE,
    ) -> None:
        """hear: the encoder's part, which `share` may have run in several threads at once; say:
        the rest, what is said of each window: [T, C] of its frames that count, or [C]."""
        self.raster, self.by_frame = raster, by_frame
        self.hear, self.say, self.share = hear, say, share
        self.rate = raster.grid.sample_rate
        self.batch = max(1, int(seconds_per_pass * self.rate / raster.window))

    def of(self, recording: Recording, done: int = 0) -> Iterator[Rows]:
        """The rows of a recording, from the `done`-th on.

        Raises:
            AudioError: it can't be read.
        """
        stream = recording.open()
        return self.rows(lambda skip: recording.blocks(stream, self.rate, skip), done)

    def rows(self, blocks: Blocks, done: int = 0) -> Iterator[Rows]:
        """The rows of some audio, from the `done`-th on; last, how long it is.

        blocks: the audio from a sample on, in blocks f32[S], at the encoder's rate.
        """
        number = self.raster.number_of(done) if self.by_frame else done - 1
        # One before: the last window, which may be done already, may begin before its place.
        number = max(0, number - 1)
        windows = rolling(blocks(number * self.raster.step), self.raster, number)
        batches = ahead(_batched(windows, self.batch), _AHEAD)
        heard = abreast(self.hear, batches, self.share)
        if self.by_frame:
            yield from self._frames(heard, done)
        else:
            yield from self._windows(heard, number, done)

    def _frames(self, heard: Heard, done: int) -> Iterator[Rows]:
        """What is said of frames; of those that several windows speak of, the mean."""
        raster, seconds = self.raster, 0.0
        joined = Joined(done)
        for batch, one in heard:
            for window, values in zip(batch, self.say(one), strict=True):
                begin = window.first // raster.hop + (window.keep[0] if window.keep else 0)
                joined.add(begin, values)
            # What the last window, moved back to the audio's end, might still speak of waits.
            upcoming = raster.begin(batch[-1].first // raster.step + 1)
            latest = max(0, batch[-1].known - raster.window) // raster.hop
            if raster.once:  # a window's frames are said once: the last adds no second opinion
                latest = upcoming
            seconds = (batch[-1].first + len(batch[-1].samples)) / self.rate
            yield from joined.final(min(upcoming, latest), seconds)
        yield from joined.final(None, seconds)
        yield Rows(joined.first, _NOTHING, seconds)

    def _windows(self, heard: Heard, number: int, done: int) -> Iterator[Rows]:
        """A row for each window. number: of the first window that comes; those before the `done`-th
        are known."""
        grid = self.raster.grid
        for batch, one in heard:
            rows = []
            for window, values in zip(batch, self.say(one), strict=True):
                frames = grid.frames(len(window.samples))
                weight = window.keep[1] - window.keep[0] if window.keep else frames
                place = np.array((window.first, len(window.samples), weight), np.float64)
                rows.append(np.concatenate([place, values]))
            rows = rows[max(0, done - number) :]
            number += len(batch)
            seconds = (batch[-1].first + len(batch[-1].samples)) / self.rate
            yield Rows(number - len(rows), np.stack(rows) if rows else _NOTHING, seconds)


def listen(
    walks: Sequence[Walk],
    recording: Recording,
    sinks: Sequence[Sink],
    told: Callable[[float], None],
) -> float:
    """Each walk's rows into its sink, from where that one stands; the seconds that were heard.

    told: gets the seconds that are done, of several walks each as its share.

    Raises:
        AudioError: the recording can't be read.
    """
    longest = 0.0
    for number, (walk, sink) in enumerate(zip(walks, sinks, strict=True)):
        for rows in walk.of(recording, sink.done):
            if len(rows.values):
                sink.add(rows)
            longest = max(longest, rows.seconds)
            told((number * longest + rows.seconds) / len(walks))
    return longest


class Joined:
    """Sums of what windows say of frames, and how many said it, from a frame on."""

    def __init__(self, first: int) -> None:
        self.first = first  # the first frame that is not final
        self._total: NDArray[np.float64] = np.zeros((0, 0))
        self._count: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, begin: int, values: NDArray[np.float32]) -> None:
        """values: f32[T, C] of frames from `begin` on; those that are final already are dropped."""
        values = values[max(0, self.first - begin) :]
        if not len(values):
            return
        begin = max(begin, self.first) - self.first
        lacking = begin + len(values) - len(self._total)
        if lacking > 0:
            more = np.zeros((lacking, values.shape[1]))
            self._total = np.concatenate([self._total.reshape(-1, values.shape[1]), more])
            self._count = np.concatenate([self._count, np.zeros(lacking, np.int64)])
        self._total[begin : begin + len(values)] += values
        self._count[begin : begin + len(values)] += 1

    def final(self, end: int | None, seconds: float) -> Iterator[Rows]:
        """The means of the frames before `end` (None: of all), which are forgotten here."""
        count = len(self._total) if end is None else min(len(self._total), end - self.first)
        if count <= 0:
            return
        values = (self._total[:count] / self._count[:count, None]).astype(np.float32)
        self._total, self._count = self._total[count:].copy(), self._count[count:].copy()
        first, self.first = self.first, self.first + count
        yield Rows(first, values, seconds)


def _batched(windows: Iterable[RollingWindow], size: int) -> Iterator[list[RollingWindow]]:
    """Windows of one length together, in order."""
    part: list[RollingWindow] = []
    for window in windows:
        if part and (len(part) == size or len(part[0].samples) != len(window.samples)):
            yield part
            part = []
        part.append(window)
    if part:
        yield part
