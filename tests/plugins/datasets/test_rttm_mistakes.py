"""Mistakes in RTTM, UEM and lists: named with file and line, or told as notices."""

from __future__ import annotations

import pytest
from rttm_files import homes, ids, load, sound, spans, turn, write

from bab.core.errors import CorpusError, LeakageError


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


def test_an_unreadable_file_of_which_nothing_is_annotated_is_told_once(tmp_path):
    """Nobody knows how long it is."""
    homes(tmp_path)
    (tmp_path / "wav" / "a.wav").write_bytes(b"junk")
    write(tmp_path / "rttm" / "a.rttm")
    write(tmp_path / "a.uem")
    corpus = load(tmp_path)
    first = next(iter(corpus.clips()))
    assert (first.id, first.end, first.scored, first.segments) == ("a", 0.0, None, ())
    (told,) = corpus.notices
    assert told.startswith(f"Unreadable: {tmp_path / 'wav' / 'a.wav'}: it can't be decoded")


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
