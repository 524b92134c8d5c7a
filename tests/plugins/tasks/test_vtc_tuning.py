"""Voice types: thresholds tuned on dev, against the true optimum."""

from __future__ import annotations

import numpy as np
import pytest
from vtc_scenes import LABELS, TASK, W2V, frames_of, noisy, random_segments, recording

from bab.core.errors import CorpusError, DivergedError
from bab.core.types import Clip, Output, Prediction, Segment
from bab.kit.segments import Timeline, probabilities
from bab.kit.thresholds import (
    Curve,
    best_f1,
    candidates,
    curve,
    high_precision,
    missed,
)
from bab.plugins.tasks.vtc import VOICES, VoiceType, VoiceTypeOptions


def narrowed(clip: Clip) -> list[Clip]:
    """The annotated spans of a recording, as the runner hands them to a task."""
    return [
        clip.within(a, b, tuple(s for s in clip.segments if s.start < b and s.end > a))
        for a, b in clip.scored or ((clip.start, clip.end),)
    ]


def dev_set(seed: int, seconds: float = 40.0) -> tuple[list[Clip], list[Output]]:
    rng = np.random.default_rng(seed)
    whole = recording(random_segments(rng, 30, seconds), seconds, name="a")
    spans = ((2.0, 9.123), (9.123, 14.0567), (20.0005, seconds))
    parts = recording(random_segments(rng, 30, seconds), seconds, scored=spans, name="b")
    outputs = [noisy(rng, W2V, piece) for clip in (whole, parts) for piece in narrowed(clip)]
    return [whole, parts], outputs


def score_at(
    task: VoiceType, clips: list[Clip], outputs: list[Output], thresholds: dict[str, float]
) -> dict[str, float]:
    """Decode, merge the spans of a recording and score: what the runner does."""
    merged: dict[str, tuple[Segment, ...]] = {}
    for output in outputs:
        found = task.decode(output, W2V, LABELS, {"thresholds": thresholds})
        merged[found.id] = merged.get(found.id, ()) + found.segments
    return task.score(clips, {k: Prediction(k, v) for k, v in merged.items()})


def test_durations_in_tuning_equal_those_of_scoring() -> None:
    clips, outputs = dev_set(5)
    line = Timeline.of(outputs, W2V)
    for column, name in enumerate(VOICES):
        found = curve(outputs, line, column, name, 100, 100)
        for i in np.linspace(0, len(found.thresholds) - 1, 12).astype(int):
            cut = float(found.thresholds[i])
            score = score_at(TASK, clips, outputs, {name: cut})
            assert found.recall[i] == pytest.approx(score[f"recall/{name}"], abs=1e-6)
            assert found.f1[i] == pytest.approx(score[f"f1/{name}"], abs=1e-6)
            if found.predicted[i] > 0:
                assert found.precision[i] == pytest.approx(score[f"precision/{name}"], abs=1e-6)


def test_tuning_finds_the_true_optimum() -> None:
    """Every cut that changes any frame is decoded and scored with pyannote: none is better."""
    rng = np.random.default_rng(6)
    clip = recording(random_segments(rng, 5, 6.0, longest=1.5), 6.0)
    output = noisy(rng, W2V, clip)
    tuned = TASK.tune([output], W2V, LABELS)
    for column, name in enumerate(VOICES):
        if not any(s.label == name for s in clip.segments):
            continue
        every = np.unique(probabilities(output.values[:, column]))
        scores = [score_at(TASK, [clip], [output], {name: float(cut)}) for cut in every]
        at = {
            preset: score_at(TASK, [clip], [output], {name: tuned[preset]["thresholds"][name]})
            for preset in TASK.presets
        }
        assert at["f1"][f"f1/{name}"] == pytest.approx(max(s[f"f1/{name}"] for s in scores))
        lowest = tuned["f1"]["thresholds"][name]
        reaching = [
            s[f"precision/{name}"]
            for cut, s in zip(every, scores, strict=True)
            if s[f"recall/{name}"] >= 0.5 and cut >= lowest
        ]
        assert at["high-precision"][f"recall/{name}"] >= 0.5
        assert at["high-precision"][f"precision/{name}"] == pytest.approx(max(reaching))
        assert tuned["high-precision"]["reached"][name] is True


def test_tuning_over_many_frames_is_close_to_the_optimum() -> None:
    clips, outputs = dev_set(7, 90.0)
    tuned = TASK.tune(outputs, W2V, LABELS)
    best = score_at(TASK, clips, outputs, tuned["f1"]["thresholds"])
    careful = score_at(TASK, clips, outputs, tuned["high-precision"]["thresholds"])
    raster = [score_at(TASK, clips, outputs, dict.fromkeys(VOICES, x / 50)) for x in range(1, 50)]
    for name in VOICES:
        assert best[f"f1/{name}"] >= max(s[f"f1/{name}"] for s in raster) - 1e-9
        assert careful[f"recall/{name}"] >= 0.5 - 1e-9
        assert tuned["high-precision"]["thresholds"][name] >= tuned["f1"]["thresholds"][name]
        reaching = [
            s[f"precision/{name}"]
            for x, s in enumerate(raster, start=1)
            if s[f"recall/{name}"] >= 0.5 and x / 50 >= tuned["f1"]["thresholds"][name]
        ]
        assert careful[f"precision/{name}"] >= max(reaching) - 1e-9
        assert careful[f"precision/{name}"] > best[f"precision/{name}"]


