"""A model over audio of any length: windows in as they are read, rows out as they are final.

Reading and resampling run ahead in a thread of their own. Memory holds a few windows and the frames
that a later window may still speak of, whatever the length.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from bab.core.errors import BabError
from bab.core.types import Batch, View, Waves
from bab.data.rolling import RollingWindow, raster_of, rolling
from bab.data.windows import window_samples
from bab.running.fused import Blocks, fused
from bab.running.recordings import Recording
from bab.running.saved import Saved

_AHEAD = 2  # batches that are read before they are asked for
_NONE = torch.empty(0)
_NOTHING = np.zeros((0, 0), np.float32)
_KEEP_ALL = 2**31
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d)
# Audio that goes through the model together. On a CPU more costs memory and gains little: of a base
# model 16 s are 4 % faster than 8, and take .2 GB more. A GPU wants more.
_SECONDS_PER_PASS = {"cpu": 8.0, "mps": 64.0, "cuda": 512.0}
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that nothing which follows will change. first: of the recording.

    Of a frame or sequence task, a row is a frame's logits, f32. Of others it is a window, f64, in
    which samples of a day can be counted: its first sample, its samples, how many frames it speaks
    for, and its output.
    """

    first: int
    values: NDArray[np.floating]
    seconds: float  # of audio that is done


