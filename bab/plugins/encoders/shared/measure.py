"""A grid found from outside: by counting the frames that inputs of several lengths give."""

from __future__ import annotations

from collections.abc import Callable

from bab import Grid


def measured(count: Callable[[int], int], rate: int, hop: int, near: int) -> Grid:
    """The grid that counts frames as `count` does, at lengths around `near` samples.

    Args:
        count: samples -> frames, one frame more for every `hop` samples more.
        rate: Hz.
        hop: samples between frames.
        near: samples; a length at which `count` is asked.
    """
    frames = count(near)
    below, above = near, near + hop  # one frame more appears in between
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if count(middle) <= frames else (below, middle)
    first = above - frames * hop  # the shortest input with one frame, were there no padding
    field = first if first >= hop else hop + (hop - first) % 2
    return Grid(rate, hop, field, -(field - first) // 2)
