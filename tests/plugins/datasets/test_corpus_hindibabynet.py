"""hindibabynet: children by folder, manifests from elsewhere, mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.core.errors import CorpusError, LeakageError
from bab.data.check import check_corpus as data_check
from bab.plugins.datasets.hindibabynet import HindiBabyNet
from bab.testing.corpora import check_corpus

HEADER = "wav_path,recording_id,duration_sec,sample_rate,channels,file_size_bytes,participant_id\n"
FILES = (
    "AA120323/20240611/1718085600.WAV",
    "AA120323/20240612/1718172000.WAV",
    "BB/20240611/1718085600.wav",
    "CC051123/20240611/1718085600.flac",
)


def load(root: Path, **options) -> HindiBabyNet:
    return HindiBabyNet(root, HindiBabyNet.Options(**options))


def lay(root: Path, files=FILES) -> Path:
    for name in files:
        path = root / "RawAudioData" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.ones(800), 8000, format=path.suffix[1:].upper())
    return root


def manifest(root: Path, *rows: str) -> Path:
    """rows: wav_path,recording_id; the other columns are as the published code writes them."""
    lines = [f"{row},0.1,8000,1,1644,ABC_20240611" for row in rows]
    (root / "manifest.csv").write_text(HEADER + "\n".join(lines) + "\n")
    return root


def test_the_layout(tmp_path):
    corpus = load(lay(tmp_path))
    check_corpus(corpus)
    clips = list(corpus.clips())
    assert [c.group for c in clips] == ["AA120323", "AA120323", "BB", "CC051123"]
    assert clips[0].id == "AA120323_20240611_1718085600"
    assert clips[0].labels == {"date": "20240611"}
    assert clips[0].end == pytest.approx(0.1)
    assert not corpus.provides and not any(c.segments for c in clips)
    sizes = {split: len({c.group for c in corpus.clips(split)}) for split in corpus.splits()}
    assert sizes == {"train": 1, "dev": 1, "test": 1}
    assert list(load(tmp_path / "RawAudioData").clips()) == clips


def test_the_sample():
    corpus = load(HindiBabyNet.sample)
    check_corpus(corpus)
    assert not data_check(corpus).problems
    assert {c.group for c in corpus.clips()} == {"AMIT120323", "DIYA", "KABI051123", "TARA"}
    size = sum(f.stat().st_size for f in HindiBabyNet.sample.rglob("*") if f.is_file())
    assert size < 260_000


def test_audio_elsewhere_is_told(tmp_path):
    lay(tmp_path, (*FILES, "stray.wav", "DD/stray.wav"))
    corpus = load(tmp_path)
    assert len(list(corpus.clips())) == 4
    assert any(n.startswith("2 audio files that are not CHILD/DATE/FILE") for n in corpus.notices)


def test_a_manifest_from_another_machine_chooses_and_names(tmp_path):
    """Its participant_id carries the date; the child is the folder all the same."""
    manifest(
        lay(tmp_path),
        f"/cluster/x/RawAudioData/{FILES[0]},rec A",
        f"D:\\data\\{FILES[1]},rec B".replace("/", "\\"),
        f"RawAudioData/{FILES[2]},rec C",
        f"{tmp_path / 'RawAudioData' / FILES[3]},rec D",
    )
    corpus = load(tmp_path, manifest="manifest.csv")
    check_corpus(corpus)
    clips = list(corpus.clips())
    assert [c.id for c in clips] == ["rec A", "rec B", "rec C", "rec D"]
    assert [c.group for c in clips] == ["AA120323", "AA120323", "BB", "CC051123"]
    assert [os.path.relpath(c.path, tmp_path / "RawAudioData") for c in clips] == list(FILES)


def test_split_lists_name_recordings_by_path_or_id(tmp_path):
    lay(tmp_path)
    (tmp_path / "train.txt").write_text(f"RawAudioData/{FILES[0]}\n{FILES[1]}\n")
    (tmp_path / "dev.txt").write_text("BB_20240611_1718085600\n")
    (tmp_path / "test.txt").write_text(f"/elsewhere/{FILES[3]}\n")
    corpus = load(tmp_path)
    check_corpus(corpus)
    assert [c.group for c in corpus.clips("train")] == ["AA120323"] * 2
    (tmp_path / "dev.txt").write_text(f"{FILES[1]}\n{FILES[2]}\n")
    (tmp_path / "train.txt").write_text(FILES[0])
    with pytest.raises(LeakageError, match="group 'AA120323'"):
        load(tmp_path).clips("train")
    (tmp_path / "dev.txt").write_text("AA/20240611/9.WAV")
    with pytest.raises(CorpusError, match=r"dev\.txt:1: no clip is called 'AA_20240611_9'"):
        load(tmp_path)
    (tmp_path / "dev.txt").write_text(FILES[2])
    manifest(tmp_path, *(f"{name},r{i}" for i, name in enumerate(FILES)))
    named = load(tmp_path, manifest="manifest.csv")
    assert [c.id for c in named.clips("train")] == ["r0"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((f"{FILES[0]},",), r"manifest\.csv:2: recording_id is empty"),
        (("a.WAV,r1",), r"manifest\.csv:2: wav_path 'a\.WAV' is not"),
        (("X/20240611/9.WAV,r1",), r"manifest\.csv:2: neither .* is there"),
        ((f"{FILES[0]},r1", f"{FILES[1]},r1"), r"manifest\.csv:3: 'r1' is .* already"),
        ((), r"manifest\.csv: no recording is listed"),
    ],
)
def test_mistakes_in_a_manifest_are_named(tmp_path, rows, message):
    manifest(lay(tmp_path), *rows)
    with pytest.raises(CorpusError, match=message):
        load(tmp_path, manifest="manifest.csv")


def test_an_empty_folder_and_twins(tmp_path):
    with pytest.raises(CorpusError, match="no audio at CHILD/DATE/FILE"):
        load(tmp_path)
    lay(tmp_path, ("A/20240611/1.wav", "A/20240611/1.flac"))
    with pytest.raises(CorpusError, match=r"'A_20240611_1' is .* already"):
        load(tmp_path)
