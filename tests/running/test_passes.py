"""Windows encoded side by side on a CPU: the same bits with any number of cores, cached or not."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from train_worker import Small

import bab
from bab.core.errors import DivergedError
from bab.core.interfaces import Encoder
from bab.core.types import Clip, Item, View, Window
from bab.data.windows import Examples
from bab.running.features import FeatureSource
from bab.running.store import Store

SECONDS = (2.0, 0.5, 1.2, 2.0, 0.9)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder, draw = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    made = []
    for number, seconds in enumerate(SECONDS):
        path = folder / f"{number}.wav"
        soundfile.write(path, draw.uniform(-0.5, 0.5, round(16000 * seconds)), 16000)
        made.append(Clip(str(number), str(path), 0.0, seconds, "noise"))
    return made


def with_cores(
    cores: int, encoder: Encoder, folder: Path, budget: int = 10**9, **more
) -> FeatureSource:
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        store = Store(folder / "features", budget)
        cpu = torch.device("cpu")
        return FeatureSource(encoder, "all", store, folder / "memo", cpu, **more)
    finally:
        torch.set_num_threads(before)


def windows(clips: list[Clip], encoder: Encoder) -> list[Window]:
    return Examples(clips, View(window=None), encoder.grid, None).windows


def fill(source: FeatureSource, asked: list[Window]) -> FeatureSource:
    source.plan(asked)
    source.fill(0, 1, lambda done, total: None, lambda: False)
    return source


def inputs(source: FeatureSource, asked: list[Window]) -> torch.Tensor:
    return source.inputs([Item(window.clip, (window,)) for window in asked]).states


@pytest.mark.parametrize("name", ["hubert:tiny", "wavlm:random-tiny", "fbank"])
@pytest.mark.parametrize("pool", [False, True])
def test_a_second_core_changes_no_bit(
    name: str, pool: bool, clips: list[Clip], tmp_path: Path
) -> None:
    encoder = bab.load_encoder(name)
    assert encoder.concurrent
    asked = windows(clips, encoder)
    one = inputs(fill(with_cores(1, encoder, tmp_path / "one", pool=pool), asked), asked)
    two = inputs(fill(with_cores(2, encoder, tmp_path / "two", pool=pool), asked), asked)
    spot = with_cores(2, encoder, tmp_path / "spot", budget=0, pool=pool)
    spot.plan(asked)
    assert torch.equal(one, two)
    assert torch.equal(one, inputs(spot, asked))
    assert torch.equal(one[3:4, :, : one.shape[2]], inputs(spot, asked[3:4]))


class Watched(Small):
    """Notes in which threads it is called, and how many calls there are at once."""

    def __init__(self, concurrent: bool) -> None:
        super().__init__()
        self.concurrent = concurrent
        self.threads: list[str] = []
        self.busy = self.most = 0

    def forward(self, waves, mask=None, layers="all"):  # type: ignore[no-untyped-def]
        self.threads.append(threading.current_thread().name)
        self.busy += 1
        self.most = max(self.most, self.busy)
        time.sleep(0.01)
        self.busy -= 1
        return super().forward(waves, mask, layers)


@pytest.mark.parametrize("budget", [10**9, 0])
def test_only_what_says_that_it_is_concurrent_is_called_in_other_threads(
    budget: int, clips: list[Clip], tmp_path: Path
) -> None:
    here = threading.current_thread().name
    for concurrent, most in ((True, 2), (False, 1)):
        encoder = Watched(concurrent)
        source = with_cores(2, encoder, tmp_path / str(concurrent), budget)
        asked = windows(clips, encoder)
        inputs(fill(source, asked), asked)
        assert (len(encoder.threads), encoder.most) == (5, most)
        assert all(name.startswith("bab-pass") == concurrent for name in encoder.threads)
        assert concurrent or set(encoder.threads) == {here}


def test_of_a_batch_only_what_is_not_kept_is_computed(clips: list[Clip], tmp_path: Path) -> None:
    encoder = Watched(True)
    source = with_cores(2, encoder, tmp_path)
    asked = windows(clips, encoder)
    fill(source, asked[:2])
    source.plan(asked[2:])
    encoder.threads.clear()
    inputs(source, [*asked, asked[3]])
    assert len(encoder.threads) == 3
    inputs(source, asked[1:3])
    assert len(encoder.threads) == 4


def test_a_state_that_is_no_number_is_named_from_any_thread(
    clips: list[Clip], tmp_path: Path
) -> None:
    class Loud(Watched):
        def forward(self, waves, mask=None, layers="all"):  # type: ignore[no-untyped-def]
            encoded = super().forward(waves, mask, layers)
            last = int(waves.lengths[0]) == 90  # the last clip's .9 s
            return replace(encoded, layers=tuple(x / (not last) for x in encoded.layers))

    source = with_cores(2, Loud(True), tmp_path)
    with pytest.raises(DivergedError, match=r"values that are not finite \(.*4\.wav, 0 to 0\.9 s"):
        fill(source, windows(clips, source.encoder))
