"""Bases that a stranger builds on: a corpus that lists clips, a task that marks time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile

import bab
from bab import Clip, Segment
from bab.kit import FrameTask, ListedCorpus, mean_over_time, normalise, valid, word_errors


class Spoken(ListedCorpus):
    """Three clips of each of five speakers."""

    trial_count = 6

    def read(self):
        for path in sorted(self.root.glob("*.wav")):
            who = path.stem[:2]
            yield Clip(path.stem, str(path), 0.0, 0.5, who, who, labels={"mood": "calm"}, text="a")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("spoken")
    for index in range(15):
        soundfile.write(root / f"s{index // 3}-{index % 3}.wav", np.zeros(8000), 16000)
    return root


def test_a_listed_corpus_has_splits_trials_and_says_what_it_provides(folder):
    corpus = Spoken(folder, Spoken.Options())
    assert corpus.provides == {"mood", "speaker", "text"} and not corpus.splits_given
    parts = {split: corpus.clips(split) for split in corpus.splits()}
    assert sum(map(len, parts.values())) == 15 == len(corpus.clips())
    bab.check_disjoint(parts)
    trials = corpus.trials("train")
    assert len(trials) == 6 and sum(trial.same for trial in trials) == 3
    assert trials == Spoken(folder, Spoken.Options()).trials("train")
    with pytest.raises(bab.CorpusError, match="no split 'more'"):
        corpus.clips("more")


def test_given_splits_go_before_made_ones(folder, tmp_path):
    class Given(Spoken):
        def given(self, clips):
            return {"train": ["s0-0", "s0-1"], "test": ["s1-0"]}

    corpus = Given(folder, Given.Options())
    assert corpus.splits() == ("train", "test") and corpus.splits_given
    assert [clip.id for clip in corpus.clips("train")] == ["s0-0", "s0-1"]


def test_lists_in_the_folder_are_heeded(folder):
    for split, ids in (("train", "s0-0\ns1-0\n"), ("dev", "s2-0\n"), ("test", "s3-1\n")):
        (folder / f"{split}.txt").write_text(ids)
    try:
        corpus = Spoken(folder, Spoken.Options())
        assert [clip.id for clip in corpus.clips("test")] == ["s3-1"]
        (folder / "dev.txt").write_text("s9-9\n")
        with pytest.raises(bab.CorpusError, match="no clip is called 's9-9'"):
            Spoken(folder, Spoken.Options())
    finally:
        for split in ("train", "dev", "test"):
            (folder / f"{split}.txt").unlink()


def test_a_folder_that_is_empty_or_gone_is_an_error(tmp_path):
    with pytest.raises(bab.CorpusError, match="no clip in it"):
        Spoken(tmp_path, Spoken.Options())
    with pytest.raises(bab.CorpusError, match="no such folder"):
        Spoken(tmp_path / "gone", Spoken.Options())


class Speech(FrameTask):
    """Anybody's voice."""

    classes = ("speech",)

    def kept(self, clip):
        segments = tuple(Segment(s.start, s.end, "speech") for s in clip.segments)
        return replace(clip, segments=segments)


def test_a_frame_task_reads_other_labels_everywhere():
    task, grid = Speech(Speech.Options()), bab.Grid(16000, 1600, 1600)
    clip = Clip("a", "/a.wav", 0.0, 2.0, "a", segments=(Segment(0.5, 1.0, "FEM"),))
    labels = task.fit([clip])
    assert labels == {"class": ("speech",)}
    target = task.targets(clip, grid, 20, labels)
    assert target[:, 0].nonzero().flatten().tolist() == [5, 6, 7, 8, 9]
    output = bab.Output(clip, np.where(target.numpy() > 0, 5.0, -5.0).astype(np.float32))
    tuned = task.tune([output], grid, labels)
    said = task.decode(output, grid, labels, tuned["f1"])
    assert said.segments == (Segment(0.5, 1.0, "speech"),)
    assert task.score([clip], {"a": said})["f1"] == 1.0
    assert task.amounts(clip) == {"speech": 0.5}
    with pytest.raises(bab.CorpusError, match="no training recording has a segment of speech"):
        task.fit([replace(clip, segments=())])


def test_helpers_do_what_the_page_says():
    import torch

    x = torch.tensor([[[1.0], [3.0], [float("nan")]]])
    assert mean_over_time(x, torch.tensor([2])).tolist() == [[2.0]]
    assert valid(torch.tensor([1, 3]), 3).tolist() == [[True, False, False], [True] * 3]
    assert normalise("L\u2019Home, DIU:") == "l'home diu"
    assert word_errors("a b c", "a c d") == (2.0, 3.0)
