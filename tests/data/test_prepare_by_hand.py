"""What `prepare` gathers, finds, adds up and says; and speech from scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import soundfile

from bab.core.errors import AudioError, BabError, CorpusError, LeakageError
from bab.core.interfaces import Corpus
from bab.core.types import Clip
from bab.data import prepare, sealed, vad
from bab.data.check import refuse_bad
from bab.data.prepare import Prepared, Recording, Speech, describe, gather
from bab.data.shards import Shard


class Made(Corpus):
    """A corpus of clips that a test made up."""

    def __init__(self, name: str, parts: Mapping[str, list[Clip]], fails: Exception | None = None):
        super().__init__(Path(f"/{name}"), None)
        self.name, self.parts, self.fails = name, parts, fails
        self.notices = [f"a note of {name}"]
        self.splits_given = "" not in parts

    def splits(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def clips(self, split: str | None = None) -> list[Clip]:
        if split is not None and self.fails:
            raise self.fails
        every = [clip for part in self.parts.values() for clip in part]
        return every if split is None else self.parts[split]


def clip(name: str, **facts: Any) -> Clip:
    return Clip(name, f"/x/{name}.wav", 0.0, 10.0, f"g{name}", **facts)


def names(recordings: list[Recording]) -> list[tuple[str, str, str]]:
    return [(one.clip.id, one.clip.group, one.split) for one in recordings]


def test_recordings_of_one_corpus_and_of_several() -> None:
    one = Made("a", {"train": [clip("x")], "test": [clip("y")]})
    recordings, notices = gather([one])
    assert names(recordings) == [("x", "gx", "train"), ("y", "gy", "test")]
    assert notices == ["a: a note of a"]
    other = Made("a", {"": [clip("x")]})
    recordings, notices = gather([one, other])
    assert names(recordings) == [
        ("a1:x", "a1:gx", "train"), ("a1:y", "a1:gy", "test"), ("a2:x", "a2:gx", ""),
    ]  # fmt: skip
    assert notices == ["a: a note of a"] * 2
    with pytest.raises(CorpusError) as caught:
        gather([Made("a", {"train": []})])
    assert str(caught.value) == "there is no recording: name another --corpus"


def test_a_corpus_whose_splits_can_t_be_made_is_train() -> None:
    parts = {"train": [clip("x")], "dev": [clip("y")]}
    recordings, notices = gather([Made("a", parts, CorpusError("too few"))])
    assert names(recordings) == [("x", "gx", "train"), ("y", "gy", "train")]
    told = "a: all of it is train, because no splits can be made: too few"
    assert notices == [told, "a: a note of a"]
    with pytest.raises(LeakageError):
        gather([Made("a", parts, LeakageError("shared"))])
    bare = Made("a", {"": [clip("x")]}, CorpusError("too few"))
    assert names(gather([bare], "all")[0]) == [("x", "gx", "")]  # splits aren't asked for
    assert names(gather([bare], "train")[0]) == [("x", "gx", "train")]
    given = Made("a", parts)
    assert names(gather([given], "all")[0]) == [("x", "gx", "train"), ("y", "gy", "dev")]


HEARD = [
    Speech(((0.0, 2.0), (4.0, 9.0)), 6.0, 3, 0.5),
    Speech((), 0.0, 1, 0.25),
    Speech(why="/x/c.wav: broken"),
    Speech(((1.0, 3.0),), 1.5),
]


def test_what_was_found_is_added_up() -> None:
    splits = ("train", "train", "dev", "")
    recordings = [Recording(clip(n), s) for n, s in zip("abcd", splits, strict=True)]
    made = prepare._summary(recordings, HEARD, ["/x/z.wav: gone"], ["a note"])
    expected = Prepared(
        3, 30 / 3600, 7.5 / 3600, 9 / 3600, {"train": (2, 7 / 3600), "": (1, 2 / 3600)}, 4,
        0.75 / 3600, ["b"], ["/x/z.wav: gone"], ["a note"],
    )  # fmt: skip
    for name in ("hours", "speech", "kept", "burst_hours"):
        assert getattr(made, name) == pytest.approx(getattr(expected, name))
        setattr(made, name, getattr(expected, name))
    assert made == expected
    columns = prepare._rows(recordings, HEARD)
    assert columns == {
        "id": ["a_0.000-2.000", "a_4.000-9.000", "d_1.000-3.000"],
        "path": ["/x/a.wav", "/x/a.wav", "/x/d.wav"],
        "start": [0.0, 4.0, 1.0], "end": [2.0, 9.0, 3.0], "duration": [2.0, 5.0, 2.0],
        "split": ["train", "train", ""], "group": ["ga", "ga", "gd"], "recording": ["a", "a", "d"],
    }  # fmt: skip


def test_what_is_said_of_it() -> None:
    made = Prepared(
        1200, 10.0, 4.0, 5.0, {"train": (1234, 3.5), "": (1, 1.5)}, 1500, 0.05,
        list("abcdef"), ["x.wav: broken", "y.wav: gone"], ["a note"],
    )  # fmt: skip
    assert describe(made).splitlines() == [
        "1200 recordings, 10.00 h; speech 4.00 h; in segments 5.00 h (50.0% of the audio is kept)",
        "  train: 1,234 segments, 3.50 h",
        "  in no split: 1 segments, 1.50 h",
        "1,500 bursts of 0.25 s or less were not taken for speech (3.00 min in all)",
        "6 without speech: a, b, c, d, e, ...",
        "2 unreadable, left out:",
        "  x.wav: broken",
        "  y.wav: gone",
        "a note",
    ]
    assert describe(Prepared()) == (
        "0 recordings, 0.00 h; speech 0.00 h; in segments 0.00 h (0.0% of the audio is kept)"
    )
    five = describe(Prepared(silent=list("abcde")))
    assert five.endswith("\n5 without speech: a, b, c, d, e")


def test_bad_files_are_named_as_far_as_five() -> None:
    bad = {f"{i}.wav": f"{i}.wav: broken" for i in range(7)}
    refuse_bad({}, False)
    refuse_bad(bad, True)
    remedy = (
        "\nRepair or replace them (`bab data check` lists all), or leave them out with --skip-bad"
    )
    for count, head in (
        (1, "1 unreadable file"),
        (5, "5 unreadable files"),
        (7, "7 unreadable files"),
    ):
        with pytest.raises(AudioError) as caught:
            refuse_bad(dict(list(bad.items())[:count]), False)
        shown = "".join(f"\n  {i}.wav: broken" for i in range(min(count, 5)))
        more = "\n  and 2 more" if count == 7 else ""
        assert str(caught.value) == f"{head}:{shown}{more}{remedy}"


def test_the_segments_of_one_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds of the file, never beyond the clip's end."""
    one = replace(clip("a"), start=3.0, end=8.00003)
    rate = vad.RATE
    monkeypatch.setattr(vad, "detect", lambda *asked: ([(rate, 2 * rate)], 2, rate // 2))
    made = prepare.find(one, "energy")
    assert made == Speech(((3.5, 5.5),), 1.0, 2, 0.5)
    monkeypatch.setattr(vad, "detect", lambda *asked: ([(4 * rate, 5 * rate)], 0, 0))
    assert prepare.find(one, "energy").segments == ((6.0, 8.0),)
    short = replace(one, end=4.00004)  # 1.0004 s are 16001 samples, a little more than the clip
    monkeypatch.setattr(vad, "detect", lambda *asked: ([(0, 9)], 0, 0))
    assert prepare.find(short, "energy").segments == ((3.0, 4.00004),)

    def broken(*asked: Any) -> Any:
        raise AudioError("a.wav: broken")

    monkeypatch.setattr(vad, "detect", broken)
    assert prepare.find(one, "energy") == Speech(why="a.wav: broken")


def lay(tmp_path: Path, seconds: tuple[int, ...] = (4, 6, 5)) -> Made:
    clips = []
    for i, length in enumerate(seconds):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(8000 * length), 8000)
        clips.append(Clip(f"r{i}", str(tmp_path / f"{i}.wav"), 0.0, float(length), f"g{i}"))
    return Made("made", {"train": clips})


def heard(one: Clip, name: str) -> Speech:
    return Speech(((one.start, one.end),), one.duration)


def test_the_longest_come_first_and_what_is_told_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, out = lay(tmp_path), tmp_path / "s.parquet"
    asked: list[str] = []
    monkeypatch.setattr(prepare, "find", lambda c, n: asked.append(c.id) or heard(c, n))
    told: list[tuple[str, float, float, str]] = []
    done = prepare.prepare([corpus], out, "energy", 1, False, lambda *now: told.append(now))
    assert asked == ["r1", "r2", "r0"] and done.recordings == 3
    assert [one for one in told if one[0] == "finding speech"] == [
        ("finding speech", at, 15.0, "s") for at in (6.0, 11.0, 15.0)
    ]
    assert told[0] == ("checking files", 3, 3, "files")
    assert out.is_file() and not prepare.parts_of(out).exists()
    assert prepare.parts_of(out) == tmp_path / "s.parquet.parts"
    asked.clear()
    again = prepare.prepare([corpus], out, "energy", 1, False, lambda *now: None)
    assert describe(again) == describe(done) and asked == []


def test_shards_find_their_share_and_write_no_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, out = lay(tmp_path), tmp_path / "s.parquet"
    asked: list[str] = []
    monkeypatch.setattr(prepare, "find", lambda c, n: asked.append(c.id) or heard(c, n))

    def go(shard: Shard | None = None, use: Any = "train") -> Prepared:
        return prepare.prepare([corpus], out, "energy", 1, False, lambda *n: None, use, shard)

    one = go(Shard(1, 2))
    assert asked == ["r1"] and one.recordings == 1 and one.notices == [] and not out.exists()
    parts = sorted(p for p in prepare.parts_of(out).rglob("*") if p.is_file())
    assert len(parts) == 1 and parts[0].parent.name == parts[0].name[:2]
    for text in (
        "{", "[]", "{}", '{"segments": 3}', '{"segments": [["a", 1]]}', '{"segments": [[1]]}',
        '{"segments": [], "other": 1}',
    ):  # fmt: skip
        parts[0].write_text(text)  # damaged, or of another version: found again
        asked.clear()
        assert go(Shard(1, 2)).recordings == 1 and asked == ["r1"]
    parts[0].write_text("{")
    asked.clear()
    assert go().recordings == 3 and asked == ["r1", "r2", "r0"]
    with pytest.raises(BabError) as caught:
        prepare.prepare([corpus], out, "silero", 1, False, lambda *n: None)
    assert str(caught.value) == (
        f"{out} is there, made of other recordings or settings: name another --out, or delete it"
    )
    out.unlink()
    sealed.write_parquet(out, pyarrow.table({"a": [1]}), {b"bab.prepare": b"no JSON"})
    with pytest.raises(BabError, match="made of other recordings or settings"):
        go()


def test_no_speech_at_all_and_names_of_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = lay(tmp_path)
    monkeypatch.setattr(prepare, "find", lambda c, n: Speech())
    with pytest.raises(BabError) as caught:
        prepare.prepare([corpus], tmp_path / "s.parquet", "energy", 1, False, lambda *n: None)
    assert str(caught.value) == (
        f"no speech in 3 recordings ({15 / 3600:.2f} h) by --vad energy; listen to one, or try the "
        "other --vad"
    )
    for name in ("s.csv", "s"):
        with pytest.raises(BabError) as caught:
            prepare.prepare([corpus], tmp_path / name, "energy", 1, False, lambda *n: None)
        told = f"--out {tmp_path / name}: the manifest is a Parquet table, name it .parquet"
        assert str(caught.value) == told
    monkeypatch.setattr(prepare, "find", heard)
    prepare.prepare([corpus], tmp_path / "S.PARQUET", "energy", 1, False, lambda *n: None)


def test_a_process_that_dies_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        def __enter__(self) -> Any:
            raise BrokenProcessPool("killed")

        def __exit__(self, *error: Any) -> None:
            return None

    monkeypatch.setattr(prepare, "workers", lambda *asked: Pool())
    clips = [(0, clip("a")), (1, clip("b"))]
    with pytest.raises(BabError) as caught:
        list(prepare._each(clips, "energy", 2))
    assert str(caught.value) == (
        "a process that looked for speech died (was it out of memory?). Use fewer --jobs; the same "
        "command goes on where it stopped"
    )
    monkeypatch.setattr(prepare, "find", heard)
    assert [i for i, _ in prepare._each(clips[:1], "energy", 2)] == [0]  # one needs no process
    assert [i for i, _ in prepare._each(clips, "energy", 1)] == [0, 1]


# ------------------------------------------------------------------------------- speech


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0, 0, 0], []),
        ([0, 5, 0, 0, 0, 0, 0], [(1, 2)]),  # ends where four steps, 128 ms, were quiet
        ([0, 5, 0, 0, 0, 0], [(1, 6)]),  # not long enough quiet: up to the end
        ([5, 0, 0, 0, 5, 0], [(0, 6)]),
        ([5, 0, 0, 5, 0, 0, 0, 0, 0], [(0, 4)]),
        ([4.9, 4.9, 4.9], []),
        ([5, 3, 3, 3, 3, 3, 3, 0, 0, 0, 0], [(0, 11)]),  # between the two it goes on
        ([5, 3, 2.9, 3, 2.9, 3, 2.9], [(0, 2)]),  # quiet since the first below, none reaching 5
        ([5, 0, 0, 0, 0, 0, 5, 5, 0, 0, 0, 0, 0, 5], [(0, 1), (6, 8), (13, 14)]),
    ],
)
def test_speech_begins_and_ends_by_two_thresholds(
    scores: list[float], expected: list[tuple[int, int]]
) -> None:
    made = vad.stretches_of(np.array(scores, np.float32), 5.0, 3.0)
    assert made == [(a * vad.STEP, b * vad.STEP) for a, b in expected]


