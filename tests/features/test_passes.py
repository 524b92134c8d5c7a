"""Windows encoded side by side on a CPU: the same bits with any number of cores, cached or not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from train_worker import Small

import bab
from bab.core.errors import DivergedError
from bab.core.grid import Grid
from bab.core.interfaces import Encoder
from bab.core.types import Clip, Item, View, Window
from bab.data.rolling import raster_of
from bab.data.windows import Examples
from bab.features.passes import cores_of, share_of
from bab.features.source import FeatureSource
from bab.features.store import Store
from bab.machine.abreast import Share
from bab.predicting.hearing import Hearing
from bab.predicting.recordings import Recording
from bab.predicting.walking import Held, Walk, listen

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
        self.second = threading.Event()

    def forward(self, waves, mask=None, layers="all"):  # type: ignore[no-untyped-def]
        self.threads.append(threading.current_thread().name)
        self.busy += 1
        self.most = max(self.most, self.busy)
        if len(self.threads) > 1:
            self.second.set()
        elif self.concurrent:  # one at a time, the second would never come
            assert self.second.wait(30)
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


def test_the_longest_windows_go_first_and_come_back_in_their_places(
    clips: list[Clip], tmp_path: Path
) -> None:
    heard: list[int] = []

    class Noting(Watched):
        def forward(self, waves, mask=None, layers="all"):  # type: ignore[no-untyped-def]
            heard.append(int(waves.lengths[0]))
            return super().forward(waves, mask, layers)

    for concurrent, order in ((True, [200, 200, 120, 90, 50]), (False, [200, 50, 120, 200, 90])):
        source = with_cores(2, Noting(concurrent), tmp_path / str(concurrent))
        asked = windows(clips, source.encoder)
        source.plan(asked)
        heard.clear()
        made = source.passes.encode(asked)
        assert [one.shape[1] for one in made] == [20, 5, 12, 20, 9]
        assert heard == order or (concurrent and sorted(heard, reverse=True) == order)


def test_a_block_is_looked_for_until_it_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "features", 10**9)
    key = "ab" * 20
    assert not store.has(key)
    Store(tmp_path / "features", 10**9).put(key, [torch.zeros(1, 2, 3)])
    assert store.has(key)
    assert store.path(key) in store.own  # nobody here throws it out from now on
    store.path(key).unlink()
    assert store.has(key)  # reading it says so
    assert store.read(key, 0, None) is None


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


@pytest.fixture
def cores():
    """Sets how many threads this process computes with, for a time."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["hubert:tiny", "fbank"])
@pytest.mark.parametrize("per", ["frame", "window", "clip"])
def test_what_is_heard_of_a_recording_has_the_bits_of_one_core(
    name: str, per: str, cores: Callable[[int], None]
) -> None:
    encoder = bab.load_encoder(name)
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 16000 * 5).astype(np.float32)
    recording, rows = Recording("home", array=noise, rate=16000), []
    for count in (1, 2):
        cores(count)
        ear = Hearing(encoder, "mean", per, 0.8, torch.device("cpu"))
        assert ear.walk.share == (count, 1)
        held = Held()
        listen([ear.walk], recording, [held], lambda seconds: None)
        rows.append(np.concatenate(list(held.read())))
    assert len(rows[0]) > 6
    np.testing.assert_array_equal(rows[0], rows[1])


def test_an_encoder_hears_in_threads_and_its_head_never_does() -> None:
    grid, here = Grid(100, 10, 20), threading.current_thread().name
    ears, mouths = set(), set()

    def hear(batch):
        ears.add(threading.current_thread().name)
        return [float(window.samples[0]) for window in batch]

    def say(heard):
        mouths.add(threading.current_thread().name)
        return [np.float32([value]) for value in heard]

    raster = raster_of(View(window=1.0), grid, None, True)
    walk = Walk(raster, False, 0.0, hear, say, Share(2, 1))
    audio = np.arange(1000, dtype=np.float32)
    rows = list(walk.rows(lambda skip: iter([audio[skip:]])))
    assert [float(row.values[0, 3]) for row in rows] == [90.0 * i for i in range(11)]
    assert mouths == {here}
    assert here not in ears


@pytest.mark.parametrize(
    ("concurrent", "device", "expected"),
    [
        (True, "cpu", (2, 1)),
        (False, "cpu", (1, 2)),
        (True, "meta", (1, 0)),
        (False, "meta", (1, 0)),
    ],
)
def test_only_a_cpu_is_divided(
    concurrent: bool, device: str, expected: tuple[int, int], cores: Callable[[int], None]
) -> None:
    cores(2)
    assert share_of(Watched(concurrent), cores_of(torch.device(device)), 30.0) == expected
