"""Frozen features on disk: addressed by content, bounded, safe under concurrent processes.

A block holds the features of some neighbouring windows of one file, in one safetensors file that
appears whole or not at all. Its name is a hash of everything that the features depend on: the
encoder's fingerprint, the audio's content (not its name), the exact samples, the layers, the
number type, the device's kind and torch's version. Nothing is ever looked up by a model's name.
What was damaged on the disk is found by its checksum (bab.features.blocks) and made anew.

Features that the budget has no room for are computed again each time they are needed. On a CPU
every window is encoded by itself, so both ways give the same bits, whatever was cached.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.core.components import identity
from bab.core.interfaces import Encoder
from bab.core.types import Features, Item, Window
from bab.data.batches import Source
from bab.data.content import content_id
from bab.data.windows import kept_frames, samples_of
from bab.features.blocks import Rows
from bab.features.laying import Rooms
from bab.features.passes import PASS_SECONDS, Layers, Passes
from bab.features.store import Store

_FORMAT = 2
_BLOCK_WINDOWS = 32
_MEMORY_BYTES = 256 * 2**20  # of pooled features that are kept in memory as well
_BLOCK_BYTES = 32 * 2**20  # a block is read by slices, so this only bounds the cost of writing one
Progress = Callable[[float, float], None]
_Key = tuple[str, float, float, tuple[int, int] | None]
_Block = tuple[str, list[Window]]
_Portion = tuple[list[_Block], list[_Block]]  # those gone through, and those of them to be made
_CPU_SECONDS = 16.0  # of audio that a core encodes before it looks whether to stop
_HELD_BYTES = 256 * 2**20  # of states, the same


class FrozenSource(Source, Protocol):
    """Features of a run's windows, planned beforehand."""

    store: Store

    def fill(self, rank: int, world: int, progress: Progress, stop: Callable[[], bool]) -> None:
        """Compute what is missing, this process's share of it, until `stop` says so."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a window's features are: rows [begin, end) of a block."""

    block: int
    index: int


