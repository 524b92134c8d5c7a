"""Corpus `kaldi`: directories, tables, labels, phones, trials, and what it refuses."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import REAL

from bab.core.errors import CorpusError, LeakageError
from bab.plugins.datasets.kaldi import Kaldi
from bab.testing.corpora import check_corpus

SPEECHOCEAN = REAL / "speechocean762"


def tone(path: Path, seconds: float = 1.0, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(int(seconds * rate)) / 5), rate)
    return path


def write(folder: Path, **tables: str) -> Path:
    """Tables by name, `-` written as `_`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in tables.items():
        written = {"wav_scp": "wav.scp", "text_phone": "text-phone"}.get(name, name)
        (folder / written).write_text(text, encoding="utf-8")
    return folder


def speakers(root: Path, folder: str, names: str) -> Path:
    """A directory where each letter of `names` is a speaker of two utterances."""
    both = [f"{s}{i}" for s in names for i in (1, 2)]
    for name in both:
        tone(root / "wav" / f"{name}.wav")
    return write(
        root / folder,
        wav_scp="".join(f"{n} wav/{n}.wav\n" for n in both),
        utt2spk="".join(f"{n} {n[0]}\n" for n in both),
    )


def kaldi(root: Path, **options) -> Kaldi:
    return Kaldi(root, Kaldi.Options(**options))


def test_sample():
    check_corpus(kaldi(Kaldi.sample))


@pytest.mark.skipif(not SPEECHOCEAN.exists(), reason="needs speechocean762")
def test_speechocean762():
    corpus = kaldi(SPEECHOCEAN)
    check_corpus(corpus)
    assert corpus.provides == {"speaker", "text", "phones", "gender", "age"}
    clips = corpus.clips()
    assert len(clips) == 2500 and len({clip.speaker for clip in clips}) == 125
    first = clips[0]
    assert first.labels["phones"] == "W IY0 K AO0 L IH0 T B EH0 R"
    assert (first.text, first.labels["gender"], first.labels["age"]) == (
        "WE CALL IT BEAR",
        "male",
        "6",
    )
    by_id = {clip.id: clip for clip in clips}
    trials = corpus.trials("test")
    assert len(trials) == 2000 and sum(t.same for t in trials) == 1000
    assert all((by_id[t.enrol].speaker == by_id[t.test].speaker) == t.same for t in trials)
    assert len({frozenset((t.enrol, t.test)) for t in trials}) == 2000


def test_segments_labels_and_text(tmp_path):
    tone(tmp_path / "wav" / "rec.wav", 3.0)
    write(
        tmp_path / "data" / "train",
        wav_scp="rec ../../wav/rec.wav\n",
        segments="u1 rec 0.5 1.25\nu2 rec 1.5 -1\nu3 rec 2 2.5\n",
        utt2spk="u1 s\nu2 s\nu3 s\n",
        text="u1 hello  there\nu2\n",
        spk2gender="s F\n",
        utt2mood="u1 glad\n",
        utt2dur="u1 0.75\n",
        text_phone="u2.10 C_S\nu2.0\tA_B b_E\nu2.2 X\nu1 a_B n_I\n",
    )
    corpus = kaldi(tmp_path)
    one, two = corpus.clips()
    assert (one.start, one.end, one.text, one.group) == (0.5, 1.25, "hello  there", "s")
    assert one.labels == {"gender": "female", "mood": "glad", "phones": "a n"}
    assert (two.start, two.end, two.text) == (1.5, 3.0, "")
    assert two.labels["phones"] == "A b X C"
    assert corpus.provides == {"speaker", "text", "gender", "mood", "phones"}
    assert any("1 utterances without speaker or text" in notice for notice in corpus.notices)


def test_an_utterance_whose_name_ends_in_a_number_is_no_word(tmp_path):
    tone(tmp_path / "a.1.wav")
    write(tmp_path, wav_scp="a.1 a.1.wav\n", utt2spk="a.1 s\n", phones="a.1 p q\n")
    assert kaldi(tmp_path).clips()[0].labels["phones"] == "p q"


def test_without_speakers_the_recording_is_the_group(tmp_path):
    for name in "abc":
        tone(tmp_path / f"{name}.flac")
    write(tmp_path, wav_scp="a a.flac\nb b.flac\nc c.flac\n")
    corpus = kaldi(tmp_path)
    check_corpus(corpus)
    assert corpus.provides == frozenset() and corpus.unit == "recording"


def test_what_is_provided_is_what_every_split_has_but_for_labels(tmp_path):
    train, test = speakers(tmp_path, "train", "ab"), speakers(tmp_path, "test", "xy")
    assert kaldi(tmp_path).provides == {"speaker"}
    write(train, text="".join(f"{s}{i} hi\n" for s in "ab" for i in (1, 2)), spk2age="a 5\n")
    assert kaldi(tmp_path).provides == {"speaker", "age"}  # a label that some have
    write(test, text="".join(f"{s}{i} oh\n" for s in "xy" for i in (1, 2)))
    assert kaldi(tmp_path).provides == {"speaker", "age", "text"}
    (test / "utt2spk").unlink()
    corpus = kaldi(tmp_path)
    assert corpus.provides == {"age", "text"} and corpus.unit == "recording"


