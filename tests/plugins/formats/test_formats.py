"""Every built-in format: the contract, what other tools' files say, and what other tools read."""

from __future__ import annotations

import csv
import json
import sys
from datetime import datetime

import pytest
from format_files import CHA, DAY, EAF, ITS, TEXTGRID, read, said, write
from pydantic import ValidationError

from bab.core import registry
from bab.core.annotations import Annotation, Mark
from bab.core.errors import BabError
from bab.data.annotations import open_format
from bab.testing.formats import check_format

FORMATS = sorted(registry.names("formats"))


@pytest.mark.parametrize("name", FORMATS)
def test_contract(name, tmp_path):
    samples = []
    if name == "its":
        samples = [tmp_path / "lena.its"]
        samples[0].write_text(ITS)
    check_format(registry.load("formats", name), tmp_path / "out", samples)


def test_the_formats_are_those_of_the_plan():
    assert FORMATS == ["audacity", "cha", "childproject", "csv", "eaf", "its", "rttm", "textgrid"]


def test_a_missing_library_is_one_line_with_the_command(tmp_path, monkeypatch):
    for name, module in (("textgrid", "praatio"), ("eaf", "pympi")):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, f"{module}.textgrid", raising=False)
        monkeypatch.delitem(sys.modules, f"{module}.Elan", raising=False)
        with pytest.raises(BabError, match=r"pip install 'bab\[formats\]'"):
            write(name, tmp_path / "x", DAY)


# ----------------------------------------------------------------------- files of others


def test_its_says_segments_turns_and_the_local_clock(tmp_path):
    one, form = read("its", tmp_path / "e.its", ITS)
    assert said(one) == [
        (0.0, 1.04, "SIL", "SIL"),
        (1.04, 2.0, "CHF", "CHF"),
        (2.0, 3.75, "KCHI", "CHN"),
        (3.75, 6.0, "FEM", "FAN"),
        (6.0, 7.0, "MAL", "MAN"),
        (7.0, 9.5, "OCH", "CXN"),
    ]
    assert one.duration == 9.5 and form.notices == []
    assert one.began == datetime(2024, 5, 17, 8, 30, 15)  # two hours before UTC, in summer
    child, woman = one.marks[2].values, one.marks[3].values
    assert child["lena_block_type"] == "CIC" and child["lena_conv_turn_type"] == "NT"
    assert json.loads(child["utterances"]) == [{"start": 2.1, "end": 2.9}]
    assert json.loads(child["cries"]) == [{"start": 3.0, "end": 3.5}]
    assert child["child_cry_vfx_len"] == "500" and child["utterances_length"] == "800"
    assert (woman["words"], woman["utterances_count"]) == ("5.76", "2")
    assert woman["non_speech_length"] == "250" and woman["lena_conv_turn_type"] == "TIFR"


def test_its_can_be_told_to_keep_voices_alone(tmp_path):
    one, form = read("its", tmp_path / "e.its", ITS, segments="voices")
    assert [label for _, _, label, _ in said(one)] == ["KCHI", "FEM", "MAL", "OCH"]
    assert form.notices == ["2 segments of no near voice left out"]


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ('startTime="PT6.00S"', 'startTime="soon"', 25, "soon"),
        ('spkr="MAN" ', "", 25, "spkr"),
        ('endTime="PT7.00S"', 'endTime="PT5.00S"', 25, "6 to 5"),
        ('femaleAdultWordCnt="5.76"', 'femaleAdultWordCnt="many"', 21, "many"),
        ("</ProcessingUnit>", "", 30, "not well-formed"),
    ],
)
def test_its_names_file_and_line(old, new, line, word, tmp_path):
    assert old in ITS
    with pytest.raises(BabError) as error:
        read("its", tmp_path / "e.its", ITS.replace(old, new))
    assert f"e.its:{line}: " in str(error.value) and word in str(error.value)


