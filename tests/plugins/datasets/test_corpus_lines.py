"""Lines of RTTM, UEM, trial lists and Kaldi's maps: what each comes to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import made_corpora
import pytest
from made_corpora import load, notes, table

from bab.core.errors import CorpusError, LeakageError
from bab.core.types import Segment, Trial
from bab.kit import Faults
from bab.plugins.datasets.kaldi import Kaldi
from bab.plugins.datasets.librispeech import LibriSpeech
from bab.plugins.datasets.rttm import Rttm
from bab.plugins.datasets.shared.rttm import (
    Annotations,
    annotated_twice,
    fit_file,
    lists_by_file,
    read_rttm,
    read_uem,
)
from bab.plugins.datasets.voxceleb import VoxCeleb

lay = partial(made_corpora.lay, seconds=1.0)


# ------------------------------------------------------------------------------- rttm


def test_turns_of_a_file(tmp_path: Path) -> None:
    rows = (
        "SPEAKER x/b.wav 1 1 2 <NA> <NA> FEM <NA> <NA>", "; SPEKER", "", "# x", "LEXEME b",
        "SPEAKER b 1 0 0 <NA> <NA> FEM", "SPEAKER a 1 5.5 0.5 <NA> <NA> MAL 0.5",
        "SPEAKER b 1 0.5 1 <NA> <NA> KCHI",
    )  # fmt: skip
    one = table(tmp_path / "x.rttm", *rows)
    empty = table(tmp_path / "home 1.RTTM")
    faults = Faults()
    made = read_rttm([one, tmp_path / "x.txt", empty], faults)
    faults.refuse()
    assert made.turns == {
        "b": [(1.0, 3.0, "FEM"), (0.5, 1.5, "KCHI")], "a": [(5.5, 6.0, "MAL")], "home_1": [],
    }  # fmt: skip
    assert made.source == {"b": one, "a": one, "home_1": empty} and made.began == {}
    again = table(tmp_path / "y.rttm", "SPEAKER a 1 0 1 <NA> <NA> FEM")
    read_rttm([one, again], faults)
    told = f"recording 'a' is annotated in {one} and in {again}. Keep one, or say which folder: "
    assert notes(faults) == [f"{told}--set corpus.rttm=FOLDER"]


def test_faults_of_an_rttm(tmp_path: Path) -> None:
    line = "Write it as SPEAKER NAME 1 START DURATION <NA> <NA> LABEL <NA> <NA>, or remove it"
    seven, eleven = "SPEAKER a 1 0 1 <NA> <NA>", "SPEAKER a 1 0 1 <NA> <NA> X <NA> <NA> <NA>"
    text = "SPEAKER a 1 x 1 <NA> <NA> X"
    rows = (" SPEKER a", seven, eleven, text, "SPEAKER a 1 -1 1 <NA> <NA> X",
            "SPEAKER a 1 0 inf <NA> <NA> X", "SPEAKER a 1 nan 1 <NA> <NA> X",
            "SPEAKER a 1 0 1 <NA> <NA> X <NA> <NA>")  # fmt: skip
    path = table(tmp_path / "a.rttm", *rows)
    faults = Faults()
    assert read_rttm([path], faults).turns == {"a": [(0.0, 1.0, "X")]}
    wide = "columns, not the 10 of an RTTM (names may hold no spaces)"
    bad = "start and duration must be finite and not negative"
    assert notes(faults) == [
        f"{path}:1: not a line of an RTTM: 'SPEKER a'. {line}",
        f"{path}:2: 7 {wide}: {seven!r}", f"{path}:3: 11 {wide}: {eleven!r}",
        f"{path}:4: start and duration must be numbers: {text!r}",
        f"{path}:5: {bad}: -1 1", f"{path}:6: {bad}: 0 inf", f"{path}:7: {bad}: nan 1",
    ]  # fmt: skip


def test_spans_of_a_uem(tmp_path: Path) -> None:
    path = table(tmp_path / "a.UEM", "; x", "# x", "", "x/a.wav 1 0 2.5", "a NA 3 4", "b 1 0 1")
    faults = Faults()
    spans = {"a": [(0.0, 2.5), (3.0, 4.0)], "b": [(0.0, 1.0)]}
    assert read_uem([path, tmp_path / "a.rttm"], faults) == spans
    faults.refuse()
    table(path, "a 1 0", " a 1 0 x", "a 1 0 1 2", "a 1 2 2", "a 1 -1 2", "a 1 0 inf", "a 1 0 1")
    assert read_uem([path], faults) == {"a": [(0.0, 1.0)]}
    what = "not a line of a UEM (name, channel, start, end)"
    span = "not a span of time, in seconds"
    assert notes(faults) == [
        f"{path}:1: {what}: 'a 1 0'", f"{path}:2: {what}: 'a 1 0 x'", f"{path}:3: {what}: "
        "'a 1 0 1 2'", f"{path}:4: {span}: 2 to 2", f"{path}:5: {span}: -1 to 2",
        f"{path}:6: {span}: 0 to inf",
    ]  # fmt: skip


def test_a_recording_fitted_to_its_file(tmp_path: Path) -> None:
    path = lay(tmp_path, "a.wav", seconds=4) / "a.wav"
    meaning = {"FEM": "FEM", "mum": "FEM", "tv": None}
    turns = [(3.0, 9.0, "FEM"), (0.5, 1.0, "tv"), (0.0, 1.0, "mum"), (2.0, 4.04, "FEM")]

    def fit(turns: list[Any], uem: Any = None, file: Path = path) -> tuple[Any, list[str], Faults]:
        notices: list[str] = []
        faults = Faults()
        made = fit_file("a", file, list(turns), uem, meaning, notices, faults)
        return made, notices, faults

    made, notices, faults = fit(turns)
    faults.refuse()
    kept = (Segment(0.0, 1.0, "FEM"), Segment(2.0, 4.0, "FEM"), Segment(3.0, 4.0, "FEM"))
    assert made == (4.0, kept, None)
    assert notices == ["a: 1 segments cut at the end of the file (4.00 s)."]
    made, notices, faults = fit([], [(3.0, 4.05), (0.0, 1.0)])
    faults.refuse()
    assert made == (4.0, (), ((0.0, 1.0), (3.0, 4.0))) and notices == []
    _, notices, faults = fit([], [(3.0, 4.06)])
    faults.refuse()
    assert notices == ["a: its UEM ends at 4.06 s: cut at the file's end (4.00 s)."]
    _, notices, faults = fit([(4.0, 5.0, "FEM"), (9.0, 9.5, "tv")], [(4.0, 9.0)])
    assert notes(faults) == [
        f"a: all of its 2 segments begin after the end of {path} (4.00 s), the first at 4 s. Times "
        "are seconds, not milliseconds; or replace the audio, if it is cut short",
        "a: its UEM covers none of the file's 4.00 s. Times are seconds since the start of the "
        "recording",
    ]
    assert notices == []
    broken = tmp_path / "b.wav"
    broken.write_bytes(b"nothing")
    made, notices, faults = fit(turns, [(0.0, 9.5)], broken)
    faults.refuse()
    assert made[0] == 9.5 and made[1][-1] == Segment(3.0, 9.0, "FEM") and made[2] == ((0.0, 9.5),)
    assert len(notices) == 1 and notices[0].startswith(f"Unreadable: {broken}: ")


def test_files_named_by_split(tmp_path: Path) -> None:
    def lists(**files: str) -> Any:
        return lists_by_file(Annotations({}, {u: Path(f) for u, f in files.items()}, {}))

    assert lists(a="test.rttm", b="x/Train.rttm", c="x/Train.rttm") == {
        "train": {"b": "x/Train.rttm", "c": "x/Train.rttm"}, "test": {"a": "test.rttm"},
    }  # fmt: skip
    assert list(lists(a="test.rttm", b="train.rttm")) == ["train", "test"]
    assert lists(a="train.rttm", b="home.rttm") is None and lists() is None
    with pytest.raises(LeakageError) as caught:
        annotated_twice("a", Path("train.rttm"), Path("dev.rttm"))
    told = "recording 'a' stands in two splits: train.rttm and dev.rttm. Keep one."
    assert str(caught.value) == told
    for two in ("x/train.rttm", "home.rttm"):
        with pytest.raises(CorpusError, match=r"is annotated in train\.rttm and in"):
            annotated_twice("a", Path("train.rttm"), Path(two))


def test_recordings_that_are_counted(tmp_path: Path) -> None:
    lay(tmp_path, *(f"{n}.wav" for n in "abcdefgh"), seconds=4)
    for name in "abxyzw":
        table(tmp_path / f"{name}.rttm", f"SPEAKER {name} 1 0 1 <NA> <NA> FEM")
    table(tmp_path / "a.uem", "a 1 0 4")
    corpus = load(Rttm, tmp_path)
    assert corpus.notices == [
        "6 recordings without RTTM were left out: c, d, e, ...",
        "4 recordings annotated but without audio were left out: w, x, y, ...",
        "1 recordings without a UEM are scored whole: b",
    ]
    assert [(c.id, c.scored) for c in corpus.clips()] == [("a", ((0.0, 4.0),)), ("b", None)]
    table(tmp_path / "train.txt", "a")
    assert load(Rttm, tmp_path).notices == [
        "1 recordings in no split list were left out: b",
        "4 recordings annotated but without audio were left out: w, x, y, ...",
    ]
    table(tmp_path / "groups.tsv", "recording\tgroup", "q\tg")
    assert load(Rttm, tmp_path).notices[2:] == [
        "1 recordings are not in groups.tsv: a", "1 recordings of groups.tsv are not used: q",
    ]  # fmt: skip


def test_lists_of_recordings_that_can_t_be_used(tmp_path: Path) -> None:
    lay(tmp_path, "a.wav", "b.wav", "c.wav")
    table(tmp_path / "a.rttm", "SPEAKER a 1 0 1 <NA> <NA> FEM")
    table(tmp_path / "b.rttm", "SPEAKER other 1 0 1 <NA> <NA> FEM")
    place = table(tmp_path / "train.txt", "a", "gone", "b", "c")
    with pytest.raises(CorpusError) as caught:
        load(Rttm, tmp_path)
    assert caught.value.__notes__ == [
        f"{place}:2: no audio for 'gone' under {tmp_path}. Add it, or take it off the list.",
        f"{tmp_path / 'b.rttm'}: column 2 names 'other', but the audio is 'b' ({place}:3).",
        f"{place}:4: no RTTM for 'c' under {tmp_path}. Add it (an empty c.rttm says that nobody "
        "speaks), or take it off the list.",
    ]
    for path in tmp_path.glob("*.rttm"):
        path.unlink()
    place.unlink()
    table(tmp_path / "z.rttm", "SPEAKER z 1 0 1 <NA> <NA> FEM")
    with pytest.raises(CorpusError) as none:
        load(Rttm, tmp_path)
    assert str(none.value) == (
        f"{tmp_path}: no recording has both audio and RTTM (3 audio files, 1 annotated "
        "recordings). The name in the RTTM's second column must be the audio file's, less its "
        "extension."
    )
    (tmp_path / "z.rttm").unlink()
    with pytest.raises(CorpusError, match="The name in the annotation must be the audio file's"):
        load(Rttm, tmp_path, format="eaf")


# ------------------------------------------------------------------------------- kaldi


def test_labels_of_speakers_and_utterances(tmp_path: Path) -> None:
    lay(tmp_path, "a.wav", "b.wav", "c.wav")
    table(tmp_path / "wav.scp", "a a.wav", "b\tb.wav", "c c.wav")
    table(tmp_path / "utt2spk", "a s", "b t", "c s")
    table(tmp_path / "text", "a hi", "b ho")
    table(tmp_path / "spk2gender", "s M", "t f")
    table(tmp_path / "utt2gender.bak", "a x")
    table(tmp_path / "spk2utt", "s a")
    table(tmp_path / "utt2uniq", "a x")
    table(tmp_path / "utt2mood", "b glad")
    table(tmp_path / "phones", "a W_B IY_E", "b.1 B_S", "b.0 A_I", "z.x q")
    corpus = load(Kaldi, tmp_path)
    a, b = corpus.clips()
    assert dict(a.labels) == {"gender": "male", "phones": "W IY"} and a.text == "hi"
    assert dict(b.labels) == {"gender": "female", "mood": "glad", "phones": "A B"}
    assert corpus.notices == [f"{tmp_path}: 1 utterances without speaker or text were left out."]
    assert corpus.provides == {"speaker", "text", "gender", "mood", "phones"}
    table(tmp_path / "resource" / "text-phone", "a X")
    assert (
        load(Kaldi, tmp_path).clips()[0].labels["phones"] == "W IY"
    )  # what lies beside comes first
    (tmp_path / "phones").unlink()
    assert load(Kaldi, tmp_path).clips()[0].labels["phones"] == "X"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a sox a.wav |", "'sox a.wav |' is a command. bab runs no commands that it finds in data: "
         "convert the audio once, and write the files' paths."),
        ("a | cat", "'| cat' is a command. bab runs no commands that it finds in data: convert the "
         "audio once, and write the files' paths."),
        ("a", "'a' has no path."),
        ("a x/raw.ark:12", "'x/raw.ark:12' lies in a Kaldi archive. Copy the archive to files "
         "(wav-copy scp:wav.scp), and write their paths."),
    ],
)  # fmt: skip
def test_what_is_no_path(tmp_path: Path, line: str, told: str) -> None:
    path = table(tmp_path / "wav.scp", line)
    with pytest.raises(CorpusError) as caught:
        load(Kaldi, tmp_path)
    assert str(caught.value) == f"{path}:1: {told}"
    table(path, "a raw.ark:x")
    assert [c.id for c in load(Kaldi, tmp_path).clips()] == ["a"]


def test_trials_of_kaldi_librispeech_and_voxceleb(tmp_path: Path) -> None:
    root = tmp_path / "k"
    names = [f"{s}{i}" for s in "abcd" for i in (1, 2)]
    lay(root, *(f"{n}.wav" for n in names))
    for split, own in (("train", names[:2]), ("dev", names[2:4]), ("test", names[4:])):
        table(root / split / "wav.scp", *(f"{n} {n}.wav" for n in own))
        table(root / split / "utt2spk", *(f"{n} {n[0]}" for n in own))
    table(root / "test" / "trials", "1 c1 c2", "0 c1 d1")
    corpus = load(Kaldi, root)
    assert corpus.trials("test") == [Trial("c1", "c2", True), Trial("c1", "d1", False)]
    assert corpus.trials("dev") == []  # one speaker makes none
    assert corpus.notices == ["dev: no trial list; 0 trials were made."]
    (root / "test" / "trials").unlink()
    made = load(Kaldi, root, make_trials=2)
    assert len(made.trials("test")) == 2 and len(made.trials("test")) == 2
    assert made.notices == ["test: no trial list; 2 trials were made."]
    assert load(Kaldi, root, make_trials=0).trials("test") == []
    libri = tmp_path / "l"
    for speaker in "12":
        for chapter in "34":
            folder = lay(libri / "test" / speaker / chapter, f"{speaker}-{chapter}-0.wav")
            table(folder / f"{speaker}-{chapter}.trans.txt", f"{speaker}-{chapter}-0 X")
    corpus = load(LibriSpeech, libri)
    assert len(corpus.trials("test")) == 4 and corpus.notices == ["test: 4 trials were made."]
    assert corpus.trials("test") == corpus.trials("test") and len(corpus.notices) == 1
    silent = load(LibriSpeech, libri, make_trials=0)
    assert silent.trials("test") == [] and silent.notices == []
    vox = tmp_path / "v"
    lay(vox, *(f"wav/id{i}/{v}/1.wav" for i in (1, 2, 3, 4, 5) for v in "ab"))
    table(vox / "vox1_meta.csv", "ID\tGender\tNationality", "id1\tf\tIndia")
    corpus = load(VoxCeleb, vox)
    assert corpus.notices == []
    india = {"gender": "female", "nationality": "India"}
    assert [dict(c.labels) for c in corpus.clips()[:3]] == [india, india, {}]
    assert not corpus.splits_given and corpus.provides == {"speaker", "gender", "nationality"}
    assert all(c.group == c.speaker == c.id.split("/")[0] for c in corpus.clips())
    both = table(vox / "veri_test.txt", "0 id1/a/1.wav id2/a/1.wav")
    table(vox / "veri_test2.txt", "1 id1/a/1.wav id1/b/1.wav")
    table(vox / "voxceleb1_test_v2.txt", "1 id1/a/1.wav id1/b/1.wav")
    corpus = load(VoxCeleb, vox)
    assert corpus.notices == [
        "Trials are veri_test.txt's, not voxceleb1_test_v2.txt or veri_test2.txt's: --set "
        "corpus.trials=NAME takes another."
    ]
    assert corpus.splits() == ("train", "dev", "test") and both.is_file()
    assert {c.speaker for c in corpus.clips("test")} == {"id1", "id2"}
    assert corpus.trials("test") == [Trial("id1/a/1", "id2/a/1", False)]
    dev = corpus.trials("dev")
    assert len(dev) == 4 and corpus.notices[-1] == "dev: no trial list; 4 trials were made."
    assert corpus.trials("dev") == dev and len(corpus.notices) == 3


def test_identification_by_video_or_utterance(tmp_path: Path) -> None:
    lay(tmp_path, *(f"wav/id{i}/{v}/{u}.wav" for i in (1, 2) for v in "abc" for u in "12"))
    places = dict(zip("abc", "123", strict=True))
    lines = [f"{places[v]} id{i}/{v}/{u}.wav" for i in (1, 2) for v in "abc" for u in "12"]
    path = table(tmp_path / "iden_split.txt", *lines)
    corpus = load(VoxCeleb, tmp_path, protocol="identification")
    assert corpus.unit == "video" and corpus.notices == [] and corpus.trials("test") == []
    assert [c.id for c in corpus.clips("dev")] == ["id1/b/1", "id1/b/2", "id2/b/1", "id2/b/2"]
    assert {c.group for c in corpus.clips("dev")} == {"id1/b", "id2/b"}
    assert all(c.speaker is None and c.labels["speaker_id"] in c.id for c in corpus.clips())
    table(path, *lines[1:], "2 id1/a/1.wav")
    corpus = load(VoxCeleb, tmp_path, protocol="identification")
    assert corpus.unit == "utterance" and {c.group for c in corpus.clips()} == {
        c.id for c in corpus.clips()
    }
    assert corpus.notices == [
        "iden_split.txt divides 1 videos between splits: utterances are the groups, not videos."
    ]
    assert corpus.provides == {"speaker_id"}
