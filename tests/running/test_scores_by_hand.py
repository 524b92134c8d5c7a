"""Scores, groups, intervals and what a record says of a run, against sums made by hand."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

import bab
from bab.core.types import Clip, Prediction, Trial
from bab.data.splits import Fold
from bab.running import report
from bab.running.context import FoldResult
from bab.running.groups import Groups, Scores, kept, scale, scored
from bab.running.scores import Scorecard, write_trials


def clip(name: str, group: str = "g", seconds: float = 1.0, **labels: str) -> Clip:
    return Clip(name, f"{name}.wav", 0.0, seconds, group, labels=labels)


class Shares(bab.Task):
    """Which share of the clips' seconds is right, per kind and in all."""

    level = "clip"
    primary = "right"
    means = frozenset({"mean"})

    def __init__(self) -> None:
        super().__init__(None)

    def statistics(self, reference: Clip, prediction: Prediction | None) -> dict[str, float]:
        kind, said = reference.labels["kind"], prediction and prediction.labels["kind"]
        right = reference.duration * (kind == said)
        return {
            f"all/{kind}": reference.duration,
            f"right/{kind}": right,
            f"confusion\tkinds\t{kind}\t{said or 'nothing'}": reference.duration,
        }

    def metrics(self, totals: Any) -> dict[str, float]:
        sums = {k[4:]: v for k, v in totals.items() if k.startswith("all/") and v}
        own = {f"right/{k}": totals[f"right/{k}"] / v for k, v in sums.items()}
        whole = sum(totals[f"right/{k}"] for k in sums) / sum(sums.values()) if sums else math.nan
        return {"right": whole, "mean": float(np.mean([*own.values()])), **own}

    def amounts(self, reference: Clip) -> dict[str, float]:
        return {reference.labels["kind"]: reference.duration}


class Counted(Shares):
    """The same, of all clips at once."""

    additive = False

    def score(self, references: Any, predictions: Any) -> dict[str, float]:
        right = [predictions[c.id].labels["kind"] == c.labels["kind"] for c in references]
        return {"right": float(np.mean(right))}


CLIPS = [
    clip("c0", "s1", 1.0, kind="a"), clip("c1", "s0", 2.0, kind="a"),
    clip("c2", "s2", 4.0, kind="a"), clip("c3", "s0", 3.0, kind="b"),
    clip("c4", "s1", 5.0, kind="b"),
]  # fmt: skip
SAID = [
    Prediction(name, labels={"kind": kind})
    for name, kind in (("c0", "a"), ("c1", "b"), ("c2", "a"), ("c3", "b"))
]  # of c4 nothing was said


def test_scores_of_all_and_without_each_group() -> None:
    card = Scorecard(Shares(), CLIPS, SAID)
    assert card.of(CLIPS) == pytest.approx(
        {"right": 8 / 15, "mean": (5 / 7 + 3 / 8) / 2, "right/a": 5 / 7, "right/b": 3 / 8}
    )
    groups = Groups(Shares(), CLIPS, CLIPS)
    assert groups.names == ["s0", "s1", "s2"]
    assert {k: [c.id for c in v] for k, v in groups.members.items()} == {  # type: ignore[union-attr]
        "s0": ["c1", "c3"], "s1": ["c0", "c4"], "s2": ["c2"],
    }  # fmt: skip
    assert groups.amounts == {"a": [2.0, 1.0, 4.0], "b": [3.0, 5.0, 0.0]}
    assert groups.sizes("right") == [5.0, 6.0, 4.0] and groups.sizes("right/b") == [3.0, 5.0, 0.0]
    assert groups.rare == {"b": 2}
    assert list(Groups(Shares(), CLIPS[::-1], CLIPS).amounts) == ["a", "b"]  # by name
    scores = scored(card, groups)
    expected = {
        "right": [5 / 10, 7 / 9, 4 / 11],
        "mean": [(1 + 0) / 2, (4 / 6 + 1) / 2, (1 / 3 + 3 / 8) / 2],
        "right/a": [1.0, 4 / 6, 1 / 3],
        "right/b": [0.0, 1.0, 3 / 8],
    }
    assert scores.left_out == {name: pytest.approx(values) for name, values in expected.items()}
    assert not scores.no_interval
    # The delete-one-group jackknife on the logit, Student's t of G* - 1 degrees.
    for metric, sizes in (("right", [5, 6, 4]), ("right/a", [2, 1, 4])):
        value, rest = scores.metrics[metric], np.array(scores.left_out[metric])
        sd = math.sqrt(2 / 3 * ((rest - value) ** 2).sum())
        df = max(1.0, sum(sizes) ** 2 / sum(n * n for n in sizes) - 1)
        half = stats.t.ppf(0.975, df) * sd / (value * (1 - value))
        logit = math.log(value / (1 - value))
        ends = [1 / (1 + math.exp(-(logit + side * half))) for side in (-1, 1)]
        assert scores.intervals[metric] == pytest.approx(ends)
    shown = scores.shown()
    assert list(shown) == ["metrics", "intervals", "no_interval"]
    assert shown["intervals"] is scores.intervals


