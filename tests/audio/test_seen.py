"""What is known of a file is believed while it is the same file, and no longer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from audio_files import cut, make

from bab.audio import decoding, reading, seen
from bab.core.errors import AudioError
from bab.core.types import Clip
from bab.data.check import bad_files
from bab.data.content import contents

OLD = 1_600_000_000_000_000_000  # ns: long settled


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    forget()
    return tmp_path / "cache"


def forget() -> None:
    """As a new process begins."""
    seen._folders.clear()
    decoding._probe.cache_clear()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened by the decoder."""
    paths: list[str] = []
    real = decoding._open

    def watched(path: str) -> object:
        paths.append(path)
        return real(path)

    monkeypatch.setattr(decoding, "_open", watched)
    return paths


def clips(folder: Path, count: int = 3) -> list[Clip]:
    """Files that changed long ago."""
    paths = [folder / f"{i}" / "a.wav" for i in range(count)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        make(path.parent, "wav-16", 8000 + i, 1, 0.5).rename(path)
        os.utime(path, ns=(OLD, OLD))
    return [Clip(str(i), str(path), 0, 0.5, "g") for i, path in enumerate(paths)]


def look(listed: list[Clip]) -> tuple[dict[str, str], dict[str, str], list[float]]:
    """As a run begins, in a new process: what is bad, what files hold, how long they are."""
    forget()
    bad = bad_files(listed)
    good = [c for c in listed if c.path not in bad]
    return bad, contents(good, lambda *_: None), [reading.duration(c.path) for c in good]


def test_what_was_looked_at_is_not_opened_again(tmp_path: Path, opened: list[str]) -> None:
    listed = clips(tmp_path / "c")
    first = look(listed)
    assert set(opened) == {c.path for c in listed}
    opened.clear()
    assert look(listed) == first and opened == []
    # The start and end of a span are read as ever.
    assert len(reading.read(listed[0].path, 0.1, 0.2)) == 800


@pytest.mark.parametrize("change", ["bytes", "time", "size", "just now"])
def test_a_file_that_changed_is_looked_at_again(
    tmp_path: Path, opened: list[str], change: str
) -> None:
    listed = clips(tmp_path / "c")
    first = look(listed)
    path = Path(listed[1].path)
    if change in ("size", "just now"):
        cut(path, 0.5)
    else:
        data = bytearray(path.read_bytes())
        data[100:200] = bytes(100)
        path.write_bytes(data)
    moment = {"bytes": OLD + 1, "time": OLD + 1, "size": OLD}.get(change)
    if moment is not None:
        os.utime(path, ns=(moment, moment))
    opened.clear()
    bad, held, _ = look(listed)
    assert set(opened) == {str(path)}
    if change in ("bytes", "time"):
        assert bad == {} and held[str(path)] != first[1][str(path)]
    else:
        assert list(bad) == [str(path)] and "truncated" in bad[str(path)]
        opened.clear()
        assert look(listed)[0] == bad and opened  # what is bad is never taken as known


def test_a_file_that_changed_within_the_last_seconds_is_not_known(
    tmp_path: Path, opened: list[str], cache: Path
) -> None:
    listed = clips(tmp_path / "c", 1)
    os.utime(listed[0].path)
    look(listed)
    assert list(cache.glob("files/*/*")) == []
    opened.clear()
    look(listed)
    assert opened


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    listed = clips(tmp_path / "c")
    look(listed)
    Path(listed[0].path).unlink()
    bad, _, _ = look(listed)
    assert list(bad) == [listed[0].path]
    with pytest.raises(AudioError, match=r"can't be read"):
        contents(listed, lambda *_: None)


@pytest.mark.parametrize(
    "damage",
    [*("flipped", "cut", "empty", "folder", "gone", "other version"), b"[]", b"{}", b"no JSON"],
)
def test_damage_of_the_cache_costs_time_alone(
    tmp_path: Path, cache: Path, damage: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = clips(tmp_path / "c")
    first = look(listed)
    entries = list(cache.glob("files/*/*.json"))
    assert len(entries) == 3
    if damage == "gone":
        shutil.rmtree(cache / "files")
    for entry in entries if damage != "gone" else ():
        data = bytearray(entry.read_bytes())
        data[len(data) // 2] ^= 4
        if damage == "flipped":
            entry.write_bytes(data)
        elif damage == "cut":
            entry.write_bytes(data[:20])
        elif damage == "empty":
            entry.write_bytes(b"")
        elif isinstance(damage, bytes):  # whole, and of another layout
            entry.write_bytes(seen._digest(damage).encode() + b"\n" + damage)
        elif damage == "folder":
            entry.unlink()
            entry.mkdir()
    if damage == "other version":
        monkeypatch.setattr(seen, "_VERSION", 999)
    looked: list[str] = []
    real = decoding._open
    monkeypatch.setattr(decoding, "_open", lambda path: looked.append(path) or real(path))
    assert look(listed) == first and set(looked) == {c.path for c in listed}


def test_two_processes_keep_what_both_have_seen(tmp_path: Path, opened: list[str]) -> None:
    """Of one folder, one after the other: what the first one wrote stays."""
    folder = tmp_path / "c"
    listed = clips(folder, 2)
    other = folder / "0" / "b.wav"
    shutil.copy(listed[0].path, other)
    os.utime(other, ns=(OLD, OLD))
    both = [listed[0], Clip("b", str(other), 0, 0.5, "g")]
    for clip in both:
        look([clip])
    opened.clear()
    look(both)
    assert opened == []
