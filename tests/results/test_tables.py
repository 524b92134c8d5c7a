"""Records in tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from made_records import CONFIG, config, kept, make

from bab.core.errors import BabError
from bab.core.record import Record
from bab.results import compare
from bab.results.detail import detail
from bab.results.render import FORMATS, amount, escape, number
from bab.results.summary import summarise
from bab.results.table import table


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    with pytest.raises(BabError, match="no finished run in"):
        table(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").touch()
    with pytest.raises(BabError, match=r"no finished run[^\n]*\n.*run: unfinished"):
        table(tmp_path)


# --- columns, rows, cells -----------------------------------------------------------------------


def test_seeds_are_averaged_and_counted() -> None:
    records = [make(f"r{i}", v, seed=i) for i, v in enumerate((0.60, 0.70, 0.65))]
    for record in records:
        record.config = CONFIG | {"seed": record.seed, "device": f"cuda:{record.seed}"}
    summary = summarise([*records, records[0]])  # the same run twice counts once
    assert len(summary.rows) == len(summary.columns) == 1
    cell = summary.rows[0].cells[0]
    assert cell is not None and cell.seeds == (0, 1, 2)
    assert cell.value == pytest.approx(0.65) and cell.deviation == pytest.approx(0.05)
    assert cell.low is not None and cell.high is not None and cell.low < 0.55 < 0.75 < cell.high
    assert f"0.650 ± 0.050 [{cell.low:.3f}, {cell.high:.3f}]" in table(records)


def test_one_seed_has_no_deviation_and_missing_intervals_are_not_invented() -> None:
    cell = summarise([make()]).rows[0].cells[0]
    assert cell is not None and cell.deviation is None
    two = summarise([make("a", 0.6), make("b", 0.7, seed=1)]).rows[0].cells[0]
    assert two is not None and two.deviation == pytest.approx(0.1 / 2**0.5)
    summary = summarise([make("a"), make("b", seed=1, jackknife={})])
    cell = summary.rows[0].cells[0]
    assert cell is not None and cell.low is cell.high is None and cell.value is not None


def test_runs_that_differ_in_more_than_the_seed_are_rows_of_their_own() -> None:
    records = [
        make("a", 0.1, config=config(steps=300)),
        make("b", 0.2, config=config(steps=500)),
        make("c", 0.3, config=config(steps=500), seed=1),
        make("d", 0.4, mode="finetune"),
        make("e", 0.5, head="other"),
        make("f", 0.6, encoder="hubert:base"),
        make("g", 0.7, encoder="hubert:base", encoder_fingerprint="f2" * 8),
    ]
    rows = {(r.encoder, r.mode, r.head, r.settings): r.cells[0] for r in summarise(records).rows}
    found = {key: (cell.value, cell.seeds) for key, cell in rows.items() if cell}
    assert found == {
        ("fbank", "probe", "frames", "train.steps=300"): (0.1, (0,)),
        ("fbank", "probe", "frames", "train.steps=500"): (0.25, (0, 1)),
        ("fbank", "finetune", "frames", ""): (0.4, (0,)),
        ("fbank", "probe", "other", ""): (0.5, (0,)),
        ("hubert:base", "probe", "frames", "weights=f1f1f1f1"): (0.6, (0,)),
        ("hubert:base", "probe", "frames", "weights=f2f2f2f2"): (0.7, (0,)),
    }


def test_settings_of_another_task_do_not_split_a_row() -> None:
    other = make("b", task="valence", config=config(lr=0.1))
    summary = summarise([make("a"), other])
    assert [row.settings for row in summary.rows] == [""]
    assert [c.label for c in summary.columns] == ["valence@rttm", "vtc@rttm"]


@pytest.mark.parametrize("kind", ["task", "corpus"])
def test_versions_never_share_a_table(kind: str) -> None:
    records = [make("old"), make("new", **{f"{kind}_version": "2"})]
    name = getattr(records[0], kind)
    with pytest.raises(BabError, match=f"2 versions of {kind} {name}") as error:
        table(records)
    assert "version 1: fbank, seed 0, run old" in str(error.value)
    assert "version 2: fbank, seed 0, run new" in str(error.value)


def test_a_run_whose_options_were_not_understood_stands_in_the_table() -> None:
    raw = {"encoder": "fbank", "task": "vtc", "corpus": "rttm:/data/homes"}  # as it was asked for
    lost = make("lost", status="failed", reason="unknown key", corpus_digest="", config=raw)
    assert "vtc@rttm:homes" in table([lost])


def test_versions_are_told_apart_in_runs_over_two_corpora() -> None:
    across = make("across", corpus="kaldi→rttm", corpus_version="1→2")
    with pytest.raises(BabError, match="2 versions of corpus rttm"):
        summarise([make("old"), across])
    summarise(
        [make("old"), dataclasses.replace(across, corpus_version="3→1")]
    )  # kaldi's is another matter


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({"corpus_digest": "e2" * 8}, ["vtc@rttm d1d1d1d1", "vtc@rttm e2e2e2e2"]),
        ({"protocol": "kfold-6"}, ["vtc@rttm given", "vtc@rttm kfold-6"]),
        ({"labels": {"voice": ["MAL"]}}, ["vtc@rttm KCHI+FEM", "vtc@rttm MAL"]),
    ],
)
def test_what_cannot_be_compared_stands_in_columns_of_its_own(
    change: dict[str, Any], labels: list[str]
) -> None:
    summary = summarise([make("a", 0.5), make("b", 0.7, seed=1, **change)])
    assert [c.label for c in summary.columns] == labels
    assert len(summary.rows) == 1
    assert [cell.value for cell in summary.rows[0].cells if cell] == [0.5, 0.7]


def test_a_corpus_is_called_by_its_folder() -> None:
    homes = CONFIG | {"corpus": {"name": "rttm", "root": "/data/homes", "options": {}}}
    summary = summarise([make("a"), make("b", corpus_digest="e2" * 8, config=homes)])
    assert [c.label for c in summary.columns] == ["vtc@rttm", "vtc@rttm:homes"]


def test_failures_are_shown_with_their_reason() -> None:
    failed = {"status": "failed", "metrics": {}, "intervals": {}, "labels": {}, "cost": {}}
    records = [
        make("a"),
        make("b", encoder="ast", reason="out of memory | at step 3\nreally", **failed),
        make("c", encoder="clap", **(failed | {"status": "not-applicable"}), reason="48 kHz only"),
        make("d", encoder="hubert:base"),
        make("e", encoder="hubert:base", seed=1, encoder_fingerprint="", reason="NaN", **failed),
    ]
    summary = summarise(records)
    assert len(summary.columns) == 1
    text = table(records)
    assert " failed: out of memory \\| at step 3 really | " in text
    assert "not-applicable: 48 kHz only" in text
    assert "0.650 [0.518, 0.762] (failed: seed 1: NaN)" in text
    assert len(summary.rows) == 4
    records[1].reason = "word " * 40
    assert "word word ... |" in table(records)
    assert ("word " * 40).strip() in table(records, "csv")
    alone = table([records[1]])
    assert "vtc@rttm" in alone and "failed: word" in alone


def test_units_direction_and_cost_are_shown() -> None:
    eer = make("a", 7.25, primary="eer", metrics={"eer": 7.25}, units={"eer": "%"})
    eer.higher_is_better, eer.jackknife = False, kept([6.7, 7.25, 7.8], scale="percent")
    text = table([eer])
    assert "vtc@rttm eer (%) ↓" in text and "7.2 [6.0, 8.7]" in text
    assert "94.4 M" in text and "| 8 |" in " ".join(text.split()).replace("audio s/s", "")
    assert "95 % intervals by leaving out one of 3 recordings at a time (G* = 3.0): rough" in text
    plain = make(jackknife=kept([0.5, 0.6], unit="child"))
    assert "f1 ↑" in table([plain])
    assert "2 children: no intervals, 3 are needed\n" in table([plain])


# --- formats ------------------------------------------------------------------------------------


def test_formats_hold_the_same_numbers() -> None:
    records = [make("a"), make("b", 0.5, encoder="hubert:my_model|x", seed=3)]
    rows = list(csv.DictReader(io.StringIO(table(records, "csv"))))
    assert [(r["encoder"], float(r["value"]), float(r["low"]), r["seeds"]) for r in rows] == [
        ("fbank", 0.65, pytest.approx(0.5183, abs=1e-4), "0"),
        ("hubert:my_model|x", 0.5, pytest.approx(0.3782, abs=1e-4), "3"),
    ]
    assert {r["label"] for r in rows} == {"vtc@rttm"} and {r["metric"] for r in rows} == {"f1"}
    plain = json.loads(table(records, "json"))
    assert [r["cells"][0]["value"] for r in plain["rows"]] == [0.65, 0.5]
    lines = table(records).splitlines()
    assert len({line.count("|") - line.count("\\|") for line in lines[:4]}) == 1
    assert len({len(line) for line in lines[:4]}) == 1
    assert set(lines[1]) <= set("|-: ")
    latex = table(records, "latex")
    assert r"hubert:my\_model\textbar{}x" in latex and r"$\uparrow$" in latex
    body = latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")]
    assert {line.count("&") for line in body.splitlines() if "&" in line} == {6}
    with pytest.raises(BabError, match="did you mean 'markdown'"):
        table(records, "markdwn")
    assert all(table(records, name) for name in FORMATS)


def test_escaping_and_numbers() -> None:
    assert escape(r"a_b & 5% \x {~^}#$") == (
        r"a\_b \& 5\% \textbackslash{}x \{\textasciitilde{}\textasciicircum{}\}\#\$"
    )
    assert [number(0.6515), number(7.25, "%"), number(123.456, "s"), number(math.nan)] == [
        "0.651" if f"{0.6515:.3f}" == "0.651" else "0.652",
        "7.2",
        "123.5",
        "undefined",
    ]
    assert [amount(n) for n in (870, 12_500, 94.4e6, 1.5e9)] == ["870", "12.5 k", "94.4 M", "1.5 G"]


def test_detail_lists_classes_presets_groups_and_subgroups() -> None:
    metrics = {"precision/KCHI": 0.8, "f1/KCHI": 0.7, "f1/FEM": 0.6, "f1": 0.65, "precision": 0.8}
    record = make(
        metrics=metrics,
        presets={
            "f1": {"metrics": metrics, "intervals": {"f1/KCHI": (0.6, 0.75)}},
            "high-precision": {"metrics": {"f1": 0.4, "f1/FEM": 0.3}, "intervals": {}},
        },
        groups={"home_1": {"f1": 0.55, "f1/KCHI": 0.5}},
        subgroups={"gender": {"girl": {"f1": 0.45}}},
    )
    text = detail(record)
    words = " ".join(text.split())
    assert "| KCHI | 0.800 | 0.700 [0.600, 0.750] |" in words
    assert words.index("| FEM | | 0.600 |") < words.index("| all | 0.800 | 0.650 |")
    assert "### vtc@rttm, fbank, probe: high-precision" in text
    assert "### per recording" in text and "| home_1 | 0.550 |" in words
    assert "### gender" in text and "| girl | 0.450 |" in words
    rows = list(csv.DictReader(io.StringIO(detail(record, "csv"))))
    assert len(rows) == 5 + 2 + 1 + 1
    assert {r["section"] for r in rows} == {"f1", "high-precision", "group", "gender"}
    plain = json.loads(detail(record, "json"))["scores"]
    assert [s["value"] for s in plain] == [float(r["value"]) for r in rows]
    assert r"home\_1" in detail(record, "latex")
    assert "default" in detail(make(presets={}))
    with pytest.raises(BabError, match=r"no scores.*broke"):
        detail(make(status="failed", reason="broke"))


def test_detail_shows_what_was_taken_for_what() -> None:
    matrix = {"a": {"a": 6.0, "b": 2.0}, "b": {"a": 1.0, "b": 3.0, "nothing": 1.0}}
    record = make(confusion={"kind": matrix, "overlap annotated": {"a": {"a": 1.25, "b": 0.5}}})
    words = " ".join(detail(record).split())
    assert "| | a | b | nothing | in all | missed | false alarms | error rate |" in words
    assert "| a | 6 | 2 | | 8 | 0.250 | 0.125 | 0.375 |" in words
    assert "| b | 1 | 3 | 1 | 5 | 0.400 | 0.400 | 0.800 |" in words
    assert "### overlap annotated" in words and "| a | 1.25 | 0.50 |" in words
    assert "overlap annotated" not in detail(record, matrices=False)
    assert json.loads(detail(record, "json"))["confusion"]["kind"] == matrix


# --- rows against each other --------------------------------------------------------------------


def group_run(name: str, encoder: str, rates: list[float], **changes: Any) -> Record:
    changes = {"jackknife": kept(rates), **changes}
    return make(name, float(np.mean(rates)), encoder=encoder, **changes)


EASY = [0.2, 0.9, 0.4, 0.7, 0.1, 0.8, 0.5, 0.6]


def test_pairing_sees_what_overlapping_intervals_hide() -> None:
    """Groups differ a lot, the encoders a little but always: paired, that little is certain."""
    better = [rate + 0.03 + 0.001 * (i % 3) for i, rate in enumerate(EASY)]
    noisy = [rate + (0.05 if i % 2 else 0.005) for i, rate in enumerate(EASY)]
    records = [
        group_run("a", "fbank", EASY),
        group_run("b", "hubert:base", better),
        group_run("c", "wavlm:base", noisy),
    ]
    found = {row.encoder: row.cells[0] for row in summarise(records).rows}
    assert {name: cell.mark for name, cell in found.items() if cell} == {
        "fbank": "",
        "hubert:base": "best",
        "wavlm:base": "within noise",
    }
    gap = compare.differences(compare.contest([[records[1]], [records[0]]]))[0, 1]
    assert gap.value == pytest.approx(np.mean(better) - np.mean(EASY)) and gap.apart
    sides = scipy.stats.ttest_rel(better, EASY).confidence_interval()
    assert (gap.low, gap.high) == pytest.approx((sides.low, sides.high))
    text = table(records)
    assert "★ best; ≈ within noise" in text and text.count("★") == 2 and text.count("≈") == 2
    assert r"$\star$" in table(records, "latex")
    assert "one seed: trained models" in text and "(G* = 8.0): rough" in text
    lower = [dataclasses.replace(r, higher_is_better=False) for r in records]
    marks = {row.encoder: row.cells[0].mark for row in summarise(lower).rows if row.cells[0]}
    assert marks["fbank"] == "best" and marks["hubert:base"] == ""


def test_a_difference_that_cannot_be_told_is_not_invented() -> None:
    a, b = group_run("a", "fbank", EASY), group_run("b", "hubert", EASY[:-1])
    assert not compare.differences(compare.contest([[a], [b]]))  # other groups
    assert not compare.differences(compare.contest([[a], [make("c", jackknife={})]]))
    same = compare.differences(compare.contest([[a], [group_run("c", "hubert", EASY)]]))[0, 1]
    assert same == (0.0, None, None, False)
    marked, why = compare.marks([[a], [b]], True)
    assert marked == ["", ""] and "no marks" in why
    marked, why = compare.marks([[a], [b], [], [group_run("d", "ast", EASY)]], True)
    assert marked == ["best", "", "", "best"] and "1 of 3 can't be compared" in why


@pytest.mark.parametrize(
    ("groups", "interval", "marks"), [(2, 0, 0), (3, 1, 0), (4, 1, 0), (5, 1, 1)]
)
def test_how_many_groups_it_takes(groups: int, interval: int, marks: int) -> None:
    rates = [0.5, 0.6, 0.55, 0.65, 0.58][:groups]
    own = {"groups": {f"home{i:02}": {"f1": rate} for i, rate in enumerate(rates)}}
    records = [group_run("a", "fbank", rates, **own)]
    records.append(group_run("b", "hubert", [r + 0.1 + r / 99 for r in rates], **own))
    text = table(records)
    assert (text.count("[") == 2) == bool(interval) and ("★" in text) == bool(marks)
    assert ("no marks" in text) == (not marks)
    assert ("fbank, probe: home00 0.500, home01 0.600" in text) == (groups < 5)
    cells = [row.cells[0] for row in summarise(records).rows]
    assert [c.no_interval for c in cells if c] == (["", ""] if interval else ["2 groups"] * 2)


def test_an_interval_is_refused_where_nothing_varies_or_something_is_undefined() -> None:
    flat = compare.interval([group_run("a", "fbank", [0.5] * 6)])
    assert flat.low is None and flat.why == "the same without any group"
    one = compare.interval([group_run("a", "fbank", [1.0] * 6)])
    assert one.why == "exactly 1"
    holes = kept(EASY) | {"left_out": [math.nan, *kept(EASY)["left_out"][1:]]}
    some = compare.interval([group_run("a", "fbank", EASY, jackknife=holes)])
    assert some.why == "undefined without one of the groups"


def test_intervals_are_over_groups_and_seeds() -> None:
    one = [group_run("a", "fbank", EASY)]
    far = [*one, group_run("b", "fbank", [r + 0.3 for r in EASY], seed=1)]
    narrow, wide = (summarise(records).rows[0].cells[0] for records in (one, far))
    assert narrow and wide and None not in (narrow.low, narrow.high, wide.low, wide.high)
    # One seed: the t interval of the mean of eight groups, on the logit scale.
    mean, error = np.mean(EASY), scipy.stats.sem(EASY)
    half = scipy.stats.t.ppf(0.975, 7) * error / (mean * (1 - mean))
    expected = scipy.special.expit(scipy.special.logit(mean) + np.array([-half, half]))
    assert (narrow.low, narrow.high) == pytest.approx(tuple(expected))
    assert wide.high - wide.low > narrow.high - narrow.low  # type: ignore[operator]


def test_a_difference_is_over_groups_and_seeds() -> None:
    """Its variance is that of the groups and of both means over seeds; three values of one cell and
    one of the other: Satterthwaite's degrees of freedom lie between."""
    shifts = (-0.04, 0.0, 0.04)
    several = [
        group_run(f"a{i}", "fbank", [rate + x for rate in EASY], seed=i)
        for i, x in enumerate(shifts)
    ]
    noisy = [rate + (0.05 if i % 2 else 0.005) for i, rate in enumerate(EASY)]
    other = [group_run("b", "hubert:base", noisy)]
    alone = compare.contest([[several[1]], other])
    held = compare.contest([several, other])
    gaps = np.array(EASY) - np.array(noisy)
    over_groups = gaps.var(ddof=1) / len(gaps)
    assert alone.variances[0, 1] == pytest.approx(over_groups)
    over_seeds = np.var(shifts, ddof=1) / 3
    assert held.variances[0, 1] == pytest.approx(over_groups + over_seeds)
    assert held.variances[1, 0] == pytest.approx(over_groups + over_seeds)
    expected = (over_groups + over_seeds) ** 2 / (over_groups**2 / 7 + over_seeds**2 / 2)
    assert held.freedoms[0, 1] == pytest.approx(expected)
    # The interval of one cell, on the logit scale, has both variances too.
    own, mean = np.var(EASY, ddof=1) / 8, np.mean(EASY)
    df = (own + over_seeds) ** 2 / (own**2 / 7 + over_seeds**2 / 2)
    half = scipy.stats.t.ppf(0.975, df) * math.sqrt(own + over_seeds) / (mean * (1 - mean))
    ends = scipy.special.expit(scipy.special.logit(mean) + np.array([-half, half]))
    assert compare.interval(several)[:2] == pytest.approx(tuple(ends))


