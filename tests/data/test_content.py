"""Content ids: what is in a file, remembered safely."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from pathlib import Path

import pytest
from damaged import flipped

from bab.audio import seen
from bab.core.errors import AudioError
from bab.core.types import Clip
from bab.data import content as module
from bab.data.content import cache_root, content_id, contents, same_audio

OLD = 1_600_000_000_000_000_000  # ns: long settled


def put(path: Path, data: bytes, changed: int = OLD) -> Path:
    path.write_bytes(data)
    os.utime(path, ns=(changed, changed))
    return path


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def entries(memo: Path) -> list[Path]:
    return [p for p in memo.rglob("*") if p.is_file()]


def test_it_is_blake2b_of_the_bytes_and_not_of_the_name(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    one, other = put(tmp_path / "a.wav", data), put(tmp_path / "b.flac", data)
    memo = tmp_path / "memo"
    assert content_id(one, memo) == content_id(other, memo) == digest(data)
    assert content_id(str(one), memo) == digest(data)


def test_it_is_remembered_until_size_or_time_changes(tmp_path: Path) -> None:
    memo = tmp_path / "memo"
    path = put(tmp_path / "a.wav", b"first")
    first = content_id(path, memo)
    put(path, b"other")  # same size, same time: the memo can't know, which shows that it is used
    assert content_id(path, memo) == first
    put(path, b"other", OLD + 1)
    assert content_id(path, memo) == digest(b"other")
    put(path, b"longer", OLD + 1)
    assert content_id(path, memo) == digest(b"longer")


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"first")
    assert content_id(path, tmp_path / "memo") == digest(b"first")
    assert entries(tmp_path / "memo") == []


def test_a_relative_path_has_the_same_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a.wav", b"x")
    monkeypatch.chdir(tmp_path)
    content_id("a.wav", tmp_path / "memo")
    content_id(tmp_path / "a.wav", tmp_path / "memo")
    assert len(entries(tmp_path / "memo")) == 1


@pytest.mark.parametrize("damage", [b"", b"garbage", b"5 1600", b"\xff\xfe\x00", b"5 1 zz\n"])
def test_a_damaged_memo_is_made_again(tmp_path: Path, damage: bytes) -> None:
    memo = tmp_path / "memo"
    path = put(tmp_path / "a.wav", b"first")
    content_id(path, memo)
    (entry,) = entries(memo)
    whole = entry.read_bytes()
    entry.write_bytes(damage)
    assert content_id(path, memo) == digest(b"first")
    assert entry.read_bytes() == whole


def test_no_bit_of_a_memo_gives_another_id(tmp_path: Path) -> None:
    memo = tmp_path / "memo"
    path = put(tmp_path / "a.wav", b"first")
    expected = content_id(path, memo)
    (entry,) = entries(memo)
    good = entry.read_bytes()
    for bit in range(8 * len(good)):
        entry.write_bytes(flipped(good, bit))
        assert content_id(path, memo) == expected
    put(path, b"other")  # same size, same time
    entry.write_bytes(good.rsplit(b" ", 1)[0] + b"\n")  # an earlier version's: believed
    assert content_id(path, memo) == expected


def test_a_memo_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    path = put(tmp_path / "a.wav", b"first")
    (tmp_path / "memo").write_text("a file where a folder should be")
    assert content_id(path, tmp_path / "memo") == digest(b"first")


def _ids(folder: Path) -> list[str]:
    return [content_id(p, folder / "memo") for p in sorted(folder.glob("*.wav"))]


def test_processes_share_a_memo(tmp_path: Path) -> None:
    data = [bytes([i]) * 1000 for i in range(40)]
    for i, content in enumerate(data):
        put(tmp_path / f"{i:02}.wav", content)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        answers = pool.map(_ids, [tmp_path] * 8, chunksize=1)
    assert answers == [[digest(content) for content in data]] * 8
    assert len(entries(tmp_path / "memo")) == 40  # and no temporary file is left


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav"):
        content_id(tmp_path / "gone.wav", tmp_path / "memo")


def test_the_cache_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BAB_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "bab"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "bab"
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    content_id(put(tmp_path / "a.wav", b"x"))
    (entry,) = entries(tmp_path / "own" / "content")
    assert len(entry.parent.name) == 2 and len(entry.name) == 30


def clips_of(*paths: Path) -> list[Clip]:
    return [Clip(f"{i}", str(path), 0.0, 1.0, "g") for i, path in enumerate(paths)]


def test_what_clips_hold_is_asked_of_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    asked: list[str] = []
    told: list[tuple[float, float]] = []

    def hashed(path: str) -> str:
        asked.append(Path(path).name)
        return digest(Path(path).read_bytes())

    monkeypatch.setattr(module, "content_id", hashed)
    one, two = put(tmp_path / "a.wav", b"one"), put(tmp_path / "b.wav", b"two")
    clips = clips_of(one, two, one)
    wanted = {str(one): digest(b"one"), str(two): digest(b"two")}
    assert contents(clips, lambda *now: told.append(now)) == wanted
    assert sorted(asked) == ["a.wav", "b.wav"] and told[-1] == (2, 2)
    assert contents(clips, lambda *now: None) == wanted and len(asked) == 2  # as remembered
    seen._folders.clear()  # as a new process begins
    assert contents(clips, lambda *now: None) == wanted and len(asked) == 2
    put(one, b"uno", OLD + 1)
    assert contents(clips, lambda *now: None)[str(one)] == digest(b"uno")
    assert asked[2:] == ["a.wav"]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    path, times = put(tmp_path / "a.wav", b"one"), iter([OLD + 1, OLD + 1])

    def hashed(name: str) -> str:
        put(path, b"two", next(times))
        return digest(b"one")

    monkeypatch.setattr(module, "content_id", hashed)
    assert contents(clips_of(path), lambda *now: None)[str(path)] == digest(b"one")
    contents(clips_of(path), lambda *now: None)  # asked again: `times` gives another
    assert next(times, None) is None


def test_the_same_audio_in_two_splits_is_told_once_for_each_file() -> None:
    a, b, c, d = (Path(f"{name}.wav") for name in "abcd")
    parts = {"train": clips_of(a, b), "dev": clips_of(c), "test": clips_of(d, a, d)}
    same = dict.fromkeys(("a.wav", "c.wav", "d.wav"), "x") | {"b.wav": "y"}
    told = [tuple(one) for one in same_audio(parts, same)]
    assert told == [("a.wav", "train", "c.wav", "dev"), ("a.wav", "train", "d.wav", "test")]
    assert str(next(same_audio(parts, same))) == (
        "a.wav (train) and c.wav (dev) hold the same audio"
    )
    inside = {"train": clips_of(a, c), "dev": clips_of(b)}  # of one split: no leak
    assert not list(same_audio(inside, same))
    assert not list(same_audio(parts, {name: name for name in same}))
