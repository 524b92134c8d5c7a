"""ChildProject's index: where a table belongs, which recording it is of, and its row."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.core.annotations import Annotation
from bab.core.errors import BabError
from bab.plugins.formats.shared.index import Place, enter, place_of


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "metadata").mkdir(parents=True)
    (root / "metadata" / "recordings.csv").write_text(
        "recording_filename,duration\nday 1/a.wav,5000\nb.wav,\nc.wav,NA\nb.mp3,1000\nd,700\n"
    )
    return root


def rows(project: Path) -> list[dict[str, str]]:
    with (project / "metadata" / "annotations.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_where_a_table_lies(project: Path, tmp_path: Path) -> None:
    def of(*parts: str) -> Place | None:
        return place_of(project.joinpath(*parts))

    assert of("annotations", "vtc", "converted", "a.csv") == Place(project, "vtc", "a.csv")
    assert of("annotations", "eaf", "an1", "converted", "x", "a.csv") == (
        Place(project, "eaf/an1", "x/a.csv")
    )
    assert of("annotations", "converted", "a.csv") is None
    assert of("annotations", "vtc", "raw", "a.csv") is None
    assert of("other", "vtc", "converted", "a.csv") is None
    assert place_of(tmp_path / "annotations" / "vtc" / "converted" / "a.csv") is None
    nested = project / "annotations" / "converted" / "annotations" / "vtc" / "converted"
    assert place_of(nested / "a.csv") is None  # its own data set has no list of recordings


@pytest.mark.parametrize(
    ("name", "known", "told"),
    [
        ("day 1/a.csv", {"duration": 4.0}, ("day 1/a.wav", "4000")),
        ("day 1/a.csv", {"duration": 9.0}, ("day 1/a.wav", "5000")),
        ("day 1/a.csv", {}, ("day 1/a.wav", "5000")),
        ("a.csv", {"duration": 4.0}, None),
        ("c.csv", {"duration": 2.5}, ("c.wav", "2500")),
        ("c.csv", {}, "nobody says how long the recording is: give {} a column `duration` (ms), or "
         "put the audio into {}/recordings/raw"),
        ("b.csv", {"duration": 1.0}, None),  # b.wav or b.mp3
        ("d.csv", {"duration": 1.0}, ("d", "700")),
        ("x.csv", {"duration": 1.0, "media": "recordings/raw/b.wav"}, ("b.wav", "1000")),
        (
            "x.csv",
            {"duration": 1.0, "media": "recordings/raw/day 1/a.wav"},
            ("day 1/a.wav", "1000"),
        ),
        ("x.csv", {"duration": 1.0, "media": "recordings/b.wav"}, None),
    ],
)  # fmt: skip
def test_which_recording_a_table_is_of(
    project: Path, name: str, known: dict[str, object], told: tuple[str, str] | str | None
) -> None:
    if "media" in known:
        known = {**known, "media": str(project / str(known["media"]))}
    said = enter(Place(project, "vtc", name), Annotation("x", **known))  # type: ignore[arg-type]
    if isinstance(told, tuple):
        (row,) = rows(project)
        assert said == "" and (row["recording_filename"], row["range_offset"]) == told
        del row["imported_at"]
        assert row == {
            "set": "vtc", "recording_filename": told[0], "time_seek": "0", "range_onset": "0",
            "range_offset": told[1], "raw_filename": name, "format": "NA",
            "annotation_filename": name, "package_version": "NA",
        }  # fmt: skip
        return
    listed = project / "metadata" / "recordings.csv"
    why = told or f"{listed} has no recording of that name"
    assert said == f"not in the index: 1 left out; {why.format(listed, listed.parents[1])}"
    assert not (project / "metadata" / "annotations.csv").exists()


def test_what_no_list_says_of_length_the_audio_says(project: Path) -> None:
    raw = project / "recordings" / "raw"
    raw.mkdir(parents=True)
    soundfile.write(raw / "b.wav", np.zeros(1200), 8000)
    (project / "metadata" / "recordings.csv").write_text("recording_filename\nb.wav\n")
    assert enter(Place(project, "eaf", "b.csv"), Annotation("b")) == ""
    assert [row["range_offset"] for row in rows(project)] == ["150"]


def test_rows_of_others_stay_and_none_overlaps(project: Path) -> None:
    index = project / "metadata" / "annotations.csv"
    head = "set,recording_filename,range_onset,range_offset,annotation_filename,mine"
    kept = ["vtc,c.wav,0,500,z.csv,1", "vtc,day 1/a.wav,5000,6000,late.csv,2", "its,d,0,9,d.csv,3"]
    index.write_text("\n".join([head, *kept, "vtc,d,0,1,d.csv,4"]) + "\n")
    for name in ("day 1/a.csv", "d.csv"):
        assert enter(Place(project, "vtc", name), Annotation("x")) == ""
    text = index.read_text().splitlines()
    assert text[0] == f"{head},time_seek,raw_filename,format,imported_at"
    assert text[1:4] == [f"{row},NA,NA,NA,NA" for row in kept]
    assert [row["annotation_filename"] for row in rows(project)[3:]] == ["day 1/a.csv", "d.csv"]
    assert rows(project)[4]["mine"] == "NA"
    told = "not in the index: 1 left out; its set has another of the same recording"
    assert enter(Place(project, "vtc", "c.csv"), Annotation("x", duration=0.4)) == told
    assert enter(Place(project, "its", "c.csv"), Annotation("x", duration=0.4)) == ""
    index.write_text("set,recording_filename\n")
    with pytest.raises(BabError, match="no column 'range_onset'"):
        enter(Place(project, "vtc", "c.csv"), Annotation("x", duration=0.4))
