"""What objectives are made of, against slow formulations: draws, quantisers, diversity, sizes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bab.core.errors import PluginError
from bab.core.grid import Grid
from bab.core.interfaces import Scorer
from bab.core.types import Batch, Clip, Encoded, Features, Waves
from bab.plugins.objectives.am_softmax import AmSoftmax
from bab.plugins.objectives.contrastive import Contrastive
from bab.plugins.objectives.ctc import needed
from bab.plugins.objectives.masked import Masked
from bab.plugins.objectives.shared import at_once, diversity, negatives, quantiser

CPU = torch.device("cpu")


class Says(Scorer):
    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.answer, torch.ones(len(self.answer), dtype=torch.long)


# --- draws of all utterances at once


def splitmix(seed: int, number: int) -> int:
    """The n-th number of the stream, as Steele et al. 2014 write it (unsigned, one at a time)."""
    mask = 2**64 - 1
    z = (seed + number * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_splitmix_is_the_published_generator() -> None:
    """The first numbers of seed 1234567, as rosettacode.org and java.util.SplittableRandom say."""
    said = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix(1234567, n) for n in (1, 2, 3)] == said


SIZES, SEEDS = (3, 0, 2, 4), (5, 6, 2**62 + 1, 7)


def test_the_layout_of_utterances() -> None:
    made = at_once.Layout.of(SIZES, CPU)
    assert made.owner.tolist() == [0, 0, 0, 2, 2, 3, 3, 3, 3]
    assert made.place.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert made.sizes.tolist() == [3, 3, 3, 2, 2, 4, 4, 4, 4]
    assert made.first.tolist() == [0, 0, 0, 3, 3, 5, 5, 5, 5]
    assert made.rows.tolist() == [[0, 1, 2, 0], [0, 0, 0, 0], [3, 4, 0, 0], [5, 6, 7, 8]]


def frames() -> list[tuple[int, int]]:
    """(utterance, its frame) of every row."""
    return [(e, t) for e, size in enumerate(SIZES) for t in range(size)]


def test_gumbel_noise_at_once_is_of_the_stream_of_each_utterance() -> None:
    noise = at_once.gumbel(at_once.Layout.of(SIZES, CPU), 2, 3, SEEDS)
    assert noise.shape == (9, 2, 3)
    for row, (e, t) in enumerate(frames()):
        for column in range(6):
            top = splitmix(SEEDS[e], t * 6 + column + 1) >> 41  # 23 bits
            wanted = -math.log(-math.log((top + 0.5) / 2**23))
            assert float(noise[row].flatten()[column]) == pytest.approx(wanted, abs=2e-4)


def test_negatives_at_once_are_of_the_stream_of_each_utterance() -> None:
    drawn = at_once.negatives(at_once.Layout.of(SIZES, CPU), 50, SEEDS)
    for row, (e, t) in enumerate(frames()):
        for column in range(50):
            top = splitmix(SEEDS[e], t * 50 + column + 1) >> 33  # 31 bits
            other = top * (SIZES[e] - 1) >> 31
            assert int(drawn[row, column]) == other + (other >= t)
    assert set(drawn[5].tolist()) == {1, 2, 3} and set(drawn[8].tolist()) == {0, 1, 2}


def test_both_ways_compare_the_same_frames() -> None:
    """Cosines of the positive and of each negative; none where a negative has its codes."""
    draw = torch.Generator().manual_seed(0)
    states, targets = torch.randn(9, 5, generator=draw), torch.randn(9, 5, generator=draw)
    codes = torch.randint(0, 2, (9, 2), generator=draw)
    first = {0: 0, 2: 3, 3: 5}
    got = negatives.similarities(states, targets, codes, SIZES, SEEDS, 20, 0.25)
    x, y = (torch.nn.functional.normalize(one, dim=-1) for one in (states, targets))
    layout = at_once.Layout.of(SIZES, CPU)
    others = at_once.negatives(layout, 20, SEEDS)
    together = at_once.similarities(x, y, codes, layout, others, 0.25)
    assert got.shape == together.shape == (9, 21)
    equal = 0
    for row, (e, t) in enumerate(frames()):
        own = negatives.negatives(SIZES[e], 20, SEEDS[e])[t].tolist()
        for answer, drawn in ((got, own), (together, others[row].tolist())):
            for column, place in enumerate([t, *drawn]):
                other = first[e] + place
                wanted = float(torch.cosine_similarity(states[row], targets[other], 0)) / 0.25
                if column and bool((codes[row] == codes[other]).all()):
                    wanted, equal = -math.inf, equal + 1
                assert float(answer[row, column]) == pytest.approx(wanted, abs=1e-5)
    assert 20 < equal < 300


def test_negatives_are_others_of_the_utterance() -> None:
    drawn = negatives.negatives(3, 200, 4)
    assert [set(row.tolist()) for row in drawn] == [{1, 2}, {0, 2}, {0, 1}]
    assert torch.equal(drawn, negatives.negatives(3, 200, 4))
    assert not torch.equal(drawn, negatives.negatives(3, 200, 5))
    assert negatives.negatives(2, 3, 0).tolist() == [[1, 1, 1], [0, 0, 0]]
    for few in (0, 1):
        assert negatives.negatives(few, 7, 0).shape == (few, 0)


def test_without_a_masked_frame_the_weights_stay_in_the_graph() -> None:
    states = torch.zeros(0, 4, requires_grad=True)
    targets = torch.zeros(0, 4, requires_grad=True)
    got = negatives.similarities(states, targets, torch.zeros(0, 2), (0, 0), (1, 2), 5, 0.1)
    assert got.shape == (0, 6)
    got.sum().backward()
    assert states.grad is not None and targets.grad is not None


def test_masked_rows_are_those_of_the_mask() -> None:
    x = torch.arange(24.0).view(2, 3, 4)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    assert at_once.masked_rows(x, mask)[:, 0].tolist() == [0, 8, 16]


# --- the quantiser


def test_a_choice_of_codes_looks_up_their_vectors() -> None:
    torch.manual_seed(0)
    made = quantiser.Quantiser(3, 2, 4, 6)
    assert made.codevectors.shape == (1, 8, 3)
    assert not made.weight_proj.bias.any()
    assert 0.5 < float(made.weight_proj.weight.detach().std()) < 1.5
    x, noise = torch.randn(5, 3), torch.randn(5, 2, 4)
    logits = made.weight_proj(x).view(5, 2, 4)
    likeliest, drawn = made(x, 0.5, None), made(x, 0.5, noise)
    soft = ((logits + noise) / 0.5).softmax(-1)
    assert torch.equal(likeliest.codes, logits.argmax(-1))
    assert torch.equal(drawn.codes, (logits + noise).argmax(-1))
    torch.testing.assert_close(drawn.probs, logits.softmax(-1))
    book = made.codevectors.view(2, 4, 3)
    for n in range(5):
        for got in (likeliest, drawn):
            wanted = torch.cat([book[g, int(got.codes[n, g])] for g in (0, 1)])
            torch.testing.assert_close(got.vectors[n], wanted)
        one = torch.zeros(2, 4)
        one[0, likeliest.codes[n, 0]] = one[1, likeliest.codes[n, 1]] = 1.0
        assert torch.equal(likeliest.probs[n], one)
    # Backward it is the soft choice, at the temperature.
    weights = torch.randn(6)
    mixed = torch.einsum("ngv,gvd->ngd", soft, book).flatten(1) @ weights
    wanted = torch.autograd.grad(mixed.sum(), made.weight_proj.weight, retain_graph=True)[0]
    got = torch.autograd.grad((drawn.vectors @ weights).sum(), made.weight_proj.weight)[0]
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    ("book", "compared", "sizes"),
    [
        ((1, 640, 128), (256, 256), quantiser.Sizes(2, 320, 256, 256)),  # base's
        ((1, 640, 384), (768, 768), quantiser.Sizes(2, 320, 768, 768)),  # large's
        ((1, 48, 5), (12, 20), quantiser.Sizes(4, 12, 20, 12)),
        ((1, 48, 5), (12, 21), None),
        ((1, 7, 5), (12, 10), None),
        ((48, 5), (12, 20), None),
        ((1, 48, 5), (12,), None),
        (None, (12, 20), None),
        ((1, 48, 5), None, None),
    ],
)
def test_the_size_of_a_checkpoints_quantiser(
    book: Any, compared: Any, sizes: quantiser.Sizes | None
) -> None:
    tensors = {"quantizer.codevectors": book, "project_q.weight": compared}
    given = {name: torch.zeros(shape) for name, shape in tensors.items() if shape}
    assert quantiser.sizes_of(given) == sizes


def test_perplexity_counts_the_codes_in_use() -> None:
    rows = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4])
    assert [float(quantiser.perplexity(row[None])) for row in rows] == pytest.approx([1, 2, 4])
    assert float(quantiser.perplexity(rows)) == pytest.approx(7)
    uneven = torch.tensor([[0.9, 0.1, 0.0]], requires_grad=True)
    wanted = math.exp(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    got = quantiser.perplexity(uneven)
    assert float(got) == pytest.approx(wanted)
    got.backward()
    assert uneven.grad is not None and uneven.grad.isfinite().all()


def test_noise_is_minus_the_log_of_exponential_draws() -> None:
    drawn = torch.empty((4, 2, 3)).exponential_(generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(quantiser.gumbel(4, 2, 3, 9), -drawn.log())


def test_unused_codes_are_a_share_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four codes in one group, all in the other: 6 of 8 in use, times the frames."""
    probs = torch.zeros(4, 2, 4)
    probs[:, 0, :2] = 0.5
    probs[torch.arange(4), 1, torch.arange(4)] = 1.0
    for training in (False, True):
        total, used = diversity.unused_codes(probs, 4.0, training)
        assert (float(total), float(used)) == pytest.approx((4 * 0.25, 6.0))
    nothing, used = diversity.unused_codes(torch.zeros(0, 2, 4), 0.0, True)
    assert float(nothing) == 0.0 and float(used) == 2.0