def test_short_bursts_are_no_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(samples: int, *spans: tuple[int, int]) -> tuple[list[tuple[int, int]], int, int]:
        steps = np.zeros(200, np.float32)
        for a, b in spans:
            steps[a:b] = 10.0
        monkeypatch.setattr(vad, "_energy", lambda *asked: (steps, samples))
        return vad.detect("x", 0.0, 1.0, "energy")

    pad, step = 480, vad.STEP
    assert found(200 * step, (20, 28)) == ([(20 * step - pad, 28 * step + pad)], 0, 0)
    assert found(200 * step, (20, 27)) == ([], 1, 7 * step)  # 224 ms
    assert found(200 * step, (20, 27), (100, 102)) == ([], 2, 9 * step)
    for level, going, ends in ((8.99, 8.99, None), (9.0, 6.0, 40), (9.0, 5.99, 28)):
        steps = np.zeros(60, np.float32)
        steps[20:28], steps[28:40] = level, going
        monkeypatch.setattr(vad, "_energy", lambda *asked, steps=steps: (steps, 60 * step))
        spans = vad.detect("x", 0.0, 1.0, "energy")[0]
        assert spans == ([] if ends is None else [(20 * step - pad, ends * step + pad)])
    # Cut at the end of what was listened to: 4000 samples are 250 ms, and no speech.
    assert found(190 * step + 4000, (190, 200)) == ([], 1, 4000)
    assert found(190 * step + 4001, (190, 200))[0] == [(190 * step - pad, 190 * step + 4001)]