@pytest.mark.parametrize("name", ["its", "eaf"])
def test_no_entity_of_a_stranger_is_expanded(name, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    root = "ITS" if name == "its" else "ANNOTATION_DOCUMENT"
    for entity in (f'SYSTEM "{secret.as_uri()}"', '"lol"'):
        text = (
            f"<?xml version='1.0'?>\n<!DOCTYPE {root} [<!ENTITY a {entity}>]>\n<{root}>&a;</{root}>"
        )
        with pytest.raises(BabError, match=r"x:2: declares the entity 'a'"):
            read(name, tmp_path / "x", text)


def test_cha_says_roles_addressees_times_and_the_clock(tmp_path):
    one, form = read("cha", tmp_path / "a.cha", CHA)
    assert said(one) == [
        (0.0, 1.25, "KCHI", "CHI"),
        (1.25, 3.1, "FEM", "MOT"),
        (3.1, 4.0, "OCH", "SIS"),
        (3.9, 4.5, "MAL", "INV"),
    ]
    assert [m.text for m in one.marks] == ["baba", "where is the dog ?", "here [!] . [+ x]", ""]
    assert [m.values.get("addressee") for m in one.marks] == ["A", "C,T", None, None]
    assert one.marks[1].values["mor"].startswith("adv|where")
    assert one.began == datetime(2024, 5, 17, 8, 30, 15) and one.media == "home01"
    assert form.notices == ["1 utterances without times left out"]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("0_1250", "start_1250", ":12: "),
        ("1250_3100", "3100_1250", ":14: "),
        ("*SIS:", "SIS:", ":18: "),
        ("@Begin", "@Comment:\tx", ":1: "),
    ],
)
def test_cha_names_file_and_line(old, new, place, tmp_path):
    with pytest.raises(BabError) as error:
        read("cha", tmp_path / "a.cha", CHA.replace(old, new))
    assert f"a.cha{place}" in str(error.value)


def test_chat_is_written_with_roles_and_without_invented_words(tmp_path):
    write("cha", tmp_path / "a.cha", DAY)
    text = (tmp_path / "a.cha").read_text(encoding="utf-8")
    assert "@Participants:\tCHI Target_Child, FA1 Female, FA2 Female, UC1 Child\n" in text
    assert "*CHI:\tbaba . \x15123_1500\x15\n%xvcm:\tC\n" in text
    assert "*FA2:\twww . \x152000_3000\x15\n%exp:\tnot transcribed\n" in text
    assert "@Date:\t17-MAY-2024\n@Time Start:\t08:30:00\n" in text and text.endswith("@End\n")


def test_eaf_says_dependents_media_and_what_was_annotated(tmp_path):
    one, form = read("eaf", tmp_path / "a.eaf", EAF)
    assert said(one) == [(0.0, 1.5, "KCHI", "CHI"), (1.4, 2.75, "FEM", "FA1")]
    assert one.marks[0].values == {"vcm": "C", "lex": "W"}  # lex hangs on vcm
    assert one.marks[1].values == {"addressee": "T", "gloss": "where"}
    assert [m.text for m in one.marks] == ["0.", "où ?"]
    assert one.media == "file:///recordings/home01.wav" and one.scored == ((0.0, 60.0),)
    assert len(form.notices) == 1 and form.notices[0].startswith("1 annotations without a time")


def test_textgrid_says_tiers_texts_and_length(tmp_path):
    one, form = read("textgrid", tmp_path / "a.TextGrid", TEXTGRID)
    assert said(one) == [(0.0, 4.5, "FEM", "FA1"), (1.602, 2.25, "KCHI", "CHI*")]
    assert one.marks[0].text == 'she said "no"' and one.duration == 10.0
    assert form.notices == ["1 points, which have no length, were left out"]
    (tmp_path / "b.TextGrid").write_bytes(TEXTGRID.encode("utf-16"))  # as older Praats write
    assert read("textgrid", tmp_path / "b.TextGrid")[0].marks == one.marks


