"""Summaries against ChildProject's own numbers, and LENA's published examples."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import random
from datetime import datetime, time
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from said import said

from bab.core.annotations import Annotation, Mark
from bab.core.errors import BabError
from bab.core.types import Segment
from bab.results.clock import clock_text, start_of
from bab.results.vocalisations import (
    VOICES,
    Row,
    Voc,
    columns,
    lena_turns,
    lena_vocalisations,
    simple_turns,
    summary_rows,
    vocalisations,
    write_summary,
)

# Made by scripts/summary_truth.py with ChildProject 0.4.6.
TRUTH = json.loads((Path(__file__).parent / "summary_truth.json").read_text())
NAMES = {"KCHI": "chi", "OCH": "och", "MAL": "mal", "FEM": "fem"}
# 23:30 to 00:36. ChildProject 0.4.6 loses the hour from 23:00 of what begins within it: in
# `get_within_time_range` the hour ends at 0 ms of the day, before it begins.
LOST = ("nobody.wav", "clock", 23)
LABELS = (*VOICES, "SPEECH")  # ChildProject's readers turn the last into NA


def recording(case: dict[str, Any]) -> Annotation:
    start = case["start"] and time.fromisoformat(case["start"])
    segments = [Segment(at, at + length, label) for at, length, label in case["segments"]]
    return said(case["name"], case["seconds"], segments, start)


def as_childproject(row: Row) -> dict[str, Any]:
    """A row with ChildProject's names and units (ms)."""
    found: dict[str, Any] = {
        "recording": row.recording,
        "scope": row.scope,
        "hour": row.hour,
        "duration": round(row.seconds * 1000),
        "simple_CTC": row.counts.ctc_childproject,
    }
    for voice, name in NAMES.items():
        amount = row.voices[voice]
        found[f"voc_{name}"] = amount.count
        found[f"voc_dur_{name}"] = round(amount.seconds * 1000)
        mean = amount.mean_seconds
        found[f"avg_voc_dur_{name}"] = (
            mean if mean is None else pytest.approx(mean * 1000, rel=1e-12)
        )
    return found


def assert_equal_to_childproject(truth: list[dict[str, Any]]) -> None:
    ours = {
        (row.recording, row.scope, row.hour): row
        for case in TRUTH["recordings"]
        for row in summary_rows(recording(case), LABELS)
    }
    theirs = {(row["recording"], row["scope"], row["hour"]): row for row in truth}
    assert set(ours) - set(theirs) == {LOST} and not set(theirs) - set(ours)
    for key, row in theirs.items():
        assert as_childproject(ours[key]) == row, key
        assert ours[key].counts.cvc_childproject == row["voc_chi"]


def test_every_number_is_childprojects() -> None:
    assert len(TRUTH["rows"]) > 90
    assert {row["scope"] for row in TRUTH["rows"]} == {"recording", "hour", "clock"}
    assert_equal_to_childproject(TRUTH["rows"])


