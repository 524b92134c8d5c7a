"""Model, layer mix, ensemble and what is saved of them: by hand, shape by shape, word by word."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from train_worker import Small

import bab
from bab.core.errors import BabError, ConfigError
from bab.core.record import RunInfo
from bab.core.types import (
    Batch,
    Encoded,
    Features,
    Loss,
    Prediction,
    Segment,
    Term,
    Waves,
)
from bab.running.context import Context
from bab.running.ensemble import (
    Ensemble,
    EnsembleMix,
    LateFusion,
    LateObjective,
    fused_head,
    fused_objective,
)  # fmt: skip
from bab.running.fold import merge
from bab.running.model import Answered, LayerMix, Model, kept


def features(*frames: int, layers: int = 2, dim: int = 3) -> Features:
    states = torch.arange(float(len(frames) * layers * max(frames) * dim))
    return Features(states.view(len(frames), layers, max(frames), dim), torch.tensor(frames))


def batch(inputs: Any, mask: Tensor | None = None) -> Batch:
    return Batch(inputs, torch.empty(0), torch.empty(0), (), 0, mask=mask)


# ------------------------------------------------------------------------------- layers


def test_layers_are_mixed_by_their_softmax() -> None:
    mix = LayerMix(2, "mix")
    assert mix.weights().tolist() == [0.5, 0.5] and mix.wanted == "all"
    given = features(4, 2)
    torch.testing.assert_close(mix(given.states), given.states.mean(1))
    with torch.no_grad():
        mix.logits[0] = math.log(3)
    assert mix.weights().tolist() == pytest.approx([0.75, 0.25])
    expected = 0.75 * given.states[:, 0] + 0.25 * given.states[:, 1]
    torch.testing.assert_close(mix(given.states), expected)
    assert mix(given.states.half()).dtype == torch.float32
    first = given.states[:, :, :1]  # one frame alone goes another way
    torch.testing.assert_close(mix(first), expected[:, :1])
    gradients = [torch.autograd.grad(mix(x).square().sum(), mix.logits)[0]
                 for x in (first, torch.cat([first, torch.zeros_like(first)], 2))]  # fmt: skip
    torch.testing.assert_close(*gradients)
    for layers, depth in (("mix", 1), ("last", 2), (1, 2), (-2, 2)):
        plain = LayerMix(depth, layers)  # type: ignore[arg-type]
        assert plain.weights().tolist() == [1.0] and not list(plain.parameters())
        assert torch.equal(plain(given.states[:, :1]), given.states[:, 0])
        assert plain.wanted == ("all" if layers == "mix" else layers)
    for wrong in (2, -3):
        with pytest.raises(ConfigError) as error:
            LayerMix(2, wrong)
        assert str(error.value) == f"layers={wrong}: this encoder has layers 0 to 1"


class Told(Small):
    """Notes with what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    def forward(self, waves: Waves, mask: Any = None, layers: str = "all") -> Encoded:
        self.asked.append((mask, layers))
        return super().forward(waves, None, layers)


