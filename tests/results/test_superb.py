"""SUPERB's score against the published one of every model on its leaderboard."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from places import REAL

from bab.cli import main
from bab.core.errors import BabError
from bab.results.superb import (
    FBANK,
    METRICS,
    TOP,
    leaderboard,
    read_leaderboard,
    relative,
    superb_s,
)

# Some rows of the public leaderboard: the score, then the metrics in the order of `METRICS`.
PUBLISHED = """\
model,score,PR,KS,IC,SID,ER,ASR,QbE_x100,SF_F1,SF_CER,SV,SD
FBANK,0,82.01,41.38,9.65,20.06,48.24,23.18,0.58,69.64,52.94,9.56,10.05
REFERENCE_TOP,1000,3.53,96.66,98.76,90.33,67.62,3.62,7.36,89.81,21.76,5.11,5.62
WavLM Large,1145,3.06,97.86,99.31,95.49,70.62,3.44,8.86,92.21,18.36,3.77,3.24
HuBERT Base,941,5.41,96.3,98.34,81.42,64.92,6.42,7.36,88.53,25.2,5.11,5.88
TERA,150,49.17,89.48,58.42,57.57,56.27,18.17,.13,67.5,54.17,15.89,9.96
"""
LEADERBOARD = REAL.parent / "reference" / "superb_leaderboard.csv"


def test_published_scores_are_reproduced(tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    path.write_text(PUBLISHED)
    rows = read_leaderboard(path)
    assert [row.model for row in rows][:2] == ["FBANK", "REFERENCE_TOP"]
    for row in rows:
        assert row.score == pytest.approx(row.published, abs=0.6), row.model


@pytest.mark.skipif(not LEADERBOARD.exists(), reason="the whole leaderboard is not here")
def test_the_whole_leaderboard_is_reproduced() -> None:
    rows = read_leaderboard(LEADERBOARD)
    assert len(rows) == 26
    for row in rows:
        assert row.score == pytest.approx(row.published, abs=0.6), row.model
    assert rows[0].values == FBANK and rows[1].values == TOP


def test_the_reference_rows_are_the_ends_of_the_scale() -> None:
    assert superb_s(FBANK) == 0 and superb_s(TOP) == pytest.approx(1000)
    half = {metric: (FBANK[metric] + TOP[metric]) / 2 for metric in METRICS}
    assert superb_s(half) == pytest.approx(500)


def test_slot_filling_counts_once() -> None:
    """Its two metrics are averaged: both at the top are worth what one other task is."""
    slots = dict(FBANK) | {"SF_F1": TOP["SF_F1"], "SF_CER": TOP["SF_CER"]}
    assert superb_s(slots) == pytest.approx(100)
    assert superb_s(dict(FBANK) | {"SF_F1": TOP["SF_F1"]}) == pytest.approx(50)
    assert superb_s(dict(FBANK) | {"SV": TOP["SV"]}) == pytest.approx(100)


def test_fewer_tasks_are_not_this_score(tmp_path: Path) -> None:
    with pytest.raises(BabError, match="missing: SD"):
        superb_s({metric: value for metric, value in FBANK.items() if metric != "SD"})
    path = tmp_path / "board.csv"
    path.write_text(PUBLISHED.replace("3.77,3.24", "3.77,"))
    row = read_leaderboard(path)[2]
    assert row.score is None and row.missing == ("SD",) and row.published == 1145


def test_no_scale_gives_no_number() -> None:
    same = relative({"a": 1.0}, {"a": 1.0}, {"a": 1.0}, [("a",)])
    assert same != same
    # Nor does a task of which one metric has none.
    low, high = {"a": 1.0, "b": 1.0, "c": 0.0}, {"a": 1.0, "b": 2.0, "c": 1.0}
    assert math.isnan(relative({"a": 1.0, "b": 2.0, "c": 1.0}, low, high, [("c",), ("a", "b")]))
    assert relative({"b": 2.0, "c": 0.5}, low, high, [("c",), ("b",)]) == 750
    assert math.isnan(relative({}, {}, {}, []))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a header"),
        ("name,PR\nx,1\n", "expected a header"),
        (PUBLISHED.replace("97.86", "high"), "line 4: KS: 'high' is not a number"),
    ],
)
def test_strange_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "board.csv"
    path.write_text(text)
    with pytest.raises(BabError, match=f"board.csv: .*{message}"):
        read_leaderboard(path)
    with pytest.raises(BabError, match="no such file"):
        read_leaderboard(tmp_path / "none.csv")


def test_what_is_no_table_at_all_is_named(tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    path.write_bytes(b"model,PR\n\xff,1\n")
    with pytest.raises(BabError, match=rf"^{path}: can't be read as CSV: .*utf-8"):
        read_leaderboard(path)
    with pytest.raises(BabError, match=rf"^{tmp_path}: can't be read as CSV: "):
        read_leaderboard(tmp_path)


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    lines = [list(reversed(row)) for row in csv.reader(PUBLISHED.splitlines())]
    path = tmp_path / "board.csv"
    path.write_text("\n".join(",".join(row) for row in lines))
    assert [row.score for row in read_leaderboard(path)][1] == pytest.approx(1000)


def test_the_command_prints_the_scores_best_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "board.csv"
    path.write_text(PUBLISHED.replace("4.07,3.5", "4.07,").replace("15.89,9.96", "15.89,"))
    assert main(["table", "--superb", str(path), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["model"] == "WavLM Large" and rows[-1]["superb_s"] is None
    assert main(["table", "--superb", str(path), "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert float(lines[0]["superb_s"]) == pytest.approx(1145, abs=0.6)
    assert main(["table", "--superb", str(path)]) == 0
    text = capsys.readouterr().out
    assert "TERA: no superb_s, it lacks SD" in text and "| 1000 |" in " ".join(text.split())


def test_a_leaderboard_to_the_letter(tmp_path: Path) -> None:
    """FBANK's nought is a score: it stands before what has none."""
    path = tmp_path / "board.csv"
    lines = PUBLISHED.splitlines()
    lines[3] = lines[3].replace("1145,3.06", ",")
    path.write_text("\n".join([lines[0], lines[3], *lines[1:3], lines[5]]) + "\n")
    rows = [" ".join(line.split()) for line in leaderboard(path).splitlines()]
    fbank = "| 0 | 0 | 82.01 | 41.38 | 9.65 | 20.06 | 48.24 | 23.18 | 0.58 | 69.64 | 52.94 | 9.56 |"
    assert rows[0] == f"| model | superb_s | published | {' | '.join(METRICS)} |"
    assert [row.split(" | ")[0][2:] for row in rows[2:6]] == [
        *("REFERENCE_TOP", "TERA", "FBANK", "WavLM Large"),
    ]
    assert rows[4] == f"| FBANK {fbank} 10.05 |"
    assert rows[5].startswith("| WavLM Large | | | | 97.86 | 99.31 |")
    assert rows[6:] == ["", "- WavLM Large: no superb_s, it lacks PR"]
    assert rows[1].split(" | ")[0].endswith("-") and rows[1].split(" | ")[1].endswith("-:")
    latex = leaderboard(path, "latex").splitlines()
    assert latex[0] == r"\begin{tabular}{l" + "r" * 13 + "}" and latex[-1].startswith("% WavLM")
    plain = json.loads(leaderboard(path, "json"))
    assert list(plain[2].items())[:4] == [
        *(("model", "FBANK"), ("superb_s", 0.0), ("published", 0.0), ("PR", 82.01)),
    ]
    with pytest.raises(BabError, match="no table format is called 'text'"):
        leaderboard(path, "text")
