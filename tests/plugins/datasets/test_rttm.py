"""The rttm corpus: layouts, labels, groups, and against pyannote."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from places import REAL
from pydantic import ValidationError
from rttm_files import homes, ids, load, sound, spans, turn, write

from bab.core.errors import CorpusError, LeakageError
from bab.core.types import Segment
from bab.kit.faults import Faults
from bab.kit.recordings import cut_to_file
from bab.plugins.datasets.rttm import Rttm, read_rttm
from bab.testing.corpora import check_corpus

SCENES = REAL / "scenes"


# --- layouts


def test_the_usual_layout(tmp_path):
    corpus = load(homes(tmp_path))
    check_corpus(corpus)
    assert ids(corpus.clips("train")) == ["a", "b", "c", "d"]
    assert ids(corpus.clips()) == list("abcdef")
    clip = corpus.clips("test")[0]
    assert (clip.start, clip.end, clip.group, clip.scored) == (0.0, 10.0, "f", None)
    assert clip.path == str(tmp_path / "wav" / "f.wav")
    assert spans(clip) == [(1.0, 3.0, "FEM")]
    assert corpus.notices == []


def test_the_sample_obeys_the_contract():
    corpus = load(Rttm.sample)
    check_corpus(corpus)
    assert [len(corpus.clips(split)) for split in ("train", "dev", "test")] == [6, 2, 2]
    assert corpus.notices == []


def test_real_scenes():
    if not SCENES.is_dir():
        pytest.skip("recordings that do not ship with the package")
    corpus = load(SCENES)
    check_corpus(corpus)
    assert [len(corpus.clips(split)) for split in ("train", "dev", "test")] == [12, 3, 3]
    said = sum(len(p.read_text().splitlines()) for p in (SCENES / "rttm").glob("*.rttm"))
    assert sum(len(clip.segments) for clip in corpus.clips()) == said
    assert {s.label for c in corpus.clips() for s in c.segments} == {"KCHI", "OCH", "MAL", "FEM"}


def test_flat_folder_combined_rttm_and_uem_and_odd_names(tmp_path):
    sound(tmp_path / "a.b.WAV")
    sound(tmp_path / "deep" / "down" / "c.FLAC")
    sound(tmp_path / "d.Ogg")
    sound(tmp_path / "e.mp3", rate=16000)
    write(tmp_path / "x.RTTM", turn("c", 5), turn("a.b"), "", ";; note", turn("c"), turn("d"))
    write(tmp_path / "y.rttm", turn("e"), "SPKR-INFO e 1 <NA> <NA> <NA> unknown FEM <NA>")
    write(tmp_path / "all.uem", "c NA 4 6", "c NA 0 2.5", "c NA 2 3", "a.b 1 2 99")
    write(tmp_path / "lists" / "train.lst", "deep/down/c.FLAC", "# comment", "", "d.ogg")
    write(tmp_path / "lists" / "Validation.txt", "a.b")
    write(tmp_path / "lists" / "test.lst", "e")
    corpus = load(tmp_path)
    check_corpus(corpus)
    clips = {clip.id: clip for clip in corpus.clips()}
    assert sorted(clips) == ["a.b", "c", "d", "e"]
    assert spans(clips["c"]) == [(1.0, 3.0, "FEM"), (5.0, 7.0, "FEM")]
    assert clips["c"].scored == ((0.0, 3.0), (4.0, 6.0))
    assert clips["a.b"].scored == ((2.0, 10.0),)
    assert clips["d"].scored is None
    assert ids(corpus.clips("dev")) == ["a.b"]
    assert any("without a UEM" in notice and "d, e" in notice for notice in corpus.notices)


def test_uri_with_an_audio_extension_and_repeated_over_files(tmp_path):
    homes(tmp_path, lists=False)
    write(tmp_path / "rttm" / "a.rttm", turn("a.wav"), turn("a.wav", 6))
    assert len(load(tmp_path).clips()[0].segments) == 2


def test_combined_rttm_named_by_split(tmp_path):
    for name in "abcd":
        sound(tmp_path / f"{name}.wav")
    write(tmp_path / "train.rttm", turn("b"), turn("a"))
    write(tmp_path / "val.rttm", turn("c"))
    write(tmp_path / "test.rttm", turn("d"))
    corpus = load(tmp_path)
    assert {s: ids(corpus.clips(s)) for s in corpus.splits()} == {
        "train": ["a", "b"],
        "dev": ["c"],
        "test": ["d"],
    }
    write(tmp_path / "test.rttm", turn("d"), turn("a"))
    with pytest.raises(LeakageError, match=r"recording 'a' .*test\.rttm and .*train\.rttm"):
        load(tmp_path)


def test_without_lists_the_split_is_by_group_and_says_so(tmp_path):
    corpus = load(homes(tmp_path, lists=False))
    check_corpus(corpus)
    assert sum(len(corpus.clips(split)) for split in ("train", "dev", "test")) == 6
    assert sum("split clip by clip" in notice for notice in corpus.notices) == 1  # no groups.tsv


def test_too_few_to_split_is_no_obstacle_to_listing(tmp_path):
    corpus = load(homes(tmp_path, "ab", lists=False))
    assert ids(corpus.clips()) == ["a", "b"]
    with pytest.raises(CorpusError, match=r"no split lists.*2 independent parts"):
        corpus.clips("train")


def test_a_silent_recording_is_annotated(tmp_path):
    homes(tmp_path)
    write(tmp_path / "rttm" / "b.rttm")  # empty: nobody speaks
    (tmp_path / "rttm" / "c.rttm").unlink()
    write(tmp_path / "c.uem", "c 1 0 10")  # in a UEM only: nobody speaks either
    clips = {clip.id: clip for clip in load(tmp_path).clips()}
    assert clips["b"].segments == () and clips["c"].segments == ()


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    real = homes(tmp_path / "real", lists=False)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "audio").symlink_to(real / "wav")
    (corpus / "rttm").symlink_to(real / "rttm")
    (corpus / "loop").symlink_to(corpus)
    assert len(load(corpus).clips()) == 6


# --- labels


def labelled(root: Path, *labels: str) -> Path:
    homes(root, "abc")
    write(root / "rttm" / "a.rttm", *(turn("a", i, 0.5, label) for i, label in enumerate(labels)))
    for name in "bc":
        write(root / "rttm" / f"{name}.rttm")
    return root


def labels_of(corpus: Rttm) -> list[str]:
    return [segment.label for segment in corpus.clips("train")[0].segments]


def test_chi_beside_kchi_is_the_other_child(tmp_path):
    corpus = load(labelled(tmp_path, "KCHI", "CHI", "MAL", "FEM", "SPEECH", "SPEECH"))
    assert labels_of(corpus) == ["KCHI", "OCH", "MAL", "FEM"]
    assert "CHI was read as OCH." in corpus.notices
    (dropped,) = [n for n in corpus.notices if n.startswith("Segments left out, by label")]
    assert "SPEECH (2)" in dropped and "--set corpus.labels.SPEECH=" in dropped


def test_labels_are_read_in_any_case(tmp_path):
    corpus = load(labelled(tmp_path, "kchi", "Och", "mal", "FEM"))
    assert labels_of(corpus) == ["KCHI", "OCH", "MAL", "FEM"]
    assert not any("left out" in notice for notice in corpus.notices)


def test_audio_whose_name_has_a_space_is_found_by_an_underscore(tmp_path):
    homes(tmp_path, "abc")
    for old, new in (("wav/a.wav", "wav/a été.wav"), ("rttm/a.rttm", "rttm/a été.rttm")):
        (tmp_path / old).rename(tmp_path / new)
    write(tmp_path / "rttm" / "a été.rttm", turn("a_été"))
    names = (tmp_path / "train.txt").read_text().replace("a", "a été")
    (tmp_path / "train.txt").write_text(names)
    assert "a_été" in ids(load(tmp_path).clips("train"))


def test_chi_beside_och_is_the_key_child(tmp_path):
    corpus = load(labelled(tmp_path, "OCH", "CHI"))
    assert labels_of(corpus) == ["OCH", "KCHI"]


@pytest.mark.parametrize("labels", [("CHI", "FEM"), ("CHI", "KCHI", "OCH")])
def test_chi_that_could_be_either_asks(tmp_path, labels):
    root = labelled(tmp_path, *labels)
    with pytest.raises(CorpusError, match=r"--set corpus\.labels\.CHI=KCHI"):
        load(root)
    assert labels_of(load(root, labels={"CHI": "KCHI"}))[0] == "KCHI"


def test_labels_may_be_mapped_and_dropped(tmp_path):
    root = labelled(tmp_path, "mother", "father", "radio", "FEM")
    corpus = load(root, labels={"mother": "FEM", "father": "MAL", "FEM": "NA", "aunt": "FEM"})
    assert labels_of(corpus) == ["FEM", "MAL"]
    assert any("by label: FEM (1), radio (1) (to use" in n for n in corpus.notices)
    assert any("no segment is labelled aunt" in notice for notice in corpus.notices)


def test_labels_that_mean_nothing_are_an_error(tmp_path):
    with pytest.raises(CorpusError, match=r"A \(2\), B \(1\).*--set corpus\.labels\.A=FEM"):
        load(labelled(tmp_path, "A", "B", "A"))


def test_a_label_maps_to_a_known_kind_only():
    with pytest.raises(ValidationError):
        Rttm.Options(labels={"CHI": "KID"})


# --- groups.tsv


def test_groups_name_voices_and_families(tmp_path):
    homes(tmp_path)
    write(
        tmp_path / "groups.tsv",
        "recording\tvoice\tgroup\tnote",
        "a\tmum\tfam1\t",
        "a\tdad\tfam1\tx",
        "b.wav\tmum\tfam1\t",
        "zzz\twho\tfam9\t",
    )
    corpus = load(tmp_path)
    clips = {clip.id: clip for clip in corpus.clips("train")}
    assert clips["a"].voices == ("mum", "dad") and clips["b"].voices == ("mum",)
    assert [clips[name].group for name in "abc"] == ["fam1", "fam1", "c"]
    assert any("4 recordings are not in groups.tsv: c, d, e" in n for n in corpus.notices)
    assert any("1 recordings of groups.tsv are not used: zzz" in n for n in corpus.notices)


def test_a_voice_in_two_splits_is_refused_by_name(tmp_path):
    homes(tmp_path)
    write(tmp_path / "groups.tsv", "recording\tvoice", "a\tgranny", "f\tgranny")
    corpus = load(tmp_path)
    with pytest.raises(LeakageError, match=r"voice 'granny'.*'train'.*'a'.*'test'.*'f'"):
        corpus.clips("dev")
    assert len(corpus.clips()) == 6  # cross-validation over all of them is still possible


def test_a_shared_voice_moves_both_when_the_split_is_made(tmp_path):
    homes(tmp_path, lists=False)
    write(tmp_path / "groups.tsv", "recording\tvoice", "a\tgranny", "f\tgranny")
    corpus = load(tmp_path)
    where = {c.id: split for split in corpus.splits() for c in corpus.clips(split)}
    assert where["a"] == where["f"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["file\tvoice", "a\tx"], r"groups\.tsv:1: .*file, voice"),
        (["recording,voice", "a,x"], r"groups\.tsv:1: "),
        (["recording\tvoice", "a\tx", "b"], r"groups\.tsv:3: a cell is missing"),
        (["recording\tgroup", "a\tx", "a\ty"], r"groups\.tsv:3: 'a' is of group 'y'.*'x'"),
        ([], r"groups\.tsv:1: .*nothing"),
    ],
)
def test_bad_groups(tmp_path, rows, message):
    homes(tmp_path)
    write(tmp_path / "groups.tsv", *rows)
    with pytest.raises(CorpusError, match=message):
        load(tmp_path)


def test_against_pyannote(tmp_path):
    """Turns equal those that pyannote reads, on random annotations."""
    from pyannote.core import Annotation, Segment

    draw = random.Random(5)
    homes(tmp_path)
    expected = Annotation(uri="a")
    for track in range(50):
        start, length = round(draw.uniform(0, 8), 3), round(draw.uniform(0.01, 1.9), 3)
        expected[Segment(start, start + length), track] = draw.choice(["KCHI", "OCH", "MAL", "FEM"])
    (tmp_path / "rttm" / "a.rttm").write_text(expected.to_rttm())
    tracks = [
        (round(s.start, 3), round(s.end, 3), label)
        for s, _, label in expected.itertracks(yield_label=True)
    ]
    found = [(round(a, 3), round(b, 3), kind) for a, b, kind in spans(load(tmp_path).clips()[0])]
    assert sorted(found) == sorted(tracks)


def test_a_large_manifest_reads_at_a_steady_pace(tmp_path):
    """A million segments must load in seconds: 100,000 in well under one, of processor time."""
    lines = [turn(f"r{i % 50}", i / 100, 0.5, "KCHI") for i in range(100_000)]
    write(tmp_path / "all.rttm", *lines)
    began = time.process_time()
    found = read_rttm([tmp_path / "all.rttm"], Faults())
    assert time.process_time() - began < 1.5
    assert sum(map(len, found.turns.values())) == 100_000


def test_a_turn_of_no_length_is_none(tmp_path):
    homes(tmp_path)
    line = turn("f", 2).split()
    empty = " ".join([*line[:4], "0", *line[5:]])
    path = tmp_path / "rttm" / "f.rttm"
    path.write_text(path.read_text() + empty + "\n")
    assert spans(load(tmp_path).clips("test")[0]) == [(1.0, 3.0, "FEM")]


def test_segments_are_cut_to_the_file_and_nothing_is_left_of_some():
    given = [Segment(1, 1, "a"), Segment(2, 5, "b"), Segment(4, 9, "c"), Segment(5, 6, "d")]
    kept, late = cut_to_file(given, 5.0)
    assert kept == (Segment(2, 5, "b"), Segment(4, 5.0, "c")) and late == 2
    assert cut_to_file(given[1:2], 5.0) == ((Segment(2, 5, "b"),), 0)
