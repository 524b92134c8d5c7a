"""The corpus `rttm` with annotations in other formats, and its unchanged identity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from format_files import CHA, EAF, ITS
from places import SAMPLES

from bab.config.resolve import corpus_config
from bab.core.errors import CorpusError
from bab.data.annotations import open_format
from bab.plugins.datasets.rttm import Rttm
from bab.testing.corpora import check_corpus


def sound(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(seconds * 8000)), 8000)


def load(root: Path, **options) -> Rttm:
    return Rttm(root, Rttm.Options(**options))


@pytest.mark.parametrize("name", ["eaf", "textgrid", "csv", "audacity", "childproject"])
def test_the_sample_in_another_format_is_the_same_corpus(name, tmp_path):
    """Every clip, split and segment of the shipped sample, to the millisecond."""
    sample = SAMPLES / "rttm"
    root = tmp_path / "homes"
    shutil.copytree(sample, root, ignore=shutil.ignore_patterns("*.rttm"))
    source, target = open_format("rttm"), open_format(name)
    for path in sample.rglob("*.rttm"):
        for one in source.read(path):
            target.write([one], root / "ann" / f"{one.uri}{target.suffixes[0]}")
    here, there = load(root, format=name), load(sample)
    check_corpus(here)
    for split in ("train", "dev", "test"):
        for one, two in zip(here.clips(split), there.clips(split), strict=True):
            assert (one.id, one.group, one.scored) == (two.id, two.group, two.scored)
            assert [s.label for s in one.segments] == [s.label for s in two.segments]
            for a, b in zip(one.segments, two.segments, strict=True):
                assert abs(a.start - b.start) < 1.1e-3 and abs(a.end - b.end) < 1.1e-3


def test_elan_s_annotated_stretches_and_other_tiers(tmp_path):
    sound(tmp_path / "wav" / "a.wav", 70)
    (tmp_path / "a.eaf").write_text(EAF)
    corpus = load(tmp_path, format="eaf")
    (clip,) = corpus.clips(None)
    assert clip.scored == ((0.0, 60.0),)
    assert [(s.start, s.end, s.label) for s in clip.segments] == [
        (0.0, 1.5, "KCHI"),
        (1.4, 2.75, "FEM"),
    ]
    assert any("a.eaf: 1 annotations without a time" in notice for notice in corpus.notices)


def test_lena_and_chat(tmp_path):
    for name, text in (("its", ITS), ("cha", CHA)):
        root = tmp_path / name
        sound(root / "a.wav", 9.5)
        (root / f"a.{name}").write_text(text)
        (root / "train.txt").write_text("a\n")
        (clip,) = load(root, format=name).clips(None)
        assert {s.label for s in clip.segments} == {"KCHI", "OCH", "MAL", "FEM"}


def test_split_lists_are_no_audacity_labels(tmp_path):
    for name in "abc":
        sound(tmp_path / f"{name}.wav", 5)
        (tmp_path / f"{name}.txt").write_text("1\t2\tKCHI\n")
    for split, name in (("train", "a"), ("dev", "b"), ("test", "c")):
        (tmp_path / f"{split}.txt").write_text(f"{name}\n")
    assert [c.id for c in load(tmp_path, format="audacity").clips("dev")] == ["b"]


def test_errors_name_file_line_and_format(tmp_path):
    sound(tmp_path / "a.wav", 5)
    (tmp_path / "a.txt").write_text("1\t2\tKCHI\n3\t2\tKCHI\n")
    with pytest.raises(CorpusError, match=r"a.txt:2: 3 to 2 s"):
        load(tmp_path, format="audacity")
    with pytest.raises(CorpusError, match=r"no recording has both audio and EAF"):
        load(tmp_path, format="eaf")
    (tmp_path / "a.eaf").touch()
    with pytest.raises(CorpusError, match=r"annotated recordings\). a.eaf is there: if .*=eaf$"):
        load(tmp_path)
    with pytest.raises(CorpusError, match=r"corpus.format=elan: there is no format called 'elan'"):
        load(tmp_path, format="elan")


def test_the_option_changes_no_identity_while_it_is_rttm():
    """What enters run ids and records is, for RTTM, what it was before there was the option."""
    assert json.dumps(corpus_config("rttm").options) == '{"labels": {}, "audio": "", "rttm": ""}'
    assert corpus_config("rttm", ["corpus.format=rttm"]) == corpus_config("rttm")
    assert corpus_config("rttm", ["corpus.format=eaf"]).options["format"] == "eaf"
