"""Memory for batches is taken again, and never while something of a batch is left."""

from __future__ import annotations

import pytest
import torch

from bab.features.laying import Rooms


@pytest.mark.parametrize("by_frame", [False, True])
def test_a_room_is_given_again_once_nothing_of_it_is_left(by_frame: bool) -> None:
    rooms = Rooms()
    first = rooms.room([7, 5], 3, 4, by_frame)
    assert first.shape == (2, 3, 7, 4) and first[1, :, 5:].eq(0).all()
    assert first.data_ptr() % 64 == 0
    flat = first.transpose(1, 2) if by_frame else first.transpose(0, 1)
    assert flat.is_contiguous()
    place, part = first.data_ptr(), first[1, 2]
    first.fill_(1.0)
    del first, flat
    second = rooms.room([7, 5], 3, 4, by_frame)  # a part of the first is left
    assert second.data_ptr() != place
    second.fill_(2.0)
    assert part.eq(1.0).all()
    del part
    assert rooms.room([7, 6], 3, 4, by_frame).data_ptr() == place
    assert rooms.room([700, 6], 3, 4, by_frame).shape[2] == 700  # larger: another


def test_what_a_gradient_needs_is_kept() -> None:
    rooms = Rooms()
    weight = torch.ones(4, requires_grad=True)
    loss = (rooms.room([3], 1, 4, False).fill_(2.0) * weight).sum()
    rooms.room([3], 1, 4, False).fill_(9.0)
    loss.backward()
    assert weight.grad is not None and weight.grad.tolist() == [6.0] * 4
