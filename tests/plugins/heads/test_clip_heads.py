"""Heads `pooled` and `logistic` and objective `cross_entropy`, against PyTorch and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional

from bab.core.errors import CorpusError, DivergedError, PluginError
from bab.core.interfaces import Scorer
from bab.core.types import Batch, Clip, Features
from bab.plugins.heads.logistic import Logistic, LogisticOptions
from bab.plugins.heads.pooled import Pooled, PooledOptions
from bab.plugins.objectives.cross_entropy import CrossEntropy, CrossEntropyOptions


def frames(*lengths: int, dim: int = 6, seed: int = 0) -> tuple[list[Tensor], Tensor, Tensor]:
    """Clips as they are, and padded with NaN, which must never matter."""
    draw = torch.Generator().manual_seed(seed)
    clips = [torch.randn(n, dim, generator=draw) for n in lengths]
    padded = torch.full((len(clips), max(lengths), dim), float("nan"))
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = clip
    return clips, padded, torch.tensor(lengths)


# ------------------------------------------------------------------------------- pooled


@pytest.mark.parametrize("hidden", [0, 256])
def test_pooled_is_superbs_head_and_the_mean_may_come_first(hidden: int) -> None:
    torch.manual_seed(1)
    head = Pooled(6, 4, PooledOptions(hidden=hidden)).eval()
    clips, padded, lengths = frames(7, 3, 1)
    linears = [m for m in head.modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linears] == ([hidden, 4] if hidden else [4])
    said = head(padded, lengths)
    for clip, logits in zip(clips, said, strict=True):
        x = linears[0](clip).mean(0)  # SUPERB: project every frame, then the mean
        torch.testing.assert_close(logits, linears[1](x) if hidden else x)
    means = torch.stack([clip.mean(0) for clip in clips])[:, None]
    torch.testing.assert_close(head(means, torch.ones(3, dtype=torch.long)), said)


def test_pooled_drops_out_in_training_alone() -> None:
    head = Pooled(6, 2, PooledOptions(hidden=0, dropout=0.5))
    _, padded, lengths = frames(4, 4)
    torch.manual_seed(0)
    assert not torch.equal(head(padded, lengths), head(padded, lengths))
    head.eval()
    assert torch.equal(head(padded, lengths), head(padded, lengths))


# ------------------------------------------------------------------------------- logistic


def vectors(classes: int) -> tuple[Tensor, Tensor]:
    """Overlapping clouds of unequal size, in dimensions of unlike scale; one never varies."""
    draw = np.random.default_rng(classes)
    y = np.sort(draw.choice(classes, 150, p=[0.7, *[0.3 / (classes - 1)] * (classes - 1)]))
    x = (draw.normal(size=(150, 5)) + 0.7 * y[:, None]) * [1, 10, 0.1, 1, 3] + [0, 50, 0, -2, 1]
    x = np.concatenate([x, np.full((150, 1), 2.0)], 1).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weight", ["balanced", "none"])
@pytest.mark.parametrize("standardise", [True, False])
def test_logistic_says_what_scikit_learn_says(
    classes: int, weight: str, standardise: bool, tmp_path: Path
) -> None:
    x, y = vectors(classes)
    options = LogisticOptions(c=0.3, class_weight=weight, standardise=standardise)
    head = Logistic(6, classes, options)
    head.fit(x, y)
    solver = LogisticRegression(
        C=0.3, class_weight=None if weight == "none" else weight, max_iter=5000
    )
    wanted = make_pipeline(StandardScaler(), solver) if standardise else solver
    wanted.fit(x.double().numpy(), y.numpy())
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    loaded = Logistic(6, classes, options)
    loaded.load_state_dict(load_file(tmp_path / "head.safetensors"))
    logits = loaded(x[:, None], torch.ones(150, dtype=torch.long))
    decided = logits[:, 1] - logits[:, 0] if classes == 2 else logits
    scale = np.abs(wanted.decision_function(x)).max()
    np.testing.assert_allclose(decided, wanted.decision_function(x), atol=1e-5 * max(1, scale))
    np.testing.assert_allclose(logits.softmax(1), wanted.predict_proba(x), atol=1e-5)


def test_logistic_holds_dimensions_that_hardly_vary() -> None:
    """Of those the coefficients are in the millions, and so was the intercept, of which 32 bits
    keep a quarter."""
    x, y = vectors(2)
    x[:, 2] = 40 + 2e-5 * torch.randn(150, generator=torch.Generator().manual_seed(1))
    head = Logistic(6, 2, LogisticOptions(standardise=True))
    head.fit(x, y)
    assert head.weight.abs().max() > 1e3
    wanted = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, class_weight="balanced"))
    wanted.fit(x.double().numpy(), y.numpy())
    found = head(x[:, None], torch.ones(150, dtype=torch.long))[:, 1]
    np.testing.assert_allclose(found, wanted.decision_function(x), atol=2e-4)


def test_logistic_reads_what_was_saved_without_a_centre() -> None:
    x, y = vectors(2)
    head, before = (Logistic(6, 2, LogisticOptions()) for _ in range(2))
    head.fit(x, y)
    bias = head.bias - head.weight @ head.centre
    before.load_state_dict({"weight": head.weight, "bias": bias})
    ones = torch.ones(150, dtype=torch.long)
    torch.testing.assert_close(before(x[:, None], ones), head(x[:, None], ones))


def test_logistic_takes_the_mean_over_a_clips_own_frames() -> None:
    x, y = vectors(2)
    head = Logistic(6, 2, LogisticOptions())
    head.fit(x, y)
    clips, padded, lengths = frames(7, 3)
    means = torch.stack([clip.mean(0) for clip in clips])[:, None]
    torch.testing.assert_close(head(padded, lengths), head(means, torch.ones(2)))


def test_logistic_refuses_what_it_cant_solve() -> None:
    x, y = vectors(2)
    with pytest.raises(CorpusError, match="examples of 2"):
        Logistic(6, 3, LogisticOptions()).fit(x, y)
    with pytest.raises(DivergedError, match="not all finite"):
        Logistic(6, 2, LogisticOptions()).fit(x.log(), y)
    with pytest.raises(DivergedError, match="after 1 iterations"):
        Logistic(6, 2, LogisticOptions(iterations=1)).fit(x, y)


# ------------------------------------------------------------------------------- cross_entropy


class Says(Scorer):
    """A model that gives the logits it holds, for the clips of a batch by their numbers."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        rows = torch.tensor([int(clip.id) for clip in batch.clips])
        return self.logits[rows], torch.ones(len(rows))


