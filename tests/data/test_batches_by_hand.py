"""Which examples make up a batch, and what a batch holds: counted by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from bab.core.errors import ConfigError
from bab.core.grid import Grid
from bab.core.types import Clip, Features, Item, Waves, Window
from bab.data import batches, sampling
from bab.data.batches import Collator, remembered
from bab.data.sampling import Counted, Order, Share, Timed, cut, some


@pytest.mark.parametrize(
    ("batch", "order", "lengths", "expected"),
    [
        (Counted(2), [3, 1, 2, 0, 4], [4, 2, 3, 1, 9], [[3, 1], [2, 0]]),  # 4 is over
        (Counted(2), [4, 0, 1], [2, 1, 5, 6, 7], [[0, 4]]),
        (Counted(3), [2, 0, 1], [3, 1, 2], [[1, 2, 0]]),
        (Counted(3, refill=True), [2, 0, 1], [3, 1, 2], [[1, 2, 0]]),
        (Counted(3), [1, 0], [3, 4], [[0, 1]]),  # a short one
        (Counted(5, refill=True), [1, 0], [3, 4], [[1, 0, 1, 0, 1]]),
        (Timed(6), [3, 2, 1, 0], [1, 2, 3, 4], [[0, 1], [2], [3]]),
        (Timed(4), [2, 0, 1], [1, 1, 1], [[2, 0, 1, 2]]),  # filled up from the first on
        (Timed(3), [1, 0], [1, 1], [[1, 0, 1]]),
        (Timed(3), [0, 1], [1, 1.5], [[0, 1]]),  # a third would take 4.5 s
        (Timed(1), [0, 1], [5, 7], [[0], [1]]),  # each longer than the budget
        (Timed(0.3), [0, 1, 2], [0.1, 0.1, 0.1], [[0, 1, 2]]),
        (Timed(4), [0, 1], [1, 2], [[0, 1]]),
        (Timed(8), [1, 0], [1, 2], [[0, 1, 1, 0]]),
    ],
)
def test_an_epoch_in_batches(
    batch: sampling.Cutter, order: list[int], lengths: list[float], expected: list[list[int]]
) -> None:
    assert batch(order, lengths) == expected


def test_fifty_batches_are_sorted_together() -> None:
    lengths = [float(100 - i) for i in range(60)]
    single = [batch for (batch,) in Counted(1)(range(60), lengths)]
    assert single == [*range(49, -1, -1), *range(59, 49, -1)]
    pairs = Counted(2)(range(60), lengths)
    assert [i for pair in pairs for i in pair] == [*range(59, -1, -1)]  # 100 at once


def test_a_pools_last_batch_goes_on_to_the_next_pool() -> None:
    """A budget of one mean example: pools of 50. What is over of the first is sorted again."""
    lengths = [0.4] * 25 + [1.0] * 25 + [0.6] * 10
    made = Timed(1.0)([*range(60)], lengths)
    assert made[:12] == [[2 * i, 2 * i + 1] for i in range(12)] and made[12] == [24]
    assert made[13:37] == [[i] for i in range(25, 49)]
    # 49 comes behind the shorter ones of its new pool, and is last.
    assert made[37:] == [[i] for i in (*range(50, 60), 49)]


@pytest.mark.parametrize(
    ("lengths", "seconds", "count", "expected"),
    [
        ([1, 1, 2, 2], 4, 9, [[0, 1], [2, 3]]),
        ([1, 1, 2, 2], 4, 1, [[0], [1], [2], [3]]),
        ([1, 1, 1, 1, 1], 9, 2, [[0, 1], [2, 3], [4]]),
        ([0.1, 0.1, 0.1], 0.3, 9, [[0, 1, 2]]),  # 3 x .1 is a little more than .3
        ([9], 1, 1, [[0]]),
        ([], 1, 1, []),
    ],
)
def test_places_are_cut_by_padded_seconds_and_count(
    lengths: list[float], seconds: float, count: int, expected: list[list[int]]
) -> None:
    assert cut(range(len(lengths)), lengths, seconds, count) == expected


def test_epochs_of_different_sizes_follow_each_other() -> None:
    """A cutter whose epochs have 1, 2, 3 ... batches: a step's epoch is found by counting."""
    made: list[int] = []

    def growing(order: Sequence[int], lengths: Sequence[float]) -> list[list[int]]:
        made.append(len(made))
        return [[len(made), i] for i in range(len(made))]

    order = Order([1.0] * 4, 0, growing)
    at = [order.at(step) for step in range(6)]
    assert [epoch for epoch, _ in at] == [0, 1, 1, 2, 2, 2]
    assert sorted(batch for _, batch in at) == [[1, 0], [2, 0], [2, 1], [3, 0], [3, 1], [3, 2]]
    assert len(made) == 3  # each planned once while steps go on
    shuffles = {tuple(Order([1.0] * 4, seed, Counted(4)).at(0)[1]) for seed in range(20)}
    assert len(shuffles) > 10  # each seed has an order of its own