def test_audacity_says_names_texts_and_frequencies_are_passed_over(tmp_path):
    lines = "1.5\t2.5\tKCHI\n\\\t100.0\t200.0\n3.0\t4.0\tFA1: come here: now\n5.0\t5.0\tpoint\n"
    one, form = read("audacity", tmp_path / "a.txt", lines)
    assert said(one) == [(1.5, 2.5, "KCHI", ""), (3.0, 4.0, "FEM", "FA1")]
    assert one.marks[1].text == "come here: now"
    assert form.notices == ["1 points, which have no length, were left out"]


def test_rttm_says_several_recordings_confidence_and_what_it_left_out(tmp_path):
    (tmp_path / "a.rttm").write_text(
        ";; made up\nSPKR-INFO a 1 <NA> <NA> <NA> adult_female FEM <NA> <NA>\n"
        "SPEAKER b 1 1.5 0.5 <NA> <NA> FEM 0.75 <NA>\nSPEAKER a 1 0 2 <NA> <NA> CHI <NA> <NA>\n"
        "SPEAKER\ta\t1\t61.19\t0.76\tDad you!\t{xds@ A}\tMC1\n"
    )
    form = open_format("rttm")
    b, a = form.read(tmp_path / "a.rttm")
    assert (b.uri, said(b), b.marks[0].values) == (
        "b",
        [(1.5, 2.0, "FEM", "")],
        {"confidence": "0.75"},
    )
    assert said(a) == [(0.0, 2.0, "CHI", ""), (61.19, 61.95, "MC1", "")]
    assert a.marks[1].text == "Dad you!"
    assert form.notices == ["1 lines that are not SPEAKER lines were left out"]


@pytest.mark.parametrize(
    ("name", "text", "place", "word"),
    [
        ("rttm", "SPEAKER a 1 0 1 <NA> <NA> X\nSPEAKER a 1 x 1 <NA> <NA> X\n", ":2:", "'x'"),
        ("rttm", "SPEAKER a 1 0 -1 <NA> <NA> X\n", ":1:", "-1 s from 0 s"),
        ("csv", "uid,start_time_s,duration_s,label\na,0,nan,X\n", ":2:", "nan"),
        ("csv", "uid,start_time_s,label\na,0,X\n", ":1:", "duration_s"),
        ("csv", "uid,start_time_s,duration_s,label\na,0,1\n", ":2:", "3 cells"),
        ("audacity", "1\t2\tX\n3\t2\tX\n", ":2:", "3 to 2"),
        ("childproject", "segment_onset,segment_offset\n0,1e3\nx,2\n", ":3:", "'x'"),
    ],
)
def test_a_bad_line_is_named(name, text, place, word, tmp_path):
    with pytest.raises(BabError) as error:
        read(name, tmp_path / "bad", text)
    assert f"bad{place}" in str(error.value) and word in str(error.value)


# ----------------------------------------------------------------------- what is written


def test_csv_is_segma_s_table(tmp_path):
    write("csv", tmp_path / "a.csv", Annotation("a, b", (Mark(1.0005, 2.5, "KCHI"),)))
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert rows == [
        ["uid", "start_time_s", "duration_s", "label"],
        ["a, b", "1.000", "1.500", "KCHI"],
    ]


