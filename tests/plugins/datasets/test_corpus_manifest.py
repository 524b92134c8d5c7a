"""Corpus `manifest`: formats, columns, splits, and what it refuses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import REAL

from bab.config.corpora import open_corpus
from bab.config.run import CorpusConfig
from bab.core.errors import CorpusError, LeakageError
from bab.plugins.datasets.manifest import Manifest
from bab.testing.corpora import check_corpus

SPEECHOCEAN = REAL / "speechocean762"


def manifest(root: Path, **options) -> Manifest:
    return Manifest(root, Manifest.Options(**options))


def table(root: Path, text: str, name: str = "manifest.csv") -> Path:
    """The manifest, and two seconds of audio a.wav to f.wav beside it."""
    for letter in "abcdef":
        soundfile.write(root / f"{letter}.wav", np.full(16000, 0.1), 8000)
    (root / name).write_text(text, encoding="utf-8")
    return root / name


def test_sample():
    corpus = manifest(Manifest.sample)
    check_corpus(corpus)
    assert set(corpus.splits()) == {"train", "dev", "test"}
    for split in corpus.splits():
        assert {clip.labels["age_group"] for clip in corpus.clips(split)} == {"child", "adult"}


ROWS = [
    {"path": "a.wav", "start": "0.5", "end": "1.5", "split": "train", "speaker": "s", "cry": "yes"},
    {"path": "a.wav", "start": "1.5", "end": "2.0", "split": "train", "speaker": "s", "cry": ""},
    {"path": "b.wav", "start": "", "end": "", "split": "valid", "speaker": "t", "cry": "no, never"},
    {"path": "c.wav", "start": "", "end": "", "split": "TEST", "speaker": "u", "cry": "yes"},
]


def written(root: Path, form: str) -> Path:
    header = list(ROWS[0])
    if form == "jsonl":
        lines = [json.dumps({k: v for k, v in row.items() if v}) for row in ROWS]
    else:
        separator = "," if form == "csv" else "\t"
        cells = [header, *([f'"{v}"' if "," in v else v for v in row.values()] for row in ROWS)]
        lines = [separator.join(row) for row in cells]
    return table(root, "\n".join(lines) + "\n", f"manifest.{form}")


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_every_format_says_the_same(tmp_path, form):
    path = written(tmp_path, form)
    corpus = manifest(tmp_path)
    check_corpus(corpus)
    clips = corpus.clips()
    loud = path.rename(tmp_path / f"LOUD.{form.upper()}")
    assert manifest(loud).clips() == clips
    loud.rename(path)
    assert [(c.id, c.start, c.end, c.group, c.labels) for c in clips] == [
        ("a_0.500-1.500", 0.5, 1.5, "s", {"cry": "yes"}),
        ("a_1.500-2.000", 1.5, 2.0, "s", {}),
        ("b", 0.0, 2.0, "t", {"cry": "no, never"}),
        ("c", 0.0, 2.0, "u", {"cry": "yes"}),
    ]
    assert corpus.provides == {"speaker", "cry"} and corpus.unit == "speaker"
    assert [len(corpus.clips(split)) for split in corpus.splits()] == [2, 1, 1]
    assert manifest(path).clips() == clips  # the file itself


def test_a_run_takes_the_file_as_its_root(tmp_path):
    path = written(tmp_path, "tsv")
    corpus = open_corpus(CorpusConfig(name="manifest", root=str(path)))
    assert len(list(corpus.clips())) == 4
    for name in ("rttm", "childproject", "kaldi", "librispeech", "voxceleb", "commonvoice"):
        with pytest.raises(CorpusError, match=r"manifest.tsv"):
            open_corpus(CorpusConfig(name=name, root=str(path)))
    with pytest.raises(CorpusError, match="there is no such folder or file"):
        open_corpus(CorpusConfig(name="manifest", root=str(tmp_path / "x.csv")))


def test_columns_times_labels_and_splits_by_option(tmp_path):
    table(
        tmp_path,
        "file,onset,length,child,fold,mood,junk,id\n"
        "a.wav,250,1000,k1,1,glad,x,one\nb.wav,0,500,k2,2,sad,x,two\n"
        "c.wav,0,500,k3,3,sad,x,three\nd.wav,0,500,k4,9,sad,x,four\n",
    )
    corpus = manifest(
        tmp_path,
        columns={"path": "file", "start": "onset", "duration": "length"}
        | {"group": "child", "split": "fold"},
        labels=("mood",),
        splits={"1": "train", "2": "dev", "3": "test", "9": ""},
        times="ms",
    )
    check_corpus(corpus)
    first = corpus.clips("train")[0]
    assert (first.id, first.start, first.end, first.group) == ("one", 0.25, 1.25, "k1")
    assert first.labels == {"mood": "glad"} and corpus.unit == "group"
    assert len(corpus.clips()) == 4 and any("1 clips are in no split" in n for n in corpus.notices)


def test_text_is_provided_only_where_every_row_has_it(tmp_path):
    table(tmp_path, "path,text\na.wav,hello\nb.wav,\nc.wav,x\n")
    corpus = manifest(tmp_path)
    check_corpus(corpus)
    assert corpus.provides == frozenset() and corpus.unit == "recording"
    assert [clip.text for clip in corpus.clips()] == ["hello", None, "x"]
    assert any("manifest.csv:3: no text" in notice for notice in corpus.notices)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\na.wav\n", "no column 'path'.*--set corpus.columns.path=NAME"),
        ("", "the manifest is empty"),
        ("path\n", "there is no clip"),
        ("path,x,x\na.wav,1,2\n", "two columns are called 'x'"),
        ("path,x\na.wav,1,2\n", "manifest.csv:2: 3 cells under 2 columns"),
        ("path\na.wav\na.wav\n", "manifest.csv:3: 'a' stands twice"),
        ("path,start,end\na.wav,1,0.5\n", "manifest.csv:2: the end, 0.5 s, is not after"),
        ("path,start,end,duration\na.wav,1,2,3\n", "start 1 s and duration 3 s do not end at 2 s"),
        ("path;who\na.wav;x\n", "one column, 'path;who'.*';' stood between"),
        ("path,start\na.wav,soon\n", "manifest.csv:2: start is 'soon', not a time"),
        ("path,end\na.wav,nan\n", "end is 'nan', not a time"),
        ("path,split\na.wav,fold1\n", "'fold1' is no split.*corpus.splits.fold1=train"),
        ("path,speaker\n,s\n", "manifest.csv:2: the path is empty"),
    ],
)
def test_faults_name_file_and_line(tmp_path, text, message):
    table(tmp_path, text)
    with pytest.raises(CorpusError, match=message):
        manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"path": "a.wav"}\n{"path"\n', "manifest.jsonl:2: not JSON"),
        ("[1]\n", "manifest.jsonl:1: not a JSON object"),
        ('{"path": "a.wav", "x": {"y": 1}}\n', "'x' must be text or a number"),
    ],
)
def test_faults_of_json(tmp_path, text, message):
    table(tmp_path, text, "manifest.jsonl")
    with pytest.raises(CorpusError, match=message):
        manifest(tmp_path)


def test_which_file(tmp_path):
    table(tmp_path, "path\na.wav\n", "mine.csv")
    with pytest.raises(CorpusError, match=r"Name the file itself: mine\.csv"):
        manifest(tmp_path)
    with pytest.raises(CorpusError, match="ends in"):
        manifest(tmp_path / "a.wav")
    table(tmp_path, "path\na.wav\n", "manifest.csv")
    table(tmp_path, "path\na.wav\n", "manifest.tsv")
    with pytest.raises(CorpusError, match="two manifests"):
        manifest(tmp_path)
    with pytest.raises(CorpusError, match=r"no column 'pth' for path .*did you mean 'path'"):
        manifest(tmp_path / "mine.csv", columns={"path": "pth"})


def test_a_group_in_two_splits_is_leakage(tmp_path):
    table(tmp_path, "path,split,group\na.wav,train,g\nb.wav,dev,h\nc.wav,test,g\n")
    with pytest.raises(LeakageError, match="group 'g' stands in two splits"):
        manifest(tmp_path).clips("train")


@pytest.mark.skipif(not SPEECHOCEAN.exists(), reason="needs speechocean762")
def test_child_or_adult_of_real_recordings(tmp_path):
    ages = dict(line.split() for line in (SPEECHOCEAN / "data" / "spk2age").open())
    rows = [line.split() for line in (SPEECHOCEAN / "data" / "wav.scp").open()][::25]
    owner = dict(line.split() for line in (SPEECHOCEAN / "data" / "utt2spk").open())
    lines = ["wav\tspeaker\tgrown"]
    for name, path in rows:
        grown = "adult" if int(ages[owner[name]]) > 12 else "child"
        lines.append(f"{SPEECHOCEAN.resolve() / path}\t{owner[name]}\t{grown}")
    (tmp_path / "m.tsv").write_text("\n".join(lines))
    corpus = manifest(tmp_path / "m.tsv", columns={"path": "wav"})
    check_corpus(corpus)
    assert {clip.labels["grown"] for clip in corpus.clips()} == {"adult", "child"}


def test_many_rows_load_in_seconds(tmp_path):
    count = 200_000
    with (tmp_path / "manifest.csv").open("w") as file:
        file.write("path,start,end,split,speaker,text,mood\n")
        file.writelines(
            f"s{i // 200}/{i // 10}.wav,{i % 10},{i % 10 + 1},train,s{i // 200},hello,m{i % 5}\n"
            for i in range(count)
        )
    began = time.process_time()
    assert len(manifest(tmp_path).clips()) == count
    assert time.process_time() - began < 8  # a million: 5 times that at most
