"""CHAT's roles and lines, tiers of TextGrid and ELAN, ChildProject's columns and index, by hand."""

from __future__ import annotations

import re
from datetime import datetime, time
from pathlib import Path
from typing import Any

import pytest
from format_files import CHA, EAF, TEXTGRID, read, write

from bab.core.annotations import Annotation, Mark
from bab.core.errors import BabError
from bab.plugins.formats.shared.chat import Person, invent_people, read_people
from bab.plugins.formats.shared.tiers import from_tiers, to_tiers


def refused(name: str, path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BabError) as caught:
        read(name, path)
    return str(caught.value).removeprefix(str(path))


# ------------------------------------------------------------------------------- chat


@pytest.mark.parametrize(
    ("person", "label", "addressee"),
    [
        (Person("CHI", "Target_Child"), "KCHI", "T"),
        (Person("SIS", "Sister", "female"), "OCH", "C"),
        (Person("X", "Grandmother"), "FEM", "A"),
        (Person("X", "Father"), "MAL", "A"),
        (Person("INV", "Investigator", "female"), "FEM", "A"),
        (Person("INV", "Investigator", "f"), "FEM", "A"),
        (Person("INV", "Investigator", "male"), "MAL", "A"),
        (Person("INV", "Investigator"), "INV", "A"),
        (Person("INV", "Investigator", "unknown"), "INV", "A"),
        (Person("FA1", "Unidentified"), "FEM", "A"),
        (Person("UC1", "Unidentified"), "OCH", "C"),
        (Person("TVN", "LENA"), "TVN", "U"),
        (Person("CHN", "LENA"), "KCHI", "T"),
        (Person("FAN", "LENA"), "FEM", "A"),
        (Person("XYZ", "Unidentified", "female"), "XYZ", "U"),
        (Person("FA1", "Teacher", "male"), "MAL", "A"),
    ],
)
def test_who_a_participant_is(person: Person, label: str, addressee: str) -> None:
    assert (person.label, person.addressee) == (label, addressee)


def test_participants_and_their_ids() -> None:
    ids = ["eng|x|CHI|1;06.|female|||Target_Child|||", "eng|x|MOT|", "eng|x|FAT||male", "a|b|c"]
    people = read_people("CHI Ada Target_Child, MOT Mother,, FAT Father ,", ids)
    assert people == {
        "CHI": Person("CHI", "Target_Child", "female"),
        "MOT": Person("MOT", "Mother"),
        "FAT": Person("FAT", "Father", "male"),
    }
    assert read_people("", ids) == {}


def test_participants_that_marks_need() -> None:
    given = [
        *(("", "KCHI"), ("", "FEM"), ("", "MAL"), ("", "OCH"), ("FA2", "FEM"), ("Anna", "FEM")),
        *(("MOT", "FEM"), ("FAT", "MAL"), ("MA1", "FEM"), ("", "TVN"), ("", ""), ("", "tv set!")),
        *(("FA2", "MAL"), ("", "KCHI"), ("A name too long", "KCHI"), ("1A", "TVN")),
    ]
    marks = [Mark(i, i + 1, label, who) for i, (who, label) in enumerate(given)]
    made = invent_people(marks, "p")
    assert [(key, tuple(person)) for key, person in made.items()] == [
        (("", "KCHI"), ("CHI", "Target_Child", "")),
        (("", "FEM"), ("FA1", "Female", "female")),
        (("", "MAL"), ("MA2", "Male", "male")),  # MA1 is somebody's name
        (("", "OCH"), ("UC1", "Child", "")),
        (("FA2", "FEM"), ("FA2", "Female", "female")),
        (("Anna", "FEM"), ("ANNA", "Female", "female")),
        (("MOT", "FEM"), ("MOT", "Mother", "female")),
        (("FAT", "MAL"), ("FAT", "Father", "male")),
        (("MA1", "FEM"), ("MA1", "Female", "female")),
        (("", "TVN"), ("TVN", "Unidentified", "")),
        (("", ""), ("NA", "Unidentified", "")),
        (("", "tv set!"), ("TVSET", "Unidentified", "")),
        (("FA2", "MAL"), ("MA3", "Male", "male")),
        (("A name too long", "KCHI"), ("CHI1", "Target_Child", "")),
        (("1A", "TVN"), ("UN1", "Unidentified", "")),
    ]