def test_every_number_is_that_of_the_childproject_installed_here() -> None:
    pytest.importorskip("ChildProject")
    spec = importlib.util.spec_from_file_location("truth", ROOT / "scripts" / "summary_truth.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    recordings = json.loads(json.dumps(script.cases()))
    assert recordings == TRUTH["recordings"]
    assert_equal_to_childproject(script.compute(recordings))


def test_the_hour_before_midnight_is_there() -> None:
    (case,) = (case for case in TRUTH["recordings"] if case["name"] == LOST[0])
    clock = {row.hour: row.seconds for row in summary_rows(recording(case)) if row.scope == "clock"}
    assert clock == {0: 2200, 23: 1800}


def test_the_truth_has_what_could_go_wrong() -> None:
    rows = {(r["recording"], r["scope"], r["hour"]): r for r in TRUTH["rows"]}
    whole = rows["borders.wav", "recording", None]
    for scope in ("hour", "clock"):  # what crosses a border stands on both sides of it
        parts = [
            r for r in TRUTH["rows"] if r["recording"] == "borders.wav" and r["scope"] == scope
        ]
        assert sum(r["duration"] for r in parts) == whole["duration"] == 7_300_000
        assert sum(r["voc_chi"] for r in parts) > whole["voc_chi"]
        assert sum(r["voc_dur_chi"] for r in parts) == whole["voc_dur_chi"]
    assert rows["nobody.wav", "recording", None]["avg_voc_dur_chi"] is None
    days = [r for r in TRUTH["rows"] if r["recording"] == "days.wav" and r["scope"] == "clock"]
    assert len(days) == 24 and max(r["duration"] for r in days) == 3 * 3_600_000
    assert not [
        r for r in TRUTH["rows"] if r["recording"] == "adults.wav" and r["scope"] == "clock"
    ]


def chain(text: str, gap: int = 1000) -> list[Voc]:
    """`CAx`: child, adult, other child; 600 ms each, `gap` ms apart."""
    names = {"C": "KCHI", "A": "FEM", "a": "MAL", "x": "OCH"}
    step = 600 + gap
    return [Voc(i * step, i * step + 600, names[letter]) for i, letter in enumerate(text)]


@pytest.mark.parametrize(
    ("text", "turns"),
    # The first four are LENA's own ("Conversational Turns Report"); the rest follow how it marks
    # its files: T.I (initiation), T.R (response), T.E (end, no new turn).
    [("CA", 1), ("AC", 1), ("CAC", 1), ("CACA", 2),
     ("", 0), ("C", 0), ("Aa", 0), ("CCC", 0), ("CxA", 0), ("CAxC", 1), ("CAxCA", 2), ("aCAaC", 2),
     ("AAACC", 1), ("ACCCCA", 1), ("ACCCCAC", 2), ("aCACaC", 3), ("xCx", 0)],
)  # fmt: skip
def test_lena_turns_are_pairs(text: str, turns: int) -> None:
    assert len(lena_turns(chain(text))) == turns


def test_lena_turns_are_half_the_sides_of_each_exchange() -> None:
    """Counted another way: split at pauses and other voices, collapse each side, halve."""
    draw = random.Random(0)
    for _ in range(300):
        vocs, now = [], 0
        for _ in range(draw.randrange(1, 40)):
            now += draw.choice([0, 500, 4999, 5000, 6000])
            vocs.append(Voc(now, now + 700, draw.choice(["KCHI", "KCHI", "MAL", "FEM", "OCH"])))
            now += 700
        sides, before = "", -10_000
        for voc in vocs:
            side = {"KCHI": "C", "OCH": " "}.get(voc.voice, "A")
            sides += (" " if voc.onset - before >= 5000 else "") + side
            before = voc.offset
        expected = sum(len(list(itertools.groupby(part))) // 2 for part in sides.split())
        assert len(lena_turns(vocs)) == expected


def test_five_seconds_end_a_lena_turn_and_one_second_a_simple_one() -> None:
    assert [len(lena_turns(chain("CA", gap))) for gap in (4999, 5000)] == [1, 0]
    assert [simple_turns(chain("CA", gap)) for gap in (999, 1000)] == [1, 0]
    assert simple_turns(chain("CAC", 0)) == 2 and simple_turns(chain("CxC", 0)) == 2
    # A long voice below: the pause begins when it ends, not when the one in between does.
    under = [Voc(0, 9000, "FEM"), Voc(1000, 1500, "FEM"), Voc(13_000, 13_500, "KCHI")]
    assert lena_turns(under) == [13_000]


def test_lena_vocalisations_are_a_breath_apart() -> None:
    assert lena_vocalisations(chain("CCC", 299)) == [0]
    assert lena_vocalisations(chain("CCC", 300)) == [0, 900, 1800]
    assert lena_vocalisations(chain("AxA")) == []


def test_lena_counts_of_hours_add_up_to_the_recording() -> None:
    for case in TRUTH["recordings"]:
        rows = list(summary_rows(recording(case), LABELS))
        for scope in ("hour", "clock") if case["start"] else ("hour",):
            parts = [row.counts for row in rows if row.scope == scope]
            for name in ("ctc_lena", "cvc_lena"):
                assert sum(getattr(c, name) for c in parts) == getattr(rows[0].counts, name)


def test_counts_that_need_a_voice_nobody_looked_for_are_empty() -> None:
    segments = [Segment(0, 1, "KCHI"), Segment(1, 2, "OCH")]
    (row, _) = summary_rows(said("x", 60, segments), ("KCHI", "OCH"))
    assert row.counts.cvc_childproject == 1 and row.counts.cvc_lena == 1
    assert row.counts.ctc_childproject is None and row.counts.ctc_lena is None
    (row, _) = summary_rows(said("x", 60, [], None), ("MAL", "FEM"))
    assert row.counts.cvc_childproject is None and row.counts.ctc_lena is None


@pytest.mark.parametrize(
    ("duration", "segment", "told"),
    [(10.0, Segment(0, 1, "DOG"), "'DOG'"), (10.0, Segment(2, 1, "KCHI"), "ends before"),
     (10.0, Segment(0, float("nan"), "KCHI"), "nan"), (float("inf"), None, "inf"),
     (-1.0, None, "-1.0"), (None, None, "isn't known")],
)  # fmt: skip
def test_what_is_no_annotation_is_named(
    duration: float | None, segment: Segment | None, told: str
) -> None:
    with pytest.raises(BabError, match=told) as error:
        vocalisations(said("child1/a.wav", duration, [segment] if segment else []))
    assert "child1/a.wav" in str(error.value)


def test_what_has_no_length_is_left_out() -> None:
    """Also what is shorter than half a millisecond, and what lies outside of the recording."""
    spans = [(1.0, 1.0), (2.0, 2.0004), (-2.0, -1.0), (10.0, 11.0), (-1.0, 0.0), (9.0, 12.0)]
    vocs = vocalisations(said("a.wav", 10.0, [Segment(a, b, "KCHI") for a, b in spans]))
    assert vocs == [Voc(9000, 10000, "KCHI")]


def test_summary_csv_says_what_the_rows_say(tmp_path: Path) -> None:
    path = tmp_path / "new" / "summary.csv"
    many = [recording(case) for case in TRUTH["recordings"]]
    odd = said('a,"b"\nc\udcff.wav', 3.5, [Segment(0, 0.1234, "MAL")], datetime(2023, 11, 4, 8))
    write_summary(iter([*many, odd]), path, LABELS)
    lines = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    rows = [row for one in [*many, odd] for row in summary_rows(one, LABELS)]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert tuple(line) == columns(LABELS)
        assert float(line["seconds"]) == row.seconds and line["scope"] == row.scope
        assert line["hour"] == ("" if row.hour is None else str(row.hour))
        assert line["ctc_lena"] == str(row.counts.ctc_lena)
        assert line["ctc_childproject"] == str(row.counts.ctc_childproject)
        for voice in LABELS:
            amount = row.voices[voice]
            assert float(line[f"{voice}_seconds"]) == amount.seconds
            assert int(line[f"{voice}_count"]) == amount.count
            mean = line[f"{voice}_mean_seconds"]
            assert (mean == "") == (amount.count == 0)
            assert mean == "" or float(mean) == pytest.approx(amount.mean_seconds, abs=1e-6)
    assert lines[-1]["recording"] == 'a,"b"\nc\\udcff.wav'
    assert lines[-1]["start"] == "2023-11-04T08:00:00" and lines[-1]["MAL_seconds"] == "0.123"
    assert [line["start"] for line in lines if line["recording"] == "adults.wav"] == ["", ""]


def test_a_summary_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    path.write_text("old")
    wrong = said("b.wav", 5, [Segment(0, 1, "DOG")])
    with pytest.raises(BabError):
        write_summary([said("a.wav", 5, []), wrong], path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_one_recording_is_held_at_a_time(tmp_path: Path) -> None:
    """The next recording is asked for only once the last one's rows are written."""
    alive = 0

    class Counted(Mark):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    peak = 0

    def stream():
        nonlocal peak, alive
        for index in range(20):
            alive += 1
            yield Annotation(f"{index}.wav", (Counted(0, 1, "KCHI"),), duration=60)
            peak = max(peak, alive)

    write_summary(stream(), tmp_path / "summary.csv")
    assert peak <= 2


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("20231104_081500.wav", datetime(2023, 11, 4, 8, 15)),
        ("home1/20231104T081530.flac", datetime(2023, 11, 4, 8, 15, 30)),
        ("x-20231104081500-y.WAV", datetime(2023, 11, 4, 8, 15)),
        ("REC_2023-11-04_08-15-00.m4a", datetime(2023, 11, 4, 8, 15)),
        ("Speech 2023-11-04 08.15.00", datetime(2023, 11, 4, 8, 15)),
        ("C:\\data\\2023_11_04-08:15:07.mp3", datetime(2023, 11, 4, 8, 15, 7)),
        ("20231104_235959.3gp", datetime(2023, 11, 4, 23, 59, 59)),
        ("child3_2023-11-04_08h15.wav", datetime(2023, 11, 4, 8, 15)),
        ("child3_08h15.wav", time(8, 15)),
        ("08h15m30s_child3.wav", time(8, 15, 30)),
        ("Home 3, 17H05min.wav", time(17, 5)),
        # The same start twice is one start.
        ("2023-11-04_08-15-00/20231104_081500.wav", datetime(2023, 11, 4, 8, 15)),
        ("20231104_081500_08h15.wav", datetime(2023, 11, 4, 8, 15)),
    ],
)
def test_a_start_is_read_from_the_name(name: str, start: datetime | time) -> None:
    assert start_of(name) == start


@pytest.mark.parametrize(
    "name",
    [
        "rec.wav", "0815.wav", "child_20231104.wav", "20231104_0815.wav", "231104_081500.wav",
        "04-11-2023_08-15-00.wav", "120231104_081500.wav", "20231104_0815001.wav",
        "20231304_081500.wav", "20230229_081500.wav", "20231104_251500.wav", "20231104_086000.wav",
        "e20160420_165405_010572.its",  # LENA: when it was transferred, 18 days later
        "e20160420_165405_010572.wav", "20231104_081500_20231104_091500.wav",
        "2023-11-04 08.15.00 PM.m4a", "20231104T081500Z.wav", "20231104T081500+0100.wav",
        "20231104_081500_UTC.wav", "08h15_17h30.wav", "24h15.wav", "08h60.wav", "108h15.wav",
        "8h15.wav", "ab08h15.wav", "08h15x.wav", "16h.wav", "20231104_081500/rec.wav", "",
    ],
)  # fmt: skip
def test_a_name_that_may_mean_something_else_has_no_start(name: str) -> None:
    assert start_of(name) is None


def test_clock_text_goes_round_midnight() -> None:
    assert clock_text(29_730_000) == "08:15" and clock_text(29_730_000, seconds=True) == "08:15:30"
    assert clock_text(24 * 3_600_000) == "00:00"


def test_the_docs_tell_every_column() -> None:
    told = (ROOT / "docs" / "summaries.md").read_text(encoding="utf-8")
    assert len(columns(("KCHI",))) >= 12
    for name in columns(("KCHI",)):
        assert f"`{name}`" in told, name
