"""What corpora are built of: splits given and made, headers, audio by name, Kaldi's tables."""

from __future__ import annotations

import gc
import hashlib
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bab.core.errors import CorpusError, LeakageError
from bab.core.types import Clip, Permissions, Prediction, Segment
from bab.kit import recordings as kit
from bab.kit import utterances
from bab.kit.faults import Faults
from bab.kit.rttms import write_rttms
from bab.kit.short import AudioIndex, whole_file
from bab.kit.utterances import Headers, Parted, SharedLabels, gender, pairs, table

SPLITS = ("train", "dev", "test")
KIND = "speakers or groups"


def clip(name: str, voice: str | None = "", seconds: float = 1.0) -> Clip:
    """A clip whose group is its name's first letter."""
    speaker = name[0] if voice == "" else voice
    group = name[0] if voice is not None else name
    return Clip(name, f"{name}.wav", 0.0, seconds, group, speaker=speaker)


def named(*names: str) -> list[Clip]:
    return [clip(name) for name in names]


def ids(clips: Any) -> list[str]:
    return [one.id for one in clips]


FREE, STRICT = Permissions(leakage=True), Permissions()


# --- recordings ---------------------------------------------------------------------------------


def divided(
    clips: list[Clip], given: Any = None, may: Permissions = STRICT
) -> tuple[kit.Divided, list[str]]:
    notices: list[str] = []
    return kit.Divided(clips, given, Path("/c"), notices, may), notices


def test_given_splits_hold_what_they_name_in_the_corpuss_order() -> None:
    clips = named("a1", "b1", "c1", "a2", "d1")
    made, notices = divided(clips, {"test": ["c1"], "train": ["a2", "a1"]})
    assert made.names == ("test", "train") and made.given
    assert ids(made.clips("train")) == ["a1", "a2"] and ids(made.clips("test")) == ["c1"]
    assert made.clips(None) == clips and made.clips(None) is not made.all and notices == []
    with pytest.raises(CorpusError) as caught:
        made.clips("dev")
    assert str(caught.value) == (
        "/c: no split 'dev' (known: test, train). Add a list named dev.txt."
    )
    shared = {"train": ["a1"], "test": ["a2"]}
    with pytest.raises(LeakageError):
        divided(clips, shared)[0].clips("test")
    assert ids(divided(clips, shared, FREE)[0].clips("test")) == ["a2"]


def test_splits_that_are_made_are_told_of_once() -> None:
    clips = [clip(f"{letter}{i}") for letter in "abcdefghij" for i in range(2)]
    made, notices = divided(clips)
    assert made.names == SPLITS and not made.given and notices == []
    parts = {split: ids(made.clips(split)) for split in SPLITS}
    assert sorted(chain.from_iterable(parts.values())) == sorted(ids(clips))
    sizes = ", ".join(f"{len(parts[split])} {split}" for split in SPLITS)
    assert notices == [f"No split lists: split by group and voice into {sizes} clips."]
    with pytest.raises(CorpusError, match=r"^/c: no split lists, and "):
        divided(named("a1", "a2"))[0].clips("dev")
    blind = [clip(f"{i}", None) for i in range(10)]
    made, notices = divided(blind)
    made.clips("dev")
    assert notices == ["No split lists: split clip by clip into 6 train, 2 dev, 2 test clips."]


def test_durations_come_from_headers(tmp_path: Path) -> None:
    notices: list[str] = []
    soundfile.write(tmp_path / "a.wav", np.zeros(1500), 1000)
    assert kit.duration_of(tmp_path / "a.wav", 9.0, notices) == 1.5 and notices == []
    assert kit.duration_of(tmp_path / "b.wav", 9.0, notices) == 9.0
    assert len(notices) == 1 and notices[0].startswith(f"Unreadable: {tmp_path / 'b.wav'}")
    one = whole_file("x", tmp_path / "a.wav", "g", {"k": "v"}, notices)
    assert (one.id, one.start, one.end, one.group, one.speaker, one.labels) == (
        *("x", 0.0, 1.5, "g", None, {"k": "v"}),
    )


