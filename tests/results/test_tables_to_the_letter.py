"""A table of all that a cell may hold, to the letter in each format."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from made_records import config, kept, make, put

from bab.core.errors import BabError
from bab.core.record import Record
from bab.results.audit import Audit, Trait
from bab.results.table import table

EER: dict[str, Any] = {
    "task": "sv", "task_version": "2", "corpus": "kaldi", "head": "xvector", "primary": "eer",
    "units": {"eer": "%"}, "higher_is_better": False,
}  # fmt: skip
# Groups are hard or easy for each encoder in its own way: their difference has a spread.
PATTERNS = {
    "wavlm": (-0.02, 0.02, 0, 0, 0.01, -0.01),
    "traits": (0.01, 0.01, 0.01, -0.01, -0.01, -0.01),
}


def f1(name: str, encoder: str, value: float, **more: Any) -> Record:
    changes = PATTERNS.get(encoder, (0.01, -0.01, 0.01, -0.01, 0.01, -0.01))
    rates = [value + change for change in changes]
    more = {"metrics": {"f1": value}, "jackknife": kept(rates), **more}
    return make(name, value, encoder=encoder, **more)


def eer(name: str, encoder: str, value: float, **more: Any) -> Record:
    rates = [value + change for change in (-1, 0, 1, 0.5, -0.5, 0)]
    jackknife = kept(rates, scale="percent", unit="speaker")
    more = {"metrics": {"eer": value}, "jackknife": jackknife, **EER, **more}
    return make(name, value, encoder=encoder, **more)


LONG = "w" * 30 + " " + "x" * 40
RECORDS = [
    f1("a", "fbank", 0.50),
    f1("b", "fbank", 0.52, seed=1),
    f1("c", "hubert:base", 0.70, data={"heard": {"test": 1}}, cost={}),
    f1("d", "wavlm", 0.71, cost={"encoder_parameters": 94e3, "encoder_audio_per_second": 77.7}),
    eer("e", "fbank", 20.0),
    eer("f", "hubert:base", 10.0, cost={"encoder_audio_per_second": 5.0}),
    make("g", encoder="hubert:base", seed=4, status="failed", reason="no\ndisk"),
    make("h", encoder="ast", status="not-applicable", reason=LONG, metrics={}),
]
LEGEND = (
    "★ best; ≈ within noise: not shown to be worse than it, which isn't to say equal. Each group "
    "in turn is left out of all rows; the worst is compared with the best, on the studentised "
    "range of as many as are left, and goes. Of equal rows, one is called worse in some 5 tables "
    "of 100"
)
HEARD = (
    "‡ the encoder was pretrained on test audio, without its labels (what an encoder's folder says "
    "that it was pretrained on); encoders that weren't may be worse for that alone"
)
ONE_SEED = (
    "one seed: trained models are compared, not encoders (`bab bench --seeds 0,1,2` tells them "
    "apart)"
)
ROUGH = "at a time (G* = 6.0): rough, as they are below 10"
NOTES = [
    f"sv@kaldi: 95 % intervals by leaving out one of 6 speakers {ROUGH}",
    f"sv@kaldi: {ONE_SEED}",
    f"vtc@rttm: 95 % intervals by leaving out one of 6 recordings {ROUGH}",
    f"vtc@rttm: {ONE_SEED}",
    "relative: fbank is 0, the best of each task 1000, averaged over the tasks",
]


def rows(text: str) -> list[list[str]]:
    """The cells of the Markdown lines that are a table's, and its notes."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines]


def notes(text: str) -> list[str]:
    return [line[2:] for line in text.splitlines() if line.startswith("- ")]


def test_markdown() -> None:
    text = table(RECORDS)
    rank = [
        *("sv@kaldi eer (%) ↓", "vtc@rttm f1 ↑", "rank", "relative"),
        *("seeds", "parameters", "audio s/s"),
    ]
    failed = "(failed: seed 4: no disk)"
    assert rows(text) == [
        ["encoder", "mode", "head", *rank],
        rows(text)[1],
        ["ast", "probe", "frames", "", f"not-applicable: {'w' * 30} ...", "", "", "", "", ""],
        ["fbank", "probe", "frames, xvector", "20.0 [19.3, 20.8]", "0.510 ± 0.014 [0.440, 0.580]",
         "2.5", "0", "1-2", "94.4 M", "8"],
        ["hubert:base", "probe", "frames, xvector", "10.0 [9.3, 10.8] ★",
         f"0.700 ‡ [0.688, 0.711] ≈ {failed}", "1.5", "975", "1", "", "5"],
        ["wavlm", "probe", "frames", "", "0.710 [0.695, 0.725] ★", "", "", "1", "94.0 k", "78"],
    ]  # fmt: skip
    rule = [cell.strip("-") for cell in rows(text)[1]]
    assert rule == ["", "", ""] + [":"] * 7  # words to the left, numbers to the right
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1
    assert notes(text) == [LEGEND, HEARD, *NOTES]