def chat(*lines: str, head: str = "@Participants:\tCHI Target_Child, MOT Mother") -> str:
    return "\n".join(["@UTF8", "@Begin", head, *lines, "@End"]) + "\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("*CHI:\tba . \x150_1000\x15",), ("ba", {})),
        (("*CHI:\tba ! \x150_1000\x15",), ("ba !", {})),
        (("*CHI:\t. \x150_1000\x15",), ("", {})),
        (("*CHI:\t\x150_400\x15 ba \x15500_1000\x15",), ("ba", {})),
        (('*CHI:\tba . \x15%snd:"a b"_0_1000\x15',), ("ba", {})),
        (("*CHI:\tba . \x150_1000-\x15",), ("ba", {})),
        (("*CHI:\tba", "\tbu", "  bo . \x150_1000\x15"), ("ba bu bo", {})),
        (("*CHI:\twww . \x150_1000\x15",), ("", {})),
        (("*CHI:\twww . \x150_1000\x15", "%exp:\tnot transcribed"), ("", {})),
        (("*CHI:\twww . \x150_1000\x15", "%exp:\tin Welsh"), ("", {"exp": "in Welsh"})),
        (("*CHI:\tba . \x150_1000\x15", "%xds:\tA"), ("ba", {"addressee": "A"})),
        (("*CHI:\tba . \x150_1000\x15", "%add:\tMOT"), ("ba", {"add": "MOT", "addressee": "A"})),
        (("*CHI:\tba . \x150_1000\x15", "%add:\tMOT , CHI,ZZZ"),
         ("ba", {"add": "MOT , CHI,ZZZ", "addressee": "A,T,U"})),
        (("*CHI:\tba . \x150_1000\x15", "%add:\tMOT", "%xds:\tO"),
         ("ba", {"add": "MOT", "addressee": "O"})),
        (("*CHI:\tba . \x150_1000\x15", "%xvcm:\tC", "%mor:\tn|ba", "%exp:\te"),
         ("ba", {"vcm": "C", "mor": "n|ba", "exp": "e"})),
    ],
)  # fmt: skip
def test_an_utterance(tmp_path: Path, lines: tuple[str, ...], expected: tuple[str, Any]) -> None:
    one, form = read("cha", tmp_path / "a.cha", chat(*lines))
    (mark,) = one.marks
    assert (mark.start, mark.end, mark.label, mark.speaker) == (0.0, 1.0, "KCHI", "CHI")
    assert (mark.text, dict(mark.values)) == expected and form.notices == []


def test_lines_of_nothing_but_blanks_are_passed_over(tmp_path: Path) -> None:
    whole = chat("*CHI:\tba", "\tbu . \x150_1000\x15")
    one, form = read("cha", tmp_path / "a.cha", "  \n\t\n" + whole.replace("\n", "\n\n"))
    assert [mark.text for mark in one.marks] == ["ba bu"] and form.notices == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (chat("%mor:\tx"), ":4: %mor belongs to no utterance: it must follow one"),
        (chat("CHI:\tx"), ":4: not a line of CHAT, which begin with @, *, % or a tab: 'CHI:\\tx'"),
        (chat("*CHI\tx"), ":4: no colon after the name: '*CHI\\tx'"),
        (chat("*CHI:\tx \x15a_b\x15"),
         ":4: a bullet that isn't START_END in milliseconds: 'x \\x15a_b\\x15'"),
        (chat("*CHI:\tx \x152000_1000\x15"),
         ":4: 2 to 1 s is no stretch of time: correct it"),
        ("@UTF8\n", ":1: there is no @Begin: not a CHAT transcript"),
    ],
)  # fmt: skip
def test_what_is_no_transcript(tmp_path: Path, text: str, told: str) -> None:
    assert refused("cha", tmp_path / "a.cha", text) == told


@pytest.mark.parametrize(
    ("day", "clock", "began"),
    [
        ("17-MAY-2024", "08:30:15", datetime(2024, 5, 17, 8, 30, 15)),
        ("7-jan-2024", "8:30", datetime(2024, 1, 7, 8, 30)),
        ("17-DEC-2024", "", None),
        ("", "08:30", time(8, 30)),
        ("17-MAI-2024", "08:30:15", time(8, 30, 15)),
        ("31-FEB-2024", "08:30", None),
        ("17-MAY-2024", "25:00", None),
    ],
)
def test_the_clock_of_a_transcript(tmp_path: Path, day: str, clock: str, began: Any) -> None:
    heads = [f"@Date:\t{day}"] if day else []
    heads += [f"@Time Start:\t{clock}"] if clock else []
    one, _ = read("cha", tmp_path / "a.cha", chat(*heads))
    assert one.began == began


