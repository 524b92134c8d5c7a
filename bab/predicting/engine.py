"""A saved model over audio of any length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bab.core.errors import BabError
from bab.core.interfaces import Encoder
from bab.core.types import Batch, View, Waves
from bab.data.rolling import RollingWindow, raster_of
from bab.data.windows import window_samples
from bab.features.passes import cores_of, share_of
from bab.machine.arithmetic import arithmetic, halve
from bab.predicting.fused import member_walk, vectors_of
from bab.predicting.walking import Held, Rows, Stretches, Walk
from bab.running.saved import Saved

_NONE = torch.empty(0)
_KEEP_ALL = 2**31
# Audio that goes through the model together. On a CPU more costs memory and gains little: of a base
# model 16 s are 4 % faster than 8, and take .2 GB more. A GPU wants more.
_PER_PASS = {"cpu": 8.0, "mps": 64.0, "cuda": 512.0}


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
        halve(self.model, precision)
        encoder, task = saved.encoder, saved.task
        view = saved.view if overlap is None else _overlapping(saved, overlap)
        self.raster = raster_of(view, encoder.grid, encoder.max_seconds, task.whole_clips)
        self.by_frame = not task.one_target
        # An ensemble's members hear the audio each by itself; a model hears it once.
        self.walks: Sequence[Walk] = (
            [self._own_walk()]
            if len(saved.members) == 1
            else [self._member_walk(member) for member in saved.members]
        )

    def rows(self, stretches: Sequence[Stretches]) -> Stretches:
        """What the model says, of what its walks have said: the same, or of several encoders one
        row for the whole recording."""
        return stretches[0] if len(self.walks) == 1 else Held(self._fused(stretches))

    def _own_walk(self) -> Walk:
        seconds, encoder = _PER_PASS.get(self.device.type, 8.0), self.saved.encoder
        longest = max(seconds, self.raster.window / encoder.sample_rate)
        shared = share_of(encoder, cores_of(self.device), longest)
        return Walk(self.raster, self.by_frame, seconds, self._hear, self._say, shared)

    def _member_walk(self, member: Encoder) -> Walk:
        return member_walk(
            member.to(self.device),
            self.saved.spec["layers"],
            self.saved.view,
            self.device,
            self.precision,
        )

    @torch.inference_mode()
    def _fused(self, stretches: Sequence[Stretches]) -> list[Rows]:
        rate = self.saved.encoder.sample_rate
        features, seconds = vectors_of(stretches, [walk.rate for walk in self.walks])
        batch = Batch(features.to(self.device), _NONE, _NONE, (), 0)
        said = self.model.embed(batch) if self.saved.task.pairs else self.model(batch)[0]
        place = np.array((0.0, seconds * rate, 1.0))
        row = np.concatenate([place, said[0].float().cpu().numpy()])
        return [Rows(0, row[None], seconds)]

    @torch.inference_mode()
    def _hear(self, windows: Sequence[RollingWindow]) -> tuple[Tensor, Tensor]:
        """What the head is given of some windows, and the frames of each."""
        samples = [torch.from_numpy(window.samples) for window in windows]
        lengths = torch.tensor([len(s) for s in samples])
        keep = None
        if any(window.keep is not None for window in windows):
            keep = torch.tensor([window.keep or (0, _KEEP_ALL) for window in windows])
        waves = Waves(pad_sequence(samples, batch_first=True), lengths, keep).to(self.device)
        with arithmetic(self.device, self.precision):
            return self.model.frames(Batch(waves, _NONE, _NONE, (), 0))

    @torch.inference_mode()
    def _say(self, heard: tuple[Tensor, Tensor]) -> list[NDArray[np.float32]]:
        """The model's output for each window: [T, C] of its kept frames, or [C]."""
        with arithmetic(self.device, self.precision):
            if self.saved.task.pairs:
                return list(self.model.head.embed(*heard).float().cpu().numpy())
            values = self.model.head(*heard).float().cpu().numpy()
        if values.ndim == 2:
            return list(values)
        return [v[:n] for v, n in zip(values, heard[1].tolist(), strict=True)]


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