@pytest.mark.parametrize("seconds", [4.0, 60.0], ids=["few", "many"])
@pytest.mark.parametrize(
    ("low", "high"), [(-9.0, 9.0), (-12.001, -12.0), (5.0, 5.01), (-0.001, 0.001)]
)
def test_separated_scores_are_cut_wherever_they_lie(
    low: float, high: float, seconds: float
) -> None:
    """Speech in 3 % of the time, scores squeezed or not: both presets find exactly the truth."""
    segments = tuple(
        Segment(at + 0.3 * i, at + 0.3 * i + 0.12, name)
        for i, name in enumerate(VOICES)
        for at in np.arange(1.0, seconds - 2, 4.0)
    )
    clip = recording(tuple(sorted(segments, key=lambda s: s.start)), seconds)
    truth = TASK.targets(clip, W2V, frames_of(W2V, clip), LABELS).numpy()
    whole_frames = TASK.decode(Output(clip, 20 * truth - 10), W2V, LABELS, {}).segments
    clip = recording(whole_frames, seconds)
    jitter = np.random.default_rng(0).uniform(-0.1, 0.1, truth.shape) * (high - low)
    output = Output(clip, low + (high - low) * truth + jitter)
    tuned = TASK.tune([output], W2V, LABELS)
    for preset in TASK.presets:
        found = score_at(TASK, [clip], [output], tuned[preset]["thresholds"])
        assert found["f1"] == pytest.approx(1.0, abs=1e-9)
    if high - low > 10:
        assert tuned["f1"]["thresholds"] == pytest.approx(dict.fromkeys(VOICES, 0.5))


def test_tuning_is_deterministic_and_does_not_depend_on_the_order_of_outputs() -> None:
    _, outputs = dev_set(8)
    first = TASK.tune(outputs, W2V, LABELS)
    assert TASK.tune(outputs, W2V, LABELS) == first
    turned = TASK.tune(outputs[::-1], W2V, LABELS)
    assert turned["f1"]["thresholds"] == pytest.approx(first["f1"]["thresholds"])


def test_an_unreachable_recall_is_said() -> None:
    clip = recording((Segment(1, 1.3, "KCHI"), Segment(2, 4, "FEM")), 6.0)
    truth = TASK.targets(clip, W2V, frames_of(W2V, clip), LABELS).numpy()
    values = (20 * truth - 10).astype(np.float32)
    values[:, 0] = -8.0  # says nothing, or everything
    values[::4, 0] = -7.9
    task = VoiceType(VoiceTypeOptions(fill_gaps=0.0, min_segment=7.0))  # nothing lasts 7 s
    tuned = task.tune([Output(clip, values)], W2V, LABELS)["high-precision"]
    assert tuned["reached"] == dict.fromkeys(VOICES, False)
    found = TASK.tune([Output(clip, values)], W2V, LABELS)
    assert found["high-precision"]["reached"] == {
        "KCHI": True,
        "OCH": False,
        "MAL": False,
        "FEM": True,
    }
    assert found["f1"]["thresholds"]["MAL"] == found["f1"]["thresholds"]["OCH"] == 0.5


def test_high_precision_never_goes_below_the_threshold_of_the_best_f1() -> None:
    """Its recall floor used to bind there: a lower threshold had the recall, and less precision."""
    thresholds = np.array([0.2, 0.4, 0.6, 0.8])
    one = Curve(
        thresholds,
        correct=np.array([6.0, 5.5, 4.5, 1.0]),
        predicted=np.array([30.0, 14.0, 5.0, 1.0]),
        relevant=10.0,
    )
    assert best_f1(one) == 0.6
    assert high_precision(one, 0.5) == (0.6, 0.45, False)  # .4 reaches it, at half the precision
    assert high_precision(one, 0.45) == (0.6, 0.45, True)
    assert high_precision(one, 0.1) == (0.8, 0.1, True)
    (text,) = missed({"FEM": high_precision(one, 0.5), "OCH": high_precision(one, 0.1)}, 0.5)
    assert "FEM (0.45)" in text and "OCH" not in text and "task.recall_floor=0.5" in text


def test_tuning_refuses_a_silent_dev_set_and_broken_outputs() -> None:
    silent = recording((), 5.0)
    values = np.zeros((frames_of(W2V, silent), 4), dtype=np.float32)
    with pytest.raises(CorpusError, match="no threshold can be chosen"):
        TASK.tune([Output(silent, values)], W2V, LABELS)
    values[3, 1] = np.nan
    with pytest.raises(DivergedError, match="rec"):
        TASK.tune([Output(silent, values)], W2V, LABELS)


def test_candidates_miss_no_cut_between_few_scores() -> None:
    scores = np.array([0.2, 0.2, 0.21, 0.9])
    tried = candidates(scores, np.array([False, False, True, True]))
    cuts = {tuple((scores >= t).tolist()) for t in tried}
    wanted = {tuple((scores >= t).tolist()) for t in (0.0, 0.205, 0.5, 0.95)}
    assert cuts == wanted
