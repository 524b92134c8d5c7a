"""Crops and batches of pretraining: drawn from seeds alone, within the budget, nothing lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bab.audio import reading
from bab.config.pretrain import AudioConfig, MaskConfig, PretrainTrain
from bab.core.errors import AudioError, ConfigError, CorpusError
from bab.core.grid import Grid
from bab.core.loader import Prefetcher
from bab.core.types import Clip
from bab.data.sampling import Order, Share, cut, some
from bab.pretraining.crops import Crops, PretrainCollator, order_of

GRID = Grid(16000, 320, 400)


@pytest.fixture
def recording(tmp_path: Path) -> Clip:
    """30 s: noise, but silent from 5 to 25 s."""
    wave = np.random.default_rng(0).normal(0, 0.1, 30 * 16000).astype(np.float32)
    wave[5 * 16000 : 25 * 16000] = 0
    soundfile.write(tmp_path / "a.wav", wave, 16000)
    return Clip("a", str(tmp_path / "a.wav"), 0.0, 30.0, "home")


def crops(clips: list[Clip], **options: object) -> Crops:
    return Crops(clips, AudioConfig(**options), GRID)  # type: ignore[arg-type]


def order_by(
    lengths: list[float], seconds: float | None, count: int, seed: int, parts: int
) -> Order:
    """The order of clips that are so long, by seconds or else by count."""
    clips = [Clip(str(i), f"{i}.wav", 0.0, length, "g") for i, length in enumerate(lengths)]
    train = PretrainTrain(seconds=seconds, batch=count)
    return order_of(crops(clips, crop=None, minimum=0.1), train, parts, seed)


def test_a_crop_lies_on_the_frame_raster_and_is_that_part_of_the_file(recording: Clip) -> None:
    made = crops([recording], crop=2.0, rms=0.0)
    for i in range(20):
        clip, wave = made.crop(0, ("seed", i))
        first = round(clip.start * 16000)
        assert first % 320 == 0 and len(wave) == 32000
        whole = reading.read(recording.path, 0, 30, 16000)
        np.testing.assert_allclose(wave, whole[first : first + 32000], atol=1e-6)


def test_every_place_of_a_crop_is_drawn_the_last_one_too(recording: Clip) -> None:
    clip = Clip("a", recording.path, 1.0, 3.0 + 2 * 320 / 16000, "home")
    made = crops([clip], crop=2.0, rms=0.0)
    starts = {round(made.crop(0, (i,))[0].start * 16000) for i in range(60)}
    assert starts == {16000, 16320, 16640}


def test_quiet_crops_are_drawn_again(recording: Clip) -> None:
    def quiet(made: Crops) -> int:
        return sum(float(np.sqrt(np.mean(made.crop(0, (i,))[1] ** 2))) < 0.001 for i in range(60))

    free = quiet(crops([recording], crop=1.0, rms=0.0))
    gated = quiet(crops([recording], crop=1.0, rms=0.001, retries=10))
    once = quiet(crops([recording], crop=1.0, rms=0.001, retries=1))
    assert free > 30  # two thirds of the recording are silent
    assert gated < 5 < once < free


def test_a_silent_recording_is_taken_as_it_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", np.zeros(16000 * 9, np.float32), 16000)
    made = crops([Clip("s", str(tmp_path / "s.wav"), 0.0, 9.0, "g")], crop=2.0)
    assert len(made.crop(0, ("x",))[1]) == 32000


def test_how_often_a_clip_is_drawn(recording: Clip) -> None:
    assert len(crops([recording], crop=8.0).places) == 4  # 30 / 8
    assert len(crops([recording], crop=8.0, per_clip=10).places) == 10
    assert len(crops([recording], crop=None).places) == 1
    short = Clip("b", recording.path, 0.0, 0.5, "home")
    made = crops([recording, short], crop=8.0)
    assert made.short == 1 and set(made.places) == {0}


@pytest.mark.parametrize("seconds", [20.0, 60.0])
def test_batches_keep_the_budget_and_an_epoch_holds_everything_once(seconds: float) -> None:
    lengths = np.random.default_rng(1).uniform(1, 8, 500).tolist()
    order = order_by(lengths, seconds, 16, 3, 2)
    seen: Counter[int] = Counter()
    step = 0
    while (at := order.at(step))[0] == 0:
        places = at[1]
        assert len(places) >= 2
        assert len(places) * max(lengths[i] for i in places) <= seconds + 1e-6
        seen.update(places)
        step += 1
    assert len(seen) == len(lengths)  # each is heard; the last batch is filled up with some again
    assert sum(seen.values()) - len(lengths) <= seconds / min(lengths)
    padded = sum(len(p) * max(lengths[i] for i in p) for p in (order.at(s)[1] for s in range(step)))
    assert sum(lengths[i] for i in seen) / padded > 0.9  # clips of like length stand together


def test_a_step_of_so_many_examples_is_full_where_there_are_fewer_clips() -> None:
    for count, places in ((4, [0, 0, 1, 1]), (5, [0, 0, 0, 1, 1]), (2, [0, 1])):
        epoch, step = order_by([2.0, 3.0], None, count, 3, 2).at(0)
        assert epoch == 0 and sorted(step) in (places, sorted(1 - place for place in places))


def test_a_step_is_the_same_whoever_asks_and_whenever() -> None:
    lengths = [float(n % 7 + 1) for n in range(90)]
    one = order_by(lengths, 24.0, 16, 5, 1)
    forwards = [one.at(step) for step in range(60)]
    other = order_by(lengths, 24.0, 16, 5, 1)
    assert [other.at(step) for step in reversed(range(60))] == forwards[::-1]
    assert forwards != [order_by(lengths, 24.0, 16, 6, 1).at(step) for step in range(60)]
    assert forwards[-1][0] > 1  # several epochs, each shuffled anew
    assert {tuple(p) for e, p in forwards if e == 0} != {tuple(p) for e, p in forwards if e == 1}


def test_a_fixed_number_of_examples() -> None:
    order = order_by([3.0] * 50, None, 8, 0, 1)
    assert all(len(order.at(step)[1]) == 8 for step in range(30))


@pytest.mark.parametrize(("seconds", "count"), [(None, 8), (60.0, 1)])
def test_no_clip_is_left_out_for_its_length(seconds: float | None, count: int) -> None:
    """The longest of a small corpus were never drawn when a pool was cut after sorting."""
    lengths = [2 + 0.1 * i for i in range(37)]
    order = order_by(lengths, seconds, count, 0, 1)
    heard = Counter(place for step in range(200) for place in order.at(step)[1])
    assert set(heard) == set(range(37))
    assert max(heard.values()) < 1.6 * min(heard.values())


def test_the_order_by_seconds_is_the_same_for_any_number_of_parts() -> None:
    lengths = np.random.default_rng(2).uniform(2, 30, 300).tolist()
    plans = [
        [order_by(lengths, 300.0, 1, 0, parts).at(step) for step in range(60)]
        for parts in (1, 4, 8)
    ]
    assert plans[0] == plans[1] == plans[2]
    assert min(len(places) for _, places in plans[0]) >= 8


def test_what_can_not_be_cut_up_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.seconds=10"):
        order_by([8.0] * 9, 10.0, 16, 0, 2)
    with pytest.raises(ConfigError, match=r"train\.batch=2"):
        order_by([8.0] * 9, None, 2, 0, 4)
    with pytest.raises(CorpusError, match="nothing to pretrain on"):
        order_by([], None, 2, 0, 1)


def test_the_dev_plan_takes_some_and_pads_little() -> None:
    lengths = [float(n % 5 + 1) for n in range(100)]
    taken = some(lengths, 60.0)
    assert 50 <= sum(lengths[i] for i in taken) <= 60
    assert taken == some(lengths, 60.0)
    plan = cut(taken, lengths, 12.0, 100)
    assert sorted(i for part in plan for i in part) == sorted(taken)
    assert all(len(part) * max(lengths[i] for i in part) <= 12 for part in plan)


def test_an_example_is_the_same_in_any_batch_and_process(recording: Clip) -> None:
    made = crops([recording], crop=2.0, rms=0.0)
    collate = PretrainCollator(made, MaskConfig(prob=0.5), None, 7)
    whole = collate([0, 1, 2, 3], 0, 4)
    for part in [p for rank in (0, 1) for p in Share(rank, 2, 1).cut([0, 1, 2, 3])]:
        own = collate(part, 0, 4)
        for row, place in enumerate(part):
            assert own.clips[row] == whole.clips[place]
            assert own.seeds[row] == whole.seeds[place]
            assert torch.equal(own.mask[row], whole.mask[place])  # type: ignore[index]
            assert torch.equal(own.inputs.samples[row], whole.inputs.samples[place])  # type: ignore[union-attr]
    assert len(set(whole.seeds)) == 4
    again = collate([0], 0, 5)
    assert again.seeds[0] != whole.seeds[0]  # another step, other masks
    assert whole.mask is not None and whole.mask.shape == (4, GRID.frames(32000))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_batches_come_in_order_with_any_number_of_workers(workers: int) -> None:
    import time

    def make(step: int) -> list[int]:
        time.sleep(0.01 * (step % 3))  # later ones may be done first
        return [step]

    got = list(Prefetcher(make, 3, 20, workers))  # type: ignore[arg-type]
    assert got == [(step, [step]) for step in range(3, 20)]


def test_a_batch_that_can_not_be_read_ends_the_loop() -> None:
    def make(step: int) -> list[int]:
        if step == 2:
            raise CorpusError("gone")
        return [step]

    with pytest.raises(CorpusError, match="gone"):
        list(Prefetcher(make, 0, 9, 3))  # type: ignore[arg-type]


def test_a_crop_that_can_not_be_read_gives_way_to_another(recording: Clip, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    soundfile.write(bad, np.full(16000 * 4, np.nan, np.float32), 16000, "FLOAT")
    made = crops([recording, Clip("b", str(bad), 0.0, 4.0, "other")], crop=2.0, rms=0.0)
    place = len(made.places) - 1
    with pytest.raises(AudioError, match=r"bad\.wav"):
        PretrainCollator(made, MaskConfig(), None, 7)([place], 0, 0)
    lenient = PretrainCollator(made, MaskConfig(), None, 7, skip_bad=True)
    got = lenient([place], 0, 0)
    assert got.clips[0].id == "a" and list(lenient.failed) == [str(bad)]
    again = PretrainCollator(made, MaskConfig(), None, 7, skip_bad=True)([place], 0, 0)
    assert again.clips == got.clips


def test_a_segment_of_just_the_minimum_is_heard(recording: Clip) -> None:
    starts = np.random.default_rng(0).uniform(0, 27, 3000)
    clips = [Clip(str(i), recording.path, s, s + 2.0, "g") for i, s in enumerate(starts)]
    assert crops(clips, crop=None, minimum=2.0).short == 0
