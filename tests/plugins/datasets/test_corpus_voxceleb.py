"""Corpus `voxceleb`: trial lists, splits by speaker, identification, AAC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.core.errors import CorpusError
from bab.plugins.datasets.voxceleb import VoxCeleb
from bab.testing.corpora import check_corpus


def make(root: Path, speakers: range, top: str = "wav", suffix: str = ".wav") -> Path:
    """Two videos of two utterances for each speaker."""
    for speaker in speakers:
        for name in ("aaaa/00001", "aaaa/00002", "bbbb/00001", "bbbb/00002"):
            path = root / top / f"id1{speaker:04}" / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if suffix == ".m4a":
                path.write_bytes(b"\0\0\0\x20ftypM4A ")
            else:
                soundfile.write(path, 0.1 * np.sin(np.arange(4000) / 5), 8000)
    return root


TRIALS = (
    "1 id10000/aaaa/00001.wav id10000/bbbb/00001.wav\n"
    "0 id10000/aaaa/00001.wav id10001/bbbb/00002.wav\n"
)


def voxceleb(root: Path, **options) -> VoxCeleb:
    return VoxCeleb(root, VoxCeleb.Options(**options))


def test_sample():
    corpus = voxceleb(VoxCeleb.sample)
    check_corpus(corpus)
    lines = (VoxCeleb.sample / "veri_test.txt").read_text().split("\n")
    assert len(corpus.trials("test")) == len([line for line in lines if line])
    assert all(clip.duration > 2 for clip in corpus.clips())  # SUPERB drops shorter ones


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_the_speakers_of_the_list_are_test(tmp_path, suffix):
    make(tmp_path, range(8), suffix=suffix)
    (tmp_path / "veri_test.txt").write_text(TRIALS)
    (tmp_path / "vox1_meta.csv").write_text(
        "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
        + "".join(f"id1{i:04}\tX_Y\t{'mf'[i % 2]}\tUSA, born in\tdev\n" for i in range(8))
    )
    corpus = voxceleb(tmp_path)
    check_corpus(corpus)
    assert {clip.speaker for clip in corpus.clips("test")} == {"id10000", "id10001"}
    assert len({clip.speaker for clip in corpus.clips("dev")}) == 2
    assert len({clip.speaker for clip in corpus.clips("train")}) == 4
    trials = corpus.trials("test")
    assert [(t.enrol, t.test, t.same) for t in trials] == [
        ("id10000/aaaa/00001", "id10000/bbbb/00001", True),
        ("id10000/aaaa/00001", "id10001/bbbb/00002", False),
    ]
    dev = corpus.trials("dev")
    assert sum(t.same for t in dev) == len(dev) / 2 > 0
    first = [t for t in dev if t.same][:8]  # of two videos, as long as there are such pairs
    assert all(t.enrol.split("/")[1] != t.test.split("/")[1] for t in first)
    assert corpus.clips("test")[0].labels["gender"] == "male"


def test_dev_and_test_folders_without_a_list(tmp_path):
    make(make(tmp_path, range(4), "dev/wav"), range(4, 7), "test/wav")
    corpus = voxceleb(tmp_path)
    check_corpus(corpus)
    assert {clip.speaker for clip in corpus.clips("test")} == {"id10004", "id10005", "id10006"}
    assert corpus.trials("test") and voxceleb(tmp_path, make_trials=0).trials("test") == []


def test_two_lists_and_the_choice_between_them(tmp_path):
    make(tmp_path, range(6))
    (tmp_path / "veri_test.txt").write_text(TRIALS)
    (tmp_path / "veri_test2.txt").write_text(TRIALS.splitlines()[0])
    corpus = voxceleb(tmp_path)
    assert len(corpus.trials("test")) == 2 and "veri_test2.txt" in corpus.notices[0]
    assert len(voxceleb(tmp_path, trials="veri_test2.txt").trials("test")) == 1
    with pytest.raises(CorpusError, match="option trials"):
        voxceleb(tmp_path, trials="list.txt")


def test_a_trial_without_audio_is_an_error(tmp_path):
    make(tmp_path, range(4))
    (tmp_path / "veri_test.txt").write_text(TRIALS.replace("00002", "00009"))
    with pytest.raises(CorpusError, match=r"veri_test\.txt:2: no audio for 'id10001/bbbb/00009"):
        voxceleb(tmp_path).trials("test")


def test_identification(tmp_path):
    make(tmp_path, range(3))
    listed = ["1 id1000{}/aaaa/00001.wav", "2 id1000{}/aaaa/00002.wav", "3 id1000{}/bbbb/00001.wav"]
    whole = [
        line.replace("aaaa/00002", "bbbb/00002").replace("2 ", "3 ", 1) for line in listed[1:2]
    ]
    path = tmp_path / "iden_split.txt"
    path.write_text("\n".join(line.format(i) for i in range(3) for line in listed))
    corpus = voxceleb(tmp_path, protocol="identification")
    check_corpus(corpus)
    for split in corpus.splits():
        assert {c.labels["speaker_id"] for c in corpus.clips(split)} == {
            "id10000",
            "id10001",
            "id10002",
        }
    assert corpus.unit == "utterance" and any("divides 3 videos" in n for n in corpus.notices)
    assert "speaker" not in corpus.provides and corpus.trials("test") == []
    kept = [listed[0], *whole, listed[2]]
    path.write_text("\n".join(line.format(i) for i in range(3) for line in kept))
    assert voxceleb(tmp_path, protocol="identification").unit == "video"
    path.write_text("4 id10000/aaaa/00001.wav\n1 id10000/aaaa/00001.wav\n2 id9/a/1.wav\n")
    told = r"iden_split\.txt:1: not '1\|2\|3 FILE'.*\n1 more of the corpus's mistakes"
    with pytest.raises(CorpusError, match=told):
        voxceleb(tmp_path, protocol="identification")


def test_aac(tmp_path):
    make(tmp_path, range(3), "dev/aac", ".m4a")
    with pytest.raises(CorpusError, match=r"AAC can't be read.*ffmpeg"):
        voxceleb(tmp_path)
    make(tmp_path, range(2), "dev/aac", ".flac")
    corpus = voxceleb(tmp_path)
    assert len(corpus.clips()) == 8 and "4 files were left out" in corpus.notices[0]


def test_one_utterance_in_two_places_and_none(tmp_path):
    with pytest.raises(CorpusError, match="no audio at wav/SPEAKER"):
        voxceleb(tmp_path)
    make(make(tmp_path, range(1)), range(1), "dev/wav")
    with pytest.raises(CorpusError, match=r"one utterance. Keep one"):
        voxceleb(tmp_path)
