"""Conversions of files and folders: which files, where to, under which names, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bab.core.annotations import Annotation, Mark
from bab.core.errors import BabError, ConfigError
from bab.data.annotations import FACETS, fit_annotations, losses, names_of, open_format
from bab.data.convert import Conversion, Converted, convert, read_any, summed

LINE = "SPEAKER {} 1 0 {} <NA> <NA> {} <NA> <NA>\n"


def rttm(path: Path, *uris: str, label: str = "KCHI", length: float = 1.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(LINE.format(uri, length, label) for uri in uris))
    return path


def go(given: Path, out: Path, target: str = "", **asked: Any) -> Converted:
    return convert(given, out, Conversion(target=target, **asked), lambda *told: None)


def refused(*given: Any, **more: Any) -> str:
    with pytest.raises(BabError) as caught:
        go(*given, **more)
    return str(caught.value)


WRITTEN = "known: audacity, cha, childproject, csv, eaf, rttm, textgrid"
READ = "known: audacity, cha, childproject, csv, eaf, its, rttm, textgrid"


def test_a_file_becomes_a_file_or_stands_in_a_folder(tmp_path: Path) -> None:
    given = rttm(tmp_path / "in" / "a.rttm", "a")
    made = go(given, tmp_path / "b.csv")  # by its suffix: `csv`, before childproject's
    assert made.written == [tmp_path / "b.csv"] and made.failed == []
    assert (tmp_path / "b.csv").read_text().splitlines()[1] == "a,0.000,1.500,KCHI"
    assert go(given, tmp_path / "out", "csv").written == [tmp_path / "out" / "a.csv"]
    (tmp_path / "x.csv").mkdir()
    assert go(given, tmp_path / "x.csv", "csv").written == [tmp_path / "x.csv" / "a.csv"]
    made = go(given, tmp_path / "c.csv", "rttm")  # what is asked for, whatever it is called
    assert (tmp_path / "c.csv").read_text().startswith("SPEAKER a")
    one = go(given, tmp_path / "d.TextGrid", write={"names": "aclew"})
    assert one.notices == [(given, "1 recording takes the new file's name")]
    assert '"CHI"' in (tmp_path / "d.TextGrid").read_text()
    same = go(rttm(tmp_path / "e.rttm", "e"), tmp_path / "e.TextGrid")
    assert same.notices == []


def test_a_folder_is_converted_with_its_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, out = tmp_path / "in", tmp_path / "in" / "out"
    for name in ("b/x.rttm", "a.rttm", ".hidden/y.rttm", "b/.z.rttm", "out/old.rttm", "B.RTTM"):
        rttm(given / name, Path(name).stem)
    (given / "notes.md").touch()
    told: list[tuple[Any, ...]] = []
    made = convert(given, out, Conversion(target="csv"), lambda *now: told.append(now))
    names = ["B.csv", "a.csv", "b/x.csv"]
    assert [str(p.relative_to(out)) for p in made.written] == names
    assert told == [("converting", n, 3, "files") for n in (1, 2, 3)]
    again = go(given, tmp_path / "other", "csv", source="rttm")
    assert len(again.written) == 4  # `out` is one of the folders now
    same = go(given / "b", given / "b", "csv")  # beside the files themselves
    assert same.written == [given / "b" / "x.csv"]
    monkeypatch.chdir(given / "b")
    again = go(given / "b", Path("../b"), "eaf", source="rttm")  # however the folder is named
    assert again.written == [Path("../b/x.eaf")]


def test_labels_are_changed_or_left_out(tmp_path: Path) -> None:
    given = tmp_path / "a.csv"
    rows = ["CHI,CHI", "CHI,Ann", "TV,", "FEM,FA1"]
    lines = [f"a,{i},1,{row}" for i, row in enumerate(rows)]
    given.write_text("uid,start_time_s,duration_s,label,speaker\n" + "\n".join(lines) + "\n")
    labels = {"CHI": "OCH", "TV": "NA", "FEM": "FEM", "MALE": "MAL"}
    made = go(given, tmp_path / "b.csv", "csv", labels=labels)
    assert made.notices == [(given, "labels.MALE is set, but no mark is labelled MALE")]
    assert [line.split(",")[1:] for line in (tmp_path / "b.csv").read_text().splitlines()[1:]] == [
        ["0.000", "1.000", "OCH", ""], ["1.000", "1.000", "OCH", "Ann"],
        ["3.000", "1.000", "FEM", "FA1"],
    ]  # fmt: skip


def test_what_can_t_be_converted(tmp_path: Path) -> None:
    given = rttm(tmp_path / "a.rttm", "a")
    assert refused(tmp_path / "none", tmp_path / "b", "csv") == (
        f"{tmp_path / 'none'}: there is no such file or folder"
    )
    for out in (tmp_path / "b", tmp_path / "b.xyz"):
        told = f"{out}: say which format to write with --to. {WRITTEN}"
        assert refused(given, out) == told
    folder = tmp_path / "out.csv"
    folder.mkdir()
    assert refused(given, folder).startswith(f"{folder}: say which format to write with --to.")
    assert refused(given, tmp_path / "b.x", "its") == (
        f"--to its: this format is read only. {WRITTEN}"
    )
    assert refused(tmp_path, given, "csv") == (
        f"{given}: is a file, and {tmp_path} a folder: name a folder for what is written"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(empty, tmp_path / "o", "csv") == (
        f"{empty}: holds no annotation file of any format (.cha, .csv, .eaf, .its, .rttm, "
        ".textgrid, .txt)"
    )
    assert refused(empty, tmp_path / "o", "csv", source="eaf") == (
        f"{empty}: holds no annotation file of the format eaf (.eaf)"
    )
    rttm(empty / "x.rttm", "x")
    (empty / "x.csv").write_text("uid,start_time_s,duration_s,label\nx,0,1,FEM\n")
    assert refused(empty, tmp_path / "o", "eaf") == (
        f"{empty / 'x.csv'} and {empty / 'x.rttm'} would both become {tmp_path / 'o' / 'x.eaf'}: "
        "choose with --from"
    )
    assert len(go(empty, tmp_path / "o", "eaf", source="rttm").written) == 1


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    rttm(folder / "a.rttm", "a")
    (folder / "b.rttm").write_text("garbage\n")
    rttm(folder / "c.rttm", "c", length=0)
    rttm(folder / "d.rttm", "d", "d2")
    made = go(folder, tmp_path / "out", "textgrid")
    stems = [p.stem for p in made.written]
    assert stems == ["a", "d", "d2"] and len(made.failed) == 2
    assert made.failed[0] == f"{folder / 'b.rttm'}:1: not a line of an RTTM: 'garbage'"
    assert made.failed[1].endswith("c.TextGrid: a TextGrid needs a length, and 'c' has none")
    assert made.notices == [(folder / "c.rttm", "1 turns of no length were left out")]
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "a.csv").mkdir()
    made = go(folder / "a.rttm", blocked, "csv")
    why = "can't be written (Is a directory): see its folder, or name another place"
    assert made.written == [] and made.failed == [f"{blocked / 'a.csv'}: {why}"]


def test_several_recordings_of_a_file(tmp_path: Path) -> None:
    given = rttm(tmp_path / "both.rttm", "x/1", "..hidden", "//")
    made = go(given, tmp_path / "out", "textgrid")
    assert [p.name for p in made.written] == ["x_1.TextGrid", "hidden.TextGrid", "_.TextGrid"]
    both = rttm(tmp_path / "two.rttm", "x", "y")
    assert go(both, tmp_path / "one.TextGrid").failed == [
        f"{both}: holds 2 recordings, and one.TextGrid can hold one: name a folder instead (with "
        "--to)"
    ]
    assert go(both, tmp_path / "one.csv").written == [tmp_path / "one.csv"]
    folder = tmp_path / "in"
    rttm(folder / "a.rttm", "x", "y")
    rttm(folder / "b.rttm", "y", "z")
    made = go(folder, tmp_path / "apart", "textgrid")
    assert [p.stem for p in made.written] == ["x", "y"]
    place = tmp_path / "apart" / "y.TextGrid"
    assert made.failed == [
        f"{folder / 'b.rttm'}: {place} was written from another file: convert it by itself"
    ]


def test_the_format_of_a_file(tmp_path: Path) -> None:
    assert names_of(Path("a.RTTM")) == ["rttm"] and names_of(Path("a.xyz")) == []
    assert names_of(Path("a.csv")) == ["csv", "childproject"]
    assert names_of(Path("a.textgrid")) == ["textgrid"] and names_of(Path("a.txt")) == ["audacity"]
    assert names_of(Path("a.its"), lambda cls: cls.writes) == []
    table = tmp_path / "a.csv"
    table.write_text("segment_onset,segment_offset,speaker_type\n0,1000,FEM\n")
    assert [m.label for m in read_any(table)[0][0].marks] == ["FEM"]  # the second that can read it
    table.write_text("a,b\n")
    with pytest.raises(BabError) as caught:
        read_any(table)
    assert str(caught.value) == (
        f"{table}: can't be read as csv: {table}:1: no column 'uid' in the header (known: a, b); "
        f"as childproject: {table}:1: no column 'segment_onset' in the header (known: a, b)"
    )
    with pytest.raises(BabError) as caught:
        read_any(table, "csv")
    assert str(caught.value) == f"{table}:1: no column 'uid' in the header (known: a, b)"


def test_a_format_that_is_written_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bab.plugins.formats.rttm import Rttm

    monkeypatch.setattr(Rttm, "reads", False)
    with pytest.raises(BabError) as caught:
        read_any(rttm(tmp_path / "a.rttm", "a"), "rttm")
    told = READ.replace("rttm, ", "")
    assert str(caught.value) == f"--from rttm: this format can't be read. {told}"


def test_options_of_a_format() -> None:
    for options, told in (
        ({"name": "x"}, "format 'eaf', there is no option 'name': did you mean 'names'?"),
        ({"names": "x"}, "format 'eaf', option 'names': Input should be 'aclew' or 'labels'"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            open_format("eaf", options)
        assert str(caught.value) == told
    assert open_format("eaf", {"scored": "x"}).options.scored == "x"
    assert open_format("eaf").options.scored == "code"


def test_notices_of_many_files_are_added_up() -> None:
    a, b = Path("x/a.its"), Path("x/b.its")
    given = [
        (a, "2 marks of 10 s"),
        (b, "3 marks of 10 s"),
        (b, "none"),
        (a, "none"),
        (a, "1 mark"),
    ]
    assert summed(given) == ["2 files: 5 marks of 10 s", "2 files: none", "a.its: 1 mark"]
    assert summed([]) == []
    named = [(Path(f"{i}.x"), f"Form2 can't hold {{}} of {i} marks") for i in (1, 3)]
    assert summed(named) == ["2 files: Form2 can't hold {} of 4 marks"]


# ------------------------------------------------------------------------------- what is kept


def test_what_a_format_doesn_t_keep_is_taken_away(tmp_path: Path) -> None:
    from datetime import time

    values = {"vcm": "C", "confidence": "0.5"}
    mark = Mark(0.00049, 1.00051, "FEM", "FA1", "hi", values)
    one = Annotation("a", (mark,), 2.00049, time(9), "a.wav", ((0.5, 1.00051), (0.0, 0.25)))
    whole = {
        name: fit_annotations(open_format(name), [one], tmp_path)[0]
        for name in ("rttm", "csv", "cha", "textgrid", "eaf", "childproject", "audacity")
    }
    assert {(m.start, m.end) for made in whole.values() for m in made.marks} == {(0.0, 1.001)}
    kept = {name: (made.duration, made.began, made.scored) for name, made in whole.items()}
    spans = ((0.0, 0.25), (0.5, 1.001))
    nothing = (None, None, None)
    assert kept == {
        "rttm": nothing, "csv": nothing, "cha": (None, time(9), None),
        "textgrid": (2.0, None, spans), "eaf": (2.0, time(9), spans), "childproject": nothing,
        "audacity": nothing,
    }  # fmt: skip
    said = {name: (m.text, dict(m.values)) for name, made in whole.items() for m in made.marks}
    assert said == {
        "rttm": ("", {"confidence": "0.5"}), "audacity": ("hi", {}),
        **dict.fromkeys(("csv", "cha", "textgrid", "eaf", "childproject"), ("hi", values)),
    }  # fmt: skip
    assert all(made.marks[0].speaker == "FA1" and made.media == "a.wav" for made in whole.values())


@pytest.mark.parametrize(
    ("name", "facts", "lost"),
    [
        ("rttm", {"duration": 0.0}, ["duration"]),
        ("rttm", {"media": "x/home.wav"}, []),
        ("rttm", {"media": "x\\home.wav"}, []),
        ("rttm", {"media": "home.wav/x"}, ["media"]),
        ("rttm", {"media": "other.wav"}, ["media"]),
        ("rttm", {"scored": ()}, ["scored"]),
        ("childproject", {"duration": 1.0, "media": "other.wav"}, []),  # its index has them
        ("childproject", {"scored": ()}, ["scored"]),
        ("eaf", {"duration": 1.0, "media": "x.wav", "scored": ()}, []),
        ("textgrid", {"media": "x.wav"}, ["media"]),
    ],
)
def test_what_of_a_recording_is_lost(name: str, facts: dict[str, Any], lost: list[str]) -> None:
    form = open_format(name)
    told = losses(form, [Annotation("home", **facts)] * 2)
    assert told == [f"{name} can't hold {FACETS[what]}: 2 left out" for what in lost]


@pytest.mark.parametrize(
    ("name", "mark", "lost"),
    [
        ("rttm", Mark(0, 1, "FEM", "FEM"), []),
        ("rttm", Mark(0, 1, "FEM", ""), []),
        ("rttm", Mark(0, 1, "", "FA1"), []),  # the speaker stands for the label
        ("rttm", Mark(0, 1, "FEM", "FA1"), ["speaker"]),
        ("rttm", Mark(0, 1, "FEM", text="a"), ["text"]),
        ("rttm", Mark(0, 1, "FEM", values={"confidence": "1"}), []),
        ("rttm", Mark(0, 1, "FEM", values={"confidence": "1", "b": "2"}), ["values"]),
        ("csv", Mark(0, 1, "FEM", "FA1", "a", {"b": "2"}), []),
    ],
)
def test_what_of_a_mark_is_lost(name: str, mark: Mark, lost: list[str]) -> None:
    form = open_format(name)
    told = losses(form, [Annotation("home", (mark, mark)), Annotation("b", (mark,))])
    assert told == [f"{name} can't hold {FACETS[what]}: 3 left out" for what in lost]