def test_dev_is_made_of_train_by_speaker(tmp_path):
    speakers(tmp_path, "train", "abcdef")
    speakers(tmp_path, "test", "xy")
    corpus = kaldi(tmp_path)
    check_corpus(corpus)
    assert corpus.splits() == ("train", "dev", "test")
    assert len(corpus.clips("dev")) == 4 and len(corpus.clips("train")) == 8
    assert {clip.speaker for clip in corpus.clips("test")} == {"x", "y"}
    assert any("No dev split is given" in notice for notice in corpus.notices)


def test_test_alone_gives_no_training_data(tmp_path):
    speakers(tmp_path, "test", "xy")
    corpus = kaldi(tmp_path)
    assert corpus.splits() == ("test",)
    with pytest.raises(CorpusError, match="no split 'train'"):
        corpus.clips("train")


def test_folders_of_other_names(tmp_path):
    speakers(tmp_path, "mine", "ab")
    speakers(tmp_path, "data/valid", "cd")
    speakers(tmp_path, "eval", "ef")
    corpus = kaldi(tmp_path, folders={"train": "mine"})
    assert [len(corpus.clips(split)) for split in ("train", "dev", "test")] == [4, 4, 4]
    with pytest.raises(CorpusError, match=r"no wav\.scp there \(folders\.dev\)"):
        kaldi(tmp_path, folders={"dev": "nowhere"})


@pytest.mark.parametrize("line", ["a1 a1 target\na1 b1 nontarget\n", "1 a1 a1\n0 a1 b1\n"])
def test_trials_of_both_orders(tmp_path, line):
    speakers(tmp_path, "train", "cde")
    (speakers(tmp_path, "test", "ab") / "trials").write_text(line)
    trials = kaldi(tmp_path).trials("test")
    assert [(t.enrol, t.test, t.same) for t in trials] == [("a1", "a1", True), ("a1", "b1", False)]


def test_of_a_common_list_a_split_has_the_trials_that_lie_wholly_in_it(tmp_path):
    names = "abcdefgh"
    folder = speakers(tmp_path, ".", names)
    pairs = [f"{x}1 {y}2 {'target' if x == y else 'nontarget'}" for x in names for y in names]
    (folder / "trials").write_text("\n".join(pairs) + "\n")
    corpus = kaldi(tmp_path)
    assert corpus.splits() == ("train", "dev", "test")
    for split in ("dev", "test"):
        own = {clip.id[0] for clip in corpus.clips(split)}
        trials = corpus.trials(split)
        expected = {(f"{x}1", f"{y}2") for x in own for y in own}
        assert len(own) >= 1 and {(t.enrol, t.test) for t in trials} == expected
        assert len(trials) == len(expected) and all(
            t.same == (t.enrol[0] == t.test[0]) for t in trials
        )
        assert f"{split}: {len(trials)} of the 64 trials lie within this split." in corpus.notices


@pytest.mark.parametrize(
    ("line", "message"),
    [("a1 zz target\n", "no audio for 'zz'"), ("a1 b1 maybe\n", "not a trial"), ("", "is empty")],
)
def test_faulty_trials(tmp_path, line, message):
    speakers(tmp_path, "train", "cde")
    (speakers(tmp_path, "test", "ab") / "trials").write_text(line)
    with pytest.raises(CorpusError, match=message):
        kaldi(tmp_path).trials("test")