def test_heads_of_a_transcript(tmp_path: Path) -> None:
    for media, name in (("home, audio", "home"), ('"a b", audio, missing', "a b"), ("x", "x")):
        assert read("cha", tmp_path / "a.cha", chat(f"@Media:\t{media}"))[0].media == name
    nobody = read("cha", tmp_path / "a.cha", chat("*SIS:\tx . \x150_1\x15", head="@Comment:\tx"))
    assert [(m.label, m.speaker) for m in nobody[0].marks] == [("SIS", "SIS")]


def test_a_transcript_to_the_letter(tmp_path: Path) -> None:
    path = tmp_path / "a.cha"
    marks = (
        Mark(0, 1, "KCHI", text="ba\tbu ?", values={"vcm": "C", "mor": "n|ba", "addressee": "A"}),
        Mark(1, 2.5, "FEM", "mother dear", "hello", {"empty": " ", "exp": "to\nhim"}),
        Mark(3, 4, "FEM", "FA1", values={"exp": "mine"}),
        Mark(4, 5, "FEM", "FA1", "+... x"),
    )
    one = Annotation("home 1", marks, began=datetime(2024, 1, 7, 8, 5), media="x\\y/day 1.wav")
    assert write("cha", path, one, language="hin") == [
        "Cha has codes for speakers: 1 names were changed"
    ]
    assert path.read_text().splitlines() == [
        "@UTF8", "@Begin", "@Languages:\thin",
        "@Participants:\tCHI Target_Child, FA2 Female, FA1 Female",
        "@ID:\thin|bab|CHI|||||Target_Child|||", "@ID:\thin|bab|FA2||female|||Female|||",
        "@ID:\thin|bab|FA1||female|||Female|||", "@Media:\tday 1, audio",
        "@Date:\t07-JAN-2024", "@Time Start:\t08:05:00",
        "*CHI:\tba bu ? \x150_1000\x15", "%xvcm:\tC", "%mor:\tn|ba", "%xds:\tA",
        "*FA2:\thello . \x151000_2500\x15", "%exp:\tto him",
        "*FA1:\twww . \x153000_4000\x15", "%exp:\tmine",
        "*FA1:\t+... x \x154000_5000\x15", "@End",
    ]  # fmt: skip
    assert write("cha", path, Annotation("home 1", began=time(9, 0))) == []
    assert path.read_text().splitlines()[2:] == [
        "@Languages:\tund", "@Participants:\tCHI Target_Child",
        "@ID:\tund|bab|CHI|||||Target_Child|||", "@Media:\thome 1, audio",
        "@Time Start:\t09:00:00", "@End",
    ]  # fmt: skip
    assert "Investigator" in CHA  # of the file that the other tests read


# ------------------------------------------------------------------------------- tiers


def laid(*marks: Mark, names: Any = "aclew", scored: str = "", **more: Any) -> list[Any]:
    made = to_tiers(Annotation("a", marks, **more), names, scored, "p")
    return [(t.name, t.texts, {key: dict(value) for key, value in t.further.items()}) for t in made]


