"""Records in files: what is refused in which words, what brief reading leaves out; small parts."""

from __future__ import annotations

import gc
import math
import zlib
from datetime import datetime, time
from pathlib import Path
from typing import Any

import pytest
from made_records import CONFIG, edit, kept, make, put
from said import said

from bab.core.errors import BabError
from bab.core.types import Segment
from bab.results import record as module
from bab.results import timeline
from bab.results.clock import clock_text, moment_of, since_midnight
from bab.results.folding import folded
from bab.results.record import Skipped, collect, load, look, runs, save, uncollected
from bab.results.render import Sheet, amount, as_json, flat, latex, markdown, number, span
from bab.results.segments import write_segments
from bab.results.vocalisations import Voc, lena_turns, lena_vocalisations, summary_rows

LONG = kept([0.2, 0.9, 0.4, 0.7, 0.1, 0.8])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"jackknife": []}, "jackknife: is no object"),
        (
            {"jackknife": LONG | {"sizes": 3}},
            "jackknife: groups, sizes and left_out should be lists",
        ),
        ({"jackknife": LONG | {"groups": None}}, "groups, sizes and left_out should be lists"),
        ({"jackknife": LONG | {"sizes": [1.0]}}, "groups, sizes and left_out differ in length"),
        (
            {"jackknife": LONG | {"sizes": ["a"] * 6}},
            "sizes, left_out and effective should be numb",
        ),
        (
            {"jackknife": LONG | {"effective": "x"}},
            "sizes, left_out and effective should be numbers",
        ),
        (
            {"jackknife": LONG | {"scale": "odd"}},
            "scale is 'odd', not one of share, percent, rate, pl",
        ),
        ({"id": 3}, "id: Input should be a valid string"),
    ],
)
def test_what_is_wrong_with_a_record(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = save(make(), tmp_path)
    edit(path, **change)
    for brief in (False, True):
        with pytest.raises(BabError) as caught:
            load(path, brief)
        assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)
        assert str(caught.value).endswith(": repeat the run with --force")


