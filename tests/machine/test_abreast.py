"""Passes side by side on a CPU: in order, no more than asked for, with the threads asked for."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from bab.machine.abreast import Share, abreast, share


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "longest", "passes", "threads"),
    [
        (1, 2.0, 1, 1), (2, 2.0, 2, 1), (2, 30.0, 2, 1), (2, 32.0, 2, 1), (2, 32.1, 1, 2),
        (2, 3600.0, 1, 2), (16, 4.0, 16, 1), (16, 30.0, 2, 8), (16, 10.0, 6, 2), (3, 20.0, 3, 1),
        (2, 0.0, 2, 1),
    ],
)  # fmt: skip
def test_cores_are_divided_among_as_many_windows_as_a_minute_of_audio_holds(
    cores: int, longest: float, passes: int, threads: int
) -> None:
    assert share(cores, longest) == Share(passes, threads)


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_items_come_in_order_with_what_was_made_of_them(passes: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.01 if item % 3 == 0 else 0)
        return item * item

    made = list(abreast(slow_first, iter(range(10)), Share(passes, 1)))
    assert made == [(item, item * item) for item in range(10)]
    assert list(abreast(slow_first, [], Share(passes, 1))) == []


def test_each_pass_has_a_thread_with_its_own_share_and_nobody_else_loses_any() -> None:
    both = threading.Barrier(2)

    def look(item: int) -> tuple[int, str]:
        both.wait(5)  # two at a time, or this breaks
        return torch.get_num_threads(), threading.current_thread().name

    made = [one for _, one in abreast(look, range(4), Share(2, 1))]
    assert {threads for threads, _ in made} == {1}
    assert {name for _, name in made} == {"bab-pass_0", "bab-pass_1"}
    assert torch.get_num_threads() == 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]
    assert not [one for one in threading.enumerate() if one.name.startswith("bab-pass")]


def test_one_pass_stays_in_its_thread() -> None:
    def where(item: int) -> tuple[str, int]:
        return threading.current_thread().name, torch.get_num_threads()

    here = threading.current_thread().name
    for threads, used in ((2, 2), (1, 1), (0, 2)):
        assert list(abreast(where, [0], Share(1, threads))) == [(0, (here, used))]
        assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError):
        list(abreast(lambda item: 1 / item, [0], Share(1, 1)))
    assert torch.get_num_threads() == 2


def test_items_are_taken_no_further_ahead_than_passes_are_busy() -> None:
    taken: list[int] = []

    def items():
        for item in range(8):
            taken.append(item)
            yield item

    coming = abreast(lambda item: item, items(), Share(2, 1))
    assert next(coming) == (0, 0)
    assert taken == [0, 1, 2]
    assert next(coming) == (1, 1)
    assert taken == [0, 1, 2, 3]
    coming.close()
    assert torch.get_num_threads() == 2


def test_what_goes_wrong_is_raised_in_its_place_and_the_rest_is_left() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        if item == 2:
            raise ValueError("the third")
        done.append(item)
        return item

    got = []
    with pytest.raises(ValueError, match=r"^the third$"):
        for item, _ in abreast(work, range(100), Share(2, 1)):
            got.append(item)
    assert got == [0, 1]
    assert len(done) < 8
    assert torch.get_num_threads() == 2