def test_scores_that_are_no_sums_are_made_of_the_rest() -> None:
    said = [*SAID, Prediction("c4", labels={"kind": "b"})]
    card, groups = Scorecard(Counted(), CLIPS, said), Groups(Counted(), CLIPS, CLIPS)
    assert card.of(CLIPS) == {"right": 0.8} and not card.statistics
    assert groups.left_out(card, ["right"]) == {"right": [1.0, 2 / 3, 0.75]}
    alone = [c for c in CLIPS if c.group == "s0"]
    assert Groups(Counted(), alone, alone).left_out(card, ["right"])["right"][0] != 0.8
    assert all(
        math.isnan(x) for x in Groups(Counted(), alone, alone).left_out(card, ["right"])["right"]
    )
    # Their matrices are asked for clip by clip.
    matrix = {"a": {"a": 5.0, "b": 2.0}, "b": {"b": 8.0}}
    assert card.confusion(CLIPS) == {"kinds": matrix}


def test_a_class_of_one_group_takes_the_means_over_classes_with_it() -> None:
    clips = [*CLIPS, clip("c5", "s2", 1.0, kind="rare")]
    task = Shares()
    groups, card = Groups(task, clips, clips), Scorecard(task, clips, SAID)
    assert groups.rare == {"b": 2, "rare": 1}
    values = groups.left_out(
        card, ["right", "mean", "mean/x", "right/a", "right/rare", "mean/rare"]
    )
    lost = {m: [i for i, v in enumerate(each) if math.isnan(v)] for m, each in values.items()}
    assert lost["right"] == [] and lost["mean"] == [2] and lost["right/a"] == []
    assert lost["right/rare"] == [2] and lost["mean/rare"] == [0, 1, 2]  # there is no such metric
    assert values["mean"][:2] == pytest.approx([(1 + 0 + 0) / 3, (4 / 6 + 1 + 0) / 3])


@pytest.mark.parametrize(
    ("unit", "rates", "values", "expected"),
    [
        ("", (), [0.0, 0.5, 1.0], "share"), ("", (), [0.5, math.nan], "share"),
        ("", (), [0.5, 1.01], "plain"), ("", (), [-0.01, 0.5], "plain"),
        ("%", (), [0.0, 100.0], "percent"), ("%", (), [100.5], "plain"),
        ("%", (), [2.0], "percent"),
        ("%", ("m",), [5.0], "rate"), ("s", (), [0.5], "plain"), ("s", ("m",), [0.5], "rate"),
    ],
)  # fmt: skip
def test_on_what_scale_an_interval_is_made(
    unit: str, rates: tuple[str, ...], values: list[float], expected: str
) -> None:
    task = cast(Any, SimpleNamespace(rates=frozenset(rates), units={"m": unit}))
    assert scale(task, "m", values) == expected
    assert scale(task, "m/class", values) == expected  # a class's has the unit of the whole
    own = cast(Any, SimpleNamespace(rates=frozenset(), units={"m": "s", "m/class": "%"}))
    assert scale(own, "m/class", [2.0]) == "percent"


def test_what_a_record_keeps_of_the_groups() -> None:
    clips = [clip(f"c{i}", f"s{i}", (1 / 3, 2.0, 4.0)[i], kind="a") for i in range(3)]
    groups = Groups(Shares(), clips, clips)
    given = Scores({"right": 0.5}, {}, {}, {"right": [0.1, 0.2, 1.3]})
    record = kept(groups, "child", "right", given)
    assert record == {
        "unit": "child", "groups": ["s0", "s1", "s2"], "sizes": [0.3333333, 2.0, 4.0],
        "effective": 1.99, "metric": "right", "scale": "plain", "left_out": [0.1, 0.2, 1.3],
        "rare": {},
    }  # fmt: skip
    assert kept(groups, "child", "none", given)["left_out"] == []
    assert kept(groups, "child", "none", given)["scale"] == "share"