def test_what_is_listened_to_ends_with_the_file(tmp_path: Path) -> None:
    """Loud and faint seconds in turn, at 8 kHz: 3 s from 1.5 s on are asked of 4 s."""
    draw = np.random.default_rng(0)
    wave = draw.normal(size=32000) * np.repeat([0.1, 0.001, 0.1, 0.001], 8000)
    soundfile.write(tmp_path / "a.wav", wave, 8000, "FLOAT")
    for end in (4.0, 4.5):
        spans, bursts, lost = vad.detect(str(tmp_path / "a.wav"), 1.5, end, "energy")
        assert (bursts, lost) == (0, 0) and len(spans) == 1
        assert spans[0] == pytest.approx((8000 - 480, 24000 + 480), abs=600)
    assert vad._extent(str(tmp_path / "a.wav"), 1.5, 4.5) == (24000, 40000)
    assert vad._extent(str(tmp_path / "a.wav"), 1.5, 2.25) == (24000, 12000)
    assert vad._extent(str(tmp_path / "a.wav"), 5.0, 6.0) == (80000, 0)
    assert vad.detect(str(tmp_path / "a.wav"), 5.0, 6.0, "energy") == ([], 0, 0)
    assert vad.detect(str(tmp_path / "a.wav"), 5.0, 6.0, "silero") == ([], 0, 0)
    odd = tmp_path / "odd.wav"
    soundfile.write(odd, wave[:7999], 8000, "FLOAT")
    assert vad._extent(str(odd), 0.0, 9.0) == (0, 15998)
    blocks = list(vad._blocks(str(odd), 0.0, 9.0))
    assert [block.shape for block in blocks] == [(32, 512)]  # 31.2 steps
    assert not blocks[0].ravel()[15998:].any() and blocks[0].ravel()[15990:15998].any()


