"""What each check of an encoder and of a head puts in: lengths, masks, clicks, modes, step by step.

The encoder sees fields of 400 samples every 320; lengths follow from these as the checks say.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from good_parts import GoodEncoder, GoodHead

from bab.core.errors import BabError
from bab.core.grid import Grid
from bab.testing import encoders, heads, loading
from bab.testing.heads import HeadCase

GIVEN: list[dict[str, Any]] = []


class Notes(GoodEncoder):
    """Keeps what it is given."""

    seconds: float | None = 20.0

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.max_seconds = self.seconds

    def forward(self, waves: Any, mask: Any = None, layers: str = "all") -> Any:
        GIVEN.append(
            {
                "lengths": waves.lengths.tolist(),
                "samples": waves.samples.clone(),
                "mask": None if mask is None else mask.clone(),
                "layers": layers,
                "training": self.training,
            }
        )
        return super().forward(waves, mask, layers)


def given(check: Any, seconds: float | None = 20.0) -> list[dict[str, Any]]:
    cls = type("Kept", (Notes,), {"__doc__": "x", "seconds": seconds})
    GIVEN.clear()
    check(lambda: cls.load("random", cls.Options()))
    return list(GIVEN)


def lengths(check: Any, seconds: float | None = 20.0) -> list[list[int]]:
    return [one["lengths"] for one in given(check, seconds)]


def test_odd_lengths_and_one_shorter_than_a_field() -> None:
    got = given(encoders.check_shapes)
    sizes = [393, 400, 719, 720, 2003]
    assert [one["lengths"] for one in got] == [[size] for size in sizes for _ in range(2)]
    assert [one["layers"] for one in got] == ["all", "last"] * 5
    assert lengths(encoders.check_shapes, 0.04) == [
        [size] for size in (393, 400, 640, 640, 640) for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("seconds", "sizes"),
    [
        (20.0, [10001, 393, 3920, 29360]),
        (None, [10001, 393, 3920, 29360]),
        (29360 / 16000, [10001, 393, 3920, 29360]),
        (1.0, [5334, 1784, 8000, 16000]),
    ],
)
def test_a_batch_of_unlike_lengths_and_each_of_them_alone(
    seconds: float | None, sizes: list[int]
) -> None:
    got = given(encoders.check_batch, seconds)
    assert [one["lengths"] for one in got] == [sizes, *([size] for size in sizes)]
    loud = [float(one["samples"][0].abs().mean()) for one in got[1:]]
    # Loudness differs a hundredfold; noise of deviation s has a mean size of .8 s.
    assert loud[:3] == pytest.approx([0.8 * 0.003, 0.8 * 0.03, 0.8 * 0.3], rel=0.12)
    assert loud[3] == pytest.approx(0.08, rel=0.1)
    for row, one in enumerate(got[1:]):
        assert torch.equal(got[0]["samples"][row, : sizes[row]], one["samples"][0])


def test_one_vector_per_clip_is_given_ten_seconds_at_most() -> None:
    class Whole(Notes):
        """One frame."""

        def __init__(self, options: Any) -> None:
            super().__init__(options)
            self.grid = Grid(16000, 0, 400)

    GIVEN.clear()
    encoders.check_shapes(lambda: Whole.load("random", Whole.Options()))
    assert [one["lengths"][0] for one in GIVEN[::2]] == [393, 400, 400, 401, 408]
    GIVEN.clear()
    encoders.check_batch(lambda: Whole.load("random", Whole.Options()))
    assert GIVEN[0]["lengths"] == [53334, 17784, 80000, 160000]
    why = encoders.check_clicks(lambda: Whole.load("random", Whole.Options()))
    assert why == "it gives one frame for a whole clip"


def test_silence_beside_noise() -> None:
    (one,) = given(encoders.check_silence)
    assert one["lengths"] == [16000, 8000] and not one["samples"][0].any()
    assert one["samples"][1, :8000].any()


def test_clicks_are_made_by_exchanging_two_samples() -> None:
    got = given(encoders.check_clicks)
    assert all(one["lengths"] == [12880] for one in got)  # forty frames
    moved = []
    for before, after in zip(got[1::2], got[2::2], strict=True):
        apart = (before["samples"] != after["samples"]).nonzero()[:, 1].tolist()
        moved.append(apart)
        a, b = apart
        assert torch.equal(before["samples"][0, [a, b]], after["samples"][0, [b, a]])
        assert float(before["samples"][0, 1480]) == pytest.approx(0.9)
    # The middle of frame 4's span, and the first, middle and last sample of frame 20's; the next.
    assert moved == [[1480, 6400], [1480, 6600], [1480, 6799], [1480, 6800]]
    assert len(given(encoders.check_clicks, 1.0)) == 9
    assert given(encoders.check_clicks, 1.0)[0]["lengths"] == [400 + 39 * 320]


def test_without_local_features_a_click_is_looked_for_every_so_often() -> None:
    class Deaf(Notes):
        """Shows states alone."""

        def forward(self, waves: Any, mask: Any = None, layers: str = "all") -> Any:
            out = super().forward(waves, mask, layers)
            out.local = None
            return out

    GIVEN.clear()
    encoders.check_clicks(lambda: Deaf.load("random", Deaf.Options()))
    first, plain, *clicked = [one["samples"][0] for one in GIVEN]
    assert torch.equal(first, plain) and len(clicked) == 8
    for frame, wave in zip(range(2, 38, 5), clicked, strict=True):
        (place,) = (wave != plain).nonzero()[:, 0].tolist()
        assert place == frame * 320 + 200 and float(wave[place]) == pytest.approx(0.9)


def test_a_mask_of_nothing_and_of_one_frame() -> None:
    got = given(encoders.check_mask)
    assert [one["lengths"] for one in got] == [[3920]] * 3  # twelve frames
    assert got[0]["mask"] is None and got[1]["mask"].shape == (1, 12) and not got[1]["mask"].any()
    assert got[2]["mask"].nonzero().tolist() == [[0, 6]]
    refusing = type("No", (Notes,), {"__doc__": "x", "forward": refuses})
    why = encoders.check_mask(lambda: refusing.load("random", refusing.Options()))
    assert why == "no masks here"


def refuses(self: Any, waves: Any, mask: Any = None, layers: str = "all") -> Any:
    if mask is not None:
        raise BabError("no masks here")
    return Notes.forward(self, waves, mask, layers)


def test_the_rest_gets_nine_thousand_samples_or_what_is_the_longest() -> None:
    assert lengths(encoders.check_determinism) == [[9000]] * 3
    (one,) = given(encoders.check_gradients)
    assert one["lengths"] == [6000, 9000] and one["training"] and one["layers"] == "all"
    for seconds, size in ((20.0, 9000), (0.5, 8000)):
        assert lengths(loading.check_answer, seconds) == [[size]]
        assert lengths(loading.check_input, seconds) == [[size, size // 2]] * 2
        assert lengths(loading.check_generators, seconds) == [[size]]
        assert lengths(loading.check_memory, seconds) == [[size]] * 4
        assert lengths(loading.check_local, seconds) == [[size]]
        assert lengths(loading.check_export, seconds) == [[size]] * 2
        assert lengths(loading.check_options, seconds) == [[size]] * 3
    one, two, again, last = given(loading.check_memory)
    assert torch.equal(one["samples"], again["samples"]) and not last["training"]
    assert not torch.equal(one["samples"], two["samples"])
    assert torch.equal(one["samples"], last["samples"])


def test_an_encoder_with_nothing_to_train() -> None:
    class Fixed(Notes):
        """Frozen."""

        def __init__(self, options: Any) -> None:
            super().__init__(options)
            self.requires_grad_(False)

    why = encoders.check_gradients(lambda: Fixed.load("random", Fixed.Options()))
    assert why == "it has nothing to train"


# --- heads


def test_a_head_is_given_frames_of_three_examples_and_solves_easy_clusters() -> None:
    seen: list[tuple[Any, Any, bool]] = []

    class Kept(GoodHead):
        """Keeps what it is given."""

        def forward(self, x: Any, lengths: Any) -> Any:
            seen.append((x.detach().clone(), lengths.tolist(), self.training))
            return super().forward(x, lengths)

    case = HeadCase(Kept, Kept.Options())

    def asked(check: Any) -> list[Any]:
        seen.clear()
        assert check(case) is None
        return [(tuple(x.shape), n, training) for x, n, training in seen]

    three = ((3, 40, 6), [40, 17, 23], False)
    assert asked(heads.check_shapes) == [three]
    alone = [((1, n, 6), [n], False) for n in (40, 17, 23)]
    assert asked(heads.check_padding) == [three, *alone]
    assert seen[0][0][1, 17:].isnan().all() and not seen[0][0][1, :17].isnan().any()
    assert asked(heads.check_effects) == [three, three]
    mean = ((3, 1, 6), [1, 1, 1], False)
    assert asked(heads.check_linear) == [three, mean, mean, mean]
    whole, one, zero, triple = (x for x, *_ in seen)
    torch.testing.assert_close(one[1, 0], whole[1, :17].mean(0))
    assert not zero.any() and torch.equal(triple, 3 * one)
    learnt = asked(heads.check_learns)
    assert learnt[0] == ((3, 40, 6), [40, 17, 23], True) and len(learnt) == 1 + 150 + 1
    assert set(map(str, learnt[1:-1])) == {str(((90, 5, 6), [5] * 90, True))}
    assert learnt[-1][2] is False
    points = seen[1][0]
    assert torch.equal(points[:, 0], points[:, 4])
    centres = torch.stack([points[c::3, 0].mean(0) for c in range(3)])
    torch.testing.assert_close(centres, 4 * torch.eye(6)[:3], atol=0.25, rtol=0)
    spread = torch.cat([points[c::3, 0] - centres[c] for c in range(3)]).std()
    assert float(spread) == pytest.approx(0.3, rel=0.1)
    assert asked(heads.check_state) == [three, three]