def test_childproject_s_labels_and_metannots(tmp_path):
    import yaml

    path = tmp_path / "annotations" / "vtc" / "converted" / "a.csv"
    marks = (Mark(0, 1, "KCHI"), Mark(1, 2, "OCH"), Mark(2, 3, "SPEECH"), Mark(3, 4, "FA1"))
    notices = write("childproject", path, Annotation("a", marks), method="automated")
    rows = list(csv.DictReader(path.open()))
    assert [row["speaker_type"] for row in rows] == ["CHI", "OCH", "NA", "FEM"]
    assert [row["speaker_id"] for row in rows] == ["NA", "NA", "NA", "FA1"]
    assert notices == ["ChildProject has no speaker_type for SPEECH: 1 marks are NA"]
    place = tmp_path / "annotations" / "vtc" / "metannots.yml"
    about = yaml.safe_load(place.read_text())
    assert about["segmentation"] == "vtc" and about["method"] == "automated"
    assert about["has_speaker_type"] == "Y" and "has_addressee" not in about
    place.write_text(place.read_text() + "notes: mine\nmethod: manual\n")
    spoken = Annotation("b", (Mark(0, 1, "FEM", values={"addressee": "T"}),))
    write("childproject", path.with_name("b.csv"), spoken, method="automated")
    after = yaml.safe_load(place.read_text())
    assert (after["notes"], after["method"]) == ("mine", "manual")  # what was there stays
    assert after["has_addressee"] == "Y"


@pytest.mark.parametrize("name", ["childproject", "eaf", "textgrid", "cha"])
def test_a_bare_chi_is_asked_about(name, tmp_path):
    with pytest.raises(BabError, match=r"--set labels.CHI=OCH"):
        write(name, tmp_path / "x", Annotation("a", (Mark(0, 1, "CHI"),)))


def test_speakers_of_one_kind_do_not_take_each_other_s_tier(tmp_path):
    pytest.importorskip("pympi.Elan")
    marks = (
        Mark(0, 2, "FEM", "FA1"),
        Mark(3, 5, "FEM"),
        Mark(4, 6, "FEM"),
        Mark(0, 9, "KCHI"),
        Mark(1, 2, "KCHI"),
        Mark(1, 3, "FEM", "Anna"),
        Mark(2, 4, "FEM", "Anna"),
    )
    write("eaf", tmp_path / "a.eaf", Annotation("a", marks))
    one, _ = read("eaf", tmp_path / "a.eaf")
    assert said(one) == [
        (0.0, 2.0, "FEM", "FA1"),
        (0.0, 9.0, "KCHI", "CHI"),
        (1.0, 2.0, "KCHI", "CHI"),
        (1.0, 3.0, "FEM", "Anna"),
        (2.0, 4.0, "FEM", "Anna"),
        (3.0, 5.0, "FEM", "FA2"),
        (4.0, 6.0, "FEM", "FA3"),
    ]


def test_text_that_no_line_or_xml_can_hold_breaks_nothing(tmp_path):
    text = 'a\tb\nc\x00\x1f\x15 . 1_2 \u2028<&>"'
    given = Annotation("a", (Mark(0, 1, "FEM", "FA1", text), Mark(2, 3, "KCHI")))
    for name in sorted(set(FORMATS) - {"its"}):
        write(name, tmp_path / f"x.{name}", given)
        one, _ = read(name, tmp_path / f"x.{name}")
        assert len(one.marks) == 2 and (one.marks[0].start, one.marks[0].end) == (0.0, 1.0), name
        assert one.marks[0].label == "FEM"


def test_options_are_checked():
    with pytest.raises(BabError, match=r"option 'names': Input should be 'aclew' or 'labels'"):
        open_format("eaf", {"names": "x"})
    with pytest.raises(BabError, match=r"option 'name': .*did you mean 'names'"):
        open_format("eaf", {"name": "x"})
    with pytest.raises(ValidationError):
        registry.load("formats", "cha").Options(language="English")


def test_childproject_counts_what_has_no_length(tmp_path):
    head = "segment_onset,segment_offset,speaker_type\n"
    one, form = read("childproject", tmp_path / "a.csv", head + "0,1000,CHI\n2000,2001,FEM\n")
    assert form.notices == [] and said(one) == [(0.0, 1.0, "KCHI", ""), (2.0, 2.001, "FEM", "")]
    one, form = read("childproject", tmp_path / "b.csv", head + "5,5,CHI\n0,1,FEM\n7,7,NA\n")
    assert form.notices == ["2 segments of no length were left out"]
    assert said(one) == [(0.0, 0.001, "FEM", "")]