def test_audio_is_found_by_name(tmp_path: Path) -> None:
    for name in ("x/a 1.wav", "y/b.flac", "y/b.wav", "z/c.mp3", "w/c.wav", "w/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    index = AudioIndex(tmp_path)
    assert index.find("sub/a 1.mp3") == tmp_path / "x" / "a 1.wav"  # another format does
    assert index.find("a_1") == tmp_path / "x" / "a 1.wav"
    assert index.find("b.flac") == tmp_path / "y" / "b.flac"
    assert index.find("d.txt") is None is index.find("nothing")
    with pytest.raises(CorpusError) as caught:
        index.find("c.ogg")
    assert str(caught.value) == (
        f"{tmp_path / 'w' / 'c.wav'} and {tmp_path / 'z' / 'c.mp3'}: audio files with one name. "
        "Keep one."
    )


def test_the_collector_is_as_it_was_also_after_an_error() -> None:
    gc.disable()
    try:
        with kit.uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
    with pytest.raises(ZeroDivisionError), kit.uncollected():
        raise ZeroDivisionError
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("end", "spans", "late"),
    [(2.0, [(0, 1), (1, 2)], 1), (2.05, [(0, 1), (1, 2.05)], 1), (3.0, [(0, 1), (1, 2.1)], 0),
     (2.06, [(0, 1), (1, 2.06)], 0), (0.5, [(0, 0.5)], 2), (1.0, [(0, 1)], 1)],
)  # fmt: skip
def test_segments_end_with_their_file(end: float, spans: list[Any], late: int) -> None:
    turns = [Segment(0, 1, "A"), Segment(1, 2.1, "B")]
    cut, count = kit.cut_to_file(turns, end)
    assert [(s.start, s.end) for s in cut] == spans and count == late
    assert [s.label for s in cut] == ["A", "B"][: len(spans)]


def test_rounding_is_no_lateness() -> None:
    for end, late in ((1.0 + kit.LATE, 0), (1.0 + kit.LATE + 1e-9, 1)):
        assert kit.cut_to_file([Segment(0, end, "A")], 1.0) == ((Segment(0, 1.0, "A"),), late)


def test_recordings_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["a", "A", "a/b", "a_b", "..x", "é é"]
    write_rttms([Prediction(n, segments=(Segment(0, 1.5, "K"),)) for n in names], tmp_path)
    tail = {n: hashlib.blake2b(n.encode(), digest_size=4).hexdigest() for n in names}
    files = ["a", f"A-{tail['A']}", "a_b", f"a_b-{tail['a_b']}", "x", "é_é"]
    assert sorted(p.stem for p in tmp_path.iterdir()) == sorted(files)
    for name, stem in zip(names, files, strict=True):
        line = (tmp_path / f"{stem}.rttm").read_text().split()
        assert line[0] == "SPEAKER" and line[3:5] == ["0.000", "1.500"] and line[7] == "K", name
    write_rttms([Prediction("..."), Prediction("___")], tmp_path / "odd")
    assert len(list((tmp_path / "odd").iterdir())) == 2


# --- utterances ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "told"),
    [("m", "male"), (" F ", "female"), ("Female_Feminine", "female"), ("male_masculine", "male"),
     ("transgender", "other"), ("do_not_wish_to_say", ""), ("", ""), ("Unknown", "unknown")],
)  # fmt: skip
def test_gender(written: str, told: str) -> None:
    assert gender(written) == told


def test_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(500), 1000)
    asked: list[str] = []
    real = utterances.audio_info
    monkeypatch.setattr(utterances, "audio_info", lambda p: (asked.append(p), real(p))[1])
    notices: list[str] = []
    headers = Headers(notices)
    paths = [str(tmp_path / name) for name in ("a.wav", "b.wav", "a.wav", "b.wav")]
    assert [headers.seconds(path) for path in paths] == [0.5, 0.0, 0.5, 0.0]
    assert asked == paths[:2]
    headers.tell()
    assert len(notices) == 1 and notices[0].startswith(f"Unreadable: {paths[1]}")
    assert ", and " not in notices[0].rpartition("b.wav")[2]
    headers.seconds(str(tmp_path / "c.wav"))
    headers.tell()
    assert notices[1].endswith(", and 1 more")
    quiet: list[str] = []
    Headers(quiet).tell()
    assert quiet == []


def test_equal_labels_are_one_object() -> None:
    shared = SharedLabels()
    one = shared.of(("a", "b"), ("x", ""))
    assert one == {"a": "x"} and shared.of(("a", "b"), ("x", "")) is one
    assert shared.of(("a", "b"), ("", "")) == {}