def batch(targets: Tensor, rows: list[int], weights: Tensor | None = None) -> Batch:
    clips = tuple(Clip(str(i), "x", 0.0, 1.0, "g") for i in rows)
    sizes = torch.full((len(rows),), targets.shape[1])
    features = Features(torch.zeros(len(rows), 1, 1, 1), torch.ones(len(rows), dtype=torch.long))
    return Batch(features, targets[rows], sizes, clips, 0, weights)


TARGETS = torch.tensor([[0, 2], [1, -1], [0, 0], [0, 1], [-1, 2], [0, 2], [1, -1]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_each_kind_of_label_has_pytorchs_mean_loss(weights: str, smoothing: float) -> None:
    """Cut into micro-batches and added up: the same mean, and the same gradient, as PyTorch's."""
    options = CrossEntropyOptions(class_weights=weights, label_smoothing=smoothing)
    objective = CrossEntropy(5, [2, 3], options)
    objective.observe(TARGETS)
    model = Says(torch.randn(7, 5, generator=torch.Generator().manual_seed(3)))
    losses = [objective(model, batch(TARGETS, rows)).terms for rows in ([0, 4], [1, 2, 3], [5, 6])]
    sums = {name: sum(t[name].total for t in losses) for name in ("0", "1")}
    counts = {name: sum(t[name].count for t in losses) for name in ("0", "1")}
    expected = []
    parts = zip(model.logits.split([2, 3], 1), TARGETS.T, ("0", "1"), strict=True)
    for logits, column, name in parts:
        known = column[column >= 0].numpy()
        balance = None
        if weights == "balanced":
            found = compute_class_weight("balanced", classes=np.unique(known), y=known)
            balance = torch.from_numpy(found).float()
        expected.append(
            functional.cross_entropy(
                logits, column, balance, ignore_index=-1, label_smoothing=smoothing
            )
        )
        torch.testing.assert_close(sums[name] / counts[name], expected[-1])
    ours = torch.autograd.grad(sum(sums[k] / counts[k] for k in sums), model.logits)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(sum(expected), model.logits)[0])


def test_one_kind_is_called_loss_and_weights_of_examples_leave_the_count() -> None:
    objective = CrossEntropy(2, [2], CrossEntropyOptions())
    model = Says(torch.randn(7, 2, generator=torch.Generator().manual_seed(3)))
    one = objective(model, batch(TARGETS[:, :1], [0, 1, 4])).terms
    assert list(one) == ["loss"] and one["loss"].count == 2
    assert objective.counts(batch(TARGETS[:, :1], [0, 1, 4])) == {"loss": 2.0}
    double = batch(TARGETS[:, :1], [0, 1, 4], torch.tensor([2.0, 2.0, 2.0]))
    twice = objective(model, double).terms["loss"]
    torch.testing.assert_close(twice.total, 2 * one["loss"].total)
    assert twice.count == 2


def test_an_unfitting_output_is_refused() -> None:
    with pytest.raises(PluginError, match="one output per class"):
        CrossEntropy(6, [2, 3], CrossEntropyOptions())
    objective = CrossEntropy(5, [2, 3], CrossEntropyOptions())
    with pytest.raises(PluginError, match="5 outputs"):
        objective(Says(torch.zeros(7, 4)), batch(TARGETS, [0, 1]))
