"""Frozen features on disk: addressed by content, bounded, safe under concurrent processes.

A block holds the features of some neighbouring windows of one file, in one safetensors file that
appears whole or not at all. Its name is a hash of everything that the features depend on: the
encoder's fingerprint, the audio's content (not its name), the exact samples, the layers, the
number type, the device's kind and torch's version. Nothing is ever looked up by a model's name.
What was damaged on the disk is found by its checksum (bab.running.blocks) and made anew.

Features that the budget has no room for are computed again each time they are needed. On a CPU
every window is encoded by itself, so both ways give the same bits, whatever was cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.checking.encoders import encode
from bab.checking.faults import described
from bab.core.components import identity
from bab.core.errors import DivergedError
from bab.core.interfaces import Encoder
from bab.core.types import Features, Item, Waves, Window, pinned
from bab.data.batches import Source, WaveSource
from bab.data.content import content_id
from bab.data.sampling import cut
from bab.data.windows import kept_frames, samples_of
from bab.machine.arithmetic import arithmetic
from bab.running.ahead import ahead
from bab.running.blocks import Rows
from bab.running.laying import laid, room
from bab.running.store import Store

_FORMAT = 2
_BLOCK_WINDOWS = 32
_MEMORY_BYTES = 256 * 2**20  # of pooled features that are kept in memory as well
_BLOCK_BYTES = 32 * 2**20  # a block is read by slices, so this only bounds the cost of writing one
Layers = Literal["all", "last"] | int
Progress = Callable[[float, float], None]
_Key = tuple[str, float, float, tuple[int, int] | None]
_Block = tuple[str, list[Window]]
_PASS_SECONDS = 512.0  # of audio, padding included, in one pass of a GPU
_CPU_SECONDS = 16.0  # of audio that a CPU encodes before it looks whether to stop: some seconds
_AHEAD = 2  # passes that are read before they are asked for


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
        self.waves = WaveSource(encoder.sample_rate)
        self.places: dict[_Key, Place] = {}
        self.blocks: list[tuple[str, list[Window]]] = []
        self._mended: set[str] = set()  # blocks that were damaged, once each
        self._filled = 0  # blocks that were planned when all of them had been seen to
        self._memory: dict[tuple[_Key, ...], Tensor] = {}
        self._memory_left = _MEMORY_BYTES
        self._resident: dict[_Key, Tensor] = {}
        self._resident_left = 0 if pool else resident
        self.by_frame = False  # how a batch is laid in a CPU's memory: see `laid`

    def plan(self, windows: Iterable[Window]) -> None:
        """Take note of windows that will be asked for, in an order that keeps files together."""
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
        with ThreadPoolExecutor(1, thread_name_prefix="bab-writer") as writer:
            written: Future[None] | None = None
            for blocks in self._together(todo):
                if stop():
                    return
                # Copies of a file share an address.
                asked = dict(one for one in blocks if not self.store.claim(one[0]))
                new = [one for one in asked.items() if self._fits(one[1])]
                if new:
                    made = self._encode([window for _, part in new for window in part])
                    if written is not None:
                        written.result()
                    written = writer.submit(self._put, new, made)
                done += sum(fresh[key, part[0].clip.path] for key, part in blocks)
                progress(done, total)
            if written is not None:
                written.result()
        self._filled = len(self.blocks)

    def _together(self, blocks: Iterable[_Block]) -> Iterator[list[_Block]]:
        """Blocks whose windows are read ahead, and on a GPU encoded together."""
        enough = 4 * _PASS_SECONDS if self.batch > 1 else _CPU_SECONDS
        part: list[_Block] = []
        seconds = 0.0
        for block in blocks:
            part.append(block)
            seconds += sum(w.clip.duration for w in block[1])
            if seconds >= enough:
                yield part
                part, seconds = [], 0.0
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
                torch.stack([self._pooled(item) for item in items]),
                torch.ones(len(items), dtype=torch.long),
            )
        if (known := self._again(items)) is not None:
            return known
        states = [self._joined(item) for item in items]
        lengths = torch.tensor([s.shape[1] for s in states])
        if self.device.type == "cpu":
            return Features(laid(states, self.by_frame), lengths)
        padded = pad_sequence([s.transpose(0, 1) for s in states], batch_first=True)
        return Features(padded.transpose(1, 2), lengths)

    def _again(self, items: Sequence[Item]) -> Features | None:
        """The inputs of examples whose windows were all read before, each straight into its place
        in the batch; None where that can't be."""
        if self.pool or self.device.type != "cpu":
            return None
        rows = [self._sound(item) for item in items]
        read = [one for one in rows if one is not None]
        if len(read) < len(rows):
            return None
        sizes = [one.end - one.begin for one in read]
        buffer = max(read, key=lambda one: one.end - one.begin).empty()
        whole = room(sizes, buffer.shape[1], buffer.shape[2], self.by_frame)
        try:
            for place, (one, frames) in enumerate(zip(read, sizes, strict=True)):
                own = whole[place, :, :frames].transpose(0, 1)
                straight = own.is_contiguous() and own.dtype == one.dtype
                if not one.into(own if straight else buffer[:frames]):
                    return None
                if not straight:
                    own.copy_(buffer[:frames])
        except OSError:  # `_joined` will see what it is
            return None
        return Features(whole, torch.tensor(sizes))

    def _sound(self, item: Item) -> Rows | None:
        """Where an example of one window is, if it was read before."""
        place = self.places.get(_key(item.windows[0])) if len(item.windows) == 1 else None
        if place is None:
            return None
        return self.store.sound(self.blocks[place.block][0], place.index, item.crop)

    def _pooled(self, item: Item) -> Tensor:
        """f32[L, 1, D] of an example, from memory where it was read before: a training set is gone
        through many times, and means are small."""
        key = tuple(_key(window) for window in item.windows)
        mean = self._memory.get(key)
        if mean is None:
            mean = self._joined(item).float()
            size = mean.numel() * mean.element_size()
            if size <= self._memory_left:
                self._memory_left -= size
                self._memory[key] = mean
        return mean

    def _joined(self, item: Item) -> Tensor:
        """[L, T, D] of an example: its windows' frames in a row, or the mean of them all."""
        if len(item.windows) == 1 and not (self.pool and item.crop is None):
            return self._states(item.windows[0], item.crop)
        parts = [self._states(window) for window in item.windows]
        if self.pool:
            rate = self.encoder.sample_rate
            counts = [kept_frames(w, self.encoder.grid, rate) for w in item.windows]
            weighted = [part.double() * n for part, n in zip(parts, counts, strict=True)]
            return torch.stack(weighted).sum(0).div(sum(counts))
        joined = torch.cat(parts, dim=1)
        return joined if item.crop is None else joined[:, slice(*item.crop)]

    def _states(self, window: Window, crop: tuple[int, int] | None = None) -> Tensor:
        """[L, T, D] of a window, or of the frames `crop` of it."""
        if self._resident_left or self._resident:
            return self._stayed(window)[:, slice(*(crop or (None,)))]
        place = self.places.get(_key(window))
        if place is not None:
            states = self._read(place, crop)
            if states is not None:
                return states
        whole = self._encode([window])[0]
        return whole if crop is None else whole[:, slice(*crop)]

    def _stayed(self, window: Window) -> Tensor:
        """[L, T, D] of a window on the device, where it stays if there is room."""
        states = self._resident.get(_key(window))
        if states is not None:
            return states
        place, states = self.places.get(_key(window)), None
        if place is not None:
            states = self._read(place, None)
        if states is None:
            states = self._encode([window])[0]
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
        if states is None and key in self.store.damaged - self._mended and self._fits(part):
            self._mended.add(key)
            self.store.put(key, self._encode(part))
            states = self.store.read(key, place.index, crop)
        return states

    @torch.no_grad()
    def _encode(self, windows: Sequence[Window]) -> list[Tensor]:
        """[L, T, D] of each window, its kept frames, on the CPU, in the store's number type."""
        encoded: dict[int, Tensor] = {}
        passes: Iterable[tuple[list[int], Waves]] = self._passes(windows)
        if len(windows) > 1:
            passes = ahead(passes, _AHEAD)
        for places, waves in passes:
            part = [windows[place] for place in places]
            encoded.update(zip(places, self._pass(part, waves), strict=True))
        return [encoded[place] for place in range(len(windows))]

    def _passes(self, windows: Sequence[Window]) -> Iterator[tuple[list[int], Waves]]:
        """The audio of windows that are encoded together, of like length, and which they are."""
        order = list(range(len(windows)))
        lengths = [window.clip.duration for window in windows]
        if self.batch > 1:
            order.sort(key=lambda place: lengths[place])
        seconds = _PASS_SECONDS if self.batch > 1 else 0.0
        for places in cut(order, lengths, seconds, self.batch):
            waves: Waves = self.waves.read([windows[place] for place in places])
            yield places, waves.each(pinned) if self.device.type == "cuda" else waves

    def _pass(self, part: Sequence[Window], waves: Waves) -> Iterator[Tensor]:
        wanted: Literal["last", "all"] = "last" if self.layers == "last" else "all"
        with arithmetic(self.device, self.precision):
            encoded = encode(self.encoder, waves.to(self.device), layers=wanted)
        kept = encoded.layers
        if isinstance(self.layers, int):
            kept = (kept[self.layers],)
        lengths = encoded.lengths.tolist()
        # Layers side by side, as in a block; what is pooled is summed in the order it always was.
        stacked = torch.stack(kept, 1) if self.pool else torch.stack(kept, 2).transpose(1, 2)
        spans = [slice(*(w.keep or (0, n))) for w, n in zip(part, lengths, strict=True)]
        if self.pool:
            stacked = torch.stack(
                [
                    one[:, span].mean(1, keepdim=True)
                    for one, span in zip(stacked, spans, strict=True)
                ]
            )
            spans = [slice(None)] * len(spans)
        kept_states = stacked.to(self.dtype).cpu()  # one transfer for all of them
        for states, own, span, window in zip(stacked, kept_states, spans, part, strict=True):
            self._refuse_not_finite(states[:, span], own[:, span], window)
            yield own[:, span]

    def _refuse_not_finite(self, states: Tensor, kept: Tensor, window: Window) -> None:
        """One sum tells it of all. Raises DivergedError, naming the encoder or the number type."""
        if bool(kept.sum(dtype=torch.float32).isfinite()):
            return
        who, remedy = f"{described(self.encoder)} gives values that are not finite", ""
        if bool(states.isfinite().all()):
            who = f"'{self.encoder.resolved}' gives values too large for {self.dtype}"
            remedy = ": use --set cache.dtype=float32"
        clip = window.clip
        raise DivergedError(f"{who} ({clip.path}, {clip.start:g} to {clip.end:g} s){remedy}")

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

    def _fits(self, part: list[Window]) -> bool:
        """Is it worth computing: can the store take it? (What it can't is computed when needed.)"""
        return self.store.make_room(sum(self._window_bytes(w) for w in part))

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
