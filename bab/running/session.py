"""What the runs of one cell have in common, made once: components, data, planned features."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bab.config.run import RunConfig
from bab.core.caches import cache_root
from bab.core.interfaces import Encoder
from bab.core.types import Clip, Labels, Tell
from bab.data.content import content_memo
from bab.features.source import FeatureSource, FrozenSource
from bab.features.store import Store
from bab.machine.arithmetic import halve
from bab.machine.measure import room
from bab.machine.packed import pack
from bab.running.answers import Answers
from bab.running.assembly import frozen_source
from bab.running.data import Data, read_data
from bab.running.model import LayerMix
from bab.running.parts import Parts, build_parts


class Session:
    """Keeps what one probe made for the next that differs in seed, learning rate or folder only.

    Anything else gets components and data of its own. While it is kept, changes of the corpus on
    disk are not seen: all runs of a cell are of the same data.
    """

    def __init__(self) -> None:
        self._key = ""
        self._parts: Parts | None = None
        self._data: Data | None = None
        self._features: FrozenSource | None = None
        self._speed: float | None = None
        self.answers = Answers()

    def parts(self, config: RunConfig) -> Parts:
        """The components of a run (see bab.running.parts)."""
        key = _key(config)
        if self._parts is None or key != self._key or config.mode != "probe":
            self._key, self._data, self._features, self._speed = key, None, None, None
            self.answers = Answers()
            self._parts = build_parts(config)
        return self._parts

    def data(self, config: RunConfig, parts: Parts, tell: Tell) -> Data:
        """The clips of a run whose components were just asked for (see bab.running.data)."""
        if self._data is None:
            self._data = read_data(config, parts.task, parts.corpus, tell, labels_of(config, parts))
        return self._data

    def features(
        self, config: RunConfig, parts: Parts, accelerator: Any, clips: Sequence[Clip]
    ) -> FrozenSource:
        """The planned features of a run whose components were just asked for."""
        if self._features is None:
            self._features = _planned(config, parts, accelerator, clips)
        return self._features

    def speed(self, measure: Callable[[], float]) -> float:
        """How fast the encoder is, measured once."""
        if self._speed is None:
            self._speed = measure()
        return self._speed


def labels_of(config: RunConfig, parts: Parts) -> Labels | None:
    """What the model that is evaluated knows; None where training decides."""
    if config.mode != "evaluate" or parts.start is None:
        return None
    return parts.start.labels


_MUCH = 1_000_000  # bytes per second of audio; a base model's 13 states are twice as many


def settled(config: RunConfig, parts: Parts) -> RunConfig:
    """With what `cache.dtype=auto` means for these components: half precision for frames that take
    much room (docs/speed.md: what it does to scores), float32 for all else."""
    if config.cache.dtype != "auto":
        return config
    encoder, much = parts.encoder, False
    if config.mode == "probe" and not parts.pooled and encoder.grid.hop:
        layers = encoder.depth if LayerMix(encoder.depth, config.layers).wanted == "all" else 1
        rate = encoder.sample_rate / encoder.grid.hop
        much = layers * encoder.dim * rate * torch.float32.itemsize > _MUCH
    dtype = "float16" if much else "float32"
    return config.model_copy(update={"cache": config.cache.model_copy(update={"dtype": dtype})})


def _key(config: RunConfig) -> str:
    """All of a configuration but what may differ between the runs of a cell."""
    whole = config.model_dump(mode="json")
    del whole["seed"], whole["runs"], whole["train"]["lr"]
    return json.dumps(whole, sort_keys=True)


def _planned(
    config: RunConfig, parts: Parts, accelerator: Any, clips: Sequence[Clip]
) -> FrozenSource:
    """The feature store of a frozen encoder, with all windows of the run planned."""
    device, precision = accelerator.device, config.train.precision
    parts.encoder.requires_grad_(False).to(device)
    halve(parts.encoder, precision)
    own = config.cache.dir
    folder = Path(own).expanduser() if own else cache_root() / "features"
    store = Store(folder, int(config.cache.budget_gb * 1e9))

    def source(encoder: Encoder) -> FeatureSource:
        return FeatureSource(
            encoder,
            LayerMix(encoder.depth, config.layers).wanted,
            store,
            content_memo(),
            device,
            getattr(torch, config.cache.dtype),
            batch=1 if device.type == "cpu" else 512,
            pool=parts.pooled,
            precision=precision,
            packed=pack(encoder, device),
            resident=room(device),
        )

    def windows() -> Sequence[Any]:
        return parts.examples(clips).windows

    return frozen_source(parts.members, source, parts.view, clips, windows)
