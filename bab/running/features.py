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
from bab.core.types import Features, Item, Waves, Window
from bab.data.batches import Source, WaveSource
from bab.data.content import content_id
from bab.data.windows import kept_frames, samples_of
from bab.running.store import Store

_FORMAT = 2
_BLOCK_WINDOWS = 32
_MEMORY_BYTES = 256 * 2**20  # of pooled features that are kept in memory as well
_BLOCK_BYTES = 32 * 2**20  # a block is read by slices, so this only bounds the cost of writing one
Layers = Literal["all", "last"] | int
Progress = Callable[[float, float], None]
_Key = tuple[str, float, float, tuple[int, int] | None]


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
    ) -> None:
        """layers: which states to keep; memo: of content ids; batch: windows per pass, which is 1
        on a CPU so that a window's features never depend on its company; pool: keep only each
        window's mean over its frames, and give one frame per example."""
        self.encoder = encoder.eval()
        self.layers = layers
        self.store = store
        self.memo = memo
        self.device = device
        self.dtype = dtype
        self.batch = batch
        self.pool = pool
        self.waves = WaveSource(encoder.sample_rate)
        self.places: dict[_Key, Place] = {}
        self.blocks: list[tuple[str, list[Window]]] = []
        self._mended: set[str] = set()  # blocks that were damaged, once each
        self._filled = 0  # blocks that were planned when all of them had been seen to
        self._memory: dict[tuple[_Key, ...], Tensor] = {}
        self._memory_left = _MEMORY_BYTES

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
        total = sum(w.clip.duration for _, part in todo for w in part)
        done = 0.0
        for key, part in todo:
            if stop():
                return
            if not self.store.claim(key) and self._fits(part):
                self.store.put(key, self._encode(part))
            done += sum(w.clip.duration for w in part)
            progress(done, total)
        self._filled = len(self.blocks)

    def inputs(self, items: Sequence[Item]) -> Features:
        """states [B, L, T, D] as float32, lengths i64[B]; T is 1 where `pool` is on."""
        if self.pool and all(item.crop is None for item in items):
            return Features(
                torch.stack([self._pooled(item) for item in items]),
                torch.ones(len(items), dtype=torch.long),
            )
        states = [self._joined(item).float() for item in items]
        lengths = torch.tensor([s.shape[1] for s in states])
        padded = pad_sequence([s.transpose(0, 1) for s in states], batch_first=True)
        return Features(padded.transpose(1, 2), lengths)

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
        if item.crop is not None and len(item.windows) == 1:
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
        place = self.places.get(_key(window))
        if place is not None:
            states = self._read(place, crop)
            if states is not None:
                return states
        whole = self._encode([window])[0]
        return whole if crop is None else whole[:, slice(*crop)]

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
        encoded_states: list[Tensor] = []
        for begin in range(0, len(windows), self.batch):
            part = windows[begin : begin + self.batch]
            waves: Waves = self.waves.read(part)
            wanted: Literal["last", "all"] = "last" if self.layers == "last" else "all"
            encoded = encode(self.encoder, waves.to(self.device), layers=wanted)
            kept = encoded.layers
            if isinstance(self.layers, int):
                kept = (kept[self.layers],)
            stacked = torch.stack(kept, dim=1)
            for i, (window, n) in enumerate(zip(part, encoded.lengths.tolist(), strict=True)):
                own = stacked[i, :, slice(*(window.keep or (0, n)))]
                own = own.mean(dim=1, keepdim=True) if self.pool else own
                encoded_states.append(own.to(self.dtype).cpu())
                self._refuse_not_finite(own, encoded_states[-1], window)
        return encoded_states

    def _refuse_not_finite(self, states: Tensor, kept: Tensor, window: Window) -> None:
        """One sum tells it of all. Raises DivergedError, naming the encoder or the number type."""
        if bool(kept.sum(dtype=torch.float32).isfinite()):
            return
        who = f"{described(self.encoder)} gives values that are not finite"
        if bool(states.isfinite().all()):
            who = f"'{self.encoder.resolved}' gives values too large for {self.dtype} (cache.dtype)"
        clip = window.clip
        raise DivergedError(f"{who} ({clip.path}, {clip.start:g} to {clip.end:g} s)")

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
        )
        return hashlib.blake2b(repr(facts).encode(), digest_size=20).hexdigest()


def _key(window: Window) -> _Key:
    return window.clip.path, window.clip.start, window.clip.end, window.keep
