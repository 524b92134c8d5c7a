"""Windows -> a frozen encoder's states of them, in the number type that is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bab.checking.encoders import encode
from bab.checking.faults import described
from bab.core.errors import DivergedError
from bab.core.interfaces import Encoder
from bab.core.types import Waves, Window, pinned
from bab.data.batches import WaveSource
from bab.data.sampling import cut
from bab.features.ahead import ahead
from bab.machine.abreast import Share, abreast, share
from bab.machine.arithmetic import arithmetic

PASS_SECONDS = 512.0  # of audio, padding included, in one pass of a GPU
_AHEAD = 2  # passes that are read before they are asked for
Layers = Literal["all", "last"] | int
_Pass = tuple[Sequence[Window], list[int], Waves]  # a portion, which of it, and their audio


def cores_of(device: torch.device) -> int:
    """The threads of this process, where a CPU computes; 0 elsewhere."""
    return torch.get_num_threads() if device.type == "cpu" else 0


def share_of(encoder: Encoder, cores: int, longest: float) -> Share:
    """How so many cores are divided among passes of an encoder, of up to so many seconds."""
    return share(cores, longest) if cores and encoder.concurrent else Share(1, cores)


@dataclass
class Passes:
    """Reads windows and encodes them; what it is given is `FeatureSource`'s.

    On a CPU every window is encoded by itself, several at once where the encoder allows it
    (`Encoder.concurrent`), on cores that are divided in one way for all windows of a run: a
    window's bits never depend on its company, or on who asked for it.
    """

    encoder: Encoder
    layers: Layers
    device: torch.device
    dtype: torch.dtype
    batch: int
    pool: bool
    precision: str
    longest: float = 0.0  # seconds, of all windows that were planned

    def __post_init__(self) -> None:
        self.waves = WaveSource(self.encoder.sample_rate)
        self.cores = cores_of(self.device) if self.batch == 1 else 0

    @property
    def share(self) -> Share:
        return share_of(self.encoder, self.cores, self.longest)

    def encode(self, windows: Sequence[Window]) -> list[Tensor]:
        """[L, T, D] of each window, its kept frames, on the CPU.

        Raises:
            DivergedError: a state that is not finite, naming the encoder or the number type.
        """
        passes: Iterable[_Pass] = self._passes([windows])
        return [one for made in self._encoded(passes, len(windows) > 1) for one in made]

    def stream(self, portions: Iterable[Sequence[Window]]) -> Iterator[list[Tensor]]:
        """`encode` of portion after portion, which are asked for in a thread: the next one is
        begun while the last passes of one are still at work."""
        return self._encoded(self._passes(portions), True)

    def _encoded(self, passes: Iterable[_Pass], beside: bool) -> Iterator[list[Tensor]]:
        """beside: audio is read while other audio is encoded."""

        def work(one: _Pass) -> list[Tensor]:
            windows, places, waves = one
            with torch.no_grad():  # which is a thread's own setting
                return list(self._states([windows[place] for place in places], waves))

        encoded: dict[int, Tensor] = {}
        given = ahead(passes, _AHEAD) if beside else passes
        for (windows, places, _), states in abreast(work, given, self.share):
            encoded.update(zip(places, states, strict=True))
            if len(encoded) == len(windows):
                yield [encoded[place] for place in range(len(windows))]
                encoded = {}

    def _passes(self, portions: Iterable[Sequence[Window]]) -> Iterator[_Pass]:
        for windows in portions:
            for places, waves in self._read(windows):
                yield windows, places, waves

    def _read(self, windows: Sequence[Window]) -> Iterator[tuple[list[int], Waves]]:
        """The audio of windows that are encoded together, of like length, and which they are."""
        order = list(range(len(windows)))
        lengths = [window.clip.duration for window in windows]
        if self.batch > 1:
            order.sort(key=lambda place: lengths[place])
        elif self.share.passes > 1:  # the longest first, so that all threads end at one time
            order.sort(key=lambda place: -lengths[place])
        seconds = PASS_SECONDS if self.batch > 1 else 0.0
        for places in cut(order, lengths, seconds, self.batch):
            waves: Waves = self.waves.read([windows[place] for place in places])
            yield places, waves.each(pinned) if self.device.type == "cuda" else waves

    def _states(self, part: Sequence[Window], waves: Waves) -> Iterator[Tensor]:
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
        """One sum tells it of all."""
        if bool(kept.sum(dtype=torch.float32).isfinite()):
            return
        who, remedy = f"{described(self.encoder)} gives values that are not finite", ""
        if bool(states.isfinite().all()):
            who = f"'{self.encoder.resolved}' gives values too large for {self.dtype}"
            remedy = ": use --set cache.dtype=float32"
        clip = window.clip
        raise DivergedError(f"{who} ({clip.path}, {clip.start:g} to {clip.end:g} s){remedy}")