def test_marks_on_tiers() -> None:
    assert laid(Mark(0, 1, "FEM", text="x"), Mark(1, 2, "KCHI"), Mark(0.5, 2, "FEM")) == [
        ("FA1", {(0, 1): "x"}, {}), ("FA2", {(0.5, 2): ""}, {}), ("CHI", {(1, 2): ""}, {}),
    ]  # fmt: skip
    assert laid(Mark(0, 2, "KCHI"), Mark(1, 2, "KCHI"), Mark(2, 3, "KCHI")) == [
        ("CHI", {(0, 2): "", (2, 3): ""}, {}), ("CHI (2)", {(1, 2): ""}, {}),
    ]  # fmt: skip
    assert laid(Mark(0, 1, "FEM", "FA1"), Mark(2, 3, "FEM")) == [
        ("FA1", {(0, 1): ""}, {}), ("FA2", {(2, 3): ""}, {}),
    ]  # fmt: skip
    values = {"addressee": "T", "vcm": "C", "none": ""}
    assert laid(Mark(0, 1, "FEM", "Ann", values=values)) == [
        ("Ann", {(0, 1): ""},
         {"xds": {(0, 1): "T"}, "vcm": {(0, 1): "C"}, "label": {(0, 1): "FEM"}})
    ]  # fmt: skip
    assert laid(Mark(0, 1, "OCH"), Mark(1, 2, "FA1"), names="labels") == [
        ("OCH", {(0, 1): ""}, {}), ("FA1", {(1, 2): ""}, {"label": {(1, 2): "FA1"}}),
    ]  # fmt: skip
    assert laid(Mark(0, 1, "OCH"), Mark(1, 2, "MAL"), Mark(2, 3, ""), Mark(3, 4, "TV")) == [
        ("UC1", {(0, 1): ""}, {}), ("MA1", {(1, 2): ""}, {}), ("NA", {(2, 3): ""}, {}),
        ("TV", {(3, 4): ""}, {}),
    ]  # fmt: skip
    spans = ((0.0, 5.0), (7.0, 9.0))
    made = to_tiers(Annotation("a", (), scored=spans), "aclew", "code", "p")
    assert [(t.name, t.texts) for t in made] == [("code", {(0.0, 5.0): "1", (7.0, 9.0): "2"})]
    assert to_tiers(Annotation("a", (), scored=spans), "aclew", "", "p") == []


def back(*given: tuple[str, dict[Any, str]], scored: str = "") -> Any:
    marks, spans = from_tiers(given, scored)
    return [(m.start, m.end, m.label, m.speaker, m.text, dict(m.values)) for m in marks], spans


def test_tiers_as_marks() -> None:
    assert back(("FA1", {(0, 1): "x"}), ("xds@FA1", {(0, 1): "T", (5, 6): "C"})) == (
        [(0, 1, "FEM", "FA1", "x", {"addressee": "T"}), (5, 6, "xds@FA1", "xds@FA1", "C", {})],
        None,
    )  # fmt: skip
    told = back(("code", {(5, 9): "2", (0, 4): "1"}), ("CHI", {(0, 1): "x"}), scored="code")
    assert told == ([(0, 1, "KCHI", "CHI", "x", {})], ((0, 4), (5, 9)))
    assert back(("xds@FA1", {(0, 1): "T"}))[0] == [(0, 1, "xds@FA1", "xds@FA1", "T", {})]
    assert back(("KCHI (2)", {(0, 1): ""}), ("label@KCHI (2)", {(0, 1): "SPEECH"}))[0] == [
        (0, 1, "SPEECH", "", "", {})
    ]
    assert back((" MA1 ", {(0, 1): ""}), ("vcm@ MA1 ", {(0, 1): "C"}))[0] == [
        (0, 1, "MAL", "MA1", "", {"vcm": "C"})
    ]
    code = ("code", {(7, 9): "2", (0, 5): "1"})
    assert back(code, scored="code") == ([], ((0, 5), (7, 9)))
    assert [mark[:4] for mark in back(code)[0]] == [(7, 9, "code", "code"), (0, 5, "code", "code")]
    assert back(("a", {}), scored="code") == ([], None)


