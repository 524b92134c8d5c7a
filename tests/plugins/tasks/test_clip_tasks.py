"""Clip tasks: labels, mappings, decoding, and every score against scikit-learn."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from bab.core.errors import ConfigError, CorpusError, DivergedError
from bab.core.grid import Grid
from bab.core.types import Clip, Output, Prediction
from bab.kit.clips import ClipTask
from bab.plugins.tasks.accent import Accent, AccentOptions
from bab.plugins.tasks.addressee import Addressee, AddresseeOptions
from bab.plugins.tasks.classify import Classify, ClassifyOptions
from bab.plugins.tasks.gender import Gender, GenderOptions
from bab.plugins.tasks.valence import Valence, area_under_roc

GRID = Grid(16000, 320, 400)


def clip(number: int, speaker: str | None = None, **labels: str) -> Clip:
    return Clip(str(number), f"{number}.wav", 0.0, 1.0, f"g{number % 5}", speaker, labels=labels)


def classify(*kinds: str, **options: object) -> Classify:
    return Classify(ClassifyOptions(labels=kinds, **options))


def guesses(task: ClipTask, clips: list[Clip], labels: dict, seed: int) -> dict[str, Prediction]:
    """Random logits, right more often than by chance."""
    draw = np.random.default_rng(seed)
    found = {}
    for one in clips:
        values = []
        for kind, classes in labels.items():
            logits = draw.normal(size=len(classes))
            if one.labels.get(kind) in classes:
                logits[classes.index(one.labels[kind])] += 0.8
            values.append(logits)
        output = Output(one, np.concatenate(values).astype(np.float32))
        found[one.id] = task.decode(output, GRID, labels, {})
    return found


# ------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_scikit_learns(seed: int) -> None:
    """Some classes are rare, some never tested, some never predicted."""
    draw = random.Random(seed)
    names = ["a", "b", "c/d", "e f"][: 2 + seed % 3]
    train = [clip(i, kind=name) for i, name in enumerate(names)]
    clips = [clip(i, kind=draw.choice([*names, names[0], names[0]])) for i in range(9 + 8 * seed)]
    task = classify("kind")
    labels = task.fit(train)
    found = guesses(task, clips, labels, seed)
    scores = task.score(clips, found)
    y = [c.labels["kind"] for c in clips]
    p = [found[c.id].labels["kind"] for c in clips]
    there = sorted(set(y) | set(p))
    assert scores["accuracy"] == pytest.approx(accuracy_score(y, p))
    assert scores["macro_f1"] == pytest.approx(
        f1_score(y, p, labels=sorted(set(y)), average="macro")
    )
    recalls = precision_recall_fscore_support(y, p, labels=sorted(set(y)), zero_division=0)[1]
    assert scores["uar"] == pytest.approx(np.mean(recalls))
    each = precision_recall_fscore_support(y, p, labels=there, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), each, strict=False):
        for label, value, count in zip(there, values, each[3], strict=True):
            if count or name != "recall":
                assert scores[f"{name}/{label}"] == pytest.approx(value), (name, label)


def test_counts_add_up_over_clips() -> None:
    """What leaving groups out relies on: the metrics of summed counts are those of all clips."""
    task = classify("kind")
    clips = [clip(i, kind="ab"[i % 3 > 0]) for i in range(30)]
    found = guesses(task, clips, task.fit(clips), 0)
    totals: dict[str, float] = {}
    for one in clips:
        for key, value in task.statistics(one, found[one.id]).items():
            totals[key] = totals.get(key, 0) + value
    assert task.metrics(totals) == task.score(clips, found)
    assert task.metrics({}) == {}


def test_several_labels_at_once_are_right_together_as_superbs_intents() -> None:
    draw = random.Random(1)
    clips = [clip(i, act=draw.choice("xyz"), place=draw.choice("pq")) for i in range(60)]
    clips[7] = clip(7, act="x")  # no place: judged by the other label alone
    task = classify("act", "place")
    labels = task.fit(clips)
    assert labels == {"act": ("x", "y", "z"), "place": ("p", "q")}
    assert task.targets(clips[7], GRID, 1, labels).tolist() == [0, -1]
    found = guesses(task, clips, labels, 2)
    scores = task.score(clips, found)
    right = [all(found[c.id].labels[k] == v for k, v in c.labels.items()) for c in clips]
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    f1 = {}
    for kind in ("act", "place"):
        known = [c for c in clips if kind in c.labels]
        y, p = [c.labels[kind] for c in known], [found[c.id].labels[kind] for c in known]
        f1[kind] = f1_score(y, p, average="macro")
        assert scores[f"accuracy/{kind}"] == pytest.approx(accuracy_score(y, p))
        assert scores[f"macro_f1/{kind}"] == pytest.approx(f1[kind])
        assert scores[f"uar/{kind}"] == pytest.approx(balanced_accuracy_score(y, p))
        per_class = f1_score(y, p, average=None)
        for label, value in zip(labels[kind], per_class, strict=True):
            assert scores[f"f1/{kind}/{label}"] == pytest.approx(value)
    assert scores["macro_f1"] == pytest.approx(np.mean(list(f1.values())))


def test_a_clip_without_a_prediction_is_missed() -> None:
    task = classify("kind")
    clips = [clip(i, kind="ab"[i % 2]) for i in range(4)]
    said = {c.id: Prediction(c.id, labels={"kind": c.labels["kind"]}) for c in clips[:3]}
    scores = task.score(clips, said)
    assert scores["accuracy"] == 0.75 and scores["recall/b"] == 0.5
    assert scores["precision/b"] == 1.0


def test_the_headline_is_the_one_that_was_asked_for() -> None:
    task = classify("kind", metric="uar")
    clips = [clip(i, kind="ab"[i % 2]) for i in range(4)]
    assert task.primary == "uar"
    assert next(iter(task.score(clips, guesses(task, clips, task.fit(clips), 0)))) == "uar"


def test_many_classes_are_not_listed_one_by_one() -> None:
    clips = [clip(i, speaker=f"s{i:02}") for i in range(21)]
    task = classify("speaker")
    labels = task.fit(clips)
    assert labels["speaker"][0] == "s00" and len(labels["speaker"]) == 21
    assert set(task.score(clips, guesses(task, clips, labels, 0))) == set(task.units)


def test_valence_is_scored_as_babycry_is() -> None:
    draw = random.Random(4)
    task = Valence(Valence.Options())
    clips = [clip(i, valence=draw.choice(["distress", "distress", "positive"])) for i in range(80)]
    labels = task.fit(clips)
    assert labels == {"valence": ("distress", "positive")}
    found = guesses(task, clips, labels, 5)
    scores = task.score(clips, found)
    y = [c.labels["valence"] == "positive" for c in clips]
    p = [found[c.id].labels["valence"] == "positive" for c in clips]
    chance = [found[c.id].scores["valence=positive"] for c in clips]
    precision, recall, _, _ = precision_recall_fscore_support(y, p, average="binary")
    assert scores == pytest.approx(
        {
            "balanced_accuracy": balanced_accuracy_score(y, p),
            "auc": roc_auc_score(y, chance),
            "positive_recall": recall,
            "positive_precision": precision,
            "macro_f1": f1_score(y, p, average="macro"),
        }
    )
    assert set(scores) == set(task.units)
    totals: dict[str, float] = {}
    for one in clips:
        for key, value in task.statistics(one, found.get(one.id)).items():
            totals[key] = totals.get(key, 0) + value
    assert task.metrics(totals) == {k: v for k, v in scores.items() if k != "auc"}
    missed = {k: v for k, v in found.items() if k != "0"}
    assert task.score(clips, missed)["balanced_accuracy"] <= scores["balanced_accuracy"]
    four = [clip(i, valence=("positive", "distress")[i // 2]) for i in range(4)]
    right = {
        c.id: Prediction(c.id, labels=c.labels, scores={"valence=positive": 0.5}) for c in four
    }
    lost = {name: right[name] for name in ("0", "2")}  # one of each class isn't predicted
    assert task.score(four, lost) == {
        "balanced_accuracy": 0.5, "auc": 0.5, "positive_recall": 0.5, "positive_precision": 1.0,
        "macro_f1": pytest.approx(2 / 3),
    }  # fmt: skip
    assert task.score(four, {"0": right["0"]})["balanced_accuracy"] == 0.25
    assert task.score(four, {}) == {
        "balanced_accuracy": 0.0, "positive_recall": 0.0, "positive_precision": 0.0,
        "macro_f1": 0.0,
    }  # fmt: skip
    assert task.score([], {}) == {}
    happy = [c for c in clips if c.labels["valence"] == "positive"]
    assert "auc" not in task.score(happy, found)  # undefined with one class


@pytest.mark.parametrize("levels", [3, 50, 10**6])
def test_the_area_under_the_roc_is_scikit_learns_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for size in (2, 7, 400):
        truth = rng.random(size) < 0.3
        truth[:2] = [True, False]
        scores = rng.integers(0, levels, size) / levels
        assert area_under_roc(truth, scores) == pytest.approx(
            roc_auc_score(truth, scores), abs=1e-12
        )


# ------------------------------------------------------------------------------- decoding, writing


def test_decoding_gives_softmax_and_the_likeliest_class() -> None:
    task = classify("act", "place")
    labels = {"act": ("x", "y"), "place": ("p", "q", "r")}
    logits = np.array([0.0, np.log(3), 1000.0, 1000.0, 1000 + np.log(2)], dtype=np.float32)
    found = task.decode(Output(clip(0), logits), GRID, labels, {})
    assert found.labels == {"act": "y", "place": "r"}
    assert found.scores == pytest.approx(
        {"act=x": 0.25, "act=y": 0.75, "place=p": 0.25, "place=q": 0.25, "place=r": 0.5}, abs=1e-4
    )
    with pytest.raises(DivergedError, match="not finite"):
        task.decode(Output(clip(0), logits * np.float32("nan")), GRID, labels, {})


def test_predictions_are_written_whole_and_carry_the_notice(tmp_path: Path) -> None:
    task = Valence(Valence.Options())
    clips = [clip(i, valence=("distress", "positive")[i % 2]) for i in range(3)]
    found = guesses(task, clips, task.fit(clips), 0)
    task.write(list(found.values()), tmp_path / "new")
    with (tmp_path / "new" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    for row in rows:
        assert row["valence"] == found[row["id"]].labels["valence"]
        assert float(row["valence=positive"]) == found[row["id"]].scores["valence=positive"]
        assert "Research only" in row["notice"] and "not a medical" in row["notice"]
    classify("kind").write([], tmp_path)
    assert (tmp_path / "predictions.csv").read_text() == "id,kind\n"


# ------------------------------------------------------------------------------- labels


def test_a_class_that_training_lacks_is_named() -> None:
    task = Accent(AccentOptions())
    clips = [clip(0, accent="central"), clip(1, accent="balearic"), clip(2, accent="valencian")]
    with pytest.raises(CorpusError, match=r"'nord-occidental' or 'septentrional'.*balear, central"):
        task.fit(clips)
    task = classify("kind")
    labels = task.fit([clip(0, kind="a"), clip(1, kind="b")])
    task.check(labels, [clip(2, kind="b")], "dev")
    with pytest.raises(CorpusError, match=r"kind 'c' \(clip '3'\).*no training clip has it"):
        task.check(labels, [clip(2, kind="b"), clip(3, kind="c")], "test")
    with pytest.raises(CorpusError, match="nothing to tell apart"):
        task.fit([clip(0, kind="a"), clip(1, kind="a")])


def test_gender_reads_old_and_new_vocabularies() -> None:
    task = Gender(GenderOptions(map={"Weiblich": "female", "M": ""}))
    read = {w: task.value("gender", clip(0, gender=w)) for w in (
        "female", "female_feminine", "F", "male", "male_masculine", "weiblich", "m", "other",
        "intersex", "transgender", "non-binary", "do_not_wish_to_say",
    )}  # fmt: skip
    assert [w for w, v in read.items() if v == "female"] == [
        "female",
        "female_feminine",
        "F",
        "weiblich",
    ]
    assert [w for w, v in read.items() if v == "male"] == ["male", "male_masculine"]
    assert task.refuses(clip(0, gender="other")) == "gender 'other'"
    assert task.refuses(clip(0)) == "no gender" and task.refuses(clip(0, gender="f")) == ""


@pytest.mark.parametrize(
    ("text", "bare"),
    [("  NORD -\tOccidental  x ", "nord-occidental x"), ("nord--occidental", "nord-occidental"),
     ("Nord\u00a0occidental", "nord-occidental"), ("nordoccidental", "nordoccidental"),
     ("nord_occidental", "nord_occidental"), ("Català\n\nCentral", "catala central"), ("", "")],
)  # fmt: skip
def test_accents_are_compared_in_plain_letters(text: str, bare: str) -> None:
    from bab.plugins.tasks.accent import plain

    assert plain(text) == bare


def test_accent_reads_free_texts() -> None:
    task = Accent(AccentOptions(map={"Català de l'Alguer": "balear", "Mallorquí": ""}))
    for text, accent in {
        "central": "central", "Català central": "central", "northwestern": "nord-occidental",
        "Nord-occidental": "nord-occidental", "nord occidental (Lleida)": "nord-occidental",
        "valencian": "valencià", "Valencià meridional": "valencià", "VALENCIA": "valencià",
        "balearic": "balear", "Menorquí": "balear", "eivissenc": "balear",
        "northern": "septentrional", "Rossellonès": "septentrional",
        "català de l'alguer": "balear", "mallorquí": "", "central i balear": "", "alguerès": "",
        "subcentral": "",
    }.items():  # fmt: skip
        assert task.value("accent", clip(0, accent=text)) == accent, text
    two = Accent(AccentOptions(classes=("balear", "central")))
    assert two.refuses(clip(0, accent="valencian")) == "accent 'valencian'"
    assert two.fit([clip(0, accent="central"), clip(1, accent="balear")]) == {
        "accent": ("balear", "central")
    }


def test_addressee_reads_childprojects_codes() -> None:
    task = Addressee(AddresseeOptions())
    codes = {"A": "ADS", "T": "KCDS", "C": "Other", "O": "Other", "P": "Other", "A,T": "Other",
             "U": "", "A,U": "", "ADS": "ADS", "KCDS": "KCDS", "Other": "Other", "a": "ADS",
             " t ": "KCDS", "A, A": "ADS", "": "", "A,": ""}  # fmt: skip
    assert {c: task.value("addressee", clip(0, addressee=c)) for c in codes} == codes
    assert task.refuses(clip(0, addressee="U")) == "addressee 'U'"


def test_classify_maps_restricts_and_asks_for_what_it_learns() -> None:
    task = classify("kind", map={"kind": {"A": "a", "noise": ""}}, classes={"kind": ("b", "a")})
    assert task.needs == {"kind"}
    assert [task.refuses(clip(0, kind=w)) for w in ("A", "b", "noise", "c")] == [
        "",
        "",
        "kind 'noise'",
        "kind 'c'",
    ]
    assert task.fit([clip(0, kind="A"), clip(1, kind="b")]) == {"kind": ("b", "a")}
    only = classify()
    only.suit(frozenset({"text", "emotion"}))
    assert only.kinds == ("emotion",) and only.needs == {"emotion"}
    for there, shown, example in (
        ({"gender", "age", "phones"}, "age and gender", "age"),
        ({"text", "segments", "phones"}, "no label", "KIND"),
    ):
        with pytest.raises(ConfigError) as caught:
            classify().suit(frozenset(there))
        assert str(caught.value) == (
            f"task 'classify': this corpus has {shown}; say what to learn, e.g. --set "
            f"task.labels='[{example}]'"
        )
    for option, value in (("map", {}), ("classes", ("a", "b"))):
        task = classify("kind", **{option: {"kind": value, "kinds": value}})
        with pytest.raises(ConfigError) as caught:
            task.suit(frozenset({"kind"}))
        assert str(caught.value) == (
            f"task.{option}.kinds: not a kind of label that this run learns (did you mean 'kind'?)"
        )
    who = classify("speaker")
    assert who.value("speaker", clip(0, "ann")) == "ann"
    assert who.value("speaker", replace(clip(0, "ann"), labels={"speaker": "bob"})) == "bob"
    assert who.refuses(clip(0)) == "no speaker"


def test_amounts_name_the_kind_where_there_are_several() -> None:
    one = clip(1, age="old", sex="f")
    assert classify("age").amounts(one) == {"old": 1.0}
    assert classify("age", "sex").amounts(one) == {"age/old": 1.0, "sex/f": 1.0}
    assert classify("age", "sex").amounts(clip(2, sex="f")) == {"sex/f": 1.0}
