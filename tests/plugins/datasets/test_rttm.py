"""The rttm corpus, on layouts that are made here and on real ones where they are."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import REAL
from pydantic import ValidationError

from bab.core.errors import CorpusError, LeakageError
from bab.plugins.datasets.rttm import Rttm, read_rttm
from bab.testing.corpora import check_corpus

SCENES = REAL / "scenes"


def sound(path: Path, seconds: float = 10.0, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(seconds * rate)), rate)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))


def turn(uri: str, start: float = 1.0, length: float = 2.0, label: str = "FEM") -> str:
    return f"SPEAKER {uri} 1 {start} {length} <NA> <NA> {label} <NA> <NA>"


def homes(root: Path, names: str = "abcdef", lists: bool = True) -> Path:
    """A plain corpus: one wav and one RTTM each; a-c train... as split lists say."""
    for name in names:
        sound(root / "wav" / f"{name}.wav")
        write(root / "rttm" / f"{name}.rttm", turn(name))
    if lists:
        write(root / "train.txt", *names[:-2])
        write(root / "dev.txt", names[-2])
        write(root / "test.txt", names[-1])
    return root


def load(root: Path, **options) -> Rttm:
    return Rttm(root, Rttm.Options(**options))


def spans(clip) -> list[tuple[float, float, str]]:
    return [(round(s.start, 6), round(s.end, 6), s.label) for s in clip.segments]


def ids(clips) -> list[str]:
    return [clip.id for clip in clips]


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
    assert sum("split by group" in notice for notice in corpus.notices) == 1


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


# --- mistakes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SPEAKER a 1 1.0", r"a\.rttm:2: 4 columns"),
        ("SPEAKER my home 1 1.0 2 <NA> <NA> FEM <NA> <NA>", r"a\.rttm:2: 11 columns.*spaces"),
        ("SPEKER a 1 1.0 2.0 <NA> <NA> FEM <NA> <NA>", r"a\.rttm:2: not a line of an RTTM"),
        (turn("a", "one"), r"a\.rttm:2: .*must be numbers"),
        (turn("a", 1, -2), r"a\.rttm:2: .*not negative: 1 -2"),
        (turn("a", -1), r"a\.rttm:2: .*not negative"),
        (turn("a", "nan"), r"a\.rttm:2: .*finite"),
        (turn("a", 1, "inf"), r"a\.rttm:2: .*finite"),
    ],
)
def test_a_bad_rttm_line_is_named(tmp_path, line, message):
    homes(tmp_path)
    write(tmp_path / "rttm" / "a.rttm", turn("a"), line)
    with pytest.raises(CorpusError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("line", ["a 1 0", "a 1 zero 9", "a 1 5 5", "a 1 -1 5", "a 1 0 nan"])
def test_a_bad_uem_line_is_named(tmp_path, line):
    homes(tmp_path)
    write(tmp_path / "uem" / "a.uem", "a 1 0 1", line)
    with pytest.raises(CorpusError, match=r"a\.uem:2: not a "):
        load(tmp_path)


def test_a_uem_beyond_the_file(tmp_path):
    homes(tmp_path)
    write(tmp_path / "a.uem", "a 1 50 60")
    with pytest.raises(CorpusError, match="a: its UEM covers none"):
        load(tmp_path)


def test_binary_rubbish_is_named(tmp_path):
    homes(tmp_path)
    (tmp_path / "rttm" / "a.rttm").write_bytes(b"SPEAKER \xff\xfe")
    with pytest.raises(CorpusError, match=r"a\.rttm: can't be read as UTF-8"):
        load(tmp_path)


def test_listed_without_audio_or_rttm(tmp_path):
    homes(tmp_path)
    write(tmp_path / "train.txt", "a", "ghost")
    with pytest.raises(CorpusError, match=r"train\.txt:2: no audio for 'ghost'"):
        load(tmp_path)
    sound(tmp_path / "wav" / "ghost.wav")
    with pytest.raises(CorpusError, match=r"train\.txt:2: no RTTM for 'ghost'.*empty ghost\.rttm"):
        load(tmp_path)


def test_an_rttm_that_names_another_recording_inside(tmp_path):
    homes(tmp_path)
    write(tmp_path / "rttm" / "a.rttm", turn("a_channel1"))
    with pytest.raises(CorpusError, match=r"a\.rttm: .*'a_channel1', but the audio is 'a'"):
        load(tmp_path)


def test_unlisted_without_rttm_or_audio_is_left_out(tmp_path):
    homes(tmp_path, lists=False)
    sound(tmp_path / "wav" / "spare.wav")
    write(tmp_path / "rttm" / "lost.rttm", turn("lost"))
    corpus = load(tmp_path)
    assert ids(corpus.clips()) == list("abcdef")
    assert any("1 recordings without RTTM were left out: spare" in n for n in corpus.notices)
    assert any("annotated but without audio were left out: lost" in n for n in corpus.notices)


def test_two_audio_files_of_one_name(tmp_path):
    homes(tmp_path)
    sound(tmp_path / "flac" / "b.flac")
    with pytest.raises(CorpusError, match=r"b\.flac and .*b\.wav: .*corpus\.audio=FOLDER"):
        load(tmp_path)
    clips = {clip.id: clip.path for clip in load(tmp_path, audio="wav").clips()}
    assert clips["b"].endswith("wav/b.wav")


def test_two_annotations_of_one_recording(tmp_path):
    homes(tmp_path)
    write(tmp_path / "vtc" / "b.rttm", turn("b", label="MAL"))
    with pytest.raises(CorpusError, match=r"'b' is annotated in .*corpus\.rttm=FOLDER"):
        load(tmp_path)
    clips = {clip.id: clip for clip in load(tmp_path, rttm="rttm").clips()}
    assert spans(clips["b"]) == [(1.0, 3.0, "FEM")]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CorpusError, match="none: no such folder"):
        load(homes(tmp_path), audio="none")
    with pytest.raises(CorpusError, match="absent: no such folder"):
        load(tmp_path / "absent")


def test_a_recording_in_two_lists(tmp_path):
    homes(tmp_path)
    write(tmp_path / "dev.txt", "e", "b.wav")
    with pytest.raises(LeakageError, match=r"'b'.*train\.txt:2 \(train\).*dev\.txt:2 \(dev\)"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("dev.txt", ["e", "", "e"], r"dev\.txt:3: 'e' is listed already, at .*dev\.txt:1"),
        ("dev.txt", ["# nothing"], r"dev\.txt: the list is empty"),
        ("val.lst", ["e"], r"dev\.txt and .*val\.lst both list 'dev'"),
    ],
)
def test_bad_lists(tmp_path, name, lines, message):
    homes(tmp_path)
    write(tmp_path / name, *lines)
    with pytest.raises(CorpusError, match=message):
        load(tmp_path)


def test_a_split_that_is_not_there(tmp_path):
    homes(tmp_path)
    (tmp_path / "dev.txt").unlink()
    corpus = load(tmp_path)
    assert corpus.splits() == ("train", "test")
    with pytest.raises(CorpusError, match=r"no split 'dev' .*dev\.txt"):
        corpus.clips("dev")


def test_segments_after_the_end_are_cut_and_told(tmp_path):
    homes(tmp_path)
    write(tmp_path / "rttm" / "a.rttm", turn("a", 12), turn("a", 9, 5), turn("a", 4, 6.004))
    corpus = load(tmp_path)
    assert spans(corpus.clips("train")[0]) == [(4.0, 10.0, "FEM"), (9.0, 10.0, "FEM")]
    assert any(n.startswith("a: 2 segments cut at the end") for n in corpus.notices)


def test_an_unreadable_file_is_listed_for_whoever_checks(tmp_path):
    homes(tmp_path)
    (tmp_path / "wav" / "a.wav").write_bytes(b"RIFF no")
    corpus = load(tmp_path)
    assert corpus.clips("train")[0].end == 3.0  # as its annotation says
    assert any("a.wav" in notice for notice in corpus.notices)


def test_nothing_matches(tmp_path):
    sound(tmp_path / "a.wav")
    write(tmp_path / "b.rttm", turn("b"))
    with pytest.raises(CorpusError, match="no recording has both audio and RTTM"):
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
    found = read_rttm([tmp_path / "all.rttm"])
    assert time.process_time() - began < 1.5
    assert sum(map(len, found.turns.values())) == 100_000
