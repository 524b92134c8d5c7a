"""The childproject corpus, on data sets that are made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.core.errors import CorpusError, LeakageError
from bab.plugins.datasets.childproject import ChildProject, clip_id
from bab.testing.corpora import check_corpus

ANNOTATIONS = (
    "set,recording_filename,time_seek,range_onset,range_offset,raw_filename,annotation_filename"
)


def sound(path: Path, seconds: float = 10.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(seconds * 8000)), 8000)


def table(path: Path, header: str, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in (header, *rows)))


def converted(root: Path, name: str, *rows: str, chosen: str = "vtc") -> None:
    header = "segment_onset,segment_offset,speaker_type,raw_filename"
    table(root / "annotations" / chosen / "converted" / f"{name}.csv", header, *rows)


def project(root: Path) -> Path:
    """Three children with two recordings each, 10 s long, all of it annotated by set vtc."""
    names = [f"r{i}" for i in range(6)]
    table(
        root / "metadata" / "children.csv",
        "experiment,child_id,child_sex,child_dob,language",
        "x,c0,f,2020-01-15,tsi",
        "x,c1,m,NA,",
        "x,c2,NA,2021-02-01,fra",
    )
    table(
        root / "metadata" / "recordings.csv",
        "experiment,child_id,date_iso,start_time,recording_device_type,recording_filename,notes",
        *(f"x,c{i // 2},2022-01-16,NA,usb,{name}.wav,private" for i, name in enumerate(names)),
    )
    table(
        root / "metadata" / "annotations.csv",
        ANNOTATIONS,
        *(f"vtc,{name}.wav,0,0,10000,x.rttm,{name}.csv" for name in names),
    )
    for name in names:
        sound(root / "recordings" / "raw" / f"{name}.wav")
        converted(root, name, "1000,2500,CHI,x", "2000,3000,FEM,x", "500,1500,NA,x")
    return root


def load(root: Path, **options) -> ChildProject:
    return ChildProject(root, ChildProject.Options(**options))


def clips(corpus: ChildProject) -> dict:
    return {clip.id: clip for clip in corpus.clips()}


def spans(clip) -> list[tuple[float, float, str]]:
    return [(s.start, s.end, s.label) for s in clip.segments]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- what is read


def test_the_usual_layout(tmp_path):
    corpus = load(project(tmp_path))
    check_corpus(corpus)
    found = clips(corpus)
    assert list(found) == ["r0", "r1", "r2", "r3", "r4", "r5"]
    assert spans(found["r0"]) == [(1.0, 2.5, "KCHI"), (2.0, 3.0, "FEM")]
    assert found["r0"].scored == ((0.0, 10.0),)
    assert [clip.group for clip in found.values()] == ["c0", "c0", "c1", "c1", "c2", "c2"]
    assert found["r0"].labels == {
        "child_sex": "f",
        "language": "tsi",
        "recording_device_type": "usb",
        "age_months": "24",
    }
    assert found["r2"].labels == {"child_sex": "m", "recording_device_type": "usb"}
    assert "Segments left out, by speaker_type: NA (6)." in corpus.notices


def test_the_sample_obeys_the_contract():
    corpus = load(ChildProject.sample)
    check_corpus(corpus)
    assert {s.label for c in corpus.clips() for s in c.segments} == {"KCHI", "OCH", "MAL", "FEM"}
    assert {clip.group for clip in corpus.clips()} == {"C01", "C02", "C03"}


def test_the_split_keeps_children_together_and_says_so(tmp_path):
    corpus = load(project(tmp_path))
    where: dict[str, set[str]] = {}
    for split in corpus.splits():
        for clip in corpus.clips(split):
            where.setdefault(clip.group, set()).add(split)
    assert sorted(map(sorted, where.values())) == [["dev"], ["test"], ["train"]]
    assert sum("split by group" in notice for notice in corpus.notices) == 1


def test_ranges_are_scored_and_cut_the_segments(tmp_path):
    """Two ranges of one file, one of another that overlaps with them, as annotators sample."""
    project(tmp_path)
    edit(
        tmp_path / "metadata" / "annotations.csv",
        "vtc,r0.wav,0,0,10000,x.rttm,r0.csv\n",
        "vtc,r0.wav,0,1200,2200,x.rttm,r0.csv\n"
        "vtc,r0.wav,0,2900,4000,x.rttm,r0.csv\n"
        "vtc,r0.wav,0,3500,6000,y.rttm,late.csv\n",
    )
    converted(tmp_path, "late", "3000,5000,OCH,y", "5999,9000,MAL,y", "6000,7000,MAL,y")
    clip = clips(load(tmp_path))["r0"]
    assert clip.scored == ((1.2, 2.2), (2.9, 6.0))
    assert spans(clip) == [
        (1.2, 2.2, "KCHI"),
        (2.0, 2.2, "FEM"),
        (2.9, 3.0, "FEM"),
        (3.5, 5.0, "OCH"),
        (5.999, 6.0, "MAL"),
    ]


def test_time_seek_is_in_the_converted_times_already(tmp_path):
    """ChildProject adds it on import, and its ranges never need it (its docs, "annotations")."""
    project(tmp_path)
    edit(tmp_path / "metadata" / "annotations.csv", "vtc,r0.wav,0,0,", "vtc,r0.wav,4000,0,")
    assert spans(clips(load(tmp_path))["r0"])[0] == (1.0, 2.5, "KCHI")


def test_a_set_must_be_named_where_there_are_several(tmp_path):
    project(tmp_path)
    with (tmp_path / "metadata" / "annotations.csv").open("a") as file:
        file.write("eaf/an1,r1.wav,0,0,5000,x.eaf,r1.csv\n")
    converted(tmp_path, "r1", "0,1000,MAL,x", chosen="eaf/an1")
    with pytest.raises(CorpusError, match=r"2 annotation sets \(eaf/an1, vtc\).*corpus\.set="):
        load(tmp_path)
    with pytest.raises(CorpusError, match=r"no annotation set 'vtcc': did you mean 'vtc'"):
        load(tmp_path, set="vtcc")
    found = clips(load(tmp_path, set="eaf/an1"))
    assert list(found) == ["r1"] and spans(found["r1"]) == [(0.0, 1.0, "MAL")]
    assert len(clips(load(tmp_path, set="vtc"))) == 6


def test_a_profile_reads_the_converted_audio(tmp_path):
    project(tmp_path)
    folder = tmp_path / "recordings" / "converted" / "standard"
    for i in range(6):
        sound(folder / f"p{i}.wav", 9)
    names = (f"r{i}.wav,p{i}.wav,True" for i in range(6))
    table(folder / "recordings.csv", "original_filename,converted_filename,success", *names)
    clip = clips(load(tmp_path, profile="standard"))["r3"]
    assert clip.path == str(folder / "p3.wav") and clip.end == 9.0
    with pytest.raises(CorpusError, match=r"no such folder.*corpus\.profile"):
        load(tmp_path, profile="missing")


def test_discarded_unannotated_and_absent_recordings_are_left_out(tmp_path):
    project(tmp_path)
    table(
        tmp_path / "metadata" / "children.csv",
        "child_id,discard",
        "c0,0",
        "c1,1",
        "c2,why not",
        ",",
    )
    (tmp_path / "recordings" / "raw" / "r0.wav").unlink()
    edit(tmp_path / "metadata" / "annotations.csv", "vtc,r5.wav,0,0,10000,x.rttm,r5.csv\n", "")
    edit(tmp_path / "metadata" / "annotations.csv", "x.rttm,r4.csv", "x.rttm,NA")
    corpus = load(tmp_path)
    assert list(clips(corpus)) == ["r1"]
    said = " ".join(corpus.notices)
    assert "2 recordings marked 'discard'" in said
    assert "1 recordings without audio were left out: r0.wav" in said
    assert "1 annotations of set 'vtc' were never converted" in said
    assert "2 recordings without annotation" in said


def test_a_split_column(tmp_path):
    project(tmp_path)
    path = tmp_path / "metadata" / "recordings.csv"
    rows = path.read_text().splitlines()
    splits = ["split", "train", "train", "Val", "dev", "test", ""]
    path.write_text("".join(f"{row},{s}\n" for row, s in zip(rows, splits, strict=True)))
    corpus = load(tmp_path)
    found = {s: [c.id for c in corpus.clips(s)] for s in corpus.splits()}
    assert found == {"train": ["r0", "r1"], "dev": ["r2", "r3"], "test": ["r4"]}
    edit(path, "Val", "valid")
    with pytest.raises(CorpusError, match=r"'r2\.wav' has split 'valid': did you mean"):
        load(tmp_path)


def test_split_lists_of_filenames(tmp_path):
    project(tmp_path)
    for split, names in {"train": "r0.wav\nr1.wav", "dev": "r2.wav", "test": "r5.wav"}.items():
        (tmp_path / f"{split}.txt").write_text(names)
    assert [c.id for c in load(tmp_path).clips("train")] == ["r0", "r1"]
    (tmp_path / "test.txt").write_text("r3.wav")
    with pytest.raises(LeakageError, match=r"group 'c1'.*'dev'.*'test'"):
        load(tmp_path).clips("test")
    (tmp_path / "test.txt").write_text("r5.wav\nr9.wav")
    with pytest.raises(CorpusError, match=r"test\.txt:2: 'r9' is not in recordings\.csv"):
        load(tmp_path)
    (tmp_path / "test.txt").write_text("r5.wav")
    (tmp_path / "recordings" / "raw" / "r5.wav").unlink()
    with pytest.raises(CorpusError, match=r"test\.txt:1: 'r5' has no audio here"):
        load(tmp_path)


def test_names_in_folders_and_with_spaces(tmp_path):
    project(tmp_path)
    for name in ("recordings.csv", "annotations.csv"):
        edit(tmp_path / "metadata" / name, "r0.wav", "day 1/r0.mp3.WAV")
    sound(tmp_path / "recordings" / "raw" / "day 1" / "r0.mp3.WAV")
    assert "day_1_r0.mp3" in clips(load(tmp_path))
    assert clip_id("plain") == "plain"


# --- mistakes: the file, the line or column, and what to do


def test_a_data_set_without_an_index_is_told_how_to_get_one(tmp_path):
    project(tmp_path)
    (tmp_path / "metadata" / "annotations.csv").unlink()
    with pytest.raises(CorpusError, match=r"annotations\.csv: no such file\. .* --to childproject"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("metadata/children.csv", "child_id"),
        ("metadata/recordings.csv", "recording_filename"),
        ("metadata/recordings.csv", "child_id"),
        ("metadata/annotations.csv", "set"),
        ("metadata/annotations.csv", "range_onset"),
        ("metadata/annotations.csv", "annotation_filename"),
        ("annotations/vtc/converted/r3.csv", "segment_onset"),
        ("annotations/vtc/converted/r3.csv", "speaker_type"),
    ],
)
def test_a_missing_column_is_named(tmp_path, file, column):
    project(tmp_path)
    edit(tmp_path / file, column, "renamed")
    with pytest.raises(CorpusError) as caught:
        load(tmp_path)
    assert str(tmp_path / file) in str(caught.value)
    assert f"no column '{column}'" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("metadata/recordings.csv", "x,c2,", "x,c9,", r"recordings\.csv:6: child_id 'c9' is not"),
        ("metadata/children.csv", "x,c1,", "x,c0,", r"children\.csv:3: child_id 'c0'"),
        ("metadata/recordings.csv", "r1.wav", "r0.mp3", r"recordings\.csv:3: 'r0\.mp3' can't"),
        ("metadata/recordings.csv", "r1.wav", "", r"recordings\.csv:3: recording_filename is emp"),
        ("metadata/recordings.csv", "r1.wav,private", "r1.wav", r"recordings\.csv:3: 6 cells"),
        ("metadata/annotations.csv", "r1.wav,0,0,", "r1.wav,0,,", r"annotations\.csv:3: .*millis"),
        ("metadata/annotations.csv", "10000", "-5", r"annotations\.csv:2: range_onset 0 to"),
        ("metadata/annotations.csv", ",0,10000", ",20000,30000", r"r0\.wav: its annotated ranges"),
        ("annotations/vtc/converted/r3.csv", "1000,", "x,", r"r3\.csv:2: segment_onset and"),
        ("annotations/vtc/converted/r3.csv", "2000,", "4000,", r"r3\.csv:3: .* no span of time"),
    ],
)
def test_a_bad_cell_is_named(tmp_path, file, old, new, message):
    project(tmp_path)
    edit(tmp_path / file, old, new)
    with pytest.raises(CorpusError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    "file",
    ["metadata/children.csv", "metadata/annotations.csv", "annotations/vtc/converted/r3.csv"],
)
def test_a_missing_file_is_named(tmp_path, file):
    project(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(CorpusError, match=f"{Path(file).name}: no such file"):
        load(tmp_path)


def test_what_datalad_has_not_fetched_is_explained(tmp_path):
    project(tmp_path)
    path = tmp_path / "annotations" / "vtc" / "converted" / "r3.csv"
    path.unlink()
    path.symlink_to("../../../.git/annex/objects/nowhere")
    with pytest.raises(CorpusError, match="datalad get"):
        load(tmp_path)
    for audio in (tmp_path / "recordings" / "raw").iterdir():
        audio.unlink()
    with pytest.raises(CorpusError, match=r"raw/r0\.wav: no such audio file.*datalad get rec"):
        load(tmp_path)


def test_segments_after_the_end_are_cut_and_told(tmp_path):
    project(tmp_path)
    edit(tmp_path / "metadata" / "annotations.csv", "r0.wav,0,0,10000", "r0.wav,0,0,20000")
    converted(tmp_path, "r0", "9000,12000,CHI,x", "15000,16000,FEM,x")
    corpus = load(tmp_path)
    assert spans(clips(corpus)["r0"]) == [(9.0, 10.0, "KCHI")]
    assert clips(corpus)["r0"].scored == ((0.0, 10.0),)
    assert any("r0.wav: 2 segments cut" in notice for notice in corpus.notices)


def test_no_recording_in_use_is_annotated(tmp_path):
    project(tmp_path)
    path = tmp_path / "metadata" / "annotations.csv"
    table(path, ANNOTATIONS, "vtc,elsewhere.wav,0,0,10,x,x.csv")
    with pytest.raises(CorpusError, match="set 'vtc' annotates none"):
        load(tmp_path)


@pytest.mark.parametrize(("gone", "shown"), [(3, "r0, r1, r2"), (4, "r0, r1, r2, ...")])
def test_recordings_without_audio_are_shown_as_far_as_three(
    tmp_path: Path, gone: int, shown: str
) -> None:
    project(tmp_path)
    for number in range(gone):
        (tmp_path / "recordings" / "raw" / f"r{number}.wav").unlink()
    corpus = ChildProject(tmp_path, ChildProject.Options())
    list(corpus.clips())
    (said,) = (n for n in corpus.notices if "without audio" in n)
    names = shown.split(", ")
    told = ", ".join(name if name == "..." else f"{name}.wav" for name in names)
    assert said == f"{gone} recordings without audio were left out: {told}"
