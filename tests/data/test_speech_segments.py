"""Speech in segments of 2 to 30 s, counted by hand at every border; rate: 10 a second."""

from __future__ import annotations

import pytest

from bab.data.segments import segments

RATE = 10


def made(*speech: tuple[int, int], total: int = 1000) -> list[tuple[int, int]]:
    return segments(speech, total, RATE)


def test_gaps_under_two_seconds_are_closed() -> None:
    assert made((0, 30), (49, 80)) == [(0, 80)]
    assert made((0, 30), (50, 80)) == [(0, 30), (50, 80)]
    assert made((10, 30), (49, 60), (79, 100)) == [(10, 100)]
    assert made() == []


def test_what_is_shorter_than_two_seconds_is_widened() -> None:
    assert made((100, 120)) == [(100, 120)] and made((100, 119)) == [(100, 120)]
    assert made((100, 110)) == [(95, 115)] and made((100, 111)) == [(96, 116)]
    assert made((3, 5)) == [(0, 20)] and made((995, 999)) == [(980, 1000)]
    assert made((3, 5), total=12) == [(0, 12)] and made((0, 20), total=20) == [(0, 20)]
    assert made((0, 4), (24, 28), total=30) == [(0, 30)]  # widened, they reach each other
    assert made((0, 4), (36, 40), total=40) == [(0, 20), (20, 40)]
    assert made((0, 40), (100, 104), (124, 128), total=130) == [(0, 40), (92, 130)]


def test_what_is_longer_than_thirty_is_cut_in_its_longest_pause() -> None:
    assert made((0, 300)) == [(0, 300)]
    assert made((0, 301)) == [(0, 150), (150, 301)]  # no pause: equal parts
    assert made((0, 601)) == [(0, 200), (200, 400), (400, 601)]
    assert made((0, 100), (105, 200), (215, 320)) == [(0, 207), (207, 320)]
    assert made((0, 100), (105, 200), (210, 320)) == [(0, 205), (205, 320)]
    # Of two as long, the one nearer to the middle; of two as near, the first.
    assert made((0, 50), (60, 200), (210, 320)) == [(0, 205), (205, 320)]
    assert made((0, 90), (100, 220), (230, 320)) == [(0, 95), (95, 320)]
    assert made((0, 200), (210, 260), (270, 320)) == [(0, 205), (205, 320)]


@pytest.mark.parametrize(("edge", "cut"), [(19, 160), (20, 20)])
def test_no_part_is_shorter_than_two_seconds(edge: int, cut: int) -> None:
    assert made((0, edge - 1), (edge + 1, 320)) == [(0, cut), (cut, 320)]
    assert made((0, 319 - edge), (321 - edge, 320)) == [(0, 320 - cut), (320 - cut, 320)]


def test_parts_are_cut_again_and_stay_in_order() -> None:
    speech = [(100 * i, 100 * i + 95 - i) for i in range(10)]
    parts = made(*speech)  # the pauses grow: each time the last one that leaves two seconds
    assert parts == [
        *((0, 296), (296, 396), (396, 495), (495, 595), (595, 694), (694, 794), (794, 893)),
        (893, 986),
    ]
