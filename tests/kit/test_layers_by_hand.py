"""Norms, means and masks over valid frames, against each item by itself; error rates and text."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve
from torch import Tensor, nn

from bab.core.errors import DivergedError
from bab.core.types import Clip, Output
from bab.kit import layers, text, verification
from bab.kit.finite import refuse_diverged


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_gradient_is_scaled_and_nothing_else() -> None:
    x = drawn(3).requires_grad_()
    y = layers.GradScale.apply(x, 0.25)
    assert y.equal(x)
    (y * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.25, 0.5, 0.75]


def normed(groups: int, affine: bool = True) -> layers.ValidGroupNorm:
    norm = layers.ValidGroupNorm(groups, 6, eps=1e-3, affine=affine)
    if affine:
        norm.weight.data, norm.bias.data = drawn(6, seed=1), drawn(6, seed=2)
    return norm


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm_is_that_of_each_item_alone(groups: int, affine: bool) -> None:
    norm, plain = normed(groups, affine), nn.GroupNorm(groups, 6, eps=1e-3, affine=affine)
    plain.load_state_dict(norm.state_dict())
    x, lengths = drawn(3, 6, 9), [9, 4, 2]
    x[1, :, 4:] = 1e6
    norm.lengths = lengths
    expected = torch.zeros_like(x)
    for i, n in enumerate(lengths):
        expected[i, :, :n] = plain(x[i : i + 1, :, :n])[0]
    assert norm(x).equal(expected)
    torch.testing.assert_close(norm._at_once(x), expected, atol=1e-5, rtol=1e-5)
    assert norm._at_once(x.half()).dtype == torch.float16
    for norm.lengths in (None, [9, 9, 9]):
        assert norm(x).equal(plain(x))
    one = drawn(1, 9, 6).transpose(1, 2)  # channels last in memory
    assert not one.is_contiguous()
    torch.testing.assert_close(norm(one), plain(one.contiguous()), atol=1e-5, rtol=1e-5)
    two = drawn(2, 9, 6).transpose(1, 2)
    assert norm(two).equal(plain(two))
    norm.lengths = [5]
    cut = norm(one)
    torch.testing.assert_close(cut[:, :, :5], plain(one[:, :, :5]), atol=1e-5, rtol=1e-5)
    assert not cut[:, :, 5:].any()


def test_batch_norm_has_learned_statistics_and_no_padding() -> None:
    norm = layers.ValidBatchNorm(4, eps=1e-2)
    norm.running_mean, norm.running_var = drawn(4, seed=1), drawn(4, seed=2).square()
    norm.weight.data, norm.bias.data = drawn(4, seed=3), drawn(4, seed=4)
    plain = nn.BatchNorm1d(4, eps=1e-2)
    plain.load_state_dict(norm.state_dict())
    x = drawn(2, 4, 5)
    for norm.training in (True, False):
        norm.lengths = None
        assert norm(x).equal(plain.eval()(x))
        norm.lengths = [5, 2]
        out = norm(x)
        assert out[0].equal(plain(x)[0]) and out[1, :, :2].equal(plain(x)[1, :, :2])
        assert not out[1, :, 2:].any()


def test_masks_means_and_standard_sounds() -> None:
    from transformers import Wav2Vec2FeatureExtractor

    lengths = torch.tensor([0, 2, 5])
    assert layers.valid(lengths, 5).tolist() == [[j < n for j in range(5)] for n in (0, 2, 5)]
    x = drawn(3, 5, 2)
    x[1, 2:] = math.nan
    means = layers.mean_over_time(x[1:], lengths[1:])
    torch.testing.assert_close(means, torch.stack([x[1, :2].mean(0), x[2].mean(0)]))
    one = drawn(2, 1, 3)
    assert layers.mean_over_time(one, torch.tensor([1, 9])).equal(one[:, 0])
    sounds = [drawn(n, seed=n).numpy() * 3 + 1 for n in (40, 25)]
    theirs = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)(
        sounds, sampling_rate=16000, padding=True, return_tensors="pt"
    ).input_values
    rows = torch.zeros(2, 40)
    for row, sound in zip(rows, sounds, strict=True):
        row[: len(sound)] = torch.from_numpy(sound)
    ours = layers.standardise(rows, torch.tensor([40, 25]))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not ours[1, 25:].any()
    assert layers.standardise(torch.ones(1, 4), torch.tensor([0])).tolist() == [[0.0] * 4]


def test_outputs_that_are_not_finite() -> None:
    clip = Clip("a", "a.wav", 0.0, 1.0, "g")
    refuse_diverged(Output(clip, np.zeros((2, 1), np.float32)))
    for bad in (math.nan, math.inf):
        with pytest.raises(DivergedError, match=r"^a: the model's output is not finite$"):
            refuse_diverged(Output(clip, np.array([[0.0], [bad]], np.float32)))


# --- error rates of trials ----------------------------------------------------------------------


def trials(seed: int, many: int, levels: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(seed)
    same = draw.random(many) < 0.4
    same[:2] = True, False
    return same, draw.integers(0, levels, many) / 4 + same * 0.5


@pytest.mark.parametrize(
    ("seed", "many", "levels"), [(0, 40, 6), (1, 7, 3), (2, 300, 50), (3, 2, 1)]
)
def test_operating_points_are_scikit_learns(seed: int, many: int, levels: int) -> None:
    same, scores = trials(seed, many, levels)
    alarms, misses = verification.operating_points(same, scores)
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    assert alarms == pytest.approx(false) and misses == pytest.approx(1 - true)
    for target in (0.01, 0.05, 0.5, 0.9):
        costs = [target * m + (1 - target) * f for f, m in zip(alarms, misses, strict=True)]
        cost = verification.min_dcf(alarms, misses, target)
        assert cost == pytest.approx(min(costs) / min(target, 1 - target)) and cost <= 1
    rate = verification.equal_error_rate(alarms, misses)
    fine = np.linspace(0, 1, 100_001)
    # Misses fall from left to right; where several points have one x, the line is upright.
    gap = np.interp(fine, alarms + np.arange(len(alarms)) * 1e-9, misses) - fine
    assert rate == pytest.approx(fine[np.argmin(np.abs(gap))], abs=2e-5) or any(
        min(m1, m2) <= rate <= max(m1, m2) and f1 == f2 == pytest.approx(rate)
        for (f1, m1), (f2, m2) in itertools.pairwise(zip(alarms, misses, strict=True))
    )


def test_equal_error_rates_by_hand() -> None:
    def rate(*points: tuple[float, float]) -> float:
        alarms, misses = (np.array(x) for x in zip(*points, strict=True))
        return verification.equal_error_rate(alarms, misses)

    assert rate((0, 1), (0.25, 0.25), (1, 0)) == 0.25
    assert rate((0, 1), (1, 0)) == 0.5
    assert rate((0, 1), (0, 0), (1, 0)) == 0.0
    assert rate((0, 1), (0.1, 0.4), (0.5, 0.2), (1, 0)) == pytest.approx(0.3)
    alarms, misses = np.array([0, 0.1, 1]), np.array([1, 0.2, 0])
    assert verification.min_dcf(alarms, misses, 0.05) == 1.0
    few = verification.min_dcf(np.array([0, 0.001, 1]), misses, 0.05)
    assert few == pytest.approx((0.05 * 0.2 + 0.95 * 0.001) / 0.05)


# --- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("", ""), ("  A \t b\n", "a b"), ("Don\u2019t \u2018stop\u2019", "don't stop"),
        ("rock \u2019n\u2019 roll", "rock n roll"),
        ("col·lega l·l", "col·lega l·l"), ("col‧lega", "col·lega"), ("a·b", "a b"), ("L·L", "l·l"),
        ("paraŀlel Ŀ", "paral·lel l"), ("well-known", "well known"), ("a_b", "a b"),
        ("5,3 km²", "5 3 km²"), ("soft\u00adhyphen", "softhyphen"), ("\u200eleft\u200f", "left"),
        ("क्\u200dष", "क्\u200dष"), ("\u200cab\u200d", "ab"), ("a\u200c b", "a b"), ("É", "é"),
        ("e\u0301", "é"), ("İ", "i̇"), ("'a'", "a"), ("'", ""), ("a'", "a"), ("·", ""), ("l·", "l"),
    ],
)  # fmt: skip
def test_normal_forms(given: str, normal: str) -> None:
    assert text.normalise(given) == normal
    assert text.normalise(normal) == normal


def test_case_and_punctuation_stay_where_that_is_asked() -> None:
    assert text.normalise("Well,  DON\u2019T", lower=False) == "Well DON'T"
    assert text.normalise("Well,  DON\u2019T", punctuation=True) == "well, don't"
    assert text.normalise("A-B\u2019", lower=False, punctuation=True) == "A-B'"


def distance(one: list[str], two: list[str]) -> int:
    """Levenshtein's, by the book."""
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        before, row = row, [i]
        for j, b in enumerate(two, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
    return row[-1]


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [("a b c", "a c d"), ("a", ""), ("", "a b"), ("", ""), ("a b", "a b"),
     ("one two", "two one three"),     ("  ", " x "), ("ab cd", "abcd")],
)  # fmt: skip
def test_errors_between_texts(reference: str, hypothesis: str) -> None:
    words = reference.split(), hypothesis.split()
    assert text.word_errors(reference, hypothesis) == (distance(*words), len(words[0]))
    letters = list(reference.strip()), list(hypothesis.strip())
    assert text.character_errors(reference, hypothesis) == (distance(*letters), len(letters[0]))
