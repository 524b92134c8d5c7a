"""Span masks and negatives: against transformers' sampler, and by their statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    _compute_mask_indices,
    _sample_negative_indices,
)

from bab.plugins.objectives.shared.negatives import negatives
from bab.pretraining.masking import span_mask

# probability, length, minimum: HuBERT, wav2vec 2.0 base, HindiBabyNet
PUBLISHED = [(0.8, 10, 2), (0.65, 10, 2), (0.05, 10, 2)]


def runs(mask: Tensor) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.numpy().astype(int), [0]])))
    return [int(end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize(("prob", "length", "minimum"), PUBLISHED)
@pytest.mark.parametrize("frames", [60, 399])
def test_distribution_is_the_published_one(
    prob: float, length: int, minimum: int, frames: int
) -> None:
    """The share that is masked, and the number of runs: mean and spread over 2,000 draws."""
    np.random.seed(0)
    theirs = [
        torch.from_numpy(_compute_mask_indices((1, frames), prob, length, min_masks=minimum)[0])
        for _ in range(2000)
    ]
    ours = [span_mask(frames, prob, length, minimum, seed) for seed in range(2000)]
    for measure in (lambda m: float(m.float().mean()), lambda m: float(len(runs(m)))):
        a, b = np.array([measure(m) for m in ours]), np.array([measure(m) for m in theirs])
        error = np.sqrt((a.var() + b.var()) / 2000)
        assert abs(a.mean() - b.mean()) < 4 * error + 1e-9
        assert a.std() == pytest.approx(b.std(), rel=0.15, abs=1e-3)


def test_every_place_is_masked_as_often_as_there() -> None:
    np.random.seed(1)
    theirs = np.mean([_compute_mask_indices((50, 100), 0.5, 10).mean(0) for _ in range(100)], 0)
    ours = torch.stack([span_mask(100, 0.5, 10, 0, s) for s in range(5000)]).float().mean(0)
    assert np.abs(ours.numpy() - theirs).max() < 0.04
    assert float(ours[0]) < 0.6 * float(ours[50])  # the ends are in fewer spans
    assert abs(float(ours[0] - ours[-1])) < 0.03


@pytest.mark.parametrize("overlap", [True, False])
def test_spans_are_whole(overlap: bool) -> None:
    for seed in range(300):
        mask = span_mask(200, 0.3, 7, 1, seed, overlap)
        assert mask.shape == (200,) and mask.dtype == torch.bool
        assert all(run >= 7 for run in runs(mask))


def test_without_overlap_the_share_is_the_probability() -> None:
    masks = [span_mask(200, 0.3, 7, 0, seed, overlap=False) for seed in range(3000)]
    assert all(int(mask.sum()) % 7 == 0 for mask in masks)
    assert float(torch.stack(masks).float().mean()) == pytest.approx(0.3, abs=0.002)
    # All arrangements of two spans of 2 in 6 frames: six, each a sixth of the time.
    drawn = [tuple(span_mask(6, 0.6, 2, 2, s, overlap=False).tolist()) for s in range(3000)]
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert all(sum(row) == 4 for row in found)
    # Starts (0,2) (0,3) (0,4) (1,3) (1,4) (2,4): those where the spans touch look like a run of 4.
    assert len(found) == 6 and counts.min() > 400 and counts.max() < 600


def test_minimum_of_spans() -> None:
    for seed in range(100):
        assert int(span_mask(100, 0.0, 10, 2, seed).sum()) > 10
        assert int(span_mask(100, 0.0, 10, 2, seed, overlap=False).sum()) == 20
        assert not span_mask(100, 0.0, 10, 0, seed).any()


def test_the_number_is_rounded_at_random() -> None:
    """.05 of 100 frames in spans of 10: half a span on average."""
    share = np.mean([span_mask(100, 0.05, 10, 0, seed).any() for seed in range(2000)])
    assert share == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("overlap", [True, False])
def test_short_inputs_keep_something_to_predict_from(overlap: bool) -> None:
    assert span_mask(0, 0.8, 10, 2, 1, overlap).shape == (0,)
    assert not span_mask(1, 0.8, 10, 2, 1, overlap).any()
    for frames in range(2, 11):
        mask = span_mask(frames, 0.8, 10, 2, 1, overlap)
        assert int(mask.sum()) == frames // 2 and len(runs(mask)) == 1
    assert span_mask(11, 0.8, 10, 2, 1, overlap).any()


def test_a_seed_says_it_all() -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = span_mask(300, 0.65, 10, 2, 2**62 + 5), negatives(40, 100, 2**62 + 5)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    again = span_mask(300, 0.65, 10, 2, 2**62 + 5), negatives(40, 100, 2**62 + 5)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], span_mask(300, 0.65, 10, 2, 6))
    assert not torch.equal(first[1], negatives(40, 100, 6))


def test_negatives_are_uniform_over_the_others() -> None:
    drawn = torch.cat([negatives(5, 100, seed) for seed in range(200)], dim=1)
    for own, row in enumerate(drawn):
        counts = torch.bincount(row, minlength=5)
        assert counts[own] == 0
        others = torch.cat([counts[:own], counts[own + 1 :]])
        assert int(others.min()) > 4700 and int(others.max()) < 5300


def test_negatives_as_in_transformers() -> None:
    """The same frames come up, as often."""
    np.random.seed(0)
    mask = span_mask(50, 0.3, 5, 2, 1)
    places = mask.nonzero()[:, 0]
    theirs = _sample_negative_indices((1, 50), 4000, mask[None].numpy())[0][mask.numpy()]
    ours = places[negatives(len(places), 4000, 1)]
    for a, b in zip(ours, torch.from_numpy(theirs), strict=True):
        difference = torch.bincount(a, minlength=50) - torch.bincount(b.long(), minlength=50)
        assert int(difference.abs().max()) < 5 * (2 * 4000 / len(places)) ** 0.5


def test_no_negatives_of_one() -> None:
    assert negatives(1, 100, 3).shape == (1, 0)
    assert negatives(0, 100, 3).shape == (0, 0)
    assert negatives(2, 3, 3).tolist() == [[1] * 3, [0] * 3]