def test_a_task_that_counts_nothing_has_no_matrix() -> None:
    class Whole(bab.Task):
        level, additive = "clip", False

    assert Scorecard(Whole(None), CLIPS, SAID).confusion(CLIPS) == {}


class Verify(bab.Task):
    """Trials: their distance; the share of those that are right at .5."""

    level = "pair"

    def __init__(self) -> None:
        super().__init__(None)

    def compare(self, trials: Any, predictions: Any) -> Any:
        return np.array(
            [predictions[t.enrol].vector[0] * predictions[t.test].vector[0] for t in trials]
        )

    def rate(self, same: Any, scores: Any) -> dict[str, float]:
        assert same.dtype == bool
        return {"right": float(np.mean(same == (scores > 0.5))), "count": float(len(same))}


def test_trials_count_for_both_of_their_speakers(tmp_path: Path) -> None:
    clips = [clip(f"c{i}", f"s{i // 2}") for i in range(6)]
    said = [Prediction(c.id, vector=(v,)) for c, v in zip(clips, (1, 1, 2, 0.5, 0, 4), strict=True)]
    trials = [
        Trial("c0", "c1", True), Trial("c0", "c2", False), Trial("c3", "c2", True),
        Trial("c4", "c5", True),
    ]  # fmt: skip
    card, groups = Scorecard(Verify(), trials, said), Groups(Verify(), trials, clips)
    assert card.of(trials) == {"right": 0.5, "count": 4.0}
    assert groups.names == ["s0", "s1", "s2"] and groups.amounts == {"": [2.0, 1.0, 1.0]}
    assert groups.left_out(card, ["right", "count"]) == {
        "right": [0.5, 0.5, pytest.approx(2 / 3)], "count": [2.0, 2.0, 3.0],
    }  # fmt: skip
    assert card.confusion(trials) == {}
    only = Groups(Verify(), trials[:1], clips[:2])
    assert math.isnan(only.left_out(card, ["right"])["right"][0])  # nothing is left
    write_trials(Verify(), trials, said, tmp_path / "new" / "trials.tsv")
    assert (tmp_path / "new" / "trials.tsv").read_text().splitlines() == [
        "same\tenrol\ttest\tscore", "1\tc0\tc1\t1.0", "0\tc0\tc2\t2.0", "1\tc3\tc2\t1.0",
        "1\tc4\tc5\t0.0",
    ]  # fmt: skip


def result(dev: dict[str, float] | None = None, **changes: Any) -> FoldResult:
    values: dict[str, Any] = {"labels": {}, "tuned": {}, "predictions": {}, "best_step": 1}
    values |= {"steps": 1, "train_seconds": 1.0, "untrained": {}, "dev": dev or {}}
    return FoldResult(**(values | changes))


def test_dev_scores_are_means_over_the_folds_of_what_all_have() -> None:
    folds = [
        result({"f1": 0.5, "a": 1.0, "b": 0.1}),
        result({"b": 0.3, "f1": 0.6}),
        result({"f1": 1, "b": 0.5}),
    ]
    assert report._dev(folds) == pytest.approx({"f1": 0.7, "b": 0.3})
    assert list(report._dev(folds)) == ["f1", "b"]


def test_what_was_said_of_tuning_names_its_preset_and_folds() -> None:
    one = {"f1": {"notices": ["no dev voice"]}, "precise": {"notices": ["no dev voice", "low"]}}
    assert report.tuning_notices([result(tuned=one)]) == [
        "f1: no dev voice", "precise: no dev voice", "precise: low",
    ]  # fmt: skip
    folds = [result(tuned=one), result(tuned={"f1": {}}), result(tuned={"f1": one["f1"]})]
    assert report.tuning_notices(folds) == [
        "f1: no dev voice (fold 1, 3)", "precise: no dev voice (fold 1)", "precise: low (fold 1)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "tune", "chosen"),
    [
        ("evaluate", "dev", "chosen on dev"), ("evaluate", "model", "the model's own"),
        ("finetune", "dev", ""),
    ],
)  # fmt: skip
def test_what_is_said_of_the_model_that_a_run_began_from(mode: str, tune: str, chosen: str) -> None:
    start = SimpleNamespace(name="hubert:base@r1", spec={"notices": ["not for adults"]})
    config = SimpleNamespace(mode=mode, tune=tune)

    def said(start: Any) -> list[str]:
        parts = SimpleNamespace(start=start)
        return report._of_start(cast(Any, SimpleNamespace(parts=parts, config=config)))

    last = (
        f"hubert:base@r1 was evaluated as it is; what was tuned is {chosen}. What it was trained "
        "on isn't known here: see that it never met these recordings."
    )
    assert said(start) == ["not for adults", *([last] if chosen else [])]
    start.spec = {}
    assert said(start) == ([last] if chosen else []) and said(None) == []


