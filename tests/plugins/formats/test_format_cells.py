"""Formats cell by cell: what each line says, what is refused and how, what is written of a mark."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from format_files import ITS, read, said, write

from bab.core.annotations import Annotation, Mark
from bab.core.errors import BabError
from bab.plugins.formats.shared import files, names, tables, xml

Facts = list[tuple[Any, ...]]


def facts(one: Annotation) -> Facts:
    return [
        (round(m.start, 3), round(m.end, 3), m.label, m.speaker, m.text, dict(m.values))
        for m in one.marks
    ]


def refused(name: str, path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BabError) as caught:
        read(name, path)
    return str(caught.value).removeprefix(str(path))


def text_of(name: str, path: Path, *marks: Mark, uri: str = "a", **options: Any) -> list[str]:
    write(name, path, Annotation(uri, marks), **options)
    return path.read_text(encoding="utf-8").splitlines()


# ------------------------------------------------------------------------------- rttm


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("SPEAKER a 1 1 2 <NA> <NA> X", ("X", "", {})),  # eight columns are enough
        ("SPEAKER a 1 1 2 <NA> <NA> X 0.5", ("X", "", {"confidence": "0.5"})),
        ("SPEAKER a 1 1 2 <NA> child X <NA> <NA>", ("X", "", {"subtype": "child"})),
        ("SPEAKER a 1 1 2 said <NA> X <NA> <NA>", ("X", "said", {})),
        ("SPEAKER\ta\t1\t1\t2\ttwo words\t<NA>\tX", ("X", "two words", {})),
        ("  SPEAKER a 1 1 2 <NA> <NA> X <NA> <NA>  ", ("X", "", {})),
    ],
)
def test_a_line_of_an_rttm(tmp_path: Path, line: str, expected: tuple[Any, ...]) -> None:
    one, form = read("rttm", tmp_path / "x.rttm", f"{line}\n")
    assert one.uri == "a" and facts(one) == [(1.0, 3.0, expected[0], "", *expected[1:])]
    assert form.notices == []


def test_what_an_rttm_leaves_out(tmp_path: Path) -> None:
    lines = [
        "; SPEKER", "# SPEKER", "", " ", "LEXEME a", "SPKR-INFO a", "A/P a",
        "SPEAKER a 1 1 0 <NA> <NA> X", "SPEAKER a 1 2 0 <NA> <NA> X", "SPEAKER a 1 2 1 <NA> <NA> X",
    ]  # fmt: skip
    one, form = read("rttm", tmp_path / "x.rttm", "\r\n".join(lines))
    assert facts(one) == [(2.0, 3.0, "X", "", "", {})]
    assert form.notices == [
        "3 lines that are not SPEAKER lines were left out", "2 turns of no length were left out",
    ]  # fmt: skip
    silent, _ = read("rttm", tmp_path / "home 1.rttm", "")
    assert silent == Annotation("home 1")
    long = "SPEKER " + "x" * 100
    assert (
        refused("rttm", tmp_path / "x", f" {long}") == f":1: not a line of an RTTM: {long[:80]!r}"
    )
    for count in (7, 11):
        line = " ".join(["SPEAKER", *"a" * (count - 1)])
        assert refused("rttm", tmp_path / "x", f"\n{line} ") == (
            f":2: {count} columns, not the 10 of an RTTM (names may hold no spaces): {line!r}"
        )


def test_what_an_rttm_holds_of_a_mark(tmp_path: Path) -> None:
    marks = (
        Mark(0.5, 1.75, "KCHI"),
        Mark(1.0, 2.0, "", "Ann  B", values={"confidence": "0.9"}),
        Mark(2.0, 3.0, " a b "),
        Mark(3.0, 4.0, ""),
    )
    assert text_of("rttm", tmp_path / "x.rttm", *marks, uri="home 01") == [
        "SPEAKER home_01 1 0.500 1.250 <NA> <NA> KCHI <NA> <NA>",
        "SPEAKER home_01 1 1.000 1.000 <NA> <NA> Ann_B 0.9 <NA>",
        "SPEAKER home_01 1 2.000 1.000 <NA> <NA> a_b <NA> <NA>",
        "SPEAKER home_01 1 3.000 1.000 <NA> <NA> <NA> <NA> <NA>",
    ]


# ------------------------------------------------------------------------------- audacity


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("\tKCHI", ("KCHI", "", "")),
        ("\tFA1", ("FEM", "FA1", "")),
        ("\tFA1: hello", ("FEM", "FA1", "hello")),
        ("\tFA1: a: b", ("FEM", "FA1", "a: b")),
        ("\tFA1:hello", ("FA1:hello", "FA1:hello", "")),
        ("\ttwo words: x", ("two words: x", "two words: x", "")),
        ("\t: x", (": x", ": x", "")),
        ("\t ", ("NA", "", "")),
        ("", ("NA", "", "")),
        ("\tKCHI\tmore", ("KCHI\tmore", "KCHI\tmore", "")),
    ],
)
def test_a_label_of_audacity(tmp_path: Path, cell: str, expected: tuple[str, ...]) -> None:
    one, form = read("audacity", tmp_path / "x.txt", f"1.0\t2.0{cell}\n\n")
    assert facts(one) == [
        (1.0, 2.0, *(t.strip() for t in expected[:2]), expected[2], {})
    ] and form.notices == []  # fmt: skip
    assert one.uri == "x"


def test_lines_between_labels_of_audacity(tmp_path: Path) -> None:
    text = "0\t1\tFEM\n\\\t100.0\t200.0\n\n1\t2\tMAL\n"  # frequencies of the label above
    assert said(read("audacity", tmp_path / "x.txt", text)[0]) == [
        (0.0, 1.0, "FEM", ""), (1.0, 2.0, "MAL", ""),
    ]  # fmt: skip


def test_what_audacity_can_t_say(tmp_path: Path) -> None:
    line = "x" * 90
    assert refused("audacity", tmp_path / "x", f"0\t1\n{line}\n") == (
        ":2: not a line of an Audacity label track (start, end and label, between tabs): "
        f"{line[:80]!r}"
    )
    marks = (
        Mark(0, 1, "KCHI"), Mark(1, 2, "FEM", "FA1", "so\tit\nis"), Mark(2, 3, "FEM", "Anna"),
        Mark(3, 4, "", "MA1"), Mark(4, 5, "x", "x"), Mark(5, 6, "", "y", "z"), Mark(6, 7, "w"),
    )  # fmt: skip
    path = tmp_path / "y.txt"
    notices = write("audacity", path, Annotation("y", marks))
    assert path.read_text().splitlines() == [
        "0.000000\t1.000000\tKCHI", "1.000000\t2.000000\tFA1: so it is",
        "2.000000\t3.000000\tFEM", "3.000000\t4.000000\tMA1", "4.000000\t5.000000\tx",
        "5.000000\t6.000000\ty: z", "6.000000\t7.000000\tw",
    ]  # fmt: skip
    assert notices == ["Audacity has one name for a label: 1 speakers were left out"]
    assert write("audacity", path, Annotation("y", marks[:2])) == []
    empty = Annotation("y", (Mark(0, 1, ""),))
    write("audacity", path, empty)
    assert path.read_text() == "0.000000\t1.000000\tNA\n"


# ------------------------------------------------------------------------------- csv


HEAD = "uid,start_time_s,duration_s,label"


def test_a_table_of_marks(tmp_path: Path) -> None:
    rows = f"{HEAD},speaker,text,mood\na,1,2,FEM,Ann,hi,glad\na,4,1,MAL,,,\na,5,0,MAL,,,\n"
    one, form = read("csv", tmp_path / "x.csv", rows)
    assert facts(one) == [
        (1.0, 3.0, "FEM", "Ann", "hi", {"mood": "glad"}), (4.0, 5.0, "MAL", "", "", {}),
    ]  # fmt: skip
    assert form.notices == ["1 lines of no duration were left out"]
    assert read("csv", tmp_path / "home.csv", HEAD)[0] == Annotation("home")
    assert (
        refused("csv", tmp_path / "x", f"{HEAD}\n,1,2,X") == ":2: uid is empty: name the recording"
    )
    assert refused("csv", tmp_path / "x", f"{HEAD}\na,-1,2,X") == (
        ":2: 2 s from -1 s is no stretch of time: correct it"
    )
    assert refused("csv", tmp_path / "x", f"{HEAD}\na,1,x,X") == (
        ":2: onset and duration must be numbers: '1', 'x'"
    )
    for onset, duration in (("1", "-1"), ("nan", "1"), ("1", "nan"), ("inf", "1"), ("0", "inf")):
        assert refused("csv", tmp_path / "x", f"{HEAD}\na,{onset},{duration},X") == (
            f":2: {duration} s from {onset} s is no stretch of time: correct it"
        )


def test_columns_of_a_table_that_are_written(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    assert text_of("csv", path, Mark(0.25, 1.0, "KCHI"), Mark(1, 2, "=x")) == [
        HEAD, "a,0.250,0.750,KCHI", "a,1.000,1.000,'=x",
    ]  # fmt: skip
    assert read("csv", path)[0].marks[1].label == "=x"
    marks = (Mark(0, 1, "A", "s", values={"z": "1"}), Mark(1, 2, "B", values={"b": "2"}))
    assert text_of("csv", path, *marks) == [
        f"{HEAD},speaker,b,z", "a,0.000,1.000,A,s,,1", "a,1.000,1.000,B,,2,",
    ]  # fmt: skip
    with pytest.raises(BabError) as caught:
        write("csv", path, Annotation("a", (Mark(0, 1, "A", values={"uid": "1", "text": "2"}),)))
    assert str(caught.value) == f"{path}: a value can't be called ['text', 'uid']: rename it"


# ------------------------------------------------------------------------------- its


def its(old: str, new: str) -> str:
    assert old in ITS
    return ITS.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "began", "notices"),
    [
        ("x" * 0, "", datetime(2024, 5, 17, 8, 30, 15), []),
        ('startClockTime="2024-05-17T06:30:15Z" ', "", None,
         ["the clock at which it begins isn't said"]),
        ("TransferTime", "NoTime", datetime(2024, 5, 17, 7, 30, 15),
         ["times of day are in the zone's standard time"]),
        ('UTCTime="2024-05-18T10:00:00"', "", datetime(2024, 5, 17, 6, 30, 15),
         ["times of day are UTC: the file names no zone"]),
    ],
)  # fmt: skip
def test_the_clock_of_lena(
    tmp_path: Path, old: str, new: str, began: datetime | None, notices: list[str]
) -> None:
    one, form = read("its", tmp_path / "e.its", its(old, new))
    assert one.began == began and form.notices == notices


def test_a_paused_recorder_and_a_zone_without_a_number(tmp_path: Path) -> None:
    two = '<Recording num="2" startClockTime="x" startTime="PT9.5S" endTime="PT12S"></Recording>'
    text = its("</Recording>", f"</Recording>{two}").replace("TransferTime", "NoTime")
    one, form = read("its", tmp_path / "e.its", text.replace('"3600"', '"an hour"'))
    assert one.duration == 12.0 and len(one.marks) == 6
    assert form.notices == [
        "the recorder was paused 1 times: times of day after the first pause are later than the "
        "clock of the first part says",
        "times of day are UTC: the file names no zone",
    ]
    without = text.replace("<TimeZone", "<NoZone")
    assert read("its", tmp_path / "e.its", without)[1].notices[1].endswith("names no zone")


def test_what_lena_counts(tmp_path: Path) -> None:
    """Words, utterances and lengths are summed over who speaks; what isn't said isn't a value.
    Parts are counted from 1 on, without a gap."""
    segment = (
        '<Segment spkr="FAN" femaleAdultWordCnt="1.5" maleAdultWordCnt="2" femaleAdultUttCnt="1" '
        'childUttCnt="2" femaleAdultUttLen="P1.25S" childUttLen="PT0.5S" conversationInfo='
        '"|XC|7|8|3|NA|NT|FI|" startUtt1="PT6.1S" endUtt1="PT6.2S" startUtt2="PT6.3S" '
        'endUtt2="PT6.5S" startUtt4="PT6.6S" endUtt4="PT6.7S" '
        'startVfx1="PT6S" endVfx1="PT7S" startTime="PT6.00S" endTime="PT7.00S" />'
    )
    old = '<Segment spkr="MAN" startTime="PT6.00S" endTime="PT7.00S" />'
    one, _ = read("its", tmp_path / "e.its", its(old, segment))
    (values,) = [dict(m.values) for m in one.marks if m.start == 6.0]
    assert values == {
        "lena_block_number": "1", "lena_block_type": "CIC", "words": "3.5", "utterances_count": "3",
        "utterances_length": "1750", "lena_conv_status": "XC", "lena_response_count": "3",
        "lena_conv_turn_type": "NT", "lena_conv_floor_type": "FI",
        "utterances": '[{"start": 6.1, "end": 6.2}, {"start": 6.3, "end": 6.5}]',
        "vfxs": '[{"start": 6.0, "end": 7.0}]',
    }  # fmt: skip
    pause = read("its", tmp_path / "e.its", ITS)[0].marks[0].values
    assert pause == {"lena_block_number": "1", "lena_block_type": "pause", "peak_db": "-50.0"}


def test_segments_stand_in_pauses_and_conversations_alone(tmp_path: Path) -> None:
    other = '<Note><Segment spkr="MAN" startTime="PT0S" endTime="PT1S" /></Note>'
    text = its('<Pause num="1"', f'{other}<Pause num="1"')
    assert said(read("its", tmp_path / "e.its", text)[0]) == said(
        read("its", tmp_path / "f.its", ITS)[0]
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<ITS></ITS>", ": holds no <Recording>: LENA hasn't processed it to the end"),
        (its('spkr="MAN" ', ""), ":25: a <Segment> without spkr"),
        (its('childUttCnt="1"', 'childUttCnt="one"'), ":16: childUttCnt='one' is no number"),
        (its('startTime="PT6.00S"', 'startTime="6"'),
         ":25: <Segment> has startTime='6', not a time such as PT12.27S"),
        (its('endCry1="PT3.50S" ', ""),
         ":16: <Segment> has endCry1='', not a time such as PT12.27S"),
        (its('endTime="PT7.00S"', 'endTime="PT5.00S"'),
         ":25: 6 to 5 s is no stretch of time: correct it"),
        ("<A></A>", ":1: the root is <A>, not <ITS> as in LENA's ITS"),
        ("<ITS>\n<x></ITS>", ":2: not well-formed XML (mismatched tag: line 2, column 5): is this "
         "LENA's ITS, copied whole?"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_faulty_its(tmp_path: Path, text: str, told: str) -> None:
    assert refused("its", tmp_path / "e.its", text) == told


# ------------------------------------------------------------------------------- shared


def test_seconds_and_spans() -> None:
    assert files.seconds("1", "2.5", "f:1") == (1.0, 2.5) and files.seconds("0", "0", "f") == (0, 0)
    assert files.seconds("1500", "2000", "f:1", 1e-3) == (1.5, 2.0)
    for start, end, told in (
        ("x", "1", "f:1: times must be numbers: 'x', '1'"),
        ("2", "1", "f:1: 2 to 1 s is no stretch of time: correct it"),
        ("-1", "1", "f:1: -1 to 1 s is no stretch of time: correct it"),
        ("0", "inf", "f:1: 0 to inf s is no stretch of time: correct it"),
    ):
        with pytest.raises(BabError) as caught:
            files.seconds(start, end, "f:1")
        assert str(caught.value) == told
    assert files.milliseconds(1.2345) == 1234 and files.milliseconds(0.0006) == 1


def test_texts_of_one_line(tmp_path: Path) -> None:
    assert files.printable("a\x00\x1fb\ud800\uffff\tc\n") == "ab\tc\n"
    assert files.one_line("a\r\nb\tc\x0bd\u2028e\x85f\x07") == "a b c d e f"
    path = tmp_path / "x"
    for data, text in (
        ("é\n".encode(), "é\n"), ("é".encode("utf-8-sig"), "é"), ("é".encode("utf-16"), "é"),
        (b"\xfe\xff" + "é".encode("utf-16-be"), "é"), (b"", ""),
    ):  # fmt: skip
        path.write_bytes(data)
        assert files.text_of(path) == text
    path.write_bytes(b"a\r\nb\nc\rd\x85e")
    path.write_bytes(b"a\r\nb\nc\rd")
    assert list(files.lines(path)) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    path.write_bytes(b"\xff")
    with pytest.raises(BabError) as caught:
        files.text_of(path)
    assert str(caught.value).startswith(f"{path}: can't be read as UTF-8 or UTF-16 text (")
    assert str(caught.value).endswith("). Save it as UTF-8")


def test_tables_by_column(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('a, b ,c\n1,2,"3\n4"\n\n,,\n5,,6\n')
    rows = list(tables.read_table(path, ("a", "b")))
    assert rows == [(3, {"a": "1", "b": "2", "c": "3\n4"}), (6, {"a": "5", "b": "", "c": "6"})]
    for text, told in (
        ("a,bb\n", ":1: no column 'b' in the header (did you mean 'bb'?)"),
        ("", ":1: no column 'a' in the header (known: none)"),
        ("a,b\n1\n", ":2: 1 cells under 2 columns"),
        ("a,b\n1,2,3\n", ":2: 3 cells under 2 columns"),
        ('a,b\n1,"2" x\n', ":2: can't be read as a table (',' expected after '\"')"),
    ):
        path.write_text(text)
        with pytest.raises(BabError) as caught:
            list(tables.read_table(path, ("a", "b")))
        assert str(caught.value) == f"{path}{told}"


def test_xml_says_where_each_element_begins(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text("<r a='1'>\n<s>t</s>\n</r>")
    root = xml.parse_xml(path, "r", "an R")
    assert dict(root.attrib) == {"a": "1", xml.LINE: "1"} and root[0].get(xml.LINE) == "2"
    assert root[0].text == "t"
    with pytest.raises(BabError) as caught:
        xml.parse_xml(tmp_path / "none", "r", "an R")
    assert str(caught.value).startswith(f"{tmp_path / 'none'}: can't be read as an R ([Errno 2]")
    path.write_text("<!DOCTYPE r [\n<!ENTITY b 'c'>]><r>&b;</r>")
    with pytest.raises(BabError) as caught:
        xml.parse_xml(path, "r", "an R")
    told = "declares the entity 'b', which no file of this kind needs: remove it"
    assert str(caught.value) == f"{path}:2: {told}"


@pytest.mark.parametrize(
    ("name", "voice"),
    [
        *((kind, kind) for kind in ("KCHI", "OCH", "MAL", "FEM")),
        *(("CHI", "KCHI"), ("CHI*", "KCHI"), (" CHI ", "KCHI"), ("CHI1", ""), ("chi", "")),
        *(("FA1", "FEM"), ("FA12", "FEM"), ("FAE", "FEM"), ("MOT", "FEM"), ("MOT*", "FEM")),
        *(("MA3", "MAL"), ("MAE", "MAL"), ("FAT", "MAL"), ("FAT*", "MAL"), ("FA", ""), ("MA", "")),
        *(("FC1", "OCH"), ("MC2", "OCH"), ("UC1", "OCH"), ("C1", "OCH"), ("MI1", "OCH")),
        *(("OC0", "OCH"), ("FCE", "OCH"), ("MCE", "OCH"), ("UCE", ""), ("UA1", ""), ("", "")),
    ],
)
def test_names_of_voices(name: str, voice: str) -> None:
    assert names.voice_of(name) == voice
    bare = name.strip()
    assert names.said_by(name) == ((bare, "") if bare in names.KINDS else (voice or bare, bare))


def test_the_kind_of_a_mark() -> None:
    def kind(label: str, speaker: str = "") -> str:
        return names.kind_of(Mark(0, 1, label, speaker), "p")

    assert kind("FEM") == "FEM" == kind("FA1") == kind("", "FA1") == kind("FEM", "MA1")
    assert kind("SPEECH", "FA1") == "" == kind("") and kind("CHI", "CHI") == "KCHI"
    with pytest.raises(BabError) as caught:
        kind("CHI")
    assert str(caught.value) == (
        "p: the label CHI is the other child in what the Voice Type Classifier of 2020 writes, and "
        "the key child elsewhere. Say which: bab convert --set labels.CHI=OCH (or KCHI)"
    )
