"""Task `sv`: error rates against scikit-learn's ROC and a brute-force sweep of thresholds."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from bab.core.errors import CorpusError, DivergedError
from bab.core.grid import Grid
from bab.core.options import Options
from bab.core.types import Clip, Output, Prediction, Trial
from bab.plugins.tasks.sv import SpeakerVerification

GRID = Grid(16000, 320, 400)
TASK = SpeakerVerification(Options())


def clip(name: str, speaker: str | None = None) -> Clip:
    return Clip(name, f"{name}.wav", 0.0, 1.0, "g", speaker)


def drawn(seed: int, size: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """Trials whose scores overlap; few digits make many ties."""
    generator = np.random.default_rng(seed)
    same = generator.random(size) < 0.3
    same[:2] = True, False
    return same, np.round(generator.normal(same * 0.8, 0.6), digits)


@pytest.mark.parametrize("digits", [0, 1, 12])
@pytest.mark.parametrize(("seed", "size"), [(0, 7), (1, 50), (2, 501)])
def test_the_equal_error_rate_is_where_the_roc_crosses(seed: int, size: int, digits: int) -> None:
    same, scores = drawn(seed, size, digits)
    false_alarm, hits, _ = roc_curve(same, scores, drop_intermediate=False)
    # interp1d needs rising x; where several points share one, the crossing may lie on the step.
    points = 1.0 - hits - false_alarm  # falls from 1 to -1 along the curve
    along = interp1d(np.arange(len(points)), points)
    place = brentq(along, 0, len(points) - 1)
    wanted = 100 * float(interp1d(np.arange(len(points)), false_alarm)(place))
    assert TASK.rate(same, scores)["eer"] == pytest.approx(wanted, abs=1e-9)


def test_on_many_trials_it_is_the_usual_recipe() -> None:
    same, scores = drawn(3, 20_000, 12)
    false_alarm, hits, _ = roc_curve(same, scores)
    usual = brentq(lambda x: 1.0 - x - interp1d(false_alarm, hits)(x), 0.0, 1.0)
    assert TASK.rate(same, scores)["eer"] == pytest.approx(100 * usual, abs=0.01)


@pytest.mark.parametrize("digits", [0, 1, 12])
def test_the_cost_is_the_least_over_all_thresholds(digits: int) -> None:
    same, scores = drawn(4, 120, digits)
    for key, prior in (("min_dcf_05", 0.05), ("min_dcf_01", 0.01)):
        costs = []
        for threshold in [*set(scores.tolist()), np.inf]:
            accepted = scores >= threshold
            miss = (same & ~accepted).sum() / same.sum()
            alarm = (~same & accepted).sum() / (~same).sum()
            costs.append((prior * miss + (1 - prior) * alarm) / prior)
        assert TASK.rate(same, scores)[key] == pytest.approx(min(costs))


def test_order_and_scale_do_not_matter_and_the_edges_are_exact() -> None:
    same, scores = drawn(5, 90, 1)
    order = np.random.default_rng(0).permutation(90)
    assert TASK.rate(same[order], scores[order]) == TASK.rate(same, scores)
    assert TASK.rate(same, 3 * scores - 7) == TASK.rate(same, scores)
    perfect = TASK.rate(same, same.astype(float))
    assert perfect == {"eer": 0.0, "min_dcf_05": 0.0, "min_dcf_01": 0.0}
    assert TASK.rate(same, -same.astype(float))["eer"] == 100.0
    constant = TASK.rate(same, np.zeros(90))
    assert constant["eer"] == 50.0 and constant["min_dcf_05"] == 1.0
    assert TASK.rate(np.array([True, True]), np.array([0.1, 0.2])) == {}


def test_trials_are_scored_by_cosine() -> None:
    generator = np.random.default_rng(1)
    raw = generator.normal(size=(4, 5)).astype(np.float32) * 7
    said = {
        str(i): TASK.decode(Output(clip(str(i)), row), GRID, {}, {}) for i, row in enumerate(raw)
    }
    assert np.linalg.norm(said["2"].vector) == pytest.approx(1.0)
    trials = [Trial("0", "1", True), Trial("2", "3", False), Trial("3", "0", False)]
    wanted = [
        np.dot(raw[a], raw[b]) / np.linalg.norm(raw[a]) / np.linalg.norm(raw[b])
        for a, b in ((0, 1), (2, 3), (3, 0))
    ]
    np.testing.assert_allclose(TASK.compare(trials, said), wanted, rtol=1e-5)
    same = np.array([t.same for t in trials])
    assert TASK.score(trials, said) == TASK.rate(same, np.array(wanted))
    with pytest.raises(CorpusError, match="'9'"):
        TASK.compare([Trial("0", "9", True)], said)


def test_an_embedding_of_nothing_or_of_nan() -> None:
    nothing = TASK.decode(Output(clip("a"), np.zeros(3, np.float32)), GRID, {}, {})
    assert nothing.vector == (0.0, 0.0, 0.0)
    with pytest.raises(DivergedError, match="a"):
        TASK.decode(Output(clip("a"), np.array([1.0, np.nan], np.float32)), GRID, {}, {})


def test_speakers_are_the_classes() -> None:
    clips = [
        clip(str(i), s) for i, s in enumerate(random.Random(0).choices("dbca", k=20) + list("dbca"))
    ]
    labels = TASK.fit(clips)
    assert labels == {"speaker": ("a", "b", "c", "d")}
    for one in clips:
        assert labels["speaker"][int(TASK.targets(one, GRID, 5, labels))] == one.speaker
    assert TASK.refuses(clip("x")) == "no speaker" and TASK.refuses(clips[0]) == ""
    with pytest.raises(CorpusError, match="at least two"):
        TASK.fit([clip("a", "one"), clip("b", "one")])


def test_embeddings_are_written_by_clip(tmp_path: Path) -> None:
    TASK.write([Prediction("s/1", vector=(0.6, 0.8)), Prediction("b", vector=(1.0, 0.0))], tmp_path)
    found = load_file(tmp_path / "embeddings.safetensors")
    np.testing.assert_allclose(found["s/1"], [0.6, 0.8], rtol=1e-6)
    assert set(found) == {"s/1", "b"}