def test_latex() -> None:
    lines = table(RECORDS, "latex").splitlines()
    assert lines[:3] == [
        r"\begin{tabular}{lllrrrrrrr}",
        r"\toprule",
        r"encoder & mode & head & \shortstack{sv@kaldi \\ eer (\%) $\downarrow$} & "
        r"\shortstack{vtc@rttm \\ f1 $\uparrow$} & rank & relative & seeds & parameters & "
        r"audio s/s \\",
    ]
    assert lines[6] == (
        r"hubert:base & probe & frames, xvector & 10.0 [9.3, 10.8] $\star$ & 0.700 $\ddagger$ "
        r"[0.688, 0.711] $\approx$ (failed: seed 4: no disk) & 1.5 & 975 & 1 &  & 5 \\"
    )
    assert [lines[3], lines[8], lines[9]] == [r"\midrule", r"\bottomrule", r"\end{tabular}"]
    assert lines[10:] == [f"% {note}" for note in (LEGEND, HEARD, *NOTES)]


def test_csv_and_json_hold_every_number() -> None:
    cells = list(csv.DictReader(io.StringIO(table(RECORDS, "csv"))))
    assert list(cells[0]) == [
        "encoder", "mode", "head", "settings", "label", "task", "task_version", "corpus",
        "corpus_version", "corpus_digest", "protocol", "split", "metric", "unit",
        "higher_is_better", "value", "low", "high", "deviation", "seeds", "status", "reason",
        "mark", "leakage", "heard", "no_interval", "rank", "relative", "parameters",
        "audio_per_second",
    ]  # fmt: skip
    told = ("encoder", "task", "seeds", "status", "mark", "heard", "rank", "parameters")
    assert [tuple(cell[key] for key in told) for cell in cells] == [
        ("ast", "vtc", "", "not-applicable", "", "False", "", ""),
        ("fbank", "sv", "0", "done", "", "False", "2.5", "94400000.0"),
        ("fbank", "vtc", "0 1", "done", "", "False", "2.5", "94400000.0"),
        ("hubert:base", "sv", "0", "done", "best", "False", "1.5", ""),
        ("hubert:base", "vtc", "0", "failed", "within noise", "True", "1.5", ""),
        ("wavlm", "vtc", "0", "done", "best", "False", "", "94000.0"),
    ]
    assert cells[0]["reason"] == LONG and cells[4]["reason"] == "seed 4: no\ndisk"
    assert [float(cell["value"] or "nan") for cell in cells] == pytest.approx(
        [math.nan, 20, 0.51, 10, 0.7, 0.71], nan_ok=True
    )
    assert float(cells[2]["deviation"]) == pytest.approx(0.02 / 2**0.5)
    assert [cell["higher_is_better"] for cell in cells[:3]] == ["True", "False", "True"]
    plain = json.loads(table(RECORDS, "json"))
    assert plain["notes"] == NOTES and plain["skipped"] == [] and "shortcuts" not in plain
    assert [row["called"] for row in plain["rows"]] == ["ast", "fbank", "hubert:base", "wavlm"]
    assert [row["speed"] for row in plain["rows"]] == [None, 7.7, 5.0, 77.7]
    there = [cell for row in plain["rows"] for cell in row["cells"] if cell is not None]
    for cell, flat in zip(there, cells, strict=True):
        for key in ("value", "low", "high", "deviation"):
            assert cell[key] == (float(flat[key]) if flat[key] else None)
        assert " ".join(map(str, cell["seeds"])) == flat["seeds"]
    assert plain["rows"][0]["cells"][0] is None and not any(cell["old"] for cell in there)


def test_rows_that_differ_in_settings_have_a_column_for_them() -> None:
    runs = [f1("a", "fbank", 0.5, config=config(lr=0.1)), f1("b", "fbank", 0.6), f1("c", "x", 0.7)]
    head, rule, *body = rows(table(runs))
    assert head[:4] == ["encoder", "mode", "head", "settings"] and head[5:] == [
        *("seeds", "parameters", "audio s/s"),
    ]
    assert [row[3] for row in body] == ["lr=0.001", "lr=0.1", ""]
    assert [":" in cell for cell in rule] == [False] * 4 + [True] * 4
    assert {row["settings"] for row in csv.DictReader(io.StringIO(table(runs, "csv")))} == {
        *("train.lr=0.1", "train.lr=0.001", ""),
    }


def audit(value: float, **more: Any) -> Audit:
    flat = f1("t", "traits", value, **more)
    trait = Trait("sample rate", "Hz", 0.4, 0.2, False, {})
    names = {name: [flat] for name in ("traits", "names", "majority", "shuffled")}
    return Audit("a", names, [trait], [])


