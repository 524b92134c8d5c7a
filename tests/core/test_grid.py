"""Frame times, against torch's own convolutions and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bab.core.grid import Grid

SPEECH = Grid(16000, 320, 400)  # wav2vec2 and HuBERT: seven convolutions, 25 ms every 20 ms


def stack(samples: int) -> int:
    """Frames of wav2vec2's convolutional stack, by running it."""
    x = torch.zeros(1, 1, samples)
    for kernel, stride in [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]:
        x = torch.nn.functional.conv1d(x, torch.ones(1, 1, kernel), stride=stride)
    return x.shape[-1]


@pytest.mark.parametrize("samples", [400, 401, 719, 720, 721, 16000, 63999, 64000, 64001])
def test_frame_count_is_that_of_the_convolutions(samples: int) -> None:
    assert SPEECH.frames(samples) == stack(samples)


@given(st.integers(1, 500))
def test_samples_is_the_shortest_input_of_so_many_frames(frames: int) -> None:
    needed = SPEECH.samples(frames)
    assert SPEECH.frames(needed) == frames
    if frames > 1:
        assert SPEECH.frames(needed - 1) == frames - 1


def test_centre_lies_in_the_middle_of_the_span() -> None:
    for frame in (0, 1, 198):
        start, end = SPEECH.span(frame)
        assert SPEECH.centre(frame) == pytest.approx((start + end) / 2, abs=1e-12)
    assert SPEECH.centre(0) == 0.0125
    assert SPEECH.span(1) == (0.02, 0.045)


def test_cells_tile_the_input() -> None:
    edges = SPEECH.edges(199, 4.0)
    assert edges[0] == 0 and edges[-1] == 4.0 and len(edges) == 200
    assert np.all(np.diff(edges) > 0)
    centres = SPEECH.centres(199)
    assert np.all((edges[:-1] <= centres) & (centres < edges[1:]))
    np.testing.assert_allclose(np.diff(edges)[1:-1], 0.02, atol=1e-12)


def test_a_whole_clip_may_be_one_frame() -> None:
    grid = Grid(48000, 0, 480000)
    assert grid.frames(1) == grid.frames(10**9) == 1
    np.testing.assert_array_equal(grid.edges(1, 7.5), [0.0, 7.5])


def test_cells_from_any_frame_on_are_those_of_the_whole() -> None:
    grid = Grid(1000, 100, 200)
    whole = grid.edges(6, 0.75)
    assert whole.tolist() == pytest.approx([0, 0.15, 0.25, 0.35, 0.45, 0.55, 0.75])
    for first in range(1, 6):
        rest = grid.edges(6 - first, 0.75, first)
        assert rest.tolist() == pytest.approx(whole[first:].tolist())
    assert grid.edges(3, 0.2).tolist() == pytest.approx([0, 0.15, 0.2, 0.2])  # never past the end
    assert grid.edges(1, 0.5).tolist() == [0, 0.5]
