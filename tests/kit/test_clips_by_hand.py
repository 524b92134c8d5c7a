"""Tasks of whole clips: their classes, what they refuse, counts and scores, and the table."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from bab.core.errors import CorpusError
from bab.core.grid import Grid
from bab.core.types import Clip, Output, Prediction
from bab.kit.clips import ClipTask, Scores, column
from bab.kit.confusion import key

GRID = Grid(1000, 100, 200)


class Moods(ClipTask):
    """Two kinds of labels, one of which has fixed classes."""

    kinds, wanted, primary, remedy = ("mood", "sex"), {"sex": ("f", "m")}, "uar", "Do so."

    def mapped(self, kind: str, written: str) -> str:
        return written.lower()


def told(name: str, **labels: str) -> Clip:
    return Clip(name, f"{name}.wav", 0.0, 1.0, "g", labels=labels)


def test_classes_of_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Moods(Moods.Options())
    one, two, odd = (
        told("a", mood=" Calm ", sex="F"),
        told("b", mood="wild", sex="m"),
        told("c", sex="x"),
    )
    assert [task.value(k, one) for k in task.kinds] == ["calm", "f"] and task.value(
        "sex", odd
    ) == ""
    assert task.refuses(one) == "" and task.refuses(odd) == "no mood, sex 'x'"
    assert task.refuses(told("d", sex="y" * 70)) == f"no mood, sex '{'y' * 60}'"
    labels = task.fit([one, two, odd])
    assert labels == {"mood": ("calm", "wild"), "sex": ("f", "m")}
    with pytest.raises(CorpusError) as caught:
        task.fit([one])
    assert str(caught.value) == (
        "all training clips have mood calm: there is nothing to tell apart"
    )
    with pytest.raises(CorpusError) as caught:
        task.fit([one, told("b", mood="wild", sex="f")])
    assert str(caught.value) == "no training clip has sex 'm' (there is: f). Do so."
    task.check(labels, [odd, one], "dev")
    with pytest.raises(CorpusError) as caught:
        task.check(labels, [one, told("e", mood="new")], "dev")
    assert (
        str(caught.value) == "mood 'new' (clip 'e') is in dev, but no training clip has it. Do so."
    )
    monkeypatch.setattr(Moods, "remedy", "Say KIND.CLASS=x")
    with pytest.raises(CorpusError) as caught:  # all of them at once, and what can be typed
        new = [told("f", mood="o"), told("g", mood="o"), told("h", mood="p")]
        task.check(labels, new, "test")
    assert str(caught.value) == (
        "mood 'o' (clip 'f'), 'p' (clip 'h') are in test, but no training clip has them. "
        "Say mood.o=x"
    )
    for count, end in ((5, "'4' (clip '4')"), (7, "'4' (clip '4'), 2 more")):
        with pytest.raises(CorpusError, match=re.escape(f"{end} are in test, but")):
            task.check(labels, [told(str(n), mood=str(n)) for n in range(count)], "test")
    assert task.targets(two, GRID, 1, labels).equal(torch.tensor([1, 1]))
    assert task.targets(odd, GRID, 1, labels).equal(torch.tensor([-1, -1]))
    assert task.amounts(one) == {"mood/calm": 1.0, "sex/f": 1.0} and task.amounts(odd) == {}


def test_counts_and_scores_of_clips() -> None:
    task = Moods(Moods.Options())
    one = told("a", mood="calm", sex="f")
    assert task.statistics(told("x"), None) == {}
    right = task.statistics(one, Prediction("a", labels={"mood": "calm", "sex": "m"}))
    assert right == {
        key("mood", "calm", "calm"): 1, "mood\tcalm\tclips": 1, "mood\tcalm\tgiven": 1,
        "mood\tcalm\tright": 1, key("sex", "f", "m"): 1, "sex\tf\tclips": 1, "sex\tm\tgiven": 1,
        "clips": 1, "right": 0,
    }  # fmt: skip
    missed = task.statistics(told("a", mood="calm"), None)
    assert missed == {
        key("mood", "calm", "nothing"): 1,
        "mood\tcalm\tclips": 1,
        "clips": 1,
        "right": 0,
    }
    scores = Scores(["a", "b", "c"], {"clips": [3, 1, 0], "given": [2, 0, 2], "right": [2, 0, 0]})
    assert scores.accuracy == 0.5 and scores.macro_f1 == pytest.approx((0.8 + 0) / 2)
    assert scores.uar == pytest.approx((2 / 3 + 0) / 2)
    assert scores.each("x/") == pytest.approx({
        "f1/x/a": 0.8, "f1/x/b": 0, "f1/x/c": 0, "recall/x/a": 2 / 3, "recall/x/b": 0,
        "precision/x/a": 1, "precision/x/b": 0, "precision/x/c": 0,
    })  # fmt: skip
    assert column("gender", "f") == "gender=f" and task.metrics({}) == {} == task.metrics(
        {"clips": 0}
    )
    totals = {
        "clips": 2.0,
        "right": 1.0,
        **{f"mood\tcalm\t{k}": 1.0 for k in ("clips", "given", "right")},
    }
    shown = task.metrics(totals)
    assert list(shown)[:3] == ["uar", "accuracy", "macro_f1"] and shown["accuracy"] == 0.5
    assert shown["uar/mood"] == 1.0 == shown["uar"] and "uar/sex" not in shown


def test_predictions_of_clips_are_a_table(tmp_path: Path) -> None:
    task = Moods(Moods.Options())
    values = np.log(np.array([1, 3, 1, 1], np.float32))
    labels = {"mood": ("calm", "wild"), "sex": ("f", "m")}
    said = task.decode(Output(told("=a"), values), GRID, labels, {})
    assert said.labels == {"mood": "wild", "sex": "f"}
    assert said.scores == pytest.approx(
        {"mood=calm": 0.25, "mood=wild": 0.75, "sex=f": 0.5, "sex=m": 0.5}, rel=1e-6
    )
    task.write([said], tmp_path)
    head, row = (tmp_path / "predictions.csv").read_text().splitlines()
    assert head == "id,mood,sex,mood=calm,mood=wild,sex=f,sex=m" and row.startswith(
        "'=a,wild,f,0.2"
    )
    Moods.notice = "careful"
    try:
        task.write([], tmp_path)
        assert (tmp_path / "predictions.csv").read_text() == "id,mood,sex,notice\n"
        task.write([said], tmp_path)
        assert (tmp_path / "predictions.csv").read_text().splitlines()[1].endswith(",careful")
    finally:
        del Moods.notice