def test_levels_above_the_rooms_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten steps nine are the room: scores are decibels above it, 0 where it is too quiet."""
    monkeypatch.setattr(vad, "_PIECE", 10 * vad.STEP)
    rate, step = vad.RATE, vad.STEP
    sign = np.where(np.arange(step) % 2, 1.0, -1.0)  # of power 1
    levels = [0.01] * 9 + [0.1] + [0.1] * 10 + [0.0] * 10 + [0.0005] * 10 + [0.02] * 10
    wave = np.concatenate([0.3 + level * sign for level in levels])  # an offset is no sound
    soundfile.write(tmp_path / "a.wav", wave, rate, "DOUBLE")
    scores, samples = vad._energy(str(tmp_path / "a.wav"), 0.0, 9.0)
    assert samples == 50 * step and scores.shape == (50,) and scores.dtype == np.float32
    np.testing.assert_allclose(scores[:9], 0, atol=0.1)
    np.testing.assert_allclose(scores[9], 20, atol=0.1)
    # The second minute hears the first, whose room is 20 dB below; silence says nothing of rooms.
    np.testing.assert_allclose(scores[10:20], 20, atol=0.1)
    assert not scores[20:40].any()  # under -60 dB
    floor = 20 * np.log10(0.0005)
    np.testing.assert_allclose(scores[40:], 20 * np.log10(0.02) - floor, atol=0.1)


def test_each_process_that_looks_for_speech_takes_a_core(
    replaced: Callable[..., list[Any]],
) -> None:
    calls = replaced("torch.set_num_threads", None)
    prepare._alone()
    assert calls == [((1,), {})]