class FeatureSource:
    """The features of known windows, from the store or computed on the spot."""

    by_window = False

    def __init__(
        self,
        encoder: Encoder,
        layers: Layers,
        store: Store,
        memo: Path,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        batch: int = 1,
        pool: bool = False,
        precision: str = "fp32",
        packed: bool = False,
        resident: int = 0,
    ) -> None:
        """layers: which states to keep; memo: of content ids; batch: windows per pass, which is 1
        on a CPU so that a window's features never depend on its company; pool: keep only each
        window's mean over its frames, and give one frame per example; precision: that the encoder
        computes in; packed: whether with packed weights (bab.machine.packed); resident: bytes of
        frames that stay in the device's memory once read."""
        self.encoder = encoder.eval()
        self.layers = layers
        self.store = store
        self.memo = memo
        self.device = device
        self.dtype = dtype
        self.batch = batch
        self.pool = pool
        self.precision = precision
        self.packed = packed
        self.passes = Passes(encoder, layers, device, dtype, batch, pool, precision)
        self.places: dict[_Key, Place] = {}
        self.blocks: list[tuple[str, list[Window]]] = []
        self._mended: set[str] = set()  # blocks that were damaged, once each
        self._filled = 0  # blocks that were planned when all of them had been seen to
        self._memory: dict[tuple[_Key, ...], Tensor] = {}
        self._memory_left = _MEMORY_BYTES
        self._resident: dict[_Key, Tensor] = {}
        self._resident_left = 0 if pool else resident
        self.by_frame = False  # how a batch is laid in a CPU's memory: see `Rooms.room`
        self._rooms = Rooms()

    def plan(self, windows: Iterable[Window]) -> None:
        """Take note of windows that will be asked for, in an order that keeps files together."""
        windows = list(windows)
        self.passes.longest = max([self.passes.longest, *(w.clip.duration for w in windows)])
        for path, group in groupby(windows, key=lambda w: w.clip.path):
            for part in self._blocks_of([w for w in group if _key(w) not in self.places]):
                self.places.update(
                    {_key(w): Place(len(self.blocks), i) for i, w in enumerate(part)}
                )
                self.blocks.append((self._address(path, part), part))

    def claim(self) -> None:
        """Mark what is there as used, before anything is thrown out to make room."""
        for key, _ in self.blocks:
            self.store.claim(key)

    def fill(self, rank: int, world: int, progress: Progress, stop: Callable[[], bool]) -> None:
        """Compute what is missing, this process's share of it, until `stop` says so. Once that is
        done nothing is looked at again: what was thrown out since is computed when asked for."""
        if self._filled == len(self.blocks):
            return
        self.claim()
        todo = self.blocks[rank::world]
        fresh = _fresh(todo)
        total, done = sum(fresh.values()), 0.0
        begun: deque[_Portion] = deque()  # and at last, unless it was stopped, what needs nothing
        written: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="bab-writer") as writer:
            for made in self.passes.stream(self._asked(todo, begun, stop)):
                passed, new = begun.popleft()
                if written is not None:
                    written.result()
                written = writer.submit(self._put, new, made)
                done += sum(fresh[key, part[0].clip.path] for key, part in passed)
                progress(done, total)
            if written is not None:
                written.result()
        if begun:
            left, _ = begun.pop()
            if left:
                progress(total, total)
            self._filled = len(self.blocks)

    def _asked(
        self, todo: Sequence[_Block], begun: deque[_Portion], stop: Callable[[], bool]
    ) -> Iterator[list[Window]]:
        """The windows of portions of what isn't kept yet and can be, for a thread of their own;
        `begun` gets their blocks."""
        passed: list[_Block] = []
        for blocks in self._portions(todo):
            if stop():
                return
            passed += blocks
            # Copies of a file share an address.
            asked = dict(one for one in blocks if not self.store.claim(one[0]))
            fitting = self._fitting(list(asked.values()))
            new = [one for one, fits in zip(asked.items(), fitting, strict=True) if fits]
            if new:
                begun.append((passed, new))
                passed = []
                yield [window for _, part in new for window in part]
        begun.append((passed, []))

    def _portions(self, blocks: Iterable[_Block]) -> Iterator[list[_Block]]:
        """Blocks that are looked for at once, and whose windows are sorted by length."""
        cpu = self.batch == 1
        enough = _CPU_SECONDS * self.passes.share.passes if cpu else 4 * PASS_SECONDS
        part: list[_Block] = []
        seconds, size = 0.0, 0
        for block in blocks:
            part.append(block)
            seconds += sum(w.clip.duration for w in block[1])
            size += sum(self._window_bytes(w) for w in block[1])
            if seconds >= enough or (cpu and size >= _HELD_BYTES):
                yield part
                part, seconds, size = [], 0.0, 0
        if part:
            yield part

    def _put(self, blocks: Sequence[_Block], states: Sequence[Tensor]) -> None:
        """Keep blocks, whose windows' states come one after the other."""
        begin = 0
        for key, part in blocks:
            self.store.put(key, states[begin : begin + len(part)])
            begin += len(part)

    def inputs(self, items: Sequence[Item]) -> Features:
        """states [B, L, T, D], lengths i64[B]; T is 1 where `pool` is on. They are float32, but on
        their way to a GPU, which takes them as they are kept."""
        if self.pool and all(item.crop is None for item in items):
            return Features(
                torch.stack(self._means(items)), torch.ones(len(items), dtype=torch.long)
            )
        made = self._made(items)
        if self.device.type == "cpu":
            return self._placed(items, made)
        states = [self._joined(item, made) for item in items]
        lengths = torch.tensor([s.shape[1] for s in states])
        padded = pad_sequence([s.transpose(0, 1) for s in states], batch_first=True)
        return Features(padded.transpose(1, 2), lengths)

    def _made(self, items: Sequence[Item]) -> Mapping[_Key, Tensor]:
        """The states of windows that aren't kept, where several can be computed at once."""
        if self.passes.share.passes == self.batch == 1:
            return {}
        absent: dict[_Key, Window] = {}
        for item in items:
            if self.pool and _keys(item) in self._memory:
                continue
            for window in item.windows:
                key = _key(window)
                place = self.places.get(key)
                kept = place is not None and self.store.has(self.blocks[place.block][0])
                if not kept and key not in self._resident:
                    absent[key] = window
        if len(absent) < 2:
            return {}
        return dict(zip(absent, self.passes.encode(list(absent.values())), strict=True))

    def _placed(self, items: Sequence[Item], made: Mapping[_Key, Tensor]) -> Features:
        """The inputs of examples, those whose windows were read before straight into their place
        in the batch."""
        parts = [self._sound(item) or self._joined(item, made).transpose(0, 1) for item in items]
        sizes = [len(part) for part in parts]
        layers, dim = parts[0].shape[1:]
        whole = self._rooms.room(sizes, layers, dim, self.by_frame)
        buffer = torch.empty(0)
        for own, part, item, frames in zip(whole, parts, items, sizes, strict=True):
            place = own[:, :frames].transpose(0, 1)
            if isinstance(part, Rows):
                straight = place.is_contiguous() and place.dtype == part.dtype
                if not straight and len(buffer) < frames:
                    buffer = part.empty()
                into = place if straight else buffer[:frames]
                part = into if part.read(into) else self._joined(item, made).transpose(0, 1)
            if part is not place:
                place.copy_(part)
        return Features(whole, torch.tensor(sizes))

    def _sound(self, item: Item) -> Rows | None:
        """Where an example of one window is, if it was read before."""
        place = self.places.get(_key(item.windows[0])) if len(item.windows) == 1 else None
        if place is None:
            return None
        return self.store.sound(self.blocks[place.block][0], place.index, item.crop)

    def _means(self, items: Sequence[Item]) -> list[Tensor]:
        """f32[L, 1, D] of each example, from memory where it was read before: a training set is
        gone through many times, and means are small."""
        keys = [_keys(item) for item in items]
        known = [mean for key in keys if (mean := self._memory.get(key)) is not None]
        if len(known) == len(items):
            return known
        made = self._made(items)
        return [self._pooled(*one, made) for one in zip(keys, items, strict=True)]

    def _pooled(self, key: tuple[_Key, ...], item: Item, made: Mapping[_Key, Tensor]) -> Tensor:
        mean = self._memory.get(key)
        if mean is None:
            mean = self._joined(item, made).float()
            size = mean.numel() * mean.element_size()
            if size <= self._memory_left:
                self._memory_left -= size
                self._memory[key] = mean
        return mean

    def _joined(self, item: Item, made: Mapping[_Key, Tensor]) -> Tensor:
        """[L, T, D] of an example: its windows' frames in a row, or the mean of them all."""
        if len(item.windows) == 1 and not (self.pool and item.crop is None):
            return self._states(item.windows[0], made, item.crop)
        parts = [self._states(window, made) for window in item.windows]
        if self.pool:
            rate = self.encoder.sample_rate
            counts = [kept_frames(w, self.encoder.grid, rate) for w in item.windows]
            weighted = [part.double() * n for part, n in zip(parts, counts, strict=True)]
            return torch.stack(weighted).sum(0).div(sum(counts))
        joined = torch.cat(parts, dim=1)
        return joined if item.crop is None else joined[:, slice(*item.crop)]

    def _states(
        self, window: Window, made: Mapping[_Key, Tensor], crop: tuple[int, int] | None = None
    ) -> Tensor:
        """[L, T, D] of a window, or of the frames `crop` of it."""
        if self._resident_left or self._resident:
            return self._stayed(window, made)[:, slice(*(crop or (None,)))]
        whole, place = made.get(_key(window)), self.places.get(_key(window))
        if whole is None and place is not None:
            states = self._read(place, crop)
            if states is not None:
                return states
        if whole is None:
            whole = self.passes.encode([window])[0]
        return whole if crop is None else whole[:, slice(*crop)]

    def _stayed(self, window: Window, made: Mapping[_Key, Tensor]) -> Tensor:
        """[L, T, D] of a window on the device, where it stays if there is room."""
        states = self._resident.get(_key(window))
        if states is not None:
            return states
        states, place = made.get(_key(window)), self.places.get(_key(window))
        if states is None and place is not None:
            states = self._read(place, None)
        if states is None:
            states = self.passes.encode([window])[0]
        states = states.to(self.device)
        size = states.numel() * states.element_size()
        if size <= self._resident_left:
            self._resident_left -= size
            self._resident[_key(window)] = states
        return states

    def _read(self, place: Place, crop: tuple[int, int] | None) -> Tensor | None:
        """[L, T, D] of one window; None where its block isn't there. A block that was damaged is
        made anew."""
        key, part = self.blocks[place.block]
        states = self.store.read(key, place.index, crop)
        if (
            states is None
            and key in self.store.damaged - self._mended
            and all(self._fitting([part]))
        ):
            self._mended.add(key)
            self.store.put(key, self.passes.encode(part))
            states = self.store.read(key, place.index, crop)
        return states

    def _window_bytes(self, window: Window) -> int:
        frames = kept_frames(window, self.encoder.grid, self.encoder.sample_rate)
        frames = 1 if self.pool else frames
        layers = self.encoder.depth if self.layers == "all" else 1
        return frames * layers * self.encoder.dim * self.dtype.itemsize

    def _blocks_of(self, windows: Sequence[Window]) -> Iterator[list[Window]]:
        """Neighbouring windows, as many as a block holds: by bytes, and never more than 32."""
        part: list[Window] = []
        size = 0
        for window in windows:
            more = self._window_bytes(window)
            if part and (len(part) == _BLOCK_WINDOWS or size + more > _BLOCK_BYTES):
                yield part
                part, size = [], 0
            part.append(window)
            size += more
        if part:
            yield part

    def _fitting(self, parts: Sequence[list[Window]]) -> list[bool]:
        """Which are worth computing: can the store take them? (What it can't is computed when
        needed.)"""
        return self.store.room_for([sum(self._window_bytes(w) for w in part) for part in parts])

    def _address(self, path: str, part: list[Window]) -> str:
        rate = self.encoder.sample_rate
        facts = (
            _FORMAT,
            identity(self.encoder),
            content_id(Path(path), self.memo),
            rate,
            [(*samples_of(w.clip, rate), w.keep) for w in part],
            self.pool,
            self.layers,
            str(self.dtype),
            self.device.type,
            torch.__version__,
            # Nothing was kept but of fp32 before there was a choice.
            *([self.precision] if self.precision != "fp32" else []),
            *(["packed"] if self.packed else []),  # other last bits
        )
        return hashlib.blake2b(repr(facts).encode(), digest_size=20).hexdigest()


def _fresh(blocks: Iterable[_Block]) -> dict[tuple[str, str], float]:
    """By address and file (copies share an address), seconds of each block that no other one holds:
    windows overlap, audio counts once."""
    seconds: dict[tuple[str, str], float] = {}
    path, end = None, 0.0
    spans = ((w.clip.path, w.clip.start, w.clip.end, key) for key, part in blocks for w in part)
    for file, start, stop, key in sorted(spans):
        before = end if file == path else start
        seconds[key, file] = seconds.get((key, file), 0.0) + max(0.0, stop - max(before, start))
        path, end = file, max(before, stop)
    return seconds


def _key(window: Window) -> _Key:
    return window.clip.path, window.clip.start, window.clip.end, window.keep


def _keys(item: Item) -> tuple[_Key, ...]:
    return tuple([_key(window) for window in item.windows])  # faster than a generator
