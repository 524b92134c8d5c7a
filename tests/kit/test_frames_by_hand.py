"""Frame tasks: seconds confused and agreed on, thresholds chosen, what is refused."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

from bab.core.errors import CorpusError
from bab.core.grid import Grid
from bab.core.types import Clip, Output, Prediction, Segment
from bab.kit import frames as module
from bab.kit import thresholds
from bab.kit.agreement import detection, shares
from bab.kit.confusion import SILENCE, confused, key
from bab.kit.frames import FrameOptions, FrameTask
from bab.kit.segments import Timeline
from bab.kit.thresholds import Choice, Curve, best, best_f1, candidates, high_precision

GRID = Grid(1000, 100, 200)
NAMES = ("A", "B", "C")


def turns(draw: np.random.Generator, many: int, until: float) -> list[Segment]:
    """Segments on a raster of 10 ms, which may overlap."""
    made = []
    for _ in range(many):
        a, b = np.sort(draw.integers(0, round(until * 100), 2)) / 100
        made.append(Segment(a, b, str(draw.choice(NAMES))))
    return made


def raster(segments: list[Segment], name: str, cells: int) -> Any:
    middle = (np.arange(cells) + 0.5) / 100
    on = np.zeros(cells, bool)
    for s in segments:
        on |= (middle >= s.start) & (middle < s.end) & (s.label == name)
    return on


@pytest.mark.parametrize("seed", range(4))
def test_what_was_taken_for_what_counted_cell_by_cell(seed: int) -> None:
    draw = np.random.default_rng(seed)
    true, said = turns(draw, 9, 6.0), turns(draw, 9, 6.0)
    spans = np.array([[0.5, 2.0], [2.5, 5.5]])
    told = confused(true, said, spans, NAMES)
    middle = (np.arange(600) + 0.5) / 100
    inside = ((middle > 0.5) & (middle < 2)) | ((middle > 2.5) & (middle < 5.5))
    a, b = (np.array([raster(one, n, 600) & inside for n in NAMES]) for one in (true, said))
    expected: dict[str, float] = {}

    def add(matrix: str, row: str, col: str, value: float) -> None:
        name = key(matrix, row, col)
        expected[name] = expected.get(name, 0.0) + value / 100

    for cell in range(600):
        missed = [n for i, n in enumerate(NAMES) if a[i, cell] and not b[i, cell]]
        wrong = [n for i, n in enumerate(NAMES) if b[i, cell] and not a[i, cell]]
        swapped = min(len(missed), len(wrong))
        for n in (n for i, n in enumerate(NAMES) if a[i, cell] and b[i, cell]):
            add("seconds", n, n, 1)
        for one, two in product(missed, wrong):
            add("seconds", one, two, swapped / len(missed) / len(wrong))
        for one in missed:
            add("seconds", one, SILENCE, (len(missed) - swapped) / len(missed))
        for two in wrong:
            add("seconds", SILENCE, two, (len(wrong) - swapped) / len(wrong))
        for matrix, on in (("overlap annotated", a), ("overlap marked", b)):
            for (i, one), (j, two) in product(enumerate(NAMES), enumerate(NAMES)):
                add(matrix, one, two, float(on[i, cell] and on[j, cell]))
        any_a, any_b = a[:, cell].any(), b[:, cell].any()
        if any_a or any_b:
            add("speech", "speech" if any_a else SILENCE, "speech" if any_b else SILENCE, 1)
    assert {k: round(v, 9) for k, v in told.items() if v > 1e-9} == {
        k: pytest.approx(v, abs=1e-9) for k, v in expected.items() if v > 1e-9
    }
    assert all(v >= 0 for v in told.values())
    keys = {key("seconds", r, c) for r in (*NAMES, SILENCE) for c in (*NAMES, SILENCE)}
    assert keys - {key("seconds", SILENCE, SILENCE)} <= told.keys()


def test_nothing_is_confused_where_nothing_is_scored() -> None:
    some = [Segment(0, 1, "A")]
    assert confused(some, some, np.empty((0, 2)), NAMES) == {}
    assert confused([], [], np.array([[1.0, 1.0]]), NAMES) == {}
    told = confused([], [], np.array([[0.0, 1.0]]), NAMES)
    assert set(told.values()) == {0.0} and key("speech", "speech", "speech") in told


@pytest.mark.parametrize("many", [0, 1, 63, 64, 65, 200])
def test_detection_in_blocks_is_that_of_the_whole(many: int) -> None:
    draw = np.random.default_rng(many)
    ends = np.sort(draw.choice(100_000, 2 * many, replace=False)).reshape(-1, 2) / 100
    other = np.sort(draw.choice(100_000, 60, replace=False)).reshape(-1, 2) / 100
    spans = np.array([[0.0, 400.0], [500.0, 990.0]])
    cells = (np.arange(100_000) + 0.5) / 100

    def on(rows: Any) -> Any:
        return sum(((cells >= a) & (cells < b) for a, b in rows), np.zeros(len(cells), bool))

    a, b, inside = on(ends) > 0, on(other) > 0, on(spans) > 0
    expected = [(x & inside).sum() / 100 for x in (a & b, b & ~a, a & ~b)]
    assert detection(ends, other, spans) == pytest.approx(tuple(expected), abs=1e-6)


def test_shares_at_the_edges() -> None:
    totals = {"A/tp": 3.0, "A/fp": 1.0, "A/fn": 1.0, "B/fn": 2.0, "C/fp": 2.0}
    told = shares(totals, ("A", "B", "C", "D"))
    assert list(told)[:3] == ["f1", "precision", "recall"] and "f1/D" not in told
    by_class = {n: [told[f"{m}/{n}"] for m in ("precision", "recall", "f1")] for n in "ABC"}
    assert by_class == {"A": [0.75, 0.75, 0.75], "B": [1.0, 0.0, 0.0], "C": [0.0, 1.0, 0.0]}
    # The means are over A and B, which are spoken.
    assert [told[m] for m in ("precision", "recall", "f1")] == [0.875, 0.375, 0.375]
    only = shares({"C/fp": 1.0}, ("C",))
    assert only == {"precision/C": 0.0, "recall/C": 1.0, "f1/C": 0.0} and shares({}, NAMES) == {}


# --- thresholds ---------------------------------------------------------------------------------


def test_candidates_of_few_scores_and_of_many() -> None:
    few = np.array([0.5, 0.2, 0.2, 0.8])
    cuts = candidates(few, np.array([True, False, False, True]))
    assert set(cuts) == {0.2, 0.35, 0.65, *(np.arange(1, 100) / 100)}
    assert (np.diff(cuts) > 0).all()
    many = np.linspace(0.3, 0.4, 513)
    true = many > 0.39
    expected = {*np.quantile(many, np.linspace(0, 1, 101)), *np.arange(1, 100) / 100}
    assert set(candidates(many, np.zeros(513, bool))) == expected
    own = np.quantile(many[true], np.linspace(0, 1, 101))
    assert set(candidates(many, true)) == expected | {*own}
    assert len(candidates(many[:512], true[:512])) == 512 + 99 - len(
        {*((many[:511] + many[1:512]) / 2), many[0]} & {*np.arange(1, 100) / 100}
    )


def curve(*rows: tuple[float, float, float], relevant: float = 10.0) -> Curve:
    at, correct, predicted = (np.array(x) for x in zip(*rows, strict=True))
    return Curve(at, correct, predicted, relevant)


def test_scores_of_a_curve() -> None:
    one = curve((0.1, 9.0, 30.0), (0.5, 6.0, 8.0), (0.9, 0.0, 0.0))
    assert one.precision.tolist() == [0.3, 0.75, 0.0] and one.recall.tolist() == [0.9, 0.6, 0.0]
    assert one.f1 == pytest.approx([18 / 40, 12 / 18, 0])
    none = curve((0.5, 0.0, 2.0), relevant=0.0)
    assert none.recall.tolist() == [0.0] and best_f1(none) == 0.5
    choice = high_precision(none, 0.5)
    assert choice.threshold == 0.5 and math.isnan(choice.recall) and not choice.reached


def test_ties_go_to_the_middle() -> None:
    at = np.array([0.1, 0.4, 0.6, 0.8])
    assert best(np.array([1, 1, 1, 1.0]), at) == 1  # of two as near the lower
    assert best(np.array([1, 0, 1 - 1e-10, 1]), at) == 2
    assert best(np.array([1, 0, 1 - 1e-8, 1]), at) == 3
    assert best(np.array([0, 0, 0, 2.0]), at) == 3


@pytest.mark.parametrize(
    ("floor", "expected"),
    [
        (0.5, Choice(0.8, 0.5, True)),  # the most precise that still finds half
        (0.6, Choice(0.6, 0.7, True)),
        (0.7, Choice(0.6, 0.7, True)),
        (0.71, Choice(0.5, 0.8, True)),
        (0.81, Choice(0.5, 0.8, False)),  # .9 is below the best F1
        (0.1, Choice(0.9, 0.2, True)),
    ],
)
def test_precision_with_a_floor_under_recall(floor: float, expected: Choice) -> None:
    one = curve(
        (0.3, 9.0, 18.0), (0.5, 8.0, 10.0), (0.6, 7.0, 8.5), (0.8, 5.0, 6.0), (0.9, 2.0, 2.0)
    )
    assert best_f1(one) == 0.5 and high_precision(one, floor) == expected
    # Where precision ties, the higher recall wins.
    tied = curve((0.5, 8.0, 10.0), (0.6, 6.0, 6.0), (0.7, 5.0, 5.0))
    assert high_precision(tied, 0.1) == Choice(0.6, 0.6, True)


def test_what_is_said_of_thresholds() -> None:
    choices = {"A": Choice(0.5, math.nan, False), "B": Choice(0.4, 0.256, False),
               "C": Choice(0.3, 0.9, True), "D": Choice(0.5, math.nan, False)}  # fmt: skip
    low = (
        "the recall of B (0.26) stays below task.recall_floor=0.5 on dev at every threshold from "
        "that of the best F1 upwards: the threshold of the best F1 is kept"
    )
    assert thresholds.missed(choices, 0.5) == ["A, D not in dev: threshold .5", low]
    assert thresholds.missed({"B": choices["B"]}, 0.5) == [low]
    assert thresholds.missed({"C": choices["C"]}, 0.5) == []
    told = thresholds.presets(
        {"A": curve((0.4, 5.0, 5.0)), "B": curve((0.5, 0, 1.0), relevant=0)}, 0.5
    )
    assert told == {
        "f1": {"thresholds": {"A": 0.4, "B": 0.5}},
        "high-precision": {"thresholds": {"A": 0.4, "B": 0.5}, "reached": {"A": True, "B": False},
                           "notices": ["B not in dev: threshold .5"]},
    }  # fmt: skip


# --- frame tasks --------------------------------------------------------------------------------


class Voices(FrameTask):
    """Two voices."""

    classes, group = ("A", "B"), "voice"


class Chosen(Voices):
    class Options(FrameOptions):
        classes: tuple[str, ...] = ("A", "B")


def heard(name: str, *segments: Segment, end: float = 2.0) -> Clip:
    return Clip(name, f"{name}.wav", 0.0, end, "g", segments=segments)


def test_what_a_frame_task_refuses() -> None:
    task, labels = Voices(FrameOptions()), {"voice": ("A", "B")}
    one = heard("x", Segment(0, 1, "A"), Segment(1, 2, "Z"))
    assert task.fit([one, heard("y", Segment(0, 1, "B"))]) == labels
    with pytest.raises(CorpusError) as caught:
        task.fit([one])
    assert str(caught.value) == (
        "no training recording has a segment of B (labels found: A, Z): check the labels' names "
        "and the split"
    )
    with pytest.raises(CorpusError) as caught:
        Chosen(Chosen.Options()).fit([one])
    assert str(caught.value).endswith(", or leave it out with --set task.classes='[A]'")
    with pytest.raises(CorpusError) as caught:
        Chosen(Chosen.Options()).fit([heard("x")])
    assert str(caught.value).endswith(
        "of A or B (labels found: none): check the labels' names and the split"
    )
    task.check(labels, [heard("x"), one], "dev")
    with pytest.raises(CorpusError) as caught:
        task.check(labels, [heard(f"r{i}") for i in range(7)], "dev")
    assert str(caught.value) == (
        "the dev recordings hold no segment of A, B in their annotated time (recordings: r0, r1, "
        "r2, r3, r4): check the labels' names, or split otherwise (split lists, or --set "
        "protocol=kfold)"
    )
    with pytest.raises(
        CorpusError, match="so no threshold can be chosen: move a recording with sp"
    ):
        task.tune([Output(heard("x"), np.zeros((3, 2), np.float32))], GRID, labels)


def test_what_is_cut_and_counted() -> None:
    task, labels = Voices(FrameOptions(fill_gaps=0.25)), {"voice": ("A", "B")}
    on = np.full((30, 2), -9.0, np.float32)
    on[:4, 0] = on[9:, 1] = 9.0
    tuned = {"thresholds": {"A": 0.5, "B": 0.5}}
    clip = heard(
        "x", Segment(0.5, 1.25, "A"), Segment(1.0, 2.5, "A"), Segment(0, 0.5, "B"), end=3.0
    )
    # Three frames may be closed, and one at each end: of five that are off the middle is it.
    assert task.cut(Output(clip, on), GRID, labels, tuned) == 6
    on[8:, 1] = 9.0
    assert task.cut(Output(clip, on), GRID, labels, tuned) == 0
    assert task.amounts(clip) == {"A": 2.0, "B": 0.5}
    part = Clip("x", "x", 0.0, 3.0, "g", segments=clip.segments, scored=((0.0, 0.75),))
    assert task.amounts(part) == {"A": 0.25, "B": 0.5}
    nothing = task.statistics(part, None)
    assert (nothing["A/fn"], nothing["B/fn"], nothing["A/tp"], nothing["A/fp"]) == (0.25, 0.5, 0, 0)
    said = Prediction("x", segments=(Segment(0.25, 0.75, "A"),))
    told = task.statistics(part, said)
    assert (told["A/tp"], told["A/fp"], told["A/fn"]) == (0.25, 0.25, 0.0)
    assert told[key("seconds", "B", "A")] == 0.25
    target = task.targets(clip, GRID, 20, labels)
    centres = 0.1 + 0.1 * np.arange(20)
    assert target[:, 0].bool().tolist() == [0.5 <= round(c, 3) < 2.5 for c in centres]
    assert target[:, 1].bool().tolist() == [round(c, 3) < 0.5 for c in centres]


def test_what_is_true_of_dev_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task, labels = Voices(FrameOptions()), {"voice": ("A", "B")}
    clip = heard("x", Segment(0, 1, "A"), Segment(1, 2, "B"))
    made: list[Any] = []
    real = module.Truth

    def truth(*given: Any) -> Any:
        made.append(given)
        return real(*given)

    monkeypatch.setattr(module, "Truth", truth)
    draw = np.random.default_rng(0)
    outputs = [Output(clip, draw.normal(size=(19, 2)).astype(np.float32)) for _ in range(3)]
    for output in outputs:
        task.tune([output], GRID, labels)
    assert len(made) == 1 and made[0][2:] == (100, 100)
    task.tune([Output(clip, outputs[0].values[:18])], GRID, labels)
    task.tune([Output(clip, outputs[0].values[:18], 1)], GRID, labels)
    assert len(made) == 3
    monkeypatch.setattr(module, "_KEPT", 5)
    for _ in range(2):
        task.tune(outputs[:1], GRID, labels)
    assert len(made) == 5  # of long recordings it is not kept


def test_cells_hold_the_seconds_that_lie_in_them() -> None:
    clip = Clip("x", "x", 0.0, 0.65, "g", segments=(Segment(0.2, 0.5, "A"),), scored=((0.0, 0.4),))
    outputs = [Output(clip, np.zeros((5, 1), np.float32))]
    time = Timeline.of(outputs, GRID)
    truth = thresholds.Truth(outputs, time, 0, 0)
    # Edges at 0, .15, .25, .35, .45 and .65 s.
    assert truth.cell == pytest.approx([0.15, 0.1, 0.1, 0.05, 0.0, 0.0])
    assert truth.counted.tolist() == [True, True, True, True, False, False]
    share, true, relevant = truth.of("A")
    assert share == pytest.approx([0, 0.05, 0.1, 0.05, 0, 0]) and relevant == pytest.approx(0.2)
    assert true.tolist() == [False, False, True, True]  # half of a cell is not most of it
    assert truth.of("A")[0] is share and truth.of("B")[2] == 0
