"""audio: any folder of recordings, grouped by the first folder below it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.core.errors import CorpusError, LeakageError
from bab.core.names import short
from bab.plugins.datasets.audio import Audio
from bab.predicting.recordings import recordings
from bab.results.render import shown
from bab.testing.corpora import check_corpus


def lay(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.ones(800), 8000)
    return root


def load(root: Path) -> Audio:
    return Audio(root, Audio.Options())


def test_the_sample() -> None:
    check_corpus(load(Audio.sample))


def test_groups_are_the_first_folders_and_ids_the_paths(tmp_path: Path) -> None:
    lay(tmp_path, "ann/mon/a b.wav", "ann/tue/x.wav", "bob/x.wav", "bob/x.flac", "alone.wav")
    lay(tmp_path, ".hidden/y.wav")
    (tmp_path / "notes.md").write_text("not audio")
    corpus = load(tmp_path)
    check_corpus(corpus)
    named = {clip.id: clip.group for clip in corpus.clips()}
    assert named == {
        "alone": "alone", "ann/mon/a_b": "ann", "ann/tue/x": "ann",
        "bob/x.wav": "bob", "bob/x.flac": "bob",
    }  # fmt: skip
    assert any("in no folder" in line for line in corpus.notices)
    files, left = recordings([f"audio:{tmp_path}"])
    assert {one.name for one in files} == set(named) and not left


def test_lists_and_mistakes(tmp_path: Path) -> None:
    lay(tmp_path, "ann/x.wav", "ann/y.wav", "bob/x.wav")
    (tmp_path / "train.txt").write_text("ann/x.wav\nann/y\n")
    (tmp_path / "dev.txt").write_text("bob/x.wav\n")
    corpus = load(tmp_path)
    assert corpus.splits() == ("train", "dev") and corpus.splits_given
    assert [clip.id for clip in corpus.clips("train")] == ["ann/x", "ann/y"]
    (tmp_path / "train.txt").write_text("ann/x.wav\n")
    (tmp_path / "dev.txt").write_text("ann/y.wav\n")
    with pytest.raises(LeakageError):
        load(tmp_path).clips("dev")
    (tmp_path / "dev.txt").write_text("gone.wav\n")
    with pytest.raises(CorpusError, match="no clip is called"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="no audio in it"):
        load(tmp_path / "empty")
    lay(tmp_path / "two", "a b.wav", "a_b.wav")
    with pytest.raises(CorpusError, match="white space"):
        load(tmp_path / "two")


def test_an_encoder_of_ones_own_is_called_by_what_it_is() -> None:
    mine = "wav2vec2:/data/runs/pretrain/hbn-x/wav2vec2-tiny/0123456789ab/model"
    assert short(mine, "aabbccddeeff0011") == "wav2vec2-tiny-aabbccdd"
    assert short("hubert:/data/mine+ast:base", "aabbccddee") == "hubert-mine+ast-base-aabbccdd"
    assert short("hubert:base", "aabb") == "hubert-base"
    assert shown("hubert:base", "aa") == "hubert:base"
    assert shown(mine, "11223344") == "wav2vec2-tiny-11223344"  # other weights, another name
    assert short("hubert:/model", "aabbccdd") == "hubert-model-aabbccdd"
