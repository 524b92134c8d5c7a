"""Scores without each group, and what follows from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

import bab
from bab import Clip, Prediction, Segment, Trial
from bab.core import registry
from bab.running.groups import Groups, kept, scored
from bab.running.scores import Scorecard


def made(name: str, **options: object) -> bab.Task:
    cls = registry.load("tasks", name)
    task: bab.Task = cls(cls.Options(**options))
    task.suit(frozenset({"kind"}))
    return task


def clip(number: int, group: str, kind: str = "") -> Clip:
    labels = {"kind": kind} if kind else {}
    return Clip(f"c{number}", f"{number}.wav", 0.0, 10.0, group, speaker=group, labels=labels)


def test_of_sums_each_value_is_that_of_the_other_groups() -> None:
    task = made("classify", labels=["kind"], metric="macro_f1")
    rng = np.random.default_rng(0)
    clips = [clip(i, f"s{i % 7}", "abb"[rng.integers(3)]) for i in range(70)]
    said = [Prediction(c.id, labels={"kind": "ab"[rng.integers(2)]}) for c in clips]
    card, groups = Scorecard(task, clips, said), Groups(task, clips, clips)
    scores = scored(card, groups)
    for i, name in enumerate(groups.names):
        rest = card.of([c for c in clips if c.group != name])
        for metric, values in scores.left_out.items():
            assert values[i] == pytest.approx(rest[metric], abs=1e-12), metric
    assert set(scores.intervals) == set(scores.metrics) and not scores.no_interval
    low, high = scores.intervals["macro_f1"]
    assert low < scores.metrics["macro_f1"] < high
    assert groups.sizes("recall/a") == [
        sum(c.labels["kind"] == "a" for c in clips[i::7]) for i in range(7)
    ]
    record = kept(groups, "speaker", "macro_f1", scores)
    assert record["groups"] == [f"s{i}" for i in range(7)] and record["sizes"] == [10.0] * 7
    assert record["effective"] == 7 and record["left_out"] == scores.left_out["macro_f1"]


def test_a_class_of_one_group_leaves_the_means_without_an_interval() -> None:
    task = made("classify", labels=["kind"])
    clips = [clip(i, f"s{i % 5}", "a" if i % 2 else "b") for i in range(20)]
    clips += [clip(20, "s0", "rare"), clip(21, "s1", "seldom"), clip(22, "s2", "seldom")]
    said = [Prediction(c.id, labels={"kind": "a" if i % 3 else "b"}) for i, c in enumerate(clips)]
    groups = Groups(task, clips, clips)
    scores = scored(Scorecard(task, clips, said), groups)
    assert groups.rare == {"rare": 1, "seldom": 2}
    assert "accuracy" in scores.intervals and "recall/a" in scores.intervals
    for metric in ("macro_f1", "uar"):
        assert scores.no_interval[metric] == "undefined without one of the groups"
        assert [math.isnan(x) for x in scores.left_out[metric]] == [True, *[False] * 4]


def test_a_trace_of_a_class_that_is_not_there_changes_no_mean() -> None:
    """.01 s of a voice that is never spoken, in one recording, made macro F1 jump."""
    task = made("vtc")
    clips, said = [], []
    for i in range(6):
        spoken = (Segment(1, 3 + i / 10, "KCHI"), Segment(5, 7, "FEM"))
        more = (Segment(8, 8.01, "MAL"),) if i == 2 else ()
        clips.append(Clip(f"r{i}", f"{i}.wav", 0, 10, f"r{i}", segments=spoken))
        said.append(
            Prediction(f"r{i}", (Segment(1.2, 3, "KCHI"), Segment(5, 6 + i / 9, "FEM"), *more))
        )
    scores = scored(Scorecard(task, clips, said), Groups(task, clips, clips))
    each = [scores.metrics[f"f1/{v}"] for v in ("KCHI", "FEM")]
    assert scores.metrics["f1"] == pytest.approx(np.mean(each)) and scores.metrics["f1/MAL"] == 0
    assert np.ptp(scores.left_out["f1"]) < 0.05 and "f1" in scores.intervals
    assert scores.no_interval["f1/MAL"] in ("exactly 0", "undefined without one of the groups")
    sizes = Groups(task, clips, clips).sizes("f1/KCHI")
    assert sizes == pytest.approx([2 + i / 10 for i in range(6)])


def test_a_speaker_is_left_out_on_both_sides_of_the_trials() -> None:
    task = made("sv")
    rng = np.random.default_rng(1)
    clips = [clip(i, f"s{i % 6}") for i in range(36)]
    said = [
        Prediction(c.id, vector=tuple(v / np.linalg.norm(v)))
        for c in clips
        for v in [rng.normal(0, 1, 4) + int(c.group[1])]
    ]
    trials = [
        Trial(a.id, b.id, a.group == b.group)
        for a in clips[:30]
        for b in clips
        if a.id < b.id and rng.random() < 0.5
    ]
    card, groups = Scorecard(task, trials, said), Groups(task, trials, clips)
    scores = scored(card, groups)
    group = {c.id: c.group for c in clips}
    for i, name in enumerate(groups.names):
        rest = [t for t in trials if name not in (group[t.enrol], group[t.test])]
        assert scores.left_out["eer"][i] == pytest.approx(card.of(rest)["eer"])
    enrolled = [sum(group[t.enrol] == name for t in trials) for name in groups.names]
    assert groups.sizes("eer") == enrolled
    low, high = scores.intervals["eer"]
    assert 0 < low < scores.metrics["eer"] < high < 100
    assert kept(groups, "speaker", "eer", scores)["scale"] == "percent"


def test_word_errors_have_no_upper_bound() -> None:
    task = made("asr")
    clips = [Clip(f"c{i}", "x.wav", 0, 1, f"s{i}", text="one two") for i in range(5)]
    said = [Prediction(c.id, text="a " * (3 + i)) for i, c in enumerate(clips)]
    groups = Groups(task, clips, clips)
    scores = scored(Scorecard(task, clips, said), groups)
    assert scores.metrics["wer"] > 100
    low, high = scores.intervals["wer"]
    assert low * high == pytest.approx(scores.metrics["wer"] ** 2)
    assert groups.sizes("wer") == [2.0] * 5 and groups.rare == {}


def test_clips_are_counted_by_what_they_were_taken_for() -> None:
    task = made("classify", labels=["kind"])
    clips = [clip(i, "s", "aab"[i % 3]) for i in range(9)]
    said = [Prediction(c.id, labels={"kind": "a" if i else "b"}) for i, c in enumerate(clips[:8])]
    matrices = Scorecard(task, clips, said).confusion(clips)
    assert matrices == {"kind": {"a": {"a": 5, "b": 1}, "b": {"a": 2, "nothing": 1}}}
    many = [clip(i, "s", f"k{i}") for i in range(21)]
    assert Scorecard(task, many, []).confusion(many) == {}  # too many to look at


def test_valence_has_a_matrix_though_its_metrics_are_no_sums() -> None:
    task = made("valence")
    clips = [
        Clip(f"c{i}", "x.wav", 0, 1, f"s{i % 3}", labels={"valence": v})
        for i, v in enumerate(["positive", "distress", "positive"])
    ]
    said = [
        Prediction(c.id, labels={"valence": "positive"}, scores={"valence=positive": 0.6})
        for c in clips
    ]
    matrix = Scorecard(task, clips, said).confusion(clips)["valence"]
    assert matrix == {"distress": {"positive": 1}, "positive": {"positive": 2}}