def test_batches_come_in_another_order_than_they_are_cut() -> None:
    order = Order([float(i) for i in range(40)], 0, Counted(1))
    epoch = [order.at(step)[1][0] for step in range(40)]
    assert sorted(epoch) == list(range(40)) and epoch != list(range(40))


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (Share(), [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (Share(0, 2, 2), [[0, 4], [2, 6]]),
        (Share(1, 2, 2), [[1, 5], [3, 7]]),
        (Share(0, 1, 3), [[0, 3, 6], [1, 4, 7], [2, 5]]),
        (Share(3, 8, 1), [[3]]),  # just enough
    ],
)
def test_a_processs_micro_batches(share: Share, expected: list[list[int]]) -> None:
    assert share.cut(range(8)) == expected


@pytest.mark.parametrize(
    ("world", "accumulation", "count", "told"),
    [
        (2, 4, 7, "7 examples can't be cut into 2 processes x 4 micro-batches"),
        (1, 2, 1, "1 example can't be cut into 1 process x 2 micro-batches"),
        (2, 1, 1, "1 example can't be cut into 2 processes x 1 micro-batch"),
    ],
)
def test_what_is_said_of_too_few(world: int, accumulation: int, count: int, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Share(0, world, accumulation).cut(range(count))
    remedy = "raise train.batch or lower train.accumulation"
    assert str(caught.value) == f"a batch of {told}: {remedy}"


def test_some_places_up_to_so_many_seconds() -> None:
    assert len(some([1.0] * 10, 3.0)) == 3 and len(some([1.0] * 10, 2.9)) == 2
    assert len(some([5.0] * 4, 1.0)) == 1 and len(some([1.0] * 4, 99.0)) == 4
    drawn = some([float(i % 7 + 1) for i in range(50)], 40.0)
    lengths = [i % 7 + 1 for i in drawn]
    assert lengths == sorted(lengths) and 33 < sum(lengths) <= 40
    assert drawn == some([float(i % 7 + 1) for i in range(50)], 40.0)
    assert drawn != sorted(drawn)[: len(drawn)] and max(drawn) > len(drawn)  # at random


# ------------------------------------------------------------------------------- what is in one


def clip(name: str) -> Clip:
    return Clip(name, f"{name}.wav", 0.0, 1.0, "g")


def test_targets_are_asked_for_once_as_far_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def targets(one: Clip, frames: int) -> torch.Tensor:
        asked.append(f"{one.id}{frames}")
        return torch.zeros(frames)  # 4 bytes a frame

    a, b, c = clip("a"), clip("b"), clip("c")
    look = remembered(targets)
    assert look(a, 3) is look(a, 3) and len(look(b, 2)) == 2 and asked == ["a3", "b2"]
    assert look(clip("a"), 3).shape == (3,) and asked == ["a3", "b2", "a3"]  # another object
    monkeypatch.setattr(batches, "_REMEMBERED", 2)
    look, asked[:] = remembered(targets), []
    for one in (a, b, c, a, b, c):
        look(one, 1)
    assert asked == ["a1", "b1", "c1", "c1"]
    monkeypatch.setattr(batches, "_REMEMBERED_BYTES", 16)
    for sizes, again in (((3, 1), []), ((3, 2), ["b2"])):
        look, asked[:] = remembered(targets), []
        for _ in range(2):
            for one, size in zip((a, b), sizes, strict=True):
                look(one, size)
        assert asked[2:] == again


class Given:
    """A source of inputs that are there already."""

    by_window = False

    def __init__(self, inputs: Waves | Features) -> None:
        self.given = inputs

    def inputs(self, items: Sequence[Item]) -> Waves | Features:
        return self.given


def items(*names: str) -> list[Item]:
    return [Item(c, (Window(c),)) for c in map(clip, names)]


def test_a_batch_has_targets_for_just_the_frames_of_each() -> None:
    grid = Grid(10, 2, 4)

    def targets(one: Clip, frames: int) -> torch.Tensor:
        return torch.full((frames,), float(ord(one.id)))

    waves = Waves(torch.zeros(2, 8), torch.tensor([8, 5]))  # 3 frames, and 1
    batch = Collator(Given(waves), grid, targets)(items("a", "b"), 7)
    assert batch.inputs is waves and batch.step == 7 and [c.id for c in batch.clips] == ["a", "b"]
    assert batch.targets.tolist() == [[97, 97, 97], [98, 0, 0]]
    assert batch.target_lengths.tolist() == [3, 1]
    features = Features(torch.zeros(2, 1, 4, 1), torch.tensor([4, 2]))
    batch = Collator(Given(features), grid, targets)(items("a", "b"), 0)
    assert batch.targets.tolist() == [[97] * 4, [98, 98, 0, 0]]
    alike = Features(torch.zeros(2, 1, 2, 1), torch.tensor([2, 2]))
    batch = Collator(Given(alike), grid, targets)(items("a", "b"), 0)
    assert batch.targets.tolist() == [[97, 97], [98, 98]]
    assert batch.target_lengths.tolist() == [2, 2] and np.asarray(batch.targets).shape == (2, 2)