def test_classes_that_few_groups_hold_are_warned_of() -> None:
    record = group_run("a", "fbank", EASY, jackknife=kept(EASY, rare={"OCH": 2}))
    for text in (table([record]), detail(record)):
        assert "in fewer than 3 recordings: OCH (2 of 8)" in text


def test_ranks_and_relative_scores() -> None:
    places = compare.ranks([[0.9, 5.0], [0.9, 7.0], [0.1, None]], [True, False])
    assert places == [pytest.approx((1.5 + 1) / 2), pytest.approx((1.5 + 2) / 2), None]
    scores, left = compare.relative_scores(
        [[0.5, 10.0, 3.0], [0.7, 4.0, 2.0], [0.6, 10.0, 1.0]], [True, False, True], 0
    )
    assert scores == [0, pytest.approx(1000), pytest.approx(250)] and left == [2]
    # A row that lacks a column has none, even one that gives no scale; nor has a single task.
    scores, _ = compare.relative_scores([[0.5, 1.0, 3.0], [0.7, 4.0, None]], [True] * 3, 0)
    assert scores == [0, None]
    scores, left = compare.relative_scores([[0.5, 3.0], [0.7, 3.0]], [True, True], 0)
    assert scores == [None, None] and left == [1]


def test_a_table_of_two_tasks_has_rank_and_relative_score() -> None:
    eer = {"primary": "eer", "higher_is_better": False, "task": "sv", "head": "xvector"}
    records = [
        make("a", 0.5),
        make("b", 0.7, encoder="hubert"),
        make("c", 0.6, encoder="ast"),
        make("d", 0.2, metrics={"eer": 20.0}, **eer),
        make("e", 0.2, metrics={"eer": 10.0}, encoder="hubert", **eer),
    ]
    rows = {row.encoder: row for row in summarise(records).rows}
    assert rows["hubert"].rank == 1 and rows["ast"].rank is None
    assert [rows[name].relative for name in ("fbank", "hubert", "ast")] == [0, 1000, None]
    assert rows["fbank"].head == "frames, xvector"  # each task brings its own: one row
    text = " ".join(table(records).split())
    assert "| rank | relative |" in text and "fbank is 0, the best of each task 1000" in text
    assert [r["rank"] for r in csv.DictReader(io.StringIO(table(records, "csv")))]