class Passing(nn.Module):
    """Gives what it is given."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x

    def embed(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x.sum(1) / lengths[:, None]


def whole(layers: Any, pool: bool = False) -> tuple[Model, Told]:
    encoder = Told().eval()
    return Model(encoder, LayerMix(2, layers), cast(Any, Passing()), pool), encoder


@pytest.mark.parametrize(
    ("layers", "asked"), [("mix", "all"), ("last", "last"), (0, "all"), (1, "all")]
)
def test_a_model_hears_the_layers_that_it_wants(layers: Any, asked: str) -> None:
    model, encoder = whole(layers)
    waves = Waves(torch.rand(2, 60), torch.tensor([60, 30]))
    states = Small.forward(encoder, waves).layers
    mask = torch.zeros(2, 6, dtype=torch.bool)
    x, lengths = model(batch(waves, mask))
    given, how = encoder.asked[-1]
    assert given is mask and how == asked and lengths.tolist() == [6, 3]
    expected = {"mix": torch.stack(states).mean(0), "last": states[1], 0: states[0], 1: states[1]}
    torch.testing.assert_close(x, expected[layers])
    pooled, _ = whole(layers, pool=True)
    pooled.encoder = encoder
    mean, ones = pooled(batch(waves))
    assert mean.shape == (2, 1, 8) and ones.tolist() == [1, 1]
    for i, n in enumerate((6, 3)):
        torch.testing.assert_close(mean[i, 0], expected[layers][i, :n].mean(0))
    torch.testing.assert_close(model.embed(batch(waves))[1], expected[layers][1].sum(0) / 3)


def test_frames_that_count_are_moved_to_the_front() -> None:
    x = torch.arange(20.0).view(2, 5, 2)
    rows, counts = kept(x, torch.tensor([5, 3]), torch.tensor([[1, 4], [2, 2**31]]))
    assert counts.tolist() == [3, 1] and torch.equal(rows[0], x[0, 1:4])
    assert torch.equal(rows[1, 0], x[1, 2]) and not rows[1, 1:].any()
    _, none = kept(x, torch.tensor([5, 3]), torch.tensor([[4, 4], [3, 9]]))
    assert none.tolist() == [1, 1]  # there is always one
    model, _ = whole("last")
    waves = Waves(torch.rand(1, 60), torch.tensor([60]), torch.tensor([[2, 5]]))
    out, lengths = model(batch(waves))
    assert lengths.tolist() == [3] and out.shape == (1, 3, 8)


def test_cached_features_need_no_encoder() -> None:
    model = Model(None, LayerMix(2, "mix"), cast(Any, Passing()))
    given = features(4, 2)
    x, lengths = model(batch(given))
    assert torch.equal(lengths, given.lengths) and x.shape == (2, 4, 3)
    with pytest.raises(TypeError) as error:
        model(batch(Waves(torch.rand(1, 60), torch.tensor([60]))))
    assert str(error.value) == "this model was built for cached features: it has no encoder"
    known = Answered(torch.ones(1), torch.ones(2))
    assert known(batch(given))[1].shape == (2,) and known.known and known.encoder is None


# ------------------------------------------------------------------------------- ensembles


class Member(Small):
    def __init__(self, name: str, depth: int, dim: int, rate: int) -> None:
        super().__init__()
        self.resolved = self.fingerprint = name
        self.depth, self.dim, self.sample_rate = depth, dim, rate


MEMBERS = [Member("a", 2, 3, 200), Member("b", 1, 2, 100)]


def test_an_ensemble_is_one_encoder_that_is_never_called() -> None:
    both, late = Ensemble(MEMBERS, "concat"), Ensemble(MEMBERS, "late")
    assert (both.resolved, late.resolved) == ("a+b", "a+b (late)")
    assert (both.dim, both.depth, both.sample_rate, both.max_seconds) == (5, 1, 100, None)
    assert both.grid.hop == 0 and both.grid.sample_rate == 100 and not both.training
    prints = {both.fingerprint, late.fingerprint, Ensemble(MEMBERS[::-1], "concat").fingerprint}
    assert len(prints) == 3 and all(len(one) == 32 for one in prints) and both.groups() == {}
    with pytest.raises(ConfigError) as error:
        late(Waves(torch.rand(1, 60), torch.tensor([60])))
    assert str(error.value) == "ensemble 'a+b (late)' can't be trained or asked for frames"


def test_each_members_layers_are_mixed_by_weights_of_their_own() -> None:
    mix = EnsembleMix(MEMBERS, "mix")
    with torch.no_grad():
        mix.mixes[0].logits[1] = math.log(3)  # type: ignore[index, operator]
    states = torch.arange(2 * 8.0).view(2, 1, 1, 8)
    out = mix(states)
    first = 0.25 * states[:, 0, :, :3] + 0.75 * states[:, 0, :, 3:6]
    torch.testing.assert_close(out, torch.cat([first, states[:, 0, :, 6:]], dim=-1))
    assert mix.wanted == "last" and mix.kept == [2, 1]
    last = EnsembleMix(MEMBERS, "last")
    assert last.kept == [1, 1] and torch.equal(last(states[..., :5]), states[:, 0, :, :5])
    with pytest.raises(ConfigError, match="layers=1: this encoder has layers 0 to 0"):
        EnsembleMix(MEMBERS, 1)


class Fixed(bab.Head):
    """Its first dimensions as logits; notes what it is fitted on."""

    level = ("clip",)

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 4, bab.Options())
        self.seen: list[Any] = []

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return torch.cat([x[:, 0, :2], x[:, 0, :2] * 2], dim=-1)

    def fit(self, x: Tensor, y: Tensor) -> None:
        self.seen.append((x, y))


def test_late_fusion_is_the_mean_of_the_members_probabilities() -> None:
    heads = [Fixed(3), Fixed(2)]
    assert fused_head(heads[:1], [3], [4]) is heads[0]
    fused = cast(LateFusion, fused_head(heads, [3, 2], [2, 2]))
    x = torch.tensor([[[1.0, 0.0, 9.0, 3.0, 0.0]], [[0.0, 0.0, 9.0, 200.0, 0.0]]])
    ones = torch.ones(2)
    one, two = fused.each(x, ones)
    assert one[0].tolist() == [1, 0, 2, 0] and two[0].tolist() == [3, 0, 6, 0]
    out = fused(x, ones)
    for kind in (slice(0, 2), slice(2, 4)):
        mean = (one[:, kind].softmax(-1) + two[:, kind].softmax(-1)) / 2
        torch.testing.assert_close(out[:, kind].exp(), mean)
    assert bool(out.isfinite().all())
    vectors, y = torch.rand(6, 5), torch.arange(6)
    fused.fit(vectors, y)
    assert torch.equal(heads[0].seen[0][0], vectors[:, :3]) and heads[1].seen[0][1] is y
    assert torch.equal(heads[1].seen[0][0], vectors[:, 3:])


class Sums(bab.Objective):
    """The sum of logits, and logs."""

    def __init__(self, scale: float) -> None:
        super().__init__(0, (), bab.Options())
        self.scale, self.seen = scale, list[Tensor]()

    def counts(self, part: Batch) -> dict[str, float]:
        return {"s": 10 * self.scale}

    def observe(self, targets: Tensor) -> None:
        self.seen.append(targets)

    def forward(self, model: Any, part: Batch) -> Loss:
        logits, _ = model(part)
        return Loss({"s": Term(self.scale * logits.sum(), 2.0)}, {"log": (self.scale, 2.0)})


def test_members_losses_stand_side_by_side() -> None:
    each = [Sums(1.0), Sums(100.0)]
    assert fused_objective(each[:1]) is each[0]
    both = cast(LateObjective, fused_objective(each))
    model = Model(None, LayerMix(1, "last"), LateFusion([Fixed(3), Fixed(2)], [3, 2], [2, 2]))
    x = torch.tensor([[[[1.0, 0.0, 9.0, 3.0, 0.0]]]])
    part = batch(Features(x, torch.ones(1)))
    loss = both(model, part)
    assert set(loss.terms) == {"s"} and loss.terms["s"].count == 2.0
    assert float(loss.terms["s"].total) == 1 * (1 + 2) + 100 * (3 + 6)
    assert loss.logs == {"log": (101.0, 4.0)} and both.counts(part) == {"s": 10.0}
    both.observe(x)
    assert each[0].seen == each[1].seen == [x]


# ------------------------------------------------------------------------------- one fold


def test_spans_of_a_recording_become_one_prediction() -> None:
    def part(name: str, *starts: float) -> Prediction:
        return Prediction(name, tuple(Segment(s, s + 1, "a") for s in starts), text=f"{starts}")

    merged = merge([part("x", 5, 7), part("y", 1), part("x", 1, 6), part("x", 0)])
    assert [(p.id, [s.start for s in p.segments]) for p in merged] == [
        ("x", [0, 1, 5, 6, 7]),
        ("y", [1]),
    ]
    assert merged[0].text == "(0,)" and merge([]) == []


@pytest.mark.parametrize("count", [1, 3])
def test_each_of_several_folds_has_a_place_of_its_own(count: int, tmp_path: Path) -> None:
    info = RunInfo("r", "f", "t", "c", "e", 5, {})
    told: list[Any] = []
    stop = [False]
    life = SimpleNamespace(
        stop=lambda: stop[0],
        watchers=SimpleNamespace(bab_progress=lambda **given: told.append(given)),
    )
    data = SimpleNamespace(folds=[0] * count)
    context: Any = Context(
        cast(Any, None), cast(Any, None), cast(Any, data), cast(Any, life), info, tmp_path
    )
    context.known[1] = ("x", "y")
    own, place = context.fold(2)
    assert (own.info.fold, own.info.folds, own.known) == (2, count, {})
    assert place == (tmp_path if count == 1 else tmp_path / "folds" / "2")
    own.progress("dev")(1.0, 2.0)
    assert told == [{"run": own.info, "stage": "dev", "done": 1.0, "total": 2.0, "unit": "s"}]
    stop[0] = True
    own.progress("dev")(2.0, 2.0)  # an evaluation is ended
    with pytest.raises(BabError) as error:
        own.progress("test")(1.0, 2.0)
    assert str(error.value) == (
        "stopped while predicting test; the trained model is kept, the same command goes on from "
        "there"
    )
    context.fill()  # there are no features: nothing to do
