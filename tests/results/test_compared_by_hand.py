"""Encoder against encoder, parts of cells, and audits in words: small cases worked out by hand."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from made_records import CONFIG, GROUPS, kept, make, notes, one, table

from bab.core.errors import BabError
from bab.core.record import Record
from bab.results import breakdown, compare
from bab.results.breakdown import LEAKAGE, ONE_SEED, PartScore

TOGETHER = (
    "the intervals of a task hold all together in 95 % of cases (studentised range of all that are "
    "compared on it)"
)
PAIRED = "paired: the same group is left out of both, one after the other (docs/intervals.md)"
NOISE = "within noise: not shown to differ, which isn't to say equal"


# --- gaps ---------------------------------------------------------------------------------------


def test_a_gap_to_the_letter() -> None:
    runs = [one("a", "x"), one("b", "y", 0.1, 0.02)]
    (gap,) = breakdown.gaps(runs, ["y", "x"])
    error = 0.02 * math.sqrt(6 / 5 / 6)  # of differences of .12 and .08, three each
    half = scipy.stats.t.ppf(0.975, 5) * error
    assert gap[:10] == (
        "vtc@rttm", "f1", "probe", "", "y", "x", pytest.approx(0.6166667), pytest.approx(0.5166667),
        pytest.approx(0.1), pytest.approx(0.1 - half),
    )  # fmt: skip
    assert gap[10:] == (pytest.approx(0.1 + half), "y", "", True)
    text = breakdown.versus(runs, ["y", "x"])
    assert table(text)[0] == [
        *(
            "task",
            "mode",
            "settings",
            "A",
            "B",
            "A's",
            "B's",
            "A less B",
            "95 % interval",
            "better",
        ),
    ]
    assert [":" in cell for cell in table(text)[1]] == [False] * 5 + [True] * 5
    shown = f"[{0.1 - half:.3f}, {0.1 + half:.3f}]"
    assert table(text)[2:] == [
        ["vtc@rttm f1", "probe", "", "y", "x", "0.617", "0.517", "0.100", shown, "y"]
    ]
    assert notes(text) == [PAIRED, NOISE, ONE_SEED]
    latex = breakdown.versus(runs, ["y", "x"], "latex")
    assert latex.startswith(r"\begin{tabular}{lllllrrrrr}")
    rows = list(csv.DictReader(io.StringIO(breakdown.versus(runs, ["y", "x"], "csv"))))
    plain = json.loads(breakdown.versus(runs, ["y", "x"], "json"))
    assert list(rows[0]) == list(plain[0]) == list(breakdown.Gap._fields)
    assert plain[0]["low"] == pytest.approx(0.1 - half) == pytest.approx(float(rows[0]["low"]))
    with pytest.raises(BabError, match="no table format"):
        breakdown.versus(runs, ["y", "x"], "text")


def test_gaps_of_several_in_the_order_of_their_names() -> None:
    runs = [
        one("a", "x", leakage=True),
        one("b", "y", 0.001, 0.02),
        one("c", "z", 0.2, 0.02, leakage=True),
    ]
    runs.append(one("d", "z", 0.2, 0.02, seed=1, leakage=True))
    text = breakdown.versus(runs, ["z", "y", "x"])
    assert [row[3:5] for row in table(text)[2:]] == [["z", "y"], ["z", "x"], ["y", "x"]]
    assert [row[-1] for row in table(text)[2:]] == ["z", "z", "within noise"]
    assert notes(text) == [PAIRED, TOGETHER, NOISE, ONE_SEED, LEAKAGE]
    two = [one(f"{e}{i}", e, i / 1e4, 0.02, seed=i) for i in (0, 1) for e in ("x", "y")]
    assert ONE_SEED not in notes(breakdown.versus(two, ["x", "y"]))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"jackknife": {}}, "can't be told: 1 of 2 can't be compared: older, or of other groups"),
        ({"jackknife": kept([0.5, 0.7])}, "can't be told: "),
    ],
)
def test_gaps_that_cannot_be_told(change: dict[str, Any], why: str) -> None:
    text = breakdown.versus([one("a", "x"), one("b", "y", 0.1, **change)], ["y", "x"])
    row = table(text)[2]
    assert row[5:9] == ["0.617", "0.517", "0.100", ""] and row[9].startswith(why)


def test_why_nothing_can_be_said() -> None:
    def why(*pairs: tuple[list[float], list[float]]) -> str:
        ((a, b),) = pairs
        runs = [make("a", float(np.mean(a)), encoder="x", jackknife=kept(a)),
                make("b", float(np.mean(b)), encoder="y", jackknife=kept(b))]  # fmt: skip
        return breakdown.gaps(runs, ["x", "y"])[0].why

    assert why((GROUPS[:4], [0.3, 0.8, 0.5, 0.6])) == "4 groups"
    assert why((GROUPS[:2], GROUPS[1::-1])) == "2 groups"
    assert why((GROUPS, GROUPS)) == ""  # the same everywhere: they don't differ
    exact = [0.25, 0.5, 0.75, 0.5, 0.25, 0.5]
    assert why((exact, [x + 0.25 for x in exact])) in ("no spread between groups", "")
    bare = [one("a", "x", jackknife={}), one("b", "y", jackknife={})]
    assert breakdown.gaps(bare, ["x", "y"])[0].why == (
        "the records keep nothing to compare them by"
    )


def test_names_as_encoders_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    folder = f"hubert:{(tmp_path / 'm').resolve()}"
    runs = [one("a", "x"), one("b", folder, 0.1, encoder_fingerprint="2" * 16)]
    assert [g.encoder_a for g in breakdown.gaps(runs, ["hubert:~/m", "x"])] == [folder]
    assert [g.encoder_a for g in breakdown.gaps(runs, ["hubert", "x"])] == [folder]
    for names, said in ((["x", "x"], "'x' can only be compared with another encoder: name two"),
                        (["x", "q"], "no run is of encoder 'q': "),
                        (["x", "hubert:n"], "no run is of encoder 'hubert:n': ")):  # fmt: skip
        with pytest.raises(BabError, match=said):
            breakdown.gaps(runs, names)
    apart = [one("a", "x"), one("b", "y", mode="finetune")]
    with pytest.raises(BabError) as caught:
        breakdown.gaps(apart, ["x", "y"])
    why = "have no task, mode and settings in common (`bab table` shows each one's)"
    assert str(caught.value) == f"'x', 'y' {why}"
    failed = one("c", "z", status="failed")
    with pytest.raises(BabError, match="no run is of encoder 'z'"):
        breakdown.gaps([*runs, failed], ["x", "z"])


# --- parts --------------------------------------------------------------------------------------


def test_parts_are_means_over_seeds_in_each_column() -> None:
    ages = {"age": {"3": {"f1": 0.25, "x": 1.0}, "12": {"x": 1.0}}, "sex": {"f": {"f1": 0.5}}}
    runs = [
        make("a", subgroups=ages, groups={"g": {"f1": 0.1}}),
        make("b", subgroups={"age": {"3": {"f1": 0.75}}}, seed=1, leakage=True),
        make("c", subgroups=ages, status="failed"),
    ]
    where = ("fbank", "probe", "")
    assert breakdown.entries(runs, "subgroups") == [
        PartScore("vtc@rttm", "f1", "age", "3", *where, 0.5),
        PartScore("vtc@rttm", "f1", "sex", "f", *where, 0.5),
    ]
    assert breakdown.entries(runs, "recordings") == [
        PartScore("vtc@rttm", "f1", "recording", "g", *where, 0.1)
    ]
    with pytest.raises(BabError, match=r"^no run used a single layer: `bab run --layers N` for"):
        breakdown.entries(runs, "layers")
    with pytest.raises(BabError, match=r"^no run has scores by recording or group$"):
        breakdown.entries([make("a")], "recordings")


def test_sheets_of_parts() -> None:
    def run(name: str, layer: Any, value: float, **more: Any) -> Record:
        return make(name, value, config=CONFIG | {"layers": layer}, leakage=True, **more)

    runs = [run("a", 10, 0.5), run("b", 2, 0.25), run("c", 2, 0.75, seed=1), run("d", "mix", 0.9),
            run("e", 2, 0.4, encoder="ast", mode="finetune")]  # fmt: skip
    text = breakdown.show(runs, "layers")
    assert text.splitlines()[0] == "### vtc@rttm † f1, by layer"
    assert table(text) == [
        ["encoder", "mode", "settings", "2", "10"], table(text)[1],
        ["ast", "finetune", "", "0.400", ""], ["fbank", "probe", "", "0.500", "0.500"],
    ]  # fmt: skip
    assert [":" in cell for cell in table(text)[1]] == [False] * 3 + [True] * 2
    assert notes(text) == [LEAKAGE]
    rows = list(csv.DictReader(io.StringIO(breakdown.show(runs, "layers", "csv"))))
    plain = json.loads(breakdown.show(runs, "layers", "json"))
    assert [row["name"] for row in rows] == [p["name"] for p in plain] == ["2", "10", "2"]
    assert list(plain[0]) == list(PartScore._fields)
    assert breakdown.show(runs, "layers", "latex").startswith("% vtc@rttm † f1, by layer\n")
    parts = {"age": {"10": {"f1": 0.5}, "9": {"f1": 0.25}, "x": {"f1": 0.75}}}
    percent = make("a", subgroups=parts, units={"f1": "%"})
    assert table(breakdown.show([percent], "subgroups"))[0][3:] == ["9", "10", "x"]
    assert table(breakdown.show([percent], "subgroups"))[2][3:] == ["0.2", "0.5", "0.8"]
    both = make("b", subgroups={"age": parts["age"], "sex": {"f": {"f1": 1.0}}})
    assert breakdown.show([both], "subgroups").count("### ") == 2


# --- comparisons --------------------------------------------------------------------------------


def test_what_a_cell_keeps() -> None:
    runs = [one("b", "x", 0.2, seed=1), one("a", "x", seed=0)]
    sample = compare.sample(runs)
    assert sample is not None and sample.seeds == pytest.approx(
        (np.mean(GROUPS), np.mean(GROUPS) + 0.2)
    )
    assert sample.value == pytest.approx(np.mean(GROUPS) + 0.1)
    rest = [(sum(GROUPS) - x) / 5 + 0.1 for x in GROUPS]
    assert sample.left_out == pytest.approx(rest) and sample.names == tuple(
        f"home{i:02}" for i in range(6)
    )
    assert sample.between_seeds == [(pytest.approx(0.02 / 2), 1.0)]
    alone = compare.sample(runs[:1])
    assert alone is not None and alone.between_seeds == []
    other = one("c", "x", seed=2, jackknife=kept(GROUPS, groups=list("abcdef")))
    assert compare.sample([*runs, other]) is None
    assert compare.sample([runs[0], one("c", "x", jackknife={"groups": []})]) is None
    assert compare.interval([make(jackknife={})]) == (None, None, "nothing kept to tell it from")


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([[], []], "the records keep nothing to compare them by"),
        ([[one("a", "x")], [make(jackknife={})]], "1 of 2 can't be compared: older, or of other"),
        ([[one("a", "x")], [one("b", "y")], [one("c", "z", jackknife=kept(
            GROUPS, left_out=[math.nan] * 6))]],
         "1 of 3 can't be compared: undefined without one of the groups"),
        ([[make("a", jackknife=kept([0.1, 0.2]))], [make("b", jackknife=kept([0.1, 0.3]))]],
         "2 groups, 3 are needed"),
        ([[one("a", "x")], [one("b", "y", 0.1)], []], ""),
    ],
)  # fmt: skip
def test_what_can_be_compared(cells: Any, why: str) -> None:
    held = compare.contest(cells)
    assert held.why.startswith(why) and (why == "") == (held.why == "")


def test_a_contest_says_who_is_in_it() -> None:
    cells = [[], [one("a", "x")], [make("b", jackknife={})], [one("c", "y", 0.1, 0.02)]]
    held = compare.contest(cells)
    assert held.members == (1, 3) and held.groups == 6
    assert held.values == pytest.approx([np.mean(GROUPS), np.mean(GROUPS) + 0.1])
    assert set(compare.differences(held)) == {(1, 1), (1, 3), (3, 1), (3, 3)}
    assert compare.differences(held)[1, 1] == (0.0, None, None, False)
    marked, why = compare.marks(cells, True)
    assert marked == ["", "", "", "best"] and why.startswith("1 of 3 can't")
    assert compare.marks(cells, False)[0] == ["", "best", "", ""]
    assert compare.marks([[], [one("a", "x")]], True) == (["", ""], "")


@pytest.mark.parametrize(
    ("values", "higher", "places"),
    [
        ([[1.0], [2.0], [3.0]], [True], [3, 2, 1]), ([[1.0], [2.0], [3.0]], [False], [1, 2, 3]),
        ([[2.0], [2.0], [1.0], [2.0]], [True], [2, 2, 4, 2]),
        ([[2.0, 1.0], [1.0, 2.0]], [True, False], [1, 2]),
        ([[2.0, math.nan], [1.0, 2.0]], [True, True], [None, 1.5]),
        ([], [], []),
    ],
)  # fmt: skip
def test_ranks(values: Any, higher: Any, places: Any) -> None:
    assert compare.ranks(values, higher) == places


@pytest.mark.parametrize(
    ("values", "higher", "base", "scores", "left"),
    [
        ([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0]], [True, False], 0, [0, 750, 750], []),
        ([[1.0, 4.0], [2.0, 2.0], [0.0, 8.0]], [True, False], 0, [0, 1000, -1500], []),
        ([[1.0, 4.0], [None, 2.0], [3.0, 3.0]], [True, False], 0, [0, None, 750], []),
        ([[1.0, 4.0], [2.0, 5.0]], [True, False], 0, [None, None], [1]),
        ([[1.0, 4.0, 1.0], [2.0, 5.0, 2.0]], [True, False, True], 0, [0, 1000], [1]),
        ([[None, 4.0], [2.0, 2.0]], [True, False], 0, [None, None], [0]),
        ([[1.0, 4.0], [2.0, 2.0]], [True, False], 1, [None, None], [0, 1]),
    ],
)
def test_relative_scores(values: Any, higher: Any, base: int, scores: Any, left: Any) -> None:
    made, out = compare.relative_scores(values, higher, base)
    assert made == [s if s is None else pytest.approx(s) for s in scores] and out == left


@pytest.mark.parametrize("held", [2, 4])
def test_below_five_groups_marks_say_that_five_are_needed(held: int) -> None:
    rates = [0.1 * n for n in range(held)]
    cells = [[make("a", jackknife=kept(rates))], [make("b", jackknife=kept(rates[::-1]))]]
    said = f"no marks: {held} groups, 5 are needed"
    assert compare.marks(cells, True) == (["", ""], said)
