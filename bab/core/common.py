"""What the runs of one cell have in common, made once: components, data, planned features."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from bab.core import build
from bab.core.build import Data, Parts
from bab.core.cache import FeatureSource
from bab.core.ensemble import EnsembleSource
from bab.core.fold import feature_source
from bab.core.records import Clip
from bab.core.schema import RunConfig


class Common:
    """Keeps what one probe made for the next that differs in seed, learning rate or folder only.

    Anything else gets components and data of its own. While it is kept, changes of the corpus on
    disk are not seen: all runs of a cell are of the same data.
    """

    def __init__(self) -> None:
        self._key = ""
        self._parts: Parts | None = None
        self._data: Data | None = None
        self._features: FeatureSource | EnsembleSource | None = None

    def parts(self, config: RunConfig) -> Parts:
        """The components of a run (see bab.core.build.parts)."""
        key = _key(config)
        if self._parts is None or key != self._key or config.mode != "probe":
            self._key, self._data, self._features = key, None, None
            self._parts = build.parts(config)
        return self._parts

    def data(
        self, config: RunConfig, parts: Parts, progress: Callable[[str, float, float], None]
    ) -> Data:
        """The clips of a run whose components were just asked for (see bab.core.build.data)."""
        if self._data is None:
            self._data = build.data(config, parts.task, parts.corpus, progress)
        return self._data

    def features(
        self, config: RunConfig, parts: Parts, accelerator: Any, clips: Sequence[Clip]
    ) -> FeatureSource | EnsembleSource:
        """The planned features of a run whose components were just asked for."""
        if self._features is None:
            self._features = feature_source(config, parts, accelerator, clips)
        return self._features


def _key(config: RunConfig) -> str:
    """All of a configuration but what may differ between the runs of a cell."""
    whole = config.model_dump(mode="json")
    del whole["seed"], whole["runs"], whole["train"]["lr"]
    return json.dumps(whole, sort_keys=True)
