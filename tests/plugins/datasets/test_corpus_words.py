"""What corpora say of their folders, to the letter: mistakes, notices, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_corpora import SUFFIXES, lay, load, refused, table

from bab.core.errors import CorpusError, LeakageError
from bab.plugins.datasets.audio import Audio
from bab.plugins.datasets.childproject import ChildProject
from bab.plugins.datasets.commonvoice import CommonVoice
from bab.plugins.datasets.hindibabynet import HindiBabyNet
from bab.plugins.datasets.librispeech import LibriSpeech, read_speakers
from bab.plugins.datasets.voxceleb import VoxCeleb

# ------------------------------------------------------------------------------- audio


def test_recordings_in_folders_and_in_none(tmp_path: Path) -> None:
    assert refused(Audio, tmp_path) == f"{tmp_path}: no audio in it or below it ({SUFFIXES})."
    lay(tmp_path, "ann/x.wav")
    assert load(Audio, tmp_path).notices == []
    lay(tmp_path, "y.wav")
    rest = (
        f"in no folder below {tmp_path}: each is a group of its own. Where one child or speaker is "
        "in several, put them into one folder."
    )
    assert load(Audio, tmp_path).notices == [f"1 recording {rest}"]
    lay(tmp_path, "z.WAV")
    assert load(Audio, tmp_path).notices == [f"2 recordings {rest}"]
    lay(tmp_path, "a b/c.wav", "a_b/c.wav", "a_b/c .wav")
    one, two = tmp_path / "a b" / "c.wav", tmp_path / "a_b" / "c.wav"
    assert refused(Audio, tmp_path) == f"{one} and {two} differ in white space only. Rename one."


def test_lists_name_recordings_by_path_or_id(tmp_path: Path) -> None:
    lay(tmp_path, "ann/a b.wav", "bob/x.wav", "cy/x.wav")
    table(tmp_path / "train.txt", "ann\\a b.wav")
    table(tmp_path / "dev.txt", "bob/x")
    table(tmp_path / "test.txt", "cy/x.wav")
    corpus = load(Audio, tmp_path)
    assert [[c.id for c in corpus.clips(s)] for s in corpus.splits()] == [
        ["ann/a_b"], ["bob/x"], ["cy/x"],
    ]  # fmt: skip


# ------------------------------------------------------------------------------- hindibabynet


def test_recordings_elsewhere_and_files_that_are_no_audio(tmp_path: Path) -> None:
    raw = tmp_path / "RawAudioData"
    raw.mkdir()
    assert refused(HindiBabyNet, tmp_path) == (
        f"{raw}: no audio at CHILD/DATE/FILE ({SUFFIXES}). Name the folder that holds RawAudioData."
    )
    lay(raw, "A B/1/x 1.wav", "A B/y.wav", "A B/1/2/z.wav")
    table(raw / "A B" / "1" / "notes.txt", "x")
    corpus = load(HindiBabyNet, tmp_path)
    (clip,) = corpus.clips()
    assert (clip.id, clip.group, dict(clip.labels)) == ("A_B_1_x_1", "A B", {"date": "1"})
    assert corpus.notices == [
        "2 audio files that are not CHILD/DATE/FILE were left out, the first is "
        f"{raw / 'A B' / 'y.wav'}"
    ]
    lay(raw, "A B/1/x 1.flac")
    assert refused(HindiBabyNet, tmp_path) == (
        f"{raw / 'A B' / '1' / 'x 1.wav'}: 'A_B_1_x_1' is {raw / 'A B' / '1' / 'x 1.flac'} "
        "already. Rename one."
    )


def test_a_manifest_of_recordings(tmp_path: Path) -> None:
    lay(tmp_path, "A/1/x.wav", "other/B/2/y.wav")
    path = tmp_path / "m.csv"

    def told(*rows: str) -> str:
        table(path, "wav_path,recording_id", *rows)
        return refused(HindiBabyNet, tmp_path, manifest="m.csv")

    assert told() == f"{path}: no recording is listed."
    assert told("A/1/x.wav,") == f"{path}:2: recording_id is empty."
    assert told("1/x.wav,r") == f"{path}:2: wav_path '1/x.wav' is not .../CHILD/DATE/FILE."
    assert told("q/C/1/x.wav,r") == (
        f"{path}:2: neither {tmp_path / 'q/C/1/x.wav'} nor {tmp_path / 'C/1/x.wav'} is there."
    )
    twice = f"{path}:3: 'r' is {tmp_path / 'A/1/x.wav'} already. Rename one."
    assert told("A/1/x.wav,r", "other/B/2/y.wav,r") == twice
    table(path, "wav_path,recording_id", "/far/away/A/1/x.wav,r", "other/B/2/y.wav,s")
    corpus = load(HindiBabyNet, tmp_path, manifest=str(path))
    assert [(c.id, c.group, c.labels["date"]) for c in corpus.clips()] == [
        ("r", "A", "1"), ("s", "B", "2"),
    ]  # fmt: skip
    table(tmp_path / "train.txt", "D:\\data\\A\\1\\x.wav")
    table(tmp_path / "test.txt", "s.wav")
    corpus = load(HindiBabyNet, tmp_path, manifest=str(path))
    assert [c.id for c in corpus.clips("train")] == ["r"] and corpus.splits() == ("train", "test")


# ------------------------------------------------------------------------------- childproject


def project(root: Path, *rows: str, count: int = 3) -> Path:
    names = [f"r{i}" for i in range(count)]
    table(root / "metadata/children.csv", "child_id", *(f"c{i}" for i in range(count)))
    table(root / "metadata/recordings.csv", "recording_filename,child_id",
          *(f"{n}.wav,c{i}" for i, n in enumerate(names)))  # fmt: skip
    table(root / "metadata/annotations.csv",
          "set,recording_filename,range_onset,range_offset,annotation_filename",
          *(f"v,{n}.wav,0,2000,{n}.csv" for n in names))  # fmt: skip
    for name in names:
        lay(root, f"recordings/raw/{name}.wav", seconds=2)
        table(root / f"annotations/v/converted/{name}.csv",
              "segment_onset,segment_offset,speaker_type,addressee", *rows)  # fmt: skip
    return root


def test_utterances_are_in_the_splits_of_their_recordings(tmp_path: Path) -> None:
    project(tmp_path, "0,500,FEM,T", "600,900,CHI,NA", "1000,1500,XX,C")
    for split, name in (("train", "r0"), ("dev", "r1"), ("test", "r2")):
        table(tmp_path / f"{split}.txt", f"{name}.wav")
    corpus = load(ChildProject, tmp_path, clips="utterances")
    assert corpus.provides == {"addressee", "voice"} and corpus.splits_given
    assert [[c.id for c in corpus.clips(s)] for s in corpus.splits()] == [
        [f"{name}-0-500-FEM", f"{name}-1000-1500-NA"] for name in ("r0", "r1", "r2")
    ]
    assert corpus.notices == ["3 segments without an addressee were left out."]
    whole = load(ChildProject, tmp_path)
    assert whole.notices == ["Segments left out, by speaker_type: XX (3)."]
    assert whole.provides == {"segments"} and len(whole.clips()) == 3
    (tmp_path / "test.txt").unlink()
    fewer = load(ChildProject, tmp_path)
    assert [c.id for c in fewer.clips()] == ["r0", "r1"]  # what is in no list isn't read


def test_utterances_without_lists_or_addressees(tmp_path: Path) -> None:
    project(tmp_path / "a", "0,500,FEM,T")
    corpus = load(ChildProject, tmp_path / "a", clips="utterances")
    assert not corpus.splits_given and [len(corpus.clips(s)) for s in corpus.splits()] == [1, 1, 1]
    project(tmp_path / "b", "0,500,FEM,NA", "0,700,,NA")
    assert refused(ChildProject, tmp_path / "b", clips="utterances") == (
        f"{tmp_path / 'b'}: no segment has an addressee; is this the right set?"
    )
    assert load(ChildProject, tmp_path / "b").notices == [
        "Segments left out, by speaker_type: empty (3)."
    ]


def test_sets_and_audio_of_childproject(tmp_path: Path) -> None:
    project(tmp_path, "0,500,FEM,T")
    path = tmp_path / "metadata" / "annotations.csv"
    assert refused(ChildProject, tmp_path, set="w") == (f"{path}: no annotation set 'w': known: v")
    rows = path.read_text()
    path.write_text(rows + "w,r0.wav,0,9,x.csv\n")
    assert refused(ChildProject, tmp_path) == (
        f"{path}: there are 2 annotation sets (v, w). Say which one holds the truth: --set "
        "corpus.set=NAME"
    )
    path.write_text(rows.splitlines()[0] + "\n")
    assert "there are 0 annotation sets (none)." in refused(ChildProject, tmp_path)
    path.write_text(rows.replace("r1.csv", "NA").replace("v,r2", "v,gone"))
    corpus = load(ChildProject, tmp_path, set="v")
    assert corpus.notices == [
        "1 annotations of set 'v' were never converted.", "2 recordings without annotation were "
        "left out.",
    ]  # fmt: skip
    path.write_text(rows)
    for i in range(3):
        (tmp_path / f"recordings/raw/r{i}.wav").unlink()
    assert refused(ChildProject, tmp_path) == (
        f"{tmp_path / 'recordings/raw/r0.wav'}: no such audio file, nor any other of the annotated "
        "recordings. In a DataLad data set fetch them first: datalad get recordings"
    )
    folder = tmp_path / "recordings" / "converted" / "p"
    assert refused(ChildProject, tmp_path, profile="p") == (
        f"{folder}: no such folder. Check --set corpus.profile=NAME"
    )
    lay(folder, "r0.wav", seconds=1)
    corpus = load(ChildProject, tmp_path, profile="p")
    assert [(c.path, c.end) for c in corpus.clips()] == [(str(folder / "r0.wav"), 1.0)]
    assert corpus.notices == ["2 recordings without audio were left out: r1.wav, r2.wav"]


# ------------------------------------------------------------------------------- common voice


def release(root: Path, **tables: str) -> Path:
    for name, rows in tables.items():
        listed = [row.split(":") for row in rows.split()]
        table(root / f"{name}.tsv", "client_id\tpath\tsentence",
              *(f"{who}\t{path}\tx" for who, path in listed))  # fmt: skip
    clips = {row.split(":")[1] for rows in tables.values() for row in rows.split()}
    table(root / "clip_durations.tsv", "clip\tduration[ms]", *(f"{c}\t1000" for c in sorted(clips)))
    return root


def test_what_a_release_lacks(tmp_path: Path) -> None:
    hint = "Name the folder of one language, which holds the .tsv files and clips/."
    assert refused(CommonVoice, tmp_path) == (
        f"{tmp_path}: no train.tsv, dev.tsv or test.tsv. {hint}"
    )
    path = tmp_path / "validated.tsv"
    assert refused(CommonVoice, tmp_path, use="validated") == f"{path}: no such file. {hint}"
    for i in range(9):
        release(tmp_path / f"l{i}", validated="a:a.mp3")
    listed = ", ".join(f"l{i}" for i in range(8))
    assert refused(CommonVoice, tmp_path, use="validated") == (
        f"{path}: no such file. Name a language's folder: {listed}."
    )
    release(tmp_path, validated="a:a.mp3 a:b.mp3")
    told = refused(CommonVoice, tmp_path, use="validated")
    assert told.startswith(f"{path}: 1 clips can't be divided into 3 splits (train, dev, test)")


def test_speakers_and_clips_that_stand_twice(tmp_path: Path) -> None:
    release(tmp_path, train="a:1.mp3 b:2.mp3", test="a:3.mp3")
    with pytest.raises(LeakageError) as caught:
        load(CommonVoice, tmp_path)
    assert str(caught.value) == (
        f"speaker 'a' stands in {tmp_path / 'train.tsv'} and in {tmp_path / 'test.tsv'}. Keep each "
        "client_id in one, or take --set corpus.use=validated, which splits by speaker."
    )
    lay(tmp_path / "clips", "1.mp3", "2.mp3", seconds=1)
    release(tmp_path, train="a:1.mp3 b:2.mp3", test="c:1.mp3")
    with pytest.raises(LeakageError) as caught:
        load(CommonVoice, tmp_path)
    assert str(caught.value) == (
        f"clip '1' stands in {tmp_path / 'train.tsv'} and in {tmp_path / 'test.tsv'}. Keep one."
    )
    release(tmp_path, train="a:1.mp3 b:1.mp3", test="c:2.mp3")
    assert refused(CommonVoice, tmp_path) == (
        f"{tmp_path / 'train.tsv'}: a clip is listed twice. Keep one of its rows."
    )
    release(tmp_path, validated="a:1.mp3 b:2.mp3 c:3 :4.mp3")
    corpus = load(CommonVoice, tmp_path, use="validated", suffix=".wav")
    by_id = {c.id: c for c in corpus.clips()}
    assert {c.path.rsplit("/", 1)[1] for c in by_id.values()} == {f"{i}.wav" for i in range(1, 5)}
    assert (by_id["4"].group, by_id["4"].speaker) == ("4", None) and by_id["1"].group == "a"
    assert corpus.provides == {"text"}
    sizes = ", ".join(f"{len(corpus.clips(s))} {s}" for s in corpus.splits())
    assert corpus.notices == [f"validated.tsv was split by speaker into {sizes} clips."]
    plain = load(CommonVoice, tmp_path, use="validated")
    assert {c.path.rsplit("/", 1)[1] for c in plain.clips()} == {f"{i}.mp3" for i in range(1, 5)}


# ------------------------------------------------------------------------------- librispeech


def test_speakers_of_librispeech(tmp_path: Path) -> None:
    path = tmp_path / "SPEAKERS.TXT"
    assert read_speakers(path) == {}
    table(path, ";ID |SEX", "", "14 | F | x", "16|M")
    assert read_speakers(path) == {"14": "female", "16": "male"}
    table(path, "14 | F", " nothing ")
    with pytest.raises(CorpusError) as caught:
        read_speakers(path)
    assert str(caught.value) == f"{path}:2: not 'ID | SEX | ...': 'nothing'"


def test_what_librispeech_lacks(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert refused(LibriSpeech, gone) == f"{gone}: no such folder."
    none = f"{tmp_path}: no subset named train-*, dev-* or test-*. It holds: "
    above = "Name the folder above the subsets."
    assert refused(LibriSpeech, tmp_path) == f"{none}no folder. {above}"
    (tmp_path / "clean").mkdir()
    table(tmp_path / "file.txt", "x")
    assert refused(LibriSpeech, tmp_path) == f"{none}clean. {above}"
    chapter = tmp_path / "dev" / "1" / "2"
    lay(chapter, "1-2-1.wav")
    path = chapter / "1-2.trans.txt"
    told = f"{path}: no such file, but 1 recordings beside it."
    assert refused(LibriSpeech, tmp_path) == told
    table(path, "1-2-1 SAID", "1-2-2 NOT")
    assert refused(LibriSpeech, tmp_path) == (
        f"{path}:2: no 1-2-2.flac beside it. Unpack the corpus again, or take the line out."
    )
    table(path, "1-2-1 SAID SO")
    corpus = load(LibriSpeech, tmp_path)
    (clip,) = corpus.clips("dev")
    assert (clip.id, clip.text, dict(clip.labels)) == ("1-2-1", "SAID SO", {"subset": "dev"})
    assert corpus.splits() == ("dev",) and corpus.provides == {"speaker", "text", "subset"}
    assert refused(LibriSpeech, tmp_path, dev=("dve",)) == (
        f"{tmp_path}: no subset 'dve' (did you mean 'dev'?)."
    )


# ------------------------------------------------------------------------------- voxceleb


def test_what_voxceleb_lacks(tmp_path: Path) -> None:
    assert refused(VoxCeleb, tmp_path) == (
        f"{tmp_path}: no audio at wav/SPEAKER/VIDEO/UTTERANCE.wav, nor under dev/ or test/."
    )
    lay(tmp_path, "wav/id1/v/1.wav", "wav/id2/v/1.wav", "wav/other/v/1.wav")
    table(tmp_path / "wav/id1/v/1.txt", "x")
    path = tmp_path / "iden_split.txt"
    assert refused(VoxCeleb, tmp_path, protocol="identification") == (
        f"{path}: no such file; protocol=identification needs it."
    )
    table(path, "1 wav/id1/v/1.wav", "1 2 3", "1 id9/v/1.wav")
    with pytest.raises(CorpusError) as caught:
        load(VoxCeleb, tmp_path, protocol="identification")
    assert caught.value.__notes__ == [
        f"{path}:2: not '1|2|3 FILE': '1 2 3'", f"{path}:3: no audio for 'id9/v/1.wav'.",
    ]  # fmt: skip
    table(tmp_path / "list.txt", "0 id1/v/1.wav id2/v/1.wav")
    corpus = load(VoxCeleb, tmp_path, trials="list.txt")
    assert corpus.notices[0] == (
        "Every speaker is in the trial list, so that nobody is left to train on."
    )
    assert corpus.splits() == ("test",) and len(corpus.clips("test")) == 2
    assert refused(VoxCeleb, tmp_path, trials="x.txt") == (
        f"{tmp_path / 'x.txt'}: no such file (option trials)."
    )
    lay(tmp_path, "dev/wav/id1/v/1.flac")
    assert refused(VoxCeleb, tmp_path) == (
        f"{tmp_path / 'wav/id1/v/1.wav'} and {tmp_path / 'dev/wav/id1/v/1.flac'}: one utterance. "
        "Keep one."
    )


def test_aac_beside_what_can_be_read(tmp_path: Path) -> None:
    lay(tmp_path, "test/aac/id1/v/2.flac", "test/aac/id2/w/1.ogg", "wav/idx/v/1.wav")
    for name in ("test/aac/id1/v/1.m4a", "test/aac/id1/v/2.m4a", "test/aac/id3/v/1.aac"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "wav/id9").touch()  # no folder
    corpus = load(VoxCeleb, tmp_path)
    told = (
        f"{tmp_path / 'test/aac/id1/v/1.m4a'}: AAC can't be read. Convert it to wav or flac beside "
        "the m4a files: ffmpeg -i 00001.m4a -ac 1 -ar 16000 00001.flac for each."
    )
    assert corpus.notices[0] == f"2 files were left out. {told}"
    assert [c.id for c in corpus.clips()] == ["id1/v/2", "id2/w/1"]
    assert corpus.splits() == ("test",)
    for name in ("id1/v/2.flac", "id2/w/1.ogg"):
        (tmp_path / "test/aac" / name).unlink()
    assert refused(VoxCeleb, tmp_path) == told
