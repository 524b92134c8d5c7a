"""What is said beside figures, to the letter; what was taken for what; one run's sheets."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from made_records import kept, make

from bab.results import confusion, notes
from bab.results.detail import Score, detail, scores
from bab.results.notes import HEARD, OLD, ONE_SEED
from bab.results.summary import LEAKAGE

RATES = [0.5, 0.6, 0.7]


def groups(count: int, unit: str = "recording", **more: Any) -> dict[str, Any]:
    return kept([i / 20 for i in range(count)], unit=unit, **more) if count > 1 else {
        "unit": unit, "groups": ["a"] * count, "left_out": [], "sizes": [], **more
    }  # fmt: skip


@pytest.mark.parametrize(
    ("jackknife", "said"),
    [
        ({}, ""),
        (groups(0), ""),
        (groups(1), "1 recording: no intervals, 3 are needed"),
        (groups(1, "child"), "1 child: no intervals, 3 are needed"),
        (groups(1, "family"), "1 family: no intervals, 3 are needed"),
        (groups(1, "speaker"), "1 speaker: no intervals, 3 are needed"),
        (groups(2, "speaker"), "2 speakers: no intervals, 3 are needed"),
        (groups(2, "child"), "2 children: no intervals, 3 are needed"),
        (groups(3, "family", effective=2.449), "95 % intervals by leaving out one of 3 families at "
         "a time (G* = 2.4): rough, as they are below 10"),
        (groups(9), "95 % intervals by leaving out one of 9 recordings at a time (G* = 9.0): rough,"
         " as they are below 10"),
        (groups(10), "95 % intervals by leaving out one of 10 recordings at a time (G* = 10.0)"),
        ({"groups": ["a", "b", "c"]}, "95 % intervals by leaving out one of 3 groups at a time (G* "
         "= 0.0): rough, as they are below 10"),
    ],
)  # fmt: skip
def test_how_intervals_came_about(jackknife: dict[str, Any], said: str) -> None:
    assert notes.made(make(jackknife=jackknife)) == said


def test_an_earlier_babs_records() -> None:
    one, two = make("a", format=1), make("b")
    assert (notes.made(one), notes.made(make(format=1, intervals={}))) == (OLD, "")
    assert notes.old(one) and not notes.old(two)
    other = make("c", format=1, seed=1)
    assert notes.newest([one, two, other]) == [two, other]  # seed 0 was made anew
    assert notes.newest([one, other]) == [one, other]


@pytest.mark.parametrize(
    ("held", "count", "said"),
    [
        ({}, 6, ""),
        ({"OCH": 2}, 2, ""),
        ({"OCH": 2, "MAL": 0}, 3, "in fewer than 3 recordings: MAL (0 of 3), OCH (2 of 3)"),
        ({str(i): 1 for i in range(5)}, 6, "in fewer than 3 recordings: 0 (1 of 6), 1 (1 of 6), "
         "2 (1 of 6), 3 (1 of 6), 4 (1 of 6)"),
        ({str(i): 1 for i in range(7)}, 6, "in fewer than 3 recordings: 0 (1 of 6), 1 (1 of 6), "
         "2 (1 of 6), 3 (1 of 6), 4 (1 of 6) and 2 more"),
    ],
)  # fmt: skip
def test_rare_classes(held: dict[str, int], count: int, said: str) -> None:
    more = "; scores of these, and means over classes, vary more than intervals say"
    told = notes.rare(make(jackknife=groups(count, rare=held)))
    assert told == (said + more if said else "")


@pytest.mark.parametrize(
    ("data", "heard", "unseen"),
    [
        ({}, False, ""),
        ({"heard": {"train": 3, "test": 0}}, False, ""),
        ({"heard": {"test": 1}}, True, ""),
        ({"unseen": "made"}, False, "split clip by clip, no speaker or group is known: leakage "
         "can't be seen"),
        ({"unseen": "given"}, False, "given splits, no speaker or group is known: leakage can't be "
         "seen"),
        ({"unseen": ""}, False, ""),
    ],
)  # fmt: skip
def test_what_cannot_be_trusted(data: dict[str, Any], heard: bool, unseen: str) -> None:
    record = make(data=data)
    assert (notes.heard(record), notes.unseen(record)) == (heard, unseen)


def test_notes_of_a_column() -> None:
    few = {"home1": {"f1": 0.5}, "home2": {"f1": 0.75, "x": 1.0}, "home3": {"x": 1.0}}
    one = make("a", jackknife=groups(2), groups=few)
    two = make("b", jackknife=groups(2), seed=1, groups={**few, "home1": {"f1": 0.6}, "h": {}})
    said = "vtc: 2 recordings: no intervals, 3 are needed"
    assert list(notes.column_notes("vtc", {"fbank": [one, two]}, "")) == [
        said, "vtc, fbank: home1 0.550, home2 0.750",
    ]  # fmt: skip
    less = make("b", jackknife=groups(2), seed=1, groups={**few, "home1": {"er": 0.6}})
    assert list(notes.column_notes("vtc", {"fbank": [one, less]}, ""))[1:] == [
        "vtc, fbank: home2 0.750"  # what a seed has no score of has no mean
    ]
    both = {"fbank": [one], "ast": [], "hubert": [make("c", jackknife=groups(5), groups=few)]}
    assert list(notes.column_notes("vtc", both, "no marks: x")) == [
        said,
        "vtc: 95 % intervals by leaving out one of 5 recordings at a time (G* = 5.0): rough, as "
        "they are below 10",
        f"vtc: {ONE_SEED}",
        "vtc: no marks: x",
        "vtc, fbank: home1 0.500, home2 0.750",  # of five groups a table says enough
    ]
    alone = {"fbank": [one], "ast": []}
    assert f"vtc: {ONE_SEED}" not in list(notes.column_notes("vtc", alone, ""))


@pytest.mark.parametrize(("count", "listed"), [(10, True), (11, False)])
def test_scores_of_a_few_groups_are_listed(count: int, listed: bool) -> None:
    scored = {f"g{i:02}": {"f1": i / 20} for i in range(count)}
    record = make(jackknife=groups(4), groups=scored, units={"f1": "%"})
    told = [line for line in notes.column_notes("vtc", {"fbank": [record]}, "") if "fbank" in line]
    shown = ", ".join(f"g{i:02} {i / 20:.1f}" for i in range(count))
    assert told == ([f"vtc, fbank: {shown}"] if listed else [])


def test_which_weights_a_seed_drew() -> None:
    def drawn(seed: int | None, **encoder: Any) -> list[str]:
        return notes.drawn({"seed": seed, "encoder": encoder})

    own = {"options": {"seed": 3}}
    assert drawn(3, name="hubert", weights="random-tiny", **own) == ["encoder.options.seed"]
    assert drawn(4, name="hubert", weights="random-tiny", **own) == []
    assert drawn(3, name="hubert", weights="tiny", **own) == []
    assert drawn(None, name="hubert", weights="random", options=None) == []
    assert notes.drawn({"encoder": "hubert:random", "seed": 3}) == []
    several = {"hubert": {"seed": 3}, "fbank": {"seed": 3}, "ast": {"seed": 5}}
    assert drawn(3, name="hubert:random-tiny+fbank+ast:random", options=several) == [
        "encoder.options.hubert.seed"
    ]
    assert notes.plugins(make(versions={"torch": "2", "my plugin": "1", "plugins": "3"})) == {
        "my plugin": "1"
    }


# --- what was taken for what --------------------------------------------------------------------

VOICES = {
    "silence": {"b": 1.0, "silence": 7.0},
    "b": {"a": 1.0, "b": 3.0, "silence": 0.5},
    "a": {"a": 6.0, "b": 2.0},
    "c": {"c": 0.0},
}


def test_error_rates_of_each_class() -> None:
    assert confusion.rates(VOICES) == {
        "b": (4.5, 1.5 / 4.5, 3.0 / 4.5, 4.5 / 4.5),
        "a": (8.0, 2.0 / 8.0, 1.0 / 8.0, 3.0 / 8.0),
    }
    assert confusion.rates({"a": {"b": 2.0}}) == {"a": (2.0, 1.0, 0.0, 1.0)}


def test_matrices_as_sheets() -> None:
    record = make(confusion={"seconds": VOICES, "overlap annotated": {"a": {"a": 8.0, "b": 1.25}}})
    one, two = confusion.sheets(record)
    assert one.title == "seconds, default" and list(one.headers) == [
        *("", "b", "a", "c", "silence", "in all", "missed", "false alarms", "error rate"),
    ]
    assert one.rows == [
        ["b", "3", "1", "", "0.50", "4.50", "0.333", "0.667", "1.000"],
        ["a", "2", "6", "", "", "8", "0.250", "0.125", "0.375"],
        ["c", "", "", "", "", "", "", "", ""],
        ["silence", "1", "", "", "7", "8", "", "", ""],
    ]
    assert list(one.notes) == [
        "true in rows, said in columns; missed and false alarms are shares of what is true, the "
        "error rate is their sum (pyannote's detection error rate)"
    ]
    assert list(two.headers) == ["", "a", "b"] and two.rows == [["a", "8", "1.25"]]
    assert list(two.notes) == ["seconds in which both are on; a voice by itself: in all"]
    named = make(confusion={"kind": {"a": {"a": 1.0}}}, presets={"f1": {}, "high-precision": {}})
    assert next(confusion.sheets(named)).title == "kind, f1"


# --- one run ------------------------------------------------------------------------------------


def test_all_numbers_of_a_run_in_order() -> None:
    record = make(
        presets={"f1": {"metrics": {"f1/KCHI": 0.7, "f1": 0.65}, "intervals": {"f1": (0.5, 0.8)}}},
        groups={"h1": {"f1": 0.5, "f1/KCHI": 0.4}},
        subgroups={"age": {"3": {"f1": 0.6}}},
    )
    assert scores(record) == [
        Score("f1", "KCHI", "f1", 0.7, None, None),
        Score("f1", "all", "f1", 0.65, 0.5, 0.8),
        Score("group", "h1", "f1", 0.5, None, None),
        Score("age", "3", "f1", 0.6, None, None),
    ]
    assert [one[:2] for one in scores(make())] == [("default", "all"), ("default", "KCHI")]


def sections(text: str) -> dict[str, list[str]]:
    """Title of a sheet -> its lines, cells apart by one blank."""
    parts = (part.split("\n", 1) for part in text.split("### ")[1:])
    return {title: [" ".join(x.split()) for x in body.split("\n") if x] for title, body in parts}


def test_a_runs_sheets() -> None:
    metrics = {"f1": 0.65, "f1/KCHI": 0.7, "wer/KCHI": 41.26}
    record = make(
        presets={"f1": {"metrics": metrics, "intervals": {"f1": (0.5, 0.8)},
                        "no_interval": {"f1/KCHI": "exactly 1", "wer": "2 groups",
                                        "x": "2 groups"}},
                 "precise": {"metrics": {"f1": 0.4}}},
        units={"f1": "", "wer": "%"}, groups={"home02": {"f1": 0.5}},
        subgroups={"age": {"3": {"f1": 1}}}, jackknife=groups(4, "child", rare={"KCHI": 1}),
        data={"unseen": "made"},
        notices=["precise: the recall stays below", "f1: OCH is absent", "all: no"],
    )  # fmt: skip
    shown = sections(detail(record))
    assert list(shown) == [
        "vtc@rttm, fbank, probe: f1", "vtc@rttm, fbank, probe: precise", "per child", "age"
    ]  # fmt: skip
    assert shown["vtc@rttm, fbank, probe: f1"] == [
        "| | f1 | wer |", "| ---- | -------------------: | ---: |",
        "| KCHI | 0.700 | 41.3 |", "| all | 0.650 [0.500, 0.800] | |",
        f"- {notes.made(record)}", f"- {notes.rare(record)}", f"- {notes.unseen(record)}",
        "- no interval of f1/KCHI: exactly 1", "- no interval of wer, x: 2 groups",
        "- OCH is absent",
    ]  # fmt: skip
    assert shown["vtc@rttm, fbank, probe: precise"] == [
        "| | f1 |", "| --- | ----: |", "| all | 0.400 |", "- the recall stays below",
    ]  # fmt: skip
    assert shown["per child"] == ["| child | f1 |", "| ------ | ----: |", "| home02 | 0.500 |"]
    day = dataclasses.replace(record, groups={"day1": {"f1": 0.5}})  # a recording of a child
    assert sections(detail(day))["per recording"][0] == "| recording | f1 |"
    assert shown["age"] == ["| | f1 |", "| --- | ----: |", "| 3 | 1.000 |"]


def test_a_run_without_intervals_says_why_once() -> None:
    def said(jackknife: dict[str, Any], **preset: Any) -> list[str]:
        record = make(presets={"f1": {"metrics": {"f1": 0.5}, **preset}}, jackknife=jackknife)
        (lines,) = sections(detail(record)).values()
        return [line for line in lines if line.startswith("- no ")]

    none = {"no_interval": {"f1": "undefined", "x": "undefined"}}
    assert said(groups(3), **none) == ["- no intervals: undefined"]
    assert said(groups(3), **none, intervals={"y": (0, 1)}) == ["- no interval of f1, x: undefined"]
    assert said(groups(2), **none) == []  # how many it takes is said already
    assert said(groups(3)) == []


def test_a_runs_marks() -> None:
    record = make(leakage=True, data={"heard": {"test": 1}}, groups={"h": {"f1": 0.5}})
    for title, lines in sections(detail(record)).items():
        assert title.endswith(" † ‡") and "f1 † ‡ |" in lines[0]
        assert lines[-2:] == [f"- {LEAKAGE}", f"- {HEARD}"]
    for title, lines in sections(detail(make(leakage=True))).items():
        assert title.endswith(" †") and lines[-1] == f"- {LEAKAGE}"
