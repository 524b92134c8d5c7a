"""What lists of cries, manifests and Kaldi's directories lack, and what is said, to the letter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from made_corpora import SUFFIXES, lay, load, refused, table

from bab.core.errors import CorpusError
from bab.kit import Headers
from bab.plugins.datasets.babycry import BabyCry
from bab.plugins.datasets.donateacry import DonateACry
from bab.plugins.datasets.esc50 import Esc50
from bab.plugins.datasets.kaldi import Kaldi
from bab.plugins.datasets.manifest import Manifest
from bab.plugins.datasets.recanvo import Recanvo
from bab.plugins.datasets.rttm import Rttm
from bab.plugins.datasets.shared import columns, cries
from bab.plugins.datasets.shared.layout import Layout

# ------------------------------------------------------------------------------- cries


def test_what_lists_of_cries_lack(tmp_path: Path) -> None:
    index = table(tmp_path / "r" / "dataset_file_directory.csv", "Filename,Participant,Label")
    assert refused(Recanvo, tmp_path / "r") == f"{index}: no clip is listed."
    table(
        index, "Filename,Participant,Label", "a_b_c.wav,P1,happy", "d_e.wav,P2,glee", "f.wav,P3,x"
    )
    assert refused(Recanvo, tmp_path / "r") == (
        f"{index}: none of its 3 files is under {tmp_path / 'r'}, such as 'a_b_c.wav'. Unpack the "
        "audio there."
    )
    lay(tmp_path / "r", "x/a_b_c.wav")
    assert refused(Recanvo, tmp_path / "r") == (
        f"{index}: 2 of 3 files are not under {tmp_path / 'r'}, the first is 'd_e.wav'. Unpack the "
        "audio there, or use what is there: --set corpus.missing=skip"
    )
    corpus = load(Recanvo, tmp_path / "r", missing="skip")
    assert corpus.notices == ["2 of 3 files have no audio here and were left out."]
    (clip,) = corpus.clips()
    assert dict(clip.labels) == {"vocalisation": "happy", "session": "a_b"}
    meta = tmp_path / "e" / "meta" / "esc50.csv"
    head = "filename,fold,category,esc10,src_file"
    table(meta, head, "1-a.wav,1,rain,True,s1")
    with pytest.raises(CorpusError) as caught:
        cries.esc50(tmp_path / "e", "error", [], ("crying_baby",))
    assert str(caught.value) == f"{meta}: no category 'crying_baby': known: rain"
    for row, told in (("1-a.wav,,rain,True,s", "fold is '', not a number"),
                      ("2-a.wav,1,,True,s", "category is empty")):  # fmt: skip
        table(meta, head, row)
        name = row.split(",")[0]
        assert refused(Esc50, tmp_path / "e") == f"{meta}:2: '{name}': {told}."
    table(meta, head, "1-a.wav,1,rain,True,s", "1-a.wav,x,rain,True,s")
    assert refused(Esc50, tmp_path / "e") == f"{meta}:3: '1-a.wav': listed above already."


def test_donated_cries(tmp_path: Path) -> None:
    told = f"{tmp_path}: no audio file ({SUFFIXES})."
    tmp_path.joinpath("notes.txt").touch()
    assert refused(DonateACry, tmp_path) == told
    tmp_path.joinpath("a.caf").touch()
    raw = " (what the app uploaded must be converted to wav first)."
    assert refused(DonateACry, tmp_path) == told[:-1] + raw
    tmp_path.joinpath("a.caf").unlink()
    uuid = "0123abcd-1b81-4a4f-9b5e-0123456789ab"
    given = (("hungry", "ti"), ("tired", "hu"), ("hungry", "ti"), ("x", "hu"))
    for i, (folder, code) in enumerate(given):
        lay(tmp_path, f"{folder}/{uuid}-143000000{i}-1.0-m-04-{code}.wav")
    corpus = load(DonateACry, tmp_path)
    assert corpus.notices == [
        "Names and folders differ on the reason: 1 'hungry' in folder 'tired', 2 'tired' in folder "
        "'hungry'. The folder was taken."
    ]
    assert [c.labels["reason"] for c in corpus.clips()] == ["hungry", "tired", "hungry", "hungry"]
    named = load(DonateACry, tmp_path, reason="name")
    assert [c.labels["reason"] for c in named.clips()] == ["tired", "hungry", "tired", "hungry"]
    assert named.notices[0].endswith(" The name was taken.")
    for name in (f"{uuid}-1-1.0-m-04-hu.M4A", f"{uuid}-1430000000-1.0-m-04-ti.caf"):
        (tmp_path / name).touch()
    left = (
        "1 files as the app uploaded them (.3gp, .caf, .m4a, .aac, .amr) were left out: convert "
        "them to wav to use them."
    )
    assert load(DonateACry, tmp_path).notices[1] == left
    assert refused(BabyCry, tmp_path) == (
        f"{tmp_path / 'recanvo'}: no such folder. `babycry` unites recanvo, donateacry and esc50: "
        "say where each lies, e.g. --set corpus.esc50=FOLDER; the last two may be left out, --set "
        "corpus.esc50="
    )


# ------------------------------------------------------------------------------- manifest, kaldi


def test_columns_of_a_manifest_that_are_not_there(tmp_path: Path) -> None:
    path = table(tmp_path / "m.csv", "path,mood", "a.wav,x")
    assert refused(Manifest, path, labels=("mod",)) == (
        f"{path}: no column 'mod' for a label (did you mean 'mood'?)."
    )
    assert refused(Manifest, path, columns={"text": "txt"}) == (
        f"{path}: no column 'txt' for text (known: mood, path). The columns are: path, mood"
    )
    table(path, "file,mood", "a.wav,x")
    assert refused(Manifest, path) == (
        f"{path}: no column 'path'. The columns are: file, mood. Say which one holds the audio "
        "files: --set corpus.columns.path=NAME"
    )
    table(path, "uid,start_time_s,duration_s,label", "a,0,1,KCHI")
    assert refused(Manifest, path) == (
        f"{path}: a table of segments, not of clips: where the audio is in the same folder, "
        f"rttm:{tmp_path} --set corpus.format=csv"
    )
    table(path, "path;mood", "a.wav;x")
    assert refused(Manifest, path) == (
        f"{path}: one column, 'path;mood'. It looks as if ';' stood between the columns: a CSV has "
        "commas, a .tsv tabs"
    )
    lay(tmp_path, "a.wav", "b.wav", "c.wav")
    table(path, "path,text,mood,speaker", "a.wav,x,m,s", "b.wav,,m,t", "c.wav,z,,")
    corpus = load(Manifest, path)
    assert corpus.notices == [
        f"{path}:3: no text, so none is provided.", f"{path}:4: no speaker, so none is provided.",
    ]  # fmt: skip
    assert corpus.provides == {"mood"} and corpus.unit == "recording"


def test_only_long_tables_are_read_in_columns(tmp_path: Path, monkeypatch: Any) -> None:
    lay(tmp_path, "a.wav")

    def layout(name: str, text: str) -> Layout:
        path = tmp_path / name
        path.write_text(text)
        return Layout(
            path, ["path", "end"], {"path": "path", "end": "end"}, [], {}, 1.0, Headers([])
        )

    short = layout("m.csv", "path,end\na.wav,1\n")
    assert columns.by_columns(short) is None
    monkeypatch.setattr(columns, "LONG", short.path.stat().st_size)
    made = columns.by_columns(short)
    assert made is not None and [c.end for c in made[1]] == [1.0]
    monkeypatch.setattr(columns, "LONG", short.path.stat().st_size + 1)
    assert columns.by_columns(short) is None
    monkeypatch.setattr(columns, "LONG", 0)
    assert columns.by_columns(layout("m.jsonl", "path,end\na.wav,1\n")) is None
    assert columns.by_columns(layout("m.tsv", "path\tend\na.wav\t1\n")) is not None
    for end in ("-1", "nan", "inf", "x"):
        assert columns.by_columns(layout("m.csv", f"path,end\na.wav,{end}\n")) is None
    monkeypatch.setattr(columns, "_FIELD", 9)
    for name, fine in (("123.wav", True), ("1234.wav", False)):  # a line of 9, or 10 bytes
        made = columns.by_columns(layout("m.csv", f"path,end\n{name},1\n"))
        assert (made is not None) == fine
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert columns.by_columns(short) is None


def test_kaldis_folders_and_spans(tmp_path: Path) -> None:
    assert refused(Kaldi, tmp_path) == (
        f"{tmp_path}: no wav.scp, nor one in train/, dev/, test/ or data/. If the splits have "
        "other names, give them: --set corpus.folders.train=NAME"
    )
    assert refused(Kaldi, tmp_path, folders={"dev": "x"}) == (
        f"{tmp_path / 'x'}: no wav.scp there (folders.dev)."
    )
    folder = tmp_path / "data"
    lay(tmp_path, "data/a.wav", seconds=2)
    table(folder / "wav.scp", "a a.wav")
    segments = folder / "segments"
    for line, told in (
        ("u a 1", f"{segments}:1: not a segment (UTTERANCE RECORDING START END, seconds): 'u a 1'"),
        ("u a x 1", f"{segments}:1: not a segment (UTTERANCE RECORDING START END, seconds): "
         "'u a x 1'"),
        ("u b 0 1", f"{segments}:1: recording 'b' isn't in {folder / 'wav.scp'}."),
        ("u a 1 1", f"{segments}:1: not a span of time: 1 to 1.0"),
        ("u a -1 1", f"{segments}:1: not a span of time: -1 to 1.0"),
        ("u a 2 -1", f"{segments}:1: not a span of time: 2 to 2.0"),
        ("u a 0 inf", f"{segments}:1: not a span of time: 0 to inf"),
    ):  # fmt: skip
        table(segments, line)
        assert refused(Kaldi, tmp_path) == told
    table(segments, "u a 0.5 -1", "v a 0 0.5")
    corpus = load(Kaldi, tmp_path)
    assert [(c.id, c.start, c.end, c.group) for c in corpus.clips()] == [
        ("u", 0.5, 2.0, str(folder / "a.wav")), ("v", 0.0, 0.5, str(folder / "a.wav")),
    ]  # fmt: skip
    table(folder / "reco2dur", "a 1.75")
    assert load(Kaldi, tmp_path).clips()[0].end == 1.75
    table(folder / "utt2dur", "a 1.5")
    assert load(Kaldi, tmp_path).clips()[0].end == 1.5  # the utterances' table comes last
    table(folder / "utt2dur", "a long")
    assert refused(Kaldi, tmp_path) == f"{folder}: the duration of 'a' is 'long'."
    table(folder / "utt2dur", "z 1")
    table(folder / "utt2spk", "z s")
    assert refused(Kaldi, tmp_path) == (
        f"{folder}: no utterance of wav.scp (or segments) stands in utt2spk and text."
    )


def test_paths_of_kaldi_count_from_the_corpus_first(tmp_path: Path) -> None:
    """Then from the folders between it and the directory, the outer ones first."""
    folder = tmp_path / "data" / "train"
    table(folder / "wav.scp", "a x/a.wav", f"b {tmp_path / 'b.wav'}")
    for place in (folder, tmp_path / "data", tmp_path):
        lay(place, "x/a.wav")
        lay(tmp_path, "b.wav")
        clips = {c.id: c.path for c in load(Kaldi, tmp_path).clips()}
        assert clips == {"a": str(place / "x/a.wav"), "b": str(tmp_path / "b.wav")}


# ------------------------------------------------------------------------------- annotations


def test_notices_of_annotation_files_are_told_as_far_as_five(tmp_path: Path) -> None:
    for i in range(7):
        lay(tmp_path, f"r{i}.wav", seconds=3)
        table(tmp_path / f"r{i}.txt", "0\t1\tFEM", "2\t2\tpoint")
    (tmp_path / "r6.txt").rename(tmp_path / "r6.TXT")
    table(tmp_path / "Val.TXT", "r1")  # a list, and no labels of Audacity's
    table(tmp_path / "lists" / "notes.lst", "no labels either")
    assert load(Rttm, tmp_path, format="audacity").splits() == ("dev",)
    (tmp_path / "Val.TXT").unlink()
    corpus = load(Rttm, tmp_path, format="audacity")
    assert len(corpus.clips()) == 7
    told = [
        f"{tmp_path / f'r{i}.txt'}: 1 points, which have no length, were left out" for i in range(5)
    ]
    assert corpus.notices == [*told, "2 more notices of this kind about annotation files."]
    table(tmp_path / "x" / "r0.txt", "0\t1\tFEM")
    with pytest.raises(CorpusError) as caught:
        load(Rttm, tmp_path, format="audacity")
    assert str(caught.value) == (
        f"recording 'r0' is annotated in {tmp_path / 'r0.txt'} and in {tmp_path / 'x/r0.txt'}. "
        "Keep one, or say which folder: --set corpus.rttm=FOLDER"
    )
