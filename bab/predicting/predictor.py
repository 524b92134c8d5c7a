"""A saved model from Python: audio in memory or in a file, what it says of it as a value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from numpy.typing import ArrayLike

from bab.core.device import resolve_device
from bab.core.errors import AudioError
from bab.core.types import Prediction
from bab.predicting.engine import Engine
from bab.predicting.outputs import decoded, heard
from bab.predicting.precision import chosen
from bab.predicting.recordings import Recording, of_array, seconds_of
from bab.predicting.walking import Held, listen
from bab.running.saved import choose_preset, load_saved, shown_as, with_thresholds


class Predictor:
    """The model of a finished run, loaded once.

    `Predictor(run_folder)(array, sampling_rate=16000).segments`
    """

    def __init__(
        self,
        folder: str | Path,
        preset: str | None = None,
        thresholds: Mapping[str, float] | None = None,
        device: str = "auto",
        precision: str = "auto",
        overlap: float | None = None,
        offline: bool = False,
        trust_code: bool = False,
    ) -> None:
        """
        Args:
            folder: a run's, the `model` folder in it, or a published model (`segma:DIR`).
            preset: how to decode; None = the task's first.
            thresholds: by class, probabilities in place of the tuned ones.
            precision: auto, fp32, bf16 or fp16; see `PredictOptions`.
            overlap: share of a window that the next one hears again (frame tasks).

        Raises:
            BabError: no model there, an unknown preset or class, a device that isn't here.
        """
        saved = load_saved(folder, offline, trust_code)
        name = resolve_device(device)
        precision = chosen(precision, name, *shown_as(saved))
        self._tuned = with_thresholds(saved, choose_preset(saved, preset), thresholds or {})
        self._engine = Engine(saved, torch.device(name), precision, overlap)

    def __call__(
        self, audio: str | Path | ArrayLike, sampling_rate: int | None = None
    ) -> Prediction:
        """What the model says of one recording.

        Args:
            audio: a file, or floats in [-1, 1]: [samples], or [channels, samples], averaged.
            sampling_rate: of an array, Hz; required with one.

        Raises:
            ValueError: an array without sampling rate, of integers, empty or not finite.
            AudioError: a file that can't be read, or holds no sound.
        """
        if isinstance(audio, str | Path):
            recording = Recording(Path(audio).stem, str(Path(audio).absolute()))
        else:
            recording = of_array(audio, sampling_rate)
        held = [Held() for _ in self._engine.walks]
        listen(self._engine.walks, recording, held, lambda seconds: None)
        if not all(one.done for one in held):
            raise AudioError(f"{recording.path or recording.name}: it holds no sound")
        rows = self._engine.rows(held)
        seconds = heard(self._engine.saved, rows, seconds_of(recording))
        return decoded(self._engine.saved, recording, rows, seconds, self._tuned)