def test_tables_in_kaldis_manner(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("u1 one  two \n\n u2\tthree four\nu3\nu1 again\n")
    faults = Faults()
    assert list(pairs(path, faults)) == [
        (1, "u1", "one  two"),
        (3, "u2", "three four"),
        (4, "u3", ""),
    ]
    told = rf"{path}:5: 'u1' stands twice. Keep one of its lines."
    for call in (faults.refuse, lambda: list(pairs(path)), lambda: table(path)):
        with pytest.raises(CorpusError) as caught:
            call()
        assert str(caught.value) == told
    path.write_text("u1 a\nu2 b c\nu3\td\te\n")
    assert table(path) == {"u1": "a", "u2": "b c", "u3": "d\te"} and table(tmp_path / "none") == {}


def parted(
    may: Permissions = STRICT, checked: bool = False, **given: list[Clip]
) -> tuple[Parted, list[str]]:
    notices: list[str] = []
    parts = {("" if split == "rest" else split): clips for split, clips in given.items()}
    return Parted(parts, Path("/c"), notices, may, checked), notices


def test_all_splits_given() -> None:
    made, notices = parted(train=named("a1"), dev=named("b1"), test=named("c1"), rest=named("d1"))
    assert made.names == SPLITS == made.listed and made.given
    assert [ids(made.clips(split)) for split in SPLITS] == [["a1"], ["b1"], ["c1"]]
    assert ids(made.clips(None)) == ["a1", "b1", "c1", "d1"]
    assert notices == ["1 clips are in no split."]
    leaky = {"train": named("a1"), "dev": named("a2"), "test": named("c1")}
    with pytest.raises(LeakageError):
        parted(**leaky)[0].clips("dev")
    assert ids(parted(FREE, **leaky)[0].clips("dev")) == ["a2"]
    assert ids(parted(checked=True, **leaky)[0].clips("dev")) == ["a2"]


@pytest.mark.parametrize("missing", ["dev", "test"])
def test_one_split_that_is_not_given_is_carved_from_train(missing: str) -> None:
    train = [clip(f"{letter}{i}") for letter in "abcdefghijklmnopqrst" for i in range(3)]
    other = {"dev": "test", "test": "dev"}[missing]
    made, notices = parted(train=train, **{other: named("z1")})
    assert made.names == SPLITS and set(made.listed) == {"train", other}
    taken, kept = made.clips(missing), made.clips("train")
    groups = {one.group for one in taken}
    assert len(groups) == 2 and groups.isdisjoint(one.group for one in kept)
    assert sorted(ids([*taken, *kept])) == sorted(ids(train))
    assert notices == [f"No {missing} split is given: 2 of train's 20 {KIND} are it."]
    with pytest.raises(CorpusError) as caught:
        parted(train=named("a1", "a2"), **{other: named("z1")})[0].clips(missing)
    assert str(caught.value) == (
        f"/c: there is no {missing} split, and train has one speaker or group only, so none can be "
        "made. Add one."
    )
    blind = [clip(f"{i:02}", None) for i in range(20)]
    made, notices = parted(train=blind, **{other: [clip("zz", None)]})
    made.clips(missing)
    assert notices == [f"No {missing} split is given: 2 of train's 20 clips are it."]


@pytest.mark.parametrize("where", ["train", "rest"])
def test_no_splits_given_are_made_by_group(where: str) -> None:
    clips = [clip(f"{letter}{i}") for letter in "abcdefghij" for i in range(2)]
    made, notices = parted(**{where: clips})
    assert made.names == SPLITS and made.given == (where == "train")
    parts = {split: ids(made.clips(split)) for split in SPLITS}
    assert sorted(chain.from_iterable(parts.values())) == sorted(ids(clips)) and all(parts.values())
    sizes = ", ".join(f"{len(parts[split])} {split}" for split in SPLITS)
    assert notices == [f"No splits are given: split by group and voice into {sizes} clips."]
    with pytest.raises(CorpusError, match=r"^/c: no splits are given, and "):
        parted(**{where: named("a1")})[0].clips("train")


def test_without_train_only_what_is_given_exists() -> None:
    made, notices = parted(test=named("a1"), dev=named("b1"))
    assert made.names == ("dev", "test") and notices == []
    with pytest.raises(CorpusError) as caught:
        made.clips("train")
    assert str(caught.value) == (
        "/c: no split 'train' (known: dev, test). It holds dev and test alone; add the training "
        "data, or use --set protocol=kfold"
    )
    with pytest.raises(CorpusError, match=r"^/c: no split 'tset' \(did you mean 'test'\?\)\. It "):
        made.clips("tset")
    with pytest.raises(CorpusError, match=r"^/c: there is no clip\.$"):
        parted()


def test_trials_go_round_the_speakers() -> None:
    """Pairs of two sessions before those of one, and each speaker once before any a second time."""
    clips = [Clip(f"{who}{i}", "x", 0, 1, who, speaker=who) for who in "abc" for i in range(4)]
    trials = utterances.made_trials(clips, 12, lambda c: str(int(c.id[1]) // 2), "s")
    same = [t for t in trials if t.same]
    assert [t.enrol[0] for t in same] == ["a", "b", "c"] * 2 == [t.test[0] for t in same]
    assert all(int(t.enrol[1]) // 2 != int(t.test[1]) // 2 for t in same)
    # Beyond four pairs of two sessions there are two of one for each speaker.
    every = [
        t
        for t in utterances.made_trials(clips, 36, lambda c: str(int(c.id[1]) // 2), "s")
        if t.same
    ]
    apart = [int(t.enrol[1]) // 2 != int(t.test[1]) // 2 for t in every]
    assert apart == [True] * 12 + [False] * 6 and len({(t.enrol, t.test) for t in every}) == 18
    many = [Clip(f"{who}{i}", "x", 0, 1, who, speaker=who) for who in "ab" for i in range(50)]
    paired = utterances.made_trials(many, 10_000, lambda c: c.id, "s")
    assert sum(t.same for t in paired) == 2 * 780 and len({t.enrol for t in paired if t.same}) <= 80