def test_what_is_fine_in_a_record(tmp_path: Path) -> None:
    path = save(make(), tmp_path)
    for jackknife in ({}, {"unit": "child"}, {"left_out": []}, LONG | {"sizes": [1] * 6}):
        edit(path, jackknife=jackknife)
        assert load(path).jackknife == jackknife
    edit(path, jackknife=LONG | {"left_out": [None, *LONG["left_out"][1:]]})
    assert math.isnan(load(path).jackknife["left_out"][0])  # undefined without that group
    no_number = "is not a record (it has no format number)"
    other = "has format 9, this bab reads formats 1 and 2: read"
    for text, told in (("[1]", no_number), ('{"format": 9}', other)):
        path.write_text(text)
        with pytest.raises(BabError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: {told}")


def test_a_record_ends_with_a_checksum_of_what_is_before_it(tmp_path: Path) -> None:
    path = save(make(), tmp_path)
    data = path.read_bytes()
    body, _, last = data.rpartition(b",\n")
    assert last.decode() == f'  "checksum": "bab:{zlib.crc32(body):08x}"\n}}\n'
    assert look(str(path))[1] and look(str(path))[0] == load(path)
    path.write_bytes(data.replace(b'"seed": 0', b'"seed": 1'))
    record, sound = look(str(path))
    assert (record.seed, sound) == (1, False)
    edit(path)
    assert look(str(path))[1]


def test_lists_stand_on_one_line_unless_they_hold_sentences(tmp_path: Path) -> None:
    record = make(
        notices=["a" * 39, "b"], labels={"v": ["c" * 37, "d"], "w": ["e" * 38, "f"], "x": []}
    )
    lines = save(record, tmp_path).read_text().splitlines()
    assert f'      "{"e" * 38}",' in lines and '      "f"' in lines  # 41 with its comma and quotes
    assert f'    "v": ["{"c" * 37}", "d"],' in lines and '    "x": []' in lines
    assert f'    "{"a" * 39}",' in lines


def test_a_brief_record_has_what_tables_show(tmp_path: Path) -> None:
    record = make(
        jackknife=LONG, metrics={"f1": 0.5, "x": 1.0}, groups={"g": {"f1": 0.1}},
        presets={"p": {"metrics": {"f1": 0.5}}}, subgroups={"s": {"a": {"f1": 0.1}}},
        confusion={"c": {"a": {"a": 1.0}}}, dev={"f1": 0.2}, search={"x": 1}, tuned={"x": 1},
        device="cpu", notices=["n"], created="now", reason="r",
        data={"heard": {"test": 1}, "unseen": "made", "train": {"clips": 1}},
        cost={"encoder_parameters": 1.0, "encoder_audio_per_second": 2.0, "seconds": 3.0},
        versions={"torch": "2", "my plugin": "1"},
    )  # fmt: skip
    path = save(record, tmp_path)
    short = load(path, brief=True)
    gone = ("presets", "subgroups", "confusion", "dev", "search", "tuned", "groups", "intervals")
    assert all(getattr(short, name) == {} for name in gone)
    assert (short.device, short.notices, short.created, short.reason) == ("", [], "", "r")
    assert short.metrics == {"f1": 0.5} and short.versions == {"my plugin": "1"}
    assert short.data == {"heard": {"test": 1}, "unseen": "made"}
    assert short.cost == {"encoder_parameters": 1.0, "encoder_audio_per_second": 2.0}
    assert (short.jackknife, short.config, short.labels) == (LONG, CONFIG, record.labels)
    old = save(make(format=1, intervals={"f1": (0.1, 0.2)}), tmp_path)
    assert load(old, brief=True).intervals == {"f1": (0.1, 0.2)}  # which are spoken of
    five = save(make(jackknife=kept([0.1] * 5), groups={"g": {"f1": 1.0}}), tmp_path)
    assert load(five, brief=True).groups == {}
    edit(path := save(record, tmp_path / "edited"))  # without its checksum all of it is parsed
    assert load(path, brief=True) == short and load(path).groups == record.groups
    four = save(make(jackknife=kept([0.1] * 4), groups={"g": {"f1": 1.0}}), tmp_path)
    assert load(four, brief=True).groups == {"g": {"f1": 1.0}}


def test_most_of_a_brief_record_is_not_even_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tables of thousands it would take most of the time."""
    parsed: list[dict[str, Any]] = []
    real = module._parsed

    def watched(data: bytes) -> Any:
        parsed.append(real(data))
        return dict(parsed[-1])

    monkeypatch.setattr(module, "_parsed", watched)
    record = make(jackknife=LONG, presets={"f1": {"metrics": {"f1": 0.5}}}, groups={"g": {}})
    path = save(record, tmp_path)
    load(path, brief=True)
    (short,) = parsed
    assert not short.keys() & {"intervals", "presets", "groups", "subgroups", "confusion"}
    assert short.keys() >= {"metrics", "units", "labels", "jackknife", "config"}
    parsed.clear()
    edited = path.read_bytes().replace(b'"fbank"', b'"other"')
    path.write_bytes(edited)
    with pytest.raises(BabError, match="is damaged, or was edited"):
        load(path, brief=True)
    assert len(parsed) == 1 and "presets" in parsed[0]  # what isn't as it was written is read whole


def test_what_was_met_before_is_held_once_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})
    one, two = module._once([1, 2]), module._once([1, 2])
    assert one is two and module._once([1.0, 2.0]) is not one  # equal, of other types
    for count in range(9_998):
        module._once([count, "x"])
    assert len(module._known) == 10_000 and module._once([1, 2]) is one
    module._once(["one more"])
    module._once(["and another"])
    assert len(module._known) == 1


def test_folders_of_runs_in_order(tmp_path: Path) -> None:
    laid = {
        "b/1": ["record.json"], "a": [".lock"], "c/x": ["pretrain.json", ".lock"],
        "d": ["record.json", "pretrain.json"], ".h": ["record.json"], "e": ["f"],
        "a/in": ["record.json"],
    }  # fmt: skip
    for name, files in laid.items():
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            (tmp_path / name / file).write_text("{")
    (tmp_path / "z").symlink_to(tmp_path / "b")
    assert list(runs(tmp_path)) == [(tmp_path / "a", False), (tmp_path / "b" / "1", True)]
    found, skipped = collect(tmp_path)
    assert found == [] and skipped[0] == Skipped(
        str(tmp_path / "a"), "unfinished: the same command goes on with it"
    )
    assert skipped[1].path == str(tmp_path / "b" / "1") and skipped[1].reason.startswith(
        "record.json"
    )
    assert list(runs(tmp_path / "none")) == [] == list(runs(tmp_path / "e" / "f"))


def test_the_collector_rests_while_records_are_read(tmp_path: Path) -> None:
    put(tmp_path, make())
    for begin in (True, False):
        (gc.enable if begin else gc.disable)()
        try:
            with uncollected():
                assert not gc.isenabled()
            assert gc.isenabled() is begin
        finally:
            gc.enable()


# --- printed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(0.12345, "", "0.123"), (12.345, "%", "12.3"), (123456.0, "s", "1.235e+05"), (1.5, "s", "1.5"),
     (math.inf, "", "undefined"), (-0.5, "", "-0.500")],
)  # fmt: skip
def test_numbers_in_their_units(value: float, unit: str, shown: str) -> None:
    assert number(value, unit) == shown and span(value, value, unit) == f"[{shown}, {shown}]"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (999.4, "999"), (1000, "1.0 k"), (1e6, "1.0 M"), (999_999, "1000.0 k"),
     (2.5e9, "2.5 G")],
)  # fmt: skip
def test_amounts(value: float, shown: str) -> None:
    assert amount(value) == shown


def test_sheets_as_markdown_and_latex() -> None:
    sheet = Sheet(["a b", "c\nd"], [["x|y", "1"], ["", "22"]], 1, "T |  t", ["n\nm"])
    assert markdown([sheet, Sheet(["q"], [])]) == (
        "### T \\| t\n\n| a b  | c d |\n| ---- | --: |\n| x\\|y |   1 |\n|      |  22 |\n\n"
        "- n m\n\n"
        "| q   |\n| --- |\n"
    )
    assert latex([sheet]).splitlines() == [
        "% T | t", r"\begin{tabular}{lr}", r"\toprule", r"a b & \shortstack{c \\ d} \\",
        r"\midrule",
        r"x\textbar{}y & 1 \\", r" & 22 \\", r"\bottomrule", r"\end{tabular}", "% n m",
    ]  # fmt: skip
    assert (
        flat([]) == ""
        and flat([{"a": None, "b": math.nan}, {"b": math.inf, "c": 1}]) == "a,b\n,\n,\n"
    )
    assert as_json("é †") == '"é †"\n'
    assert as_json({"a": (1, math.nan), "b": {"c": -math.inf}}) == (
        '{\n  "a": [\n    1,\n    null\n  ],\n  "b": {\n    "c": null\n  }\n}\n'
    )


def test_folding_keeps_ends_of_lines() -> None:
    wide = (
        "| name |                       value |\n| ---- | --------------------------: |\n"
        "| a    | one two three four five six |\n"
    )
    assert folded(wide, 20) == "a\n  value  one two three four\n         five six\n"
    assert folded(wide.rstrip("\n"), 20) == folded(wide, 20).rstrip("\n")
    assert folded("word " * 5 + "\n\n| a |\n", 10) == "word word\nword word\nword\n\n| a |\n"
    only = "| name | " + "value " * 7 + "|\n| ---: | ----: |\n| 1 | " + "2 " * 20 + "|\n"
    assert (
        folded(only, 20).splitlines()[0] == "1"
    )  # a row without words is called by its first cell


def test_segments_of_many_recordings(tmp_path: Path) -> None:
    from bab.core.types import Prediction

    rows = [Prediction("=a", segments=(Segment(0.1, 1.23456, "K"),)), Prediction("b")]
    write_segments(iter(rows), tmp_path / "new" / "s.csv")
    text = (tmp_path / "new" / "s.csv").read_text()
    assert text == "uid,start_time_s,duration_s,label\n'=a,0.100,1.135,K\n"


# --- times --------------------------------------------------------------------------------------


def test_clocks() -> None:
    assert since_midnight(time(1, 2, 3, 4999)) == 3_723_004
    assert since_midnight(time(0, 0, 0, 1000)) == 1 and since_midnight(time(0, 0, 0, 999)) == 0
    assert since_midnight(datetime(2023, 11, 4, 23, 59, 59, 999_999)) == 86_399_999
    assert moment_of("08:15:30") == time(8, 15, 30)
    assert moment_of("2023-11-04T08:15:00") == datetime(2023, 11, 4, 8, 15)
    cases = {0: "00:00:00", 59_999: "00:00:59", 3_599_999: "00:59:59", 90_061_000: "01:01:01"}
    assert {ms: clock_text(ms, True) for ms in cases} == cases
    assert clock_text(-60_000) == "23:59"


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(49, "0.0 s"), (3_249, "3.2 s"), (59_499, "59.5 s"), (59_500, "1 min 00 s"),
     (3_599_499, "59 min 59 s"), (3_599_500, "1 h 00 min"), (57_600_000, "16 h 00 min"),
     (5_399_999, "1 h 30 min")],
)  # fmt: skip
def test_lengths(ms: int, shown: str) -> None:
    assert timeline._length(ms) == shown


def test_names_in_pictures() -> None:
    assert timeline.printable("é\u200c\u200d\x1b\n") == "é\u200c\u200d\\x1b\\n"
    assert timeline.printable("a" * 90) == "a" * 90
    assert timeline.printable("a" * 46 + "b" * 45) == "a" * 44 + "…" + "b" * 45


@pytest.mark.parametrize("step", [1, 2, 5, 10, 15, 30, 60, 120, 300, 600])
def test_ticks_of_one_row(step: int) -> None:
    """At most ten steps, of the shortest that will do, at round times of the clock."""
    end = 10 * step * 1000
    at = [place for place, _ in timeline._short_ticks(end, 0, False)]
    assert at == list(range(0, end + 1, step * 1000))
    more = [place for place, _ in timeline._short_ticks(end + 1, 0, False)]
    assert (more[1] > step * 1000) == (step < 600)
    late = [place for place, _ in timeline._short_ticks(end, 300, True)]
    assert late[0] == step * 1000 - 300 and late[1] - late[0] == step * 1000
    texts = [text for _, text in timeline._short_ticks(end, 300, True)]
    assert (texts[0].count(":") == 2) == (step < 60)


def spans(*vocs: tuple[int, int], start: int = 0, end: int = 100, least: float = 0) -> list[Any]:
    row = timeline._Row("", start if start < 0 else 0, max(start, 0), end)
    return timeline._spans([Voc(a, b, "KCHI") for a, b in vocs], row, least)


def test_marks_of_a_row() -> None:
    assert spans((10, 20), (20, 30), (31, 40)) == [(10, 30), (31, 40)]  # what touches is one
    assert spans((10, 50), (20, 30)) == [(10, 50)]
    assert spans((10, 20), (15, 60)) == [(10, 60)]
    assert spans((90, 150), (100, 120), (200, 300)) == [(90, 100)]
    assert spans((10, 11), (98, 99), least=5) == [(10, 15), (98, 100)]
    assert spans((10, 11), (14, 15), least=5) == [(10, 19)]
    assert spans((0, 10), start=5) == [(5, 10)] and spans((0, 5), start=5) == []
    assert spans((10, 20), start=-30) == [(40, 50)]


def test_shares_of_five_minutes() -> None:
    row = timeline._Row("", 0, 0, 900_000)
    vocs = [Voc(0, 30_000, "K"), Voc(290_000, 310_000, "K"), Voc(599_999, 600_000, "K"),
            Voc(600_000, 900_000, "K")]  # fmt: skip
    assert timeline._shares(vocs, row) == [
        (0, 300_000, 40_000 / 300_000), (300_000, 600_000, 10_001 / 300_000),
        (600_000, 900_000, 1.0),
    ]  # fmt: skip


def test_turns_and_breaths_at_the_edges() -> None:
    assert lena_turns([Voc(0, 100, "KCHI"), Voc(100, 200, "MAL"), Voc(200, 300, "KCHI")]) == [100]
    assert lena_turns([Voc(0, 100, "OCH"), Voc(100, 200, "MAL"), Voc(5200, 5300, "KCHI")]) == []
    near = [Voc(0, 10, "KCHI"), Voc(309, 320, "KCHI"), Voc(620, 630, "KCHI")]
    assert lena_vocalisations(near) == [
        0, 620
    ]  # fmt: skip
    assert lena_vocalisations(
        [Voc(0, 900, "KCHI"), Voc(10, 20, "KCHI"), Voc(1100, 1300, "KCHI")]
    ) == [0]


def test_hours_of_the_clock_of_two_days() -> None:
    """From 23:30, 25 hours: each hour of the day once, two of them from both days."""
    recording = said("a", 25 * 3600.0, [Segment(0, 3600, "KCHI")], time(23, 30))
    rows = list(summary_rows(recording))
    clock = {row.hour: row.seconds for row in rows if row.scope == "clock"}
    assert list(clock) == list(range(24)) and clock[23] == 1800 + 3600 and clock[0] == 3600 + 1800
    spoken = {r.hour: r.voices["KCHI"].seconds for r in rows if r.scope == "clock"}
    assert (spoken[23], spoken[0], spoken[1]) == (1800, 1800, 0)
    hours = [row.seconds for row in rows if row.scope == "hour"]
    assert hours == [3600.0] * 25 and rows[0].seconds == 90_000