class Engine:
    """A saved model on a device, in a precision."""

    def __init__(
        self,
        saved: Saved,
        device: torch.device,
        precision: str = "fp32",
        overlap: float | None = None,
    ) -> None:
        """
        Args:
            saved: taken over: in half precision its weights are rounded in place.
            precision: fp32, bf16 or fp16 (bab.core.device.refuse_precision).
            overlap: the share of a window that the next one hears again, in place of the run's.

        Raises:
            BabError: an overlap for a task without frames, or outside [0, 1).
        """
        self.saved = saved
        self.device = device
        self.precision = precision
        self.model = saved.model.to(device).eval()
        if precision != "fp32":
            halve(self.model, HALF[precision])
        encoder, task = saved.encoder, saved.task
        view = saved.view if overlap is None else _overlapping(saved, overlap)
        self.raster = raster_of(view, encoder.grid, encoder.max_seconds, task.whole_clips)
        self.by_frame = not task.one_target
        window = self.raster.window / encoder.sample_rate
        self.batch = max(1, int(_SECONDS_PER_PASS.get(device.type, 8.0) / window))

    def of(self, recording: Recording, done: int = 0) -> Iterator[Rows]:
        """The rows of a recording, from the `done`-th on.

        Raises:
            AudioError: it can't be read.
        """
        stream = recording.open()
        rate = self.saved.encoder.sample_rate
        if len(self.saved.members) == 1:
            yield from self.rows(lambda skip: recording.blocks(stream, rate, skip), done)
        elif not done:
            yield from self._fused(lambda rate: recording.blocks(stream, rate, 0))

    def rows(
        self, blocks: Callable[[int], Iterable[NDArray[np.float32]]], done: int = 0
    ) -> Iterator[Rows]:
        """The rows of a recording, from the `done`-th on.

        blocks: the audio from a sample on, in blocks f32[S], at the encoder's rate.
        """
        number = self.raster.number_of(done) if self.by_frame else done
        number = max(0, number - 1)  # the last window may begin before where the next one would
        windows = rolling(blocks(number * self.raster.step), self.raster, number)
        batches = ahead(_batched(windows, self.batch), _AHEAD)
        if self.by_frame:
            yield from self._frames(batches, done)
        else:
            yield from self._windows(batches, number, done)

    @torch.inference_mode()
    def _fused(self, blocks: Blocks) -> Iterator[Rows]:
        """One row for a whole recording, of several encoders; before it, rows without values."""
        saved, parts = self.saved, None
        steps = fused(saved.members, saved.spec["layers"], saved.view, blocks, self.device)
        while parts is None:
            try:
                yield Rows(0, _NOTHING, next(steps))
            except StopIteration as end:
                parts = end.value
        features, seconds = parts
        if features is None:
            return
        batch = Batch(features.to(self.device), _NONE, _NONE, (), 0)
        said = self.model.embed(batch) if saved.task.pairs else self.model(batch)[0]
        place = np.array((0.0, seconds * saved.encoder.sample_rate, 1.0))
        yield Rows(0, np.concatenate([place, said[0].float().cpu().numpy()])[None], seconds)

    def _frames(self, batches: Iterable[Sequence[RollingWindow]], done: int) -> Iterator[Rows]:
        """Frames' logits; those that several windows speak of are averaged."""
        raster, rate = self.raster, self.raster.grid.sample_rate
        joined = Joined(done)
        for batch in batches:
            for window, values in zip(batch, self._forward(batch), strict=True):
                begin = window.first // raster.hop + (window.keep[0] if window.keep else 0)
                joined.add(begin, values)
            # What the last window, moved back to the audio's end, might still speak of waits.
            upcoming = raster.begin(batch[-1].first // raster.step + 1)
            latest = max(0, batch[-1].known - raster.window) // raster.hop
            if raster.once:  # a window's frames are said once: the last adds no second opinion
                latest = upcoming
            seconds = (batch[-1].first + len(batch[-1].samples)) / rate
            yield from joined.final(min(upcoming, latest), seconds)
        yield from joined.final(None, 0.0)

    def _windows(
        self, batches: Iterable[Sequence[RollingWindow]], number: int, done: int
    ) -> Iterator[Rows]:
        """A row for each window: where it is, what it weighs, and the model's output. number: of
        the first window that comes; those before the `done`-th are known."""
        grid, rate = self.raster.grid, self.raster.grid.sample_rate
        for batch in batches:
            rows = []
            for window, values in zip(batch, self._forward(batch), strict=True):
                frames = grid.frames(len(window.samples))
                weight = window.keep[1] - window.keep[0] if window.keep else frames
                place = np.array((window.first, len(window.samples), weight), np.float64)
                rows.append(np.concatenate([place, values]))
            rows = rows[max(0, done - number) :]
            number += len(batch)
            if rows:
                seconds = (batch[-1].first + len(batch[-1].samples)) / rate
                yield Rows(number - len(rows), np.stack(rows), seconds)

    @torch.inference_mode()
    def _forward(self, windows: Sequence[RollingWindow]) -> list[NDArray[np.float32]]:
        """The model's output for each window: [T, C] of its kept frames, or [C]."""
        samples = [torch.from_numpy(window.samples) for window in windows]
        lengths = torch.tensor([len(s) for s in samples])
        keep = None
        if any(window.keep is not None for window in windows):
            keep = torch.tensor([window.keep or (0, _KEEP_ALL) for window in windows])
        waves = Waves(pad_sequence(samples, batch_first=True), lengths, keep).to(self.device)
        batch = Batch(waves, _NONE, _NONE, (), 0)
        with arithmetic(self.device, self.precision):
            if self.saved.task.pairs:
                return list(self.model.embed(batch).float().cpu().numpy())
            logits, counts = self.model(batch)
        values = logits.float().cpu().numpy()
        if values.ndim == 2:
            return list(values)
        return [v[:n] for v, n in zip(values, counts.tolist(), strict=True)]


def arithmetic(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """In which a model runs: as it is (fp32), or under autocast."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, HALF[precision])


def halve(model: nn.Module, half: torch.dtype) -> None:
    """Round once, and keep, what autocast would round at every pass: the weights of products and
    convolutions. The results are the same bits; half the memory, and 3 to 15 % of the time."""
    for module in model.modules():
        if isinstance(module, _ROUNDED) and not nn.utils.parametrize.is_parametrized(module):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(half)


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


def _overlapping(saved: Saved, share: float) -> View:
    """The run's view with windows that overlap by a share of their length; frames are averaged."""
    if saved.task.whole_clips:
        name = saved.spec["task"]["name"]
        raise BabError(f"--overlap: task '{name}' gives no frames that could be averaged")
    if not 0 <= share < 1:
        raise BabError(f"--overlap {share:g}: a share of the window, at least 0 and below 1")
    encoder = saved.encoder
    window = window_samples(saved.view, encoder.grid, encoder.max_seconds)
    if window is None:
        raise BabError("--overlap: this model takes a recording whole, not in windows")
    hop = window * (1 - share) / encoder.sample_rate
    return replace(saved.view, hop=hop if share else None)


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


def ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """The same items, made in a thread, `depth` of them before they are asked for. What goes wrong
    there is raised here, in its place."""
    made: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    ended = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not ended.is_set():
            try:
                made.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        source = iter(items)
        try:
            for item in source:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()  # a decoder's process ends with its reader

    reader = threading.Thread(target=work, name="bab-reader", daemon=True)
    reader.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        ended.set()
        reader.join(10.0)  # files and decoders are closed before the interpreter ends
