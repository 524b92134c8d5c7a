"""Corpus `librispeech`: subsets, transcripts, speakers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.core.errors import CorpusError
from bab.plugins.datasets.librispeech import LibriSpeech
from bab.testing.corpora import check_corpus


def make(root: Path, subset: str, speakers: range) -> Path:
    """Two chapters of two utterances for each speaker."""
    for speaker in speakers:
        for chapter in (10, 20):
            folder = root / subset / str(speaker) / str(chapter)
            folder.mkdir(parents=True)
            names = [f"{speaker}-{chapter}-000{i}" for i in (0, 1)]
            for name in names:
                soundfile.write(folder / f"{name}.flac", np.full(2000, 0.1), 8000)
            (folder / f"{speaker}-{chapter}.trans.txt").write_text(
                "".join(f"{name} IT'S {name[-1]}\n" for name in names)
            )
    return root


def librispeech(root: Path, **options) -> LibriSpeech:
    return LibriSpeech(root, LibriSpeech.Options(**options))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    top = tmp_path / "LibriSpeech"
    for subset, first in (("train-clean-100", 0), ("train-other-500", 5), ("dev-clean", 10)):
        make(top, subset, range(first, first + 3))
    make(make(top, "test-clean", range(20, 22)), "test-other", range(30, 32))
    (top / "SPEAKERS.TXT").write_text(
        "; a comment | with bars\n"
        + "".join(f"{i} | {'FM'[i % 2]} | x | 1.0 | N\n" for i in range(40))
    )
    return tmp_path


def test_sample():
    check_corpus(librispeech(LibriSpeech.sample))


def test_subsets_text_and_gender(root):
    corpus = librispeech(root)
    check_corpus(corpus)
    assert [len(corpus.clips(split)) for split in corpus.splits()] == [24, 12, 16]
    assert [clip.id for clip in corpus.clips("train")] == [
        f"{speaker}-{chapter}-000{i}" for speaker in (0, 1, 2, 5, 6, 7) for chapter in (10, 20)
        for i in (0, 1)
    ]  # fmt: skip
    for path in (root / "LibriSpeech" / "test-clean" / "20" / "10").glob("*.flac"):
        path.rename(path.with_suffix(".FLAC"))
    loud = librispeech(root).clips("test")
    assert [c.id for c in loud] == [c.id for c in corpus.clips("test")]
    assert loud[0].path.endswith("20-10-0000.FLAC")
    first = corpus.clips("test")[0]
    assert (first.id, first.text, first.group) == ("20-10-0000", "IT'S 0", "20")
    assert first.labels == {"gender": "female", "subset": "test-clean"} and first.end == 0.25
    assert corpus.provides == {"speaker", "text", "gender", "subset"}


def test_chosen_subsets_and_a_wrong_name(root):
    corpus = librispeech(root, train=("train-clean-100",), test=("test-clean",))
    assert [len(corpus.clips(split)) for split in corpus.splits()] == [12, 12, 8]
    with pytest.raises(CorpusError, match=r"no subset 'test-claen' .*did you mean 'test-clean'"):
        librispeech(root, test=("test-claen",))


def test_trials_are_of_two_chapters_first(root):
    trials = librispeech(root).trials("test")
    chapters = [(t.enrol.split("-")[:2], t.test.split("-")[:2]) for t in trials if t.same]
    assert len(chapters) == 24  # 4 speakers of 4 utterances: 6 pairs each, 4 of two chapters
    assert all(one != two for one, two in chapters[:16])
    assert all(one == two for one, two in chapters[16:])
    assert librispeech(root, make_trials=0).trials("test") == []


def test_without_dev_and_without_speakers_txt(tmp_path):
    make(make(tmp_path, "train-clean-5", range(4)), "test-clean", range(10, 12))
    corpus = librispeech(tmp_path)
    check_corpus(corpus)
    assert len(corpus.clips("dev")) == 8 and "gender" not in corpus.provides


def test_subsets_are_called_by_a_split_and_what_follows_a_dash(tmp_path):
    for first, subset in enumerate(("train", "training", "dev", "devices", "test-clean", "tests")):
        make(tmp_path, subset, range(first * 10, first * 10 + 2))
    corpus = librispeech(tmp_path)
    subsets = [{clip.labels["subset"] for clip in corpus.clips(s)} for s in corpus.splits()]
    assert subsets == [{"train"}, {"dev"}, {"test-clean"}]


def test_missing_things(tmp_path):
    with pytest.raises(CorpusError, match="no such folder"):
        librispeech(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="no subset named train"):
        librispeech(tmp_path)
    folder = make(tmp_path, "test-clean", range(1)) / "test-clean" / "0" / "10"
    (folder / "0-10-0001.flac").unlink()
    with pytest.raises(CorpusError, match=r"0-10\.trans\.txt:2: no 0-10-0001\.flac"):
        librispeech(tmp_path)
    (folder / "0-10.trans.txt").unlink()
    with pytest.raises(CorpusError, match="no such file, but 1 recordings"):
        librispeech(tmp_path)