def test_what_a_textgrid_needs(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    with pytest.raises(BabError) as caught:
        write("textgrid", path, Annotation("a"))
    assert str(caught.value) == f"{path}: a TextGrid needs a length, and 'a' has none"
    assert refused("textgrid", path, "no grid").startswith(": can't be read as a TextGrid (")
    assert refused("textgrid", path, "no grid").endswith(
        "). Open it in Praat and save it as a text file"
    )
    write("textgrid", path, Annotation("a", (), 4.0))
    assert read("textgrid", path)[0] == Annotation("a", (), 4.0)
    assert 'name = "KCHI"' in path.read_text()
    write("textgrid", path, Annotation("a", (Mark(0, 2, "KCHI"),), scored=((0, 3.5),)))
    assert read("textgrid", path)[0].duration == 3.5
    write("textgrid", path, Annotation("a", (Mark(0, 2, "KCHI"),), 1.0))
    one, form = read("textgrid", path)
    assert one.duration == 2.0 and one.marks == (Mark(0, 2, "KCHI"),) and form.notices == []
    named, _ = read("textgrid", path, TEXTGRID.replace('text = "1"', 'text = "CHI*"'))
    (child,) = (mark for mark in named.marks if mark.label == "KCHI")
    assert (child.speaker, child.text) == ("CHI*", "")  # as the tier is called: no text
    other, _ = read("textgrid", path, TEXTGRID.replace('"FA1"', '"code"'))
    assert other.scored == ((0.0, 4.5),)
    plain, _ = read("textgrid", path, None, scored="")
    assert plain.scored is None and "code" in {m.label for m in plain.marks}


# ------------------------------------------------------------------------------- elan


def test_the_header_of_elan(tmp_path: Path) -> None:
    path = tmp_path / "a.eaf"
    for began in (datetime(2024, 5, 17, 8, 30), time(8, 30)):
        for media, mime in (
            *(("a.wav", "audio/x-wav"), ("a.MP4", "video/mp4"), ("a.mp3", "audio/mpeg")),
            *(("a.ogg", "audio/ogg"), ("a", "audio/x-wav")),
        ):
            given = Annotation("a", (Mark(0, 1, "KCHI", "CHI"),), 12.25, began, media)
            assert write("eaf", path, given) == [] and read("eaf", path)[0] == given
            assert f'MIME_TYPE="{mime}"' in path.read_text()
    text = path.read_text()
    path.write_text(text.replace("08:30:00", "at noon"))
    assert read("eaf", path)[0].began is None
    assert refused("eaf", path, text.replace(">12.250<", ">long<")) == (
        ": the property bab:duration is no number: 'long'"
    )
    write("eaf", path, Annotation("a", (Mark(0, 1, "FEM", "FA1", values={"vcm": "C"}),)))
    types = re.findall(r"<LINGUISTIC_TYPE [^>]*>", path.read_text())
    aligned = {re.search('TYPE_ID="(.*?)"', t)[1]: 'TIME_ALIGNABLE="true"' in t for t in types}  # type: ignore[index]
    assert aligned == {"transcription": True, "dependency": False}
    bare = Annotation("a", (Mark(0, 1, "FEM"),))
    write("eaf", path, bare, names="labels")
    assert [(m.label, m.speaker) for m in read("eaf", path)[0].marks] == [("FEM", "")]
    told = refused("eaf", path, EAF.replace('ANNOTATION_REF="a1"', ""))
    assert told.startswith(": can't be read as ELAN's EAF (") and told.endswith(
        " Does ELAN open it?"
    )
    assert refused("eaf", path, EAF.replace('"2750"', '"1000"')) == (
        ": tier 'FA1': 1.4 to 1 s is no stretch of time: correct it"
    )


def test_annotations_of_elan_without_a_time_or_twice_at_one(tmp_path: Path) -> None:
    again = EAF.replace('TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts5"', 'TIME_SLOT_REF1="ts3" '
                        'TIME_SLOT_REF2="ts4"')  # fmt: skip
    one, form = read("eaf", tmp_path / "a.eaf", again)
    told = "1 annotations without a time or a length, or twice at one, were left out"
    assert form.notices == [told] and len(one.marks) == 2
    one, form = read("eaf", tmp_path / "a.eaf", again.replace(">adrift<", ">où ?<"))
    assert form.notices == []  # the same words twice
    none = EAF.replace('TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts5"', 'TIME_SLOT_REF1="ts4" '
                       'TIME_SLOT_REF2="ts4"')  # fmt: skip
    assert read("eaf", tmp_path / "a.eaf", none)[1].notices == [told]


def test_a_dependent_tier_of_a_dependent_tier_hangs_on_the_speakers(tmp_path: Path) -> None:
    bare = EAF.replace('TIER_ID="lex@CHI"', 'TIER_ID="lex"')
    one, _ = read("eaf", tmp_path / "a.eaf", bare)
    assert dict(one.marks[0].values) == {"vcm": "C", "lex": "W"}
    deeper = bare.replace('TIER_ID="vcm@CHI"', 'TIER_ID="vcm"').replace(
        'PARENT_REF="vcm@CHI"', 'PARENT_REF="vcm"'
    )
    one, _ = read("eaf", tmp_path / "a.eaf", deeper)
    assert dict(one.marks[0].values) == {"vcm": "C", "lex": "W"}
    whole = EAF.replace('TIER_ID="code"', 'TIER_ID="all"')
    one, _ = read("eaf", tmp_path / "a.eaf", whole)
    assert one.scored is None and ("all", "all", "1") in {
        (m.label, m.speaker, m.text) for m in one.marks
    }
    assert read("eaf", tmp_path / "a.eaf", None, scored="all")[0].scored == ((0.0, 60.0),)
