"""ChildProject's tables: columns, what is said of a set, and what of it can't be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from format_files import read, write

from bab.core.annotations import Annotation, Mark
from bab.core.errors import BabError


def test_columns_of_childproject(tmp_path: Path) -> None:
    path = tmp_path / "set" / "a.csv"
    path.parent.mkdir()
    marks = (
        Mark(0.25, 1, "FEM", "", "hi\tyou", {"vcm": "C", "addressee": "T", "mood": ""}),
        Mark(1, 2, "MA1"),
        Mark(2, 3, "FEM", "Ann"),
        Mark(3, 4, "", "UC1"),
        Mark(4, 5, "SPEECH", "SPEECH"),
        Mark(5, 6, "TV"),
        Mark(6, 7, "TV", "box"),
    )
    assert write("childproject", path, Annotation("a", marks), algorithm="x", algorithm_version="2",
                 metannots=True) == [
        "ChildProject has no speaker_type for TV: 2 marks are NA"
    ]  # fmt: skip
    head, *rows = path.read_text().splitlines()
    assert head == (
        "segment_onset,segment_offset,speaker_type,speaker_id,transcription,addressee,vcm_type,"
        "raw_filename"
    )
    assert rows == [
        "250,1000,FEM,NA,hi you,T,C,a.csv", "1000,2000,MAL,MA1,NA,NA,NA,a.csv",
        "2000,3000,FEM,Ann,NA,NA,NA,a.csv", "3000,4000,OCH,UC1,NA,NA,NA,a.csv",
        "4000,5000,NA,SPEECH,NA,NA,NA,a.csv", "5000,6000,NA,NA,NA,NA,NA,a.csv",
        "6000,7000,NA,box,NA,NA,NA,a.csv",
    ]  # fmt: skip
    about = yaml.safe_load((path.parent / "metannots.yml").read_text())
    assert list(about)[:4] == [  # in the order of ChildProject's documentation, not by name
        "segmentation", "segmentation_type", "annotation_algorithm_name",
        "annotation_algorithm_version",
    ]  # fmt: skip
    assert about == {
        "segmentation": "set", "segmentation_type": "permissive", "annotation_algorithm_name": "x",
        "annotation_algorithm_version": "2", "has_speaker_type": "Y", "has_transcription": "Y",
        "has_addressee": "Y", "has_vcm_type": "Y",
    }  # fmt: skip
    one, _ = read("childproject", path)
    assert [(m.label, m.speaker, m.text, dict(m.values)) for m in one.marks[:3]] == [
        ("FEM", "", "hi you", {"addressee": "T", "vcm": "C"}),
        ("MAL", "MA1", "", {}),
        ("FEM", "Ann", "", {}),
    ]
    assert [(m.label, m.speaker) for m in one.marks[4:]] == [
        ("SPEECH", "SPEECH"), ("NA", ""), ("box", "box"),
    ]  # fmt: skip
    (path.parent / "metannots.yml").unlink()
    write("childproject", path, Annotation("a"), metannots=False)
    assert path.read_text() == "segment_onset,segment_offset,speaker_type,raw_filename\n"
    assert not (path.parent / "metannots.yml").exists()
    lena = "segment_onset,segment_offset,lena_speaker,vcm_type\n0,1,FAN,nan\n1,2,NA,N\n"
    one, _ = read("childproject", path, lena)
    assert [(m.label, m.speaker, dict(m.values)) for m in one.marks] == [
        ("FAN", "FAN", {"lena_speaker": "FAN"}), ("NA", "", {"vcm": "N"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "can't be read as YAML ("),
        ("[1]", "holds no keys and values: correct or remove it"),
    ],
)
def test_a_damaged_description_of_a_set(tmp_path: Path, text: str, told: str) -> None:
    place = tmp_path / "metannots.yml"
    place.write_text(text)
    with pytest.raises(BabError) as caught:
        write("childproject", tmp_path / "a.csv", Annotation("a"))
    assert str(caught.value).startswith(f"{place}: {told}")
    assert str(caught.value).endswith(": correct or remove it")
    place.write_text("")  # as good as none
    write("childproject", tmp_path / "a.csv", Annotation("a"))
    before = place.read_text()
    place.write_text(before + "# mine\n")
    write("childproject", tmp_path / "a.csv", Annotation("a"))
    assert place.read_text().endswith("# mine\n")  # nothing new: left as it is
