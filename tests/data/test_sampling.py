"""The order of examples: a function of (seed, step), the same however it is cut up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from bab.core.errors import ConfigError
from bab.core.loader import Prefetcher
from bab.core.seeds import derive
from bab.data.sampling import Counted, Order, Share


def test_an_epoch_shows_every_example_once_and_the_next_is_shuffled_anew() -> None:
    order = Order([10] * 96, 3, Counted(8))
    epochs = [[i for s in range(12 * e, 12 * e + 12) for i in order.at(s)[1]] for e in range(2)]
    assert [order.at(s)[0] for s in range(24)] == [0] * 12 + [1] * 12
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(96))
    assert epochs[0] != epochs[1]


def test_steps_go_through_the_batches_of_their_epoch_from_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Epochs of three batches and of two, in turn; nothing is shuffled."""
    plans = {0: [[0], [1], [2]], 1: [[3], [4]]}
    drawn: list[int] = []

    def draw(seed: int) -> SimpleNamespace:
        drawn.append(seed)
        return SimpleNamespace(shuffle=lambda items: None)

    def cutter(order: Sequence[int], lengths: Sequence[float]) -> list[list[int]]:
        assert list(order) == [0, 1, 2, 3, 4] and lengths == [1.0] * 5
        return plans[epochs.index(drawn[-1]) % 2]

    epochs = [derive(7, "epoch", number) for number in range(4)]
    monkeypatch.setattr(random, "Random", draw)
    order = Order([1.0] * 5, 7, cutter)
    walked = [order.at(step) for step in range(9)]
    assert walked == [(0, [0]), (0, [1]), (0, [2]), (1, [3]), (1, [4]), (2, [0]), (2, [1]),
                      (2, [2]), (3, [3])]  # fmt: skip
    assert order.at(4) == (1, [4]) and order.at(0) == (0, [0])


def test_any_step_is_found_without_the_ones_before() -> None:
    lengths = [100 + i % 17 for i in range(75)]
    order = Order(lengths, 5, Counted(8))
    walked = [order.at(step) for step in range(40)]
    assert [Order(lengths, 5, Counted(8)).at(step) for step in (39, 3, 20)] == [
        walked[i] for i in (39, 3, 20)
    ]
    assert Order(lengths, 6, Counted(8)).at(0) != walked[0]


def test_batches_group_like_lengths() -> None:
    lengths = [(i * 7919) % 1000 + 1 for i in range(800)]
    order = Order(lengths, 0, Counted(8))
    batches = [order.at(step)[1] for step in range(100)]
    spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches]
    assert sum(spread) / len(spread) < 40  # a random batch of 8 spreads over about 780


@pytest.mark.parametrize("world,accumulation", [(1, 1), (1, 4), (2, 1), (2, 2), (3, 2)])
def test_processes_and_micro_batches_share_a_batch_without_loss(
    world: int, accumulation: int
) -> None:
    indices = list(range(100, 113))
    parts = [p for r in range(world) for p in Share(r, world, accumulation).cut(indices)]
    assert len(parts) == world * accumulation
    assert sorted(i for part in parts for i in part) == indices


def test_a_batch_too_small_to_cut_is_an_error_that_says_so() -> None:
    for share, told in (((0, 2, 4), "2 processes x 4 micro-batches"), ((0, 1, 8), "1 process x 8")):
        with pytest.raises(ConfigError, match=rf"7 examples .* {told}.*raise train\.batch"):
            Share(*share).cut(range(7))


def test_prefetching_keeps_the_order_and_passes_errors_on() -> None:
    def make(step: int):
        if step == 4:
            raise ValueError("bad file")
        return [step]

    seen = []
    with pytest.raises(ValueError, match="bad file"):
        for step, parts in Prefetcher(make, 1, 10):
            seen.append((step, parts))
    assert seen == [(1, [1]), (2, [2]), (3, [3])]