def test_made_trials_prefer_other_recordings_and_can_be_left_out(tmp_path):
    """Two recordings of two utterances each: of six pairs, four are of two recordings."""
    for speaker in "ab":
        for rec in "12":
            tone(tmp_path / f"{speaker}{rec}.wav", 2.0)
    names = [f"{s}{r}{u}" for s in "ab" for r in "12" for u in "pq"]
    write(
        tmp_path / "test",
        wav_scp="".join(f"{s}{r} {s}{r}.wav\n" for s in "ab" for r in "12"),
        segments="".join(f"{n} {n[:2]} {'01'[n[2] == 'q']} {'12'[n[2] == 'q']}\n" for n in names),
        utt2spk="".join(f"{n} {n[0]}\n" for n in names),
    )
    trials = kaldi(tmp_path, make_trials=16).trials("test")
    same = [t for t in trials if t.same]
    assert len(same) == 8 and all(t.enrol[0] == t.test[0] for t in same)
    assert all(t.enrol[:2] != t.test[:2] for t in same)
    assert [t for t in trials if not t.same and t.enrol[0] == t.test[0]] == []
    assert kaldi(tmp_path, make_trials=16).trials("test") == trials
    assert kaldi(tmp_path, make_trials=0).trials("test") == []


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"wav_scp": "a sph2pipe -f wav a.sph |\n"}, "runs no commands"),
        ({"wav_scp": "a /x/raw.ark:1234\n"}, "Kaldi archive"),
        ({"wav_scp": "a\n"}, "'a' has no path"),
        ({"wav_scp": "a a.wav\na b.wav\n"}, r"wav\.scp:2: 'a' stands twice"),
        ({"wav_scp": "a a.wav\n", "segments": "u a 1\n"}, "segments:1: not a segment"),
        ({"wav_scp": "a a.wav\n", "segments": "u b 0 1\n"}, "'b' isn't in"),
        ({"wav_scp": "a a.wav\n", "segments": "u a 2 1\n"}, "not a span of time"),
        ({"wav_scp": "a a.wav\n", "utt2dur": "a long\n"}, "the duration of 'a' is 'long'"),
        ({"wav_scp": "a a.wav\n", "utt2spk": "b s\n"}, "no utterance of"),
        ({"wav_scp": "a a.wav\n", "utt2age": "a 3\n", "spk2age": "s 3\n"}, "spk2age and utt2age"),
        ({"wav_scp": "a a.wav\n", "phones": "a\n"}, "'a' has no phone"),
    ],
)
def test_faults_name_file_and_line(tmp_path, tables, message):
    with pytest.raises(CorpusError, match=message):
        kaldi(write(tmp_path, **tables))


def test_all_faults_of_a_table_are_gathered(tmp_path):
    segments = "a-1 a 0 1\na-2 a 1\na-3 b 0 1\na-4 a 2 1\na-1 a 0 1\na-5 a 0.5 1"
    folder = write(tmp_path, wav_scp="a a.wav", segments=segments)
    with pytest.raises(CorpusError, match=r"segments:2: not a segment.*\n3 more") as caught:
        kaldi(folder)
    told = [note.split("segments:")[1][:20] for note in caught.value.__notes__]
    assert [text.partition(":")[0] for text in told] == ["2", "3", "4", "5"]
    files = "a a.wav\nb sox b.sph |\nc\nd x.ark:7\na a.wav"
    with pytest.raises(CorpusError, match=r"wav\.scp:2: 'sox b\.sph \|' is a command.*\n3 more"):
        kaldi(write(tmp_path, wav_scp=files, segments=""))


def test_all_faults_of_a_trial_list_are_gathered(tmp_path):
    write(tmp_path / "test", wav_scp="a a.wav\nb b.wav", utt2spk="a s\nb t")
    for name in ("a", "b"):
        tone(tmp_path / f"{name}.wav")
    (tmp_path / "test" / "trials").write_text("1 a b\n2 a b\n0 a c\nnonsense\n")
    with pytest.raises(CorpusError, match=r"trials:2: not a trial.*\n2 more"):
        kaldi(tmp_path).trials("test")


def test_nothing_there_and_twice_there(tmp_path):
    with pytest.raises(CorpusError, match=r"no wav\.scp"):
        kaldi(tmp_path)
    speakers(tmp_path, "train", "ab")
    speakers(tmp_path, "test", "ab")
    with pytest.raises(CorpusError, match=r"utterance 'a1' stands in .*train and in .*test"):
        kaldi(tmp_path)


def test_a_speaker_in_two_splits(tmp_path):
    speakers(tmp_path, "train", "ab")
    folder = speakers(tmp_path, "test", "xy")
    (folder / "utt2spk").write_text("x1 a\nx2 a\ny1 y\ny2 y\n")
    with pytest.raises(LeakageError, match="'a' stands in two splits"):
        kaldi(tmp_path).clips("dev")


def test_an_unreadable_file_is_listed_and_told(tmp_path):
    speakers(tmp_path, "train", "ab")
    (tmp_path / "wav" / "a1.wav").write_bytes(b"nothing")
    corpus = kaldi(tmp_path)
    assert [clip.end for clip in corpus.clips()][:2] == [0.0, 1.0]
    assert any("a1.wav" in notice for notice in corpus.notices)


def test_many_segments_load_in_seconds(tmp_path):
    count, recordings = 200_000, 1000
    per = count // recordings
    with (tmp_path / "segments").open("w") as file:
        file.writelines(
            f"s{i // per}-{i} r{i // per} {i % per}.25 {i % per + 1}.0\n" for i in range(count)
        )
    with (tmp_path / "utt2spk").open("w") as file:
        file.writelines(f"s{i // per}-{i} s{i // per}\n" for i in range(count))
    write(tmp_path, wav_scp="".join(f"r{i} r{i}.wav\n" for i in range(recordings)))
    began = time.process_time()
    corpus = kaldi(tmp_path)
    assert len(corpus.clips()) == count
    assert time.process_time() - began < 6  # a million: 5 times that at most