def test_frame_tasks_score_recordings_and_others_groups() -> None:
    frames, clips = (cast(Any, SimpleNamespace(whole_clips=w)) for w in (False, True))
    groups = {"s0": [CLIPS[0]]}
    assert report.singly(clips, CLIPS, groups) == groups
    assert report.singly(frames, CLIPS[:2], groups) == {"c0": [CLIPS[0]], "c1": [CLIPS[1]]}
    assert report.singly(frames, [Trial("c0", "c1", True)], groups) == {}


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (["x"] * 3, False), (["x", "y", "y"], True), ([f"v{i}" for i in range(20)], True),
        ([f"v{i}" for i in range(21)], False), (["a b c d e", "1 2 3 4 5 6"], True),
        (["a b c d e f", "1 2 3 4 5 6"], False),
    ],
)  # fmt: skip
def test_labels_of_a_few_kinds_part_the_clips(values: list[str], shown: bool) -> None:
    clips = [clip(f"c{i}", kind="a", own=v) for i, v in enumerate(reversed(values))]
    card = cast(Any, SimpleNamespace(of=lambda members: {"n": float(len(members))}))
    expected = {v: {"n": float(values.count(v))} for v in sorted(set(values))}
    got = report.subgroups(card, [*clips, Trial("c0", "c1", True)])
    assert got == ({"own": expected} if shown else {})
    assert not shown or list(got["own"]) == sorted(set(values))


def data(folds: list[Fold], clips: list[Clip]) -> Any:
    return SimpleNamespace(folds=folds, clips=clips, skipped={"x.wav": "cut"}, refused={"why": 2})


def test_what_a_record_says_of_its_clips() -> None:
    train, dev = [clip("a", seconds=3600), clip("b", seconds=1800)], [clip("c", seconds=36)]
    scored_part = Clip("d", "d.wav", 0.0, 100.0, "g", scored=((0.0, 9.0), (20.0, 29.0)))
    one = data([Fold(train, dev, [scored_part])], [])
    assert report._data(one, [result(untrained={"short": 1})]) == {
        "skipped": {"x.wav": "cut"}, "left_out": {"why": 2}, "untrained": {"short": 1},
        "train": {"clips": 2, "hours": 1.5}, "dev": {"clips": 1, "hours": 0.01},
        "test": {"clips": 1, "hours": 0.005},
    }  # fmt: skip
    two = data([Fold(train, dev, dev), Fold(dev, train, train)], [*train, *dev])
    untrained = [result(untrained={"short": 1, "long": 1}), result(untrained={"long": 3})]
    said = report._data(two, untrained)
    assert said == {
        "skipped": {"x.wav": "cut"}, "left_out": {"why": 2}, "untrained": {"long": 4, "short": 1},
        "folds": 2, "all": {"clips": 3, "hours": 1.51},
    }  # fmt: skip
    assert list(cast(Any, said["untrained"])) == ["long", "short"]
    assert "untrained" not in report._data(two, [result(), result()])


def test_what_a_run_cost_is_added_up_over_its_folds() -> None:
    import torch

    context = cast(Any, SimpleNamespace(accelerator=SimpleNamespace(device=torch.device("cpu"))))
    folds = [
        result(train_seconds=1.234, parameters={"encoder_parameters": 5.0}),
        result(train_seconds=2.0, parameters={"encoder_parameters": 6.0}),
    ]
    cost = report._cost(context, folds, 12.345, 3.14159)
    assert cost.pop("peak_memory_gb") > 0
    assert cost == {
        "encoder_parameters": 5.0, "seconds": 12.35 if round(12.345, 2) == 12.35 else 12.34,
        "train_seconds": 3.23, "encoder_audio_per_second": 3.1,
    }  # fmt: skip


def test_an_ensemble_is_as_fast_as_its_members_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speeds = {"one": 2.0, "two": 6.0, "none": 0.0}
    monkeypatch.setattr(report, "_speed_of", lambda member, context: speeds[member])

    def told(*members: str) -> float:
        parts = SimpleNamespace(members=members)
        return report.encoder_speed(cast(Any, SimpleNamespace(parts=parts)))

    assert told("one") == 2.0 and told("one", "two") == pytest.approx(1.5)
    assert told("one", "none") == 0.0