def test_an_audited_column() -> None:
    runs = [f1("a", "fbank", 0.5), f1("b", "x", 0.7), eer("e", "x", 20.0)]
    runs.append(f1("c", "y", 0.6, jackknife={}))
    text = table(runs, audits=[audit(0.55)])
    head, _, *body = rows(text)
    assert head[3:6] == ["sv@kaldi eer (%) ↓", "vtc@rttm f1 ↑", "above its shortcut (0.550)"]
    assert [row[3:6] for row in body] == [
        ["", "0.500 [0.489, 0.511] ▽", "-0.050 [-0.063, -0.037]"],
        ["20.0 [19.3, 20.8]", "0.700 [0.688, 0.711] ★", "+0.150 [0.137, 0.163]"],
        ["", "0.600 ▽", "+0.050"],
    ]
    told = notes(text)
    assert told[0] == LEGEND and told[1].startswith("▽ not shown to be above its shortcut: ")
    assert told[2].startswith("vtc@rttm: No shortcut shown: recording traits alone get f1 0.550")
    cells = list(csv.DictReader(io.StringIO(table(runs, "csv", [audit(0.55)]))))
    assert [(c["shortcut"], c["gap"][:5], c["above_shortcut"]) for c in cells] == [
        ("0.55", "-0.05", "False"), ("", "", ""), ("0.55", "0.149", "True"),
        ("0.55", "0.049", "False"),
    ]  # fmt: skip
    gaps = json.loads(table(runs, "json", [audit(0.55)]))["shortcuts"]
    assert [(g["row"], g["column"], g["above"]) for g in gaps] == [
        *((0, 1, False), (1, 1, True), (2, 1, False)),
    ]
    assert "shortcut" not in table(runs, audits=[audit(0.55, protocol="kfold-6")])


def test_marks_of_leakage() -> None:
    runs = [f1("a", "fbank", 0.5, leakage=True), eer("e", "x", 20.0)]
    text = table(runs)
    assert rows(text)[0][3:5] == ["sv@kaldi eer (%) ↓", "vtc@rttm † f1 ↑"]
    assert rows(text)[2][4].startswith("0.500 † [")
    assert notes(text)[0] == (
        "† leakage, allowed by --allow-leakage: tested on speakers, groups or recordings that were "
        "trained on; not to be compared with results without it"
    )
    assert len(notes(text)) == 3  # nothing is marked best, and there is no scale


def test_what_is_left_out_comes_first(tmp_path: Path) -> None:
    put(tmp_path, RECORDS[0])
    broken = put(tmp_path, f1("z", "x", 0.5))
    broken.write_text("{")
    first = notes(table(tmp_path))[0]
    assert first.startswith(f"left out: {broken.parent}: record.json is not JSON (")
    skipped = json.loads(table(str(tmp_path), "json"))["skipped"]
    assert [one["path"] for one in skipped] == [str(broken.parent)]
    broken.parent.rename(tmp_path / "only")
    (tmp_path / "vtc").rename(tmp_path / ".vtc")
    with pytest.raises(BabError) as caught:
        table(tmp_path)
    assert str(caught.value).startswith(f"no finished run in {tmp_path}\n  {tmp_path / 'only'}: ")
    with pytest.raises(BabError, match=r"^no finished run$"):
        table([])


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        ("fbank", "relative: fbank is 0, the best of each task 1000, averaged over the tasks"),
        ("x:a", "relative: x:a is 0, the best of each task 1000, averaged over the tasks"),
        ("x", "no relative score: several rows are x"),
        ("y", "no relative score: no row that holds every task is y"),
        ("x:b", "no relative score: x:b is beaten in fewer than two tasks"),
    ],
)
def test_where_relative_scores_start(baseline: str, said: str) -> None:
    values = {"fbank": (0.5, 30.0), "x:a": (0.6, 20.0), "x:b": (0.8, 5.0), "y": (0.7, None)}
    runs = [f1(f"f{name}", name, one) for name, (one, _) in values.items()]
    runs += [eer(f"e{name}", name, two) for name, (_, two) in values.items() if two is not None]
    text = table(runs, baseline=baseline)
    assert notes(text)[-1] == said and ("relative" in rows(text)[0]) == said.startswith("relative")
    with pytest.raises(BabError, match=r"^no run is of encoder 'fbnk': did you mean 'fbank'\?$"):
        table(runs, baseline="fbnk")


def test_a_task_in_which_nothing_beats_the_baseline_is_left_out_of_relative_scores() -> None:
    runs = [f1("a", "fbank", 0.5), f1("b", "x", 0.6), eer("c", "fbank", 9.0), eer("d", "x", 5.0)]
    runs += [f1("e", "fbank", 0.9, task="age"), f1("f", "x", 0.8, task="age")]
    text = table(runs)
    assert notes(text)[-1] == (
        "relative: fbank is 0, the best of each task 1000, averaged over the tasks; without "
        "age@rttm, where nothing beats fbank"
    )
    without = [dataclasses.replace(r, encoder="y") for r in runs if r.encoder == "fbank"]
    alone = table([r for r in runs if r.encoder == "x"] + without)
    assert "relative" not in alone  # the usual baseline isn't there, and nobody asked for it