def test_the_gradient_of_unused_codes_is_that_of_the_formula() -> None:
    """(GV - sum of exp of each group's entropy) / GV, times the frames, by autograd."""
    probs = torch.rand(5, 2, 4, generator=torch.Generator().manual_seed(3)).softmax(-1)
    probs.requires_grad_()
    mean = probs.mean(0)
    wanted = 5 * (8 - (-(mean * mean.log()).sum(-1)).exp().sum()) / 8
    for training in (False, True):
        total, _ = diversity.unused_codes(probs, 5.0, training)
        assert float(total.detach()) == pytest.approx(float(wanted.detach()))
        one, other = (
            torch.autograd.grad(value, probs, retain_graph=True)[0] for value in (total, wanted)
        )
        torch.testing.assert_close(one, other)


def test_codes_in_use_are_counted_over_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks of other frames: values and gradients add up to those of one with all of them."""
    draw = torch.Generator().manual_seed(0)
    parts = [torch.rand(n, 2, 4, generator=draw).softmax(-1).requires_grad_() for n in (3, 5)]
    whole = torch.cat([part.detach() for part in parts]).requires_grad_()
    total, used = diversity.unused_codes(whole, 8.0, False)
    (wanted,) = torch.autograd.grad(total, whole)
    shared = torch.cat([whole.detach().sum(0).flatten().double(), torch.tensor([8.0]).double()])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda packed: packed.copy_(shared))
    each = [diversity.unused_codes(part, float(len(part)), True) for part in parts]
    assert float(each[0][0] + each[1][0]) == pytest.approx(float(total), rel=1e-5)
    assert [float(one[1]) for one in each] == pytest.approx([float(used)] * 2)
    gradients = [
        torch.autograd.grad(one[0], part)[0] for one, part in zip(each, parts, strict=True)
    ]
    torch.testing.assert_close(torch.cat(gradients), wanted)
    # Out of training each looks at all there is: nothing is gathered.
    monkeypatch.setattr(torch.distributed, "all_reduce", None)
    diversity.unused_codes(parts[0], 3.0, False)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    diversity.unused_codes(parts[0], 3.0, True)


# --- speakers, labels


def batch_of(targets: Tensor, weights: Tensor | None = None) -> Batch:
    n = len(targets)
    clips = tuple(Clip(str(i), "x.wav", 0.0, 1.0, "g") for i in range(n))
    ones = torch.ones(n, dtype=torch.long)
    return Batch(Features(torch.zeros(n, 1, 1, 1), ones), targets, ones, clips, 0, weights)


def test_the_margin_is_taken_from_the_right_speaker_alone() -> None:
    torch.manual_seed(0)
    objective = AmSoftmax(4, [3], AmSoftmax.Options(scale=10.0, margin=0.3))
    vectors, speakers = torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])
    wanted = []
    for vector, speaker in zip(vectors, speakers.tolist(), strict=True):
        cosines = [float(torch.cosine_similarity(vector, w, 0)) for w in objective.weight.T]
        cosines[speaker] -= 0.3
        exps = [math.exp(10 * cosine) for cosine in cosines]
        wanted.append(-math.log(exps[speaker] / sum(exps)))
    term = objective(Says(vectors), batch_of(speakers[:, None])).terms["am_softmax"]
    assert (float(term.total), term.count) == pytest.approx((sum(wanted), 5.0))
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5, 3.0])
    term = objective(Says(vectors), batch_of(speakers[:, None], weights)).terms["am_softmax"]
    weighed = sum(w * v for w, v in zip(weights.tolist(), wanted, strict=True))
    assert (float(term.total), term.count) == pytest.approx((weighed, 5.0))
    with pytest.raises(PluginError) as raised:
        AmSoftmax(4, [3, 2], AmSoftmax.Options())
    assert str(raised.value) == (
        "objective 'am_softmax' takes one group of labels, the speakers; not 2"
    )


@pytest.mark.parametrize(
    ("target", "frames_"), [([], 0), ([1], 1), ([1, 2], 2), ([1, 1], 3), ([1, 1, 1, 2, 2], 8)]
)
def test_equal_labels_need_a_blank_between_them(target: list[int], frames_: int) -> None:
    assert needed(torch.tensor(target, dtype=torch.long)) == frames_


def test_masked_needs_audio_and_an_encoder() -> None:
    objective = Masked(4, [3], Masked.Options())
    batch = batch_of(torch.zeros(1, 1, dtype=torch.long))
    batch.mask = torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(PluginError) as raised:
        objective.counts(batch)
    assert str(raised.value) == (
        "objective 'masked' needs audio, and `attach` before anything else"
    )


@pytest.mark.parametrize("kind", [Masked, Contrastive])
def test_the_last_of_several_states_is_learnt_from(kind: Any) -> None:
    """A model that gives all its states, and one that gives the last alone, have the same loss."""
    draw = torch.Generator().manual_seed(0)
    last, local = torch.randn(2, 9, 4, generator=draw), torch.randn(2, 9, 5, generator=draw)
    encoder: Any = SimpleNamespace(
        local_dim=5, grid=Grid(16000, 320, 400), resolved="x", extras=dict
    )

    class Model:
        def __init__(self, *states: Tensor) -> None:
            self.states = states

        def encode(self, batch: Batch) -> Encoded:
            return Encoded(self.states, torch.tensor([9, 9]), local, local)

    torch.manual_seed(1)
    objective = kind(4, [3] if kind is Masked else [], kind.Options())
    objective.attach(encoder)
    size = 400 + 8 * 320
    batch = Batch(
        Waves(torch.zeros(2, size), torch.tensor([size, size])),
        torch.randint(3, (2, 9), generator=draw), torch.tensor([9, 9]), (), 0,
        mask=torch.rand(2, 9, generator=draw) > 0.4, seeds=(1, 2),
    )  # fmt: skip
    one, several = (objective(Model(*states), batch) for states in ((last,), (0 * last, last)))
    for name, term in one.terms.items():
        assert float(several.terms[name].total.detach()) == float(term.total.detach()) != 0
