"""The cache of features by hand: what is kept and thrown out, how it is read, what is said."""

from __future__ import annotations

import hashlib
import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors import SafetensorError
from train_worker import Small

from bab.audio import decoding
from bab.core.errors import DivergedError
from bab.core.types import Clip, Encoded, Item, Waves, Window
from bab.data.content import content_id
from bab.features import blocks, store
from bab.features import source as module
from bab.features.source import FeatureSource, Place
from bab.features.store import Store

ROWS = torch.arange(24.0).view(2, 4, 3)  # [L, T, D], 96 bytes


def size(path: Path) -> int:
    return path.stat().st_size


def used(root: Path) -> int:
    return int((root / ".used").read_text())


# ------------------------------------------------------------------------------- the store


def test_a_block_lies_by_the_beginning_of_its_key(tmp_path: Path) -> None:
    kept = Store(tmp_path, 10**6)
    assert kept.path("abcd") == tmp_path / "ab" / "abcd.safetensors"
    assert not kept.claim("abcd") and not kept.own
    assert kept.put("abcd", [ROWS]) and kept.own == {kept.path("abcd")}
    assert used(tmp_path) == size(kept.path("abcd"))
    os.utime(kept.path("abcd"), (1, 1))
    other = Store(tmp_path, 10**6)
    assert other.claim("abcd") and other.own == {kept.path("abcd")}
    assert time.time() - kept.path("abcd").stat().st_mtime < 60
    read = other.read("abcd", 0, (1, 3))
    assert read is not None and torch.equal(read, ROWS[:, 1:3])
    assert other.read("none", 0, None) is None and not other.damaged
    assert kept.put("abcd", [ROWS, ROWS]) and used(tmp_path) == size(kept.path("abcd"))


def test_the_budget_holds_to_the_byte(tmp_path: Path) -> None:
    one = Store(tmp_path / "a", 96)
    assert one.room_for([96, 97, 1]) == [True, False, True] and one.room_for([]) == []
    assert one.put("aa", [ROWS]) and not Store(tmp_path / "b", 95).put("aa", [ROWS])
    held = size(one.path("aa"))
    room = Store(tmp_path / "a", held + 96)
    room.claim("aa")
    assert room.room_for([96, 97]) == [True, False]
    assert not room.put("bb", [ROWS]) and room._full  # nothing more is asked once it is full
    assert room.room_for([1, 1]) == [False, False]
    more = Store(tmp_path / "a", held + 96)
    more.claim("aa")
    assert more.put("bb", [ROWS]) and more.path("bb").exists() and more.path("aa").exists()


def test_what_was_used_least_recently_goes_first_and_no_more_than_is_due(tmp_path: Path) -> None:
    first = Store(tmp_path, 10**6)
    for number, key in enumerate(("cc", "aa", "dd", "bb")):
        first.put(key, [ROWS])
        os.utime(first.path(key), (100 + number, 100 + number))
    each = size(first.path("aa"))
    later = Store(tmp_path, 3 * each + 96)
    assert later.put("ee", [ROWS])
    assert sorted(p.stem for p in tmp_path.glob("??/*")) == ["aa", "bb", "dd", "ee"]
    assert used(tmp_path) == 4 * each
    held = Store(tmp_path, 2 * each + 96)
    held.claim("aa")
    assert held.put("ff", [ROWS])
    assert sorted(p.stem for p in tmp_path.glob("??/*")) == ["aa", "ee", "ff"]


def test_temporary_files_of_yesterday_go(tmp_path: Path) -> None:
    kept = Store(tmp_path, 10**6)
    kept.put("aa", [ROWS])
    now = time.time()
    for name, age in (("old", 86_500), ("young", 86_300)):
        (tmp_path / "aa" / name).write_bytes(b"x" * 1000)
        os.utime(tmp_path / "aa" / name, (now - age, now - age))
    (tmp_path / ".used").unlink()
    assert kept.put("bb", [ROWS])
    assert sorted(p.name for p in (tmp_path / "aa").iterdir()) == ["aa.safetensors", "young"]
    assert used(tmp_path) == size(kept.path("aa")) + size(kept.path("bb"))  # blocks alone count


def test_what_is_said_of_damage_and_of_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Store(tmp_path, 10**6)
    for key in ("aa", "bb", "cc"):
        kept.put(key, [ROWS])
        kept.path(key).write_bytes(b"junk")
    assert kept.repairs() == []
    assert kept.read("aa", 0, None) is None and not kept.path("aa").exists()
    end = f"of cached features in {tmp_path}: made anew (the disk or the memory may be failing)"
    assert kept.repairs() == [f"1 damaged block {end}"] and kept.repairs() == []
    assert kept.read("bb", 0, None) is None and kept.read("cc", 0, None) is None
    assert kept.repairs() == [f"2 damaged blocks {end}"] and kept.damaged == {"aa", "bb", "cc"}
    kept.put("dd", [ROWS])

    def fails(*given: Any) -> Any:
        raise OSError(24, "Too many open files")

    def refuses(*given: Any) -> Any:
        raise SafetensorError("I/O error: no space")  # as the library says it

    with monkeypatch.context() as patch:
        patch.setattr(blocks.Reader, "read", fails)
        assert kept.read("dd", 0, None) is None  # the block may be good
    assert kept.path("dd").exists() and kept.read("dd", 0, None) is not None
    monkeypatch.setattr(store.blocks, "write", fails)
    assert not kept.put("ee", [ROWS]) and kept.path("ee") not in kept.own
    assert kept.problem == (
        f"features can't be kept in {tmp_path} ([Errno 24] Too many open files): computed as needed"
    )
    assert not kept.put("dd", [ROWS])
    monkeypatch.setattr(store.blocks, "write", refuses)
    full = Store(tmp_path, 10**6)
    assert full.put("ff", [ROWS]) is False and "(I/O error: no space)" in full.problem
    (tmp_path / "file").touch()
    assert Store(tmp_path / "file" / "x", 10**6).room_for([5, 6]) == [
        True,
        True,
    ]  # `put` says what is wrong


def test_windows_of_other_blocks_stay_known(tmp_path: Path) -> None:
    reader = blocks.Reader()
    for key in ("a", "b"):
        blocks.write(tmp_path / key, key, [ROWS, ROWS + 1])
        for index in (0, 1):
            assert torch.equal(
                reader.read(tmp_path / key, key, index, None), (ROWS + index).transpose(0, 1)
            )
    reader.forget("a")
    assert reader.sound("a", 0, None) is None and reader.sound("b", 1, None) is not None
    rows = reader.sound("b", 1, (1, 3))
    assert rows is not None and len(rows) == 2 and rows.shape == (2, 2, 3)
    room = rows.empty()
    assert rows.read(room) and torch.equal(room, (ROWS + 1).transpose(0, 1)[1:3])
    (tmp_path / "b").unlink()
    assert not rows.read(room)  # it can't be read just now
    with pytest.raises(FileNotFoundError):
        rows.into(room)


# ------------------------------------------------------------------------------- the source


@pytest.fixture(autouse=True)
def slow_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 samples a second keep these tests quick; no recording has so few."""
    monkeypatch.setattr(decoding, "_SLOWEST", 1)


@pytest.fixture
def wav(tmp_path: Path) -> str:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 100 * 60)
    soundfile.write(tmp_path / "home.wav", noise.astype(np.float32), 100, subtype="FLOAT")
    return str(tmp_path / "home.wav")


class Noted(Small):
    """Notes the lengths of each pass, in samples."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.passes: list[list[int]] = []

    def forward(self, waves: Waves, mask: Any = None, layers: str = "all") -> Encoded:
        self.passes.append(waves.lengths.tolist())
        return super().forward(waves, mask, layers)


def source(folder: Path, budget: int = 10**9, **more: Any) -> tuple[FeatureSource, Noted]:
    encoder, layers = Noted(), more.pop("layers", "all")
    device = more.pop("device", torch.device("cpu"))
    kept = Store(folder / "cache", budget)
    return FeatureSource(encoder, layers, kept, folder / "memo", device, **more), encoder


def windows(path: str, *seconds: float) -> list[Window]:
    """One after the other, of so many seconds each."""
    ends = np.cumsum([0.0, *seconds]).tolist()
    return [Window(Clip("home", path, a, b, "g")) for a, b in pairwise(ends)]


def fill(given: FeatureSource, stop: Any = lambda: False) -> list[tuple[float, float]]:
    told: list[tuple[float, float]] = []
    given.fill(0, 1, lambda done, total: told.append((done, total)), stop)
    return told


def test_a_block_holds_32_windows_or_so_many_bytes(
    wav: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = source(tmp_path)
    made.plan(windows(wav, *[0.5] * 70))
    assert [len(part) for _, part in made.blocks] == [32, 32, 6]
    monkeypatch.setattr(module, "_BLOCK_BYTES", 3 * 5 * 2 * 8 * 4)  # three windows of five frames
    made, _ = source(tmp_path)
    made.plan(windows(wav, *[0.5] * 7))
    assert [len(part) for _, part in made.blocks] == [3, 3, 1]
    made.plan(windows(wav, *[0.5] * 8))  # those that are known are not planned again
    assert [len(part) for _, part in made.blocks] == [3, 3, 1, 1]
    key = (wav, 3.5, 4.0, None)
    assert made.places[key] == Place(3, 0) and made.places[(wav, 1.0, 1.5, None)] == Place(0, 2)
    half, _ = source(tmp_path, dtype=torch.float16)
    half.plan(windows(wav, *[0.5] * 7))
    assert [len(part) for _, part in half.blocks] == [6, 1]
    one, _ = source(tmp_path, layers=1)
    one.plan(windows(wav, *[0.5] * 7))
    assert [len(part) for _, part in one.blocks] == [6, 1]
    pooled, _ = source(tmp_path, pool=True)
    pooled.plan(windows(wav, *[0.5] * 16))
    assert [len(part) for _, part in pooled.blocks] == [15, 1]
    long, _ = source(tmp_path)
    long.plan(windows(wav, 20.0, 20.0))  # one that is larger stands alone
    assert [len(part) for _, part in long.blocks] == [1, 1]


def test_an_address_that_was_given_stays(wav: str, tmp_path: Path) -> None:
    """What earlier versions have kept is found: nothing is added for what is as it always was."""
    (window,) = windows(wav, 1.5)
    known = content_id(wav)

    def address(layers: Any = "all", dtype: str = "float32", pool: bool = False, *more: str) -> str:
        facts = (2, "small", known, 100, [(0, 150, None)], pool, layers, f"torch.{dtype}", "cpu")
        text = repr((*facts, torch.__version__, *more))
        return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()

    for asked, expected in (
        ({}, address()), ({"layers": 1}, address(1)), ({"pool": True}, address(pool=True)),
        ({"dtype": torch.float16}, address(dtype="float16")),
        ({"precision": "bf16"}, address("all", "float32", False, "bf16")),
        ({"packed": True}, address("all", "float32", False, "packed")),
        ({"precision": "bf16", "packed": True}, address("all", "float32", False, "bf16", "packed")),
    ):  # fmt: skip
        given, _ = source(tmp_path, **asked)
        given.plan([window])
        assert [key for key, _ in given.blocks] == [expected], asked


def test_passes_of_like_length_in_the_order_asked_for(wav: str, tmp_path: Path) -> None:
    asked = windows(wav, 0.5, 2.0, 0.6, 1.0, 0.7)
    alone, one = source(tmp_path / "a")
    alone.plan(asked)
    fill(alone)
    assert one.passes == [[50], [200], [60], [100], [70]]
    together, many = source(tmp_path / "b", batch=2)
    together.plan(asked)
    told = fill(together)
    assert many.passes == [[50, 60], [70, 100], [200]] and told[-1] == (4.8, 4.8)
    for w in asked:
        item = [Item(w.clip, (w,))]
        torch.testing.assert_close(together.inputs(item).states, alone.inputs(item).states)
    before = len(many.passes)
    assert fill(together) == [] and len(many.passes) == before  # nothing is looked at again


def test_on_a_cpu_it_looks_whether_to_stop_every_few_seconds_of_audio(
    wav: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(module, "_CPU_SECONDS", 3.0)
    given, _ = source(tmp_path)
    given.plan(windows(wav, *[1.0] * 7))
    asked = iter([False, False, True])
    told = fill(given, lambda: next(asked))
    assert told == [(3.0, 7.0), (6.0, 7.0)]
    assert len(list((tmp_path / "cache").glob("??/*"))) == 6
    again, encoder = source(tmp_path)
    again.plan(windows(wav, *[1.0] * 7))
    assert fill(again)[-1] == (7.0, 7.0) and encoder.passes == [[100]]
    together, _ = source(tmp_path / "gpu", batch=4)
    monkeypatch.setattr(module, "PASS_SECONDS", 0.5)
    together.plan(windows(wav, *[1.0] * 7))
    assert [done for done, _ in fill(together)] == [2.0, 4.0, 6.0, 7.0]


def test_a_cpu_holds_no_more_states_than_there_is_memory_for(
    wav: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(module, "_HELD_BYTES", 2 * 10 * 2 * 8 * 4)  # the states of two windows
    given, _ = source(tmp_path)
    given.plan(windows(wav, *[1.0] * 5))
    assert [done for done, _ in fill(given)] == [2.0, 4.0, 5.0]


def test_what_is_there_counts_as_done_with_what_is_made_after_it(
    wav: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(module, "_CPU_SECONDS", 1.0)
    before, _ = source(tmp_path)
    for window in (w := windows(wav, *[1.0] * 7))[1], w[2], w[6]:
        before.plan([window])
    fill(before)
    given, encoder = source(tmp_path)
    given.plan(w)
    assert fill(given) == [(n, 7.0) for n in (1.0, 4.0, 5.0, 6.0, 7.0)]
    assert len(encoder.passes) == 4
    again, encoder = source(tmp_path)
    again.plan(w)
    assert fill(again) == [(7.0, 7.0)] and encoder.passes == []


def test_what_a_device_keeps_is_read_once(wav: str, tmp_path: Path) -> None:
    asked = windows(wav, 1.0, 1.0, 1.0)
    plain, _ = source(tmp_path)
    plain.plan(asked)
    fill(plain)
    size = 10 * 2 * 8 * 4
    given, encoder = source(tmp_path, resident=2 * size)
    given.plan(asked)
    reads: list[int] = []
    read = given.store.read
    given.store.read = lambda key, index, crop: reads.append(index) or read(key, index, crop)  # type: ignore
    for _ in range(2):
        for w in asked:
            states = given._states(w, {})
            assert torch.equal(states, plain._states(w, {}))
            assert torch.equal(given._states(w, {}, (2, 5)), states[:, 2:5])
    assert reads == [0, 1, 2, 2, 2, 2] and encoder.passes == []  # there is room for two
    other = windows(wav, 2.0)[0]
    assert given._states(other, {}).shape == (2, 20, 8) and encoder.passes == [[200]]
    pooled, _ = source(tmp_path, resident=10**6, pool=True)
    assert pooled._resident_left == 0  # means are small, and kept as such


def test_a_gpu_gets_frames_padded_with_zeros(wav: str, tmp_path: Path) -> None:
    given, _ = source(tmp_path, dtype=torch.float16)
    asked = windows(wav, 1.0, 0.5)
    given.plan(asked)
    fill(given)
    items = [Item(w.clip, (w,)) for w in asked]
    items[0] = Item(items[0].clip, items[0].windows, (1, 9))
    cpu = given.inputs(items)
    given.device = torch.device("cuda")
    gpu = given.inputs(items)
    assert gpu.states.dtype == torch.float16 and cpu.states.dtype == torch.float32
    assert torch.equal(gpu.states.float(), cpu.states) and gpu.lengths.tolist() == [8, 5]
    assert gpu.states.shape == (2, 2, 8, 8) and not gpu.states[1, :, 5:].any()


def test_means_are_kept_in_memory_as_long_as_there_is_room(
    wav: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEMORY_BYTES", 2 * 2 * 8 * 4)  # two means
    given, _ = source(tmp_path, pool=True)
    asked = windows(wav, 1.0, 1.0, 1.0)
    given.plan(asked)
    fill(given)
    reads: list[Any] = []
    joined = given._joined
    given._joined = lambda item, made: reads.append(item) or joined(item, made)  # type: ignore
    items = [Item(w.clip, (w,)) for w in asked]
    first, second = given.inputs(items), given.inputs(items)
    assert torch.equal(first.states, second.states) and first.lengths.tolist() == [1, 1, 1]
    assert reads == [*items, items[2]]
    both = given.inputs([Item(asked[0].clip, (asked[0], asked[1]))])
    torch.testing.assert_close(both.states[0], first.states[:2].mean(0))


def test_of_several_means_only_those_that_memory_lacks_are_computed(
    wav: str, tmp_path: Path
) -> None:
    """All of them in one pass."""
    given, encoder = source(tmp_path, budget=0, pool=True, batch=4)
    items = [Item(w.clip, (w,)) for w in windows(wav, 1.0, 0.5, 2.0, 1.5)]
    second = given.inputs(items[1:2])
    assert encoder.passes == [[50]]
    every = given.inputs(items)
    assert encoder.passes == [[50], [100, 150, 200]]
    assert torch.equal(every.states[1:2], second.states)


@pytest.mark.parametrize("where", ["first", "last"])
def test_values_that_are_not_finite_name_encoder_and_place(
    wav: str, tmp_path: Path, where: str
) -> None:
    class Bad(Noted):
        def forward(self, waves: Waves, mask: Any = None, layers: str = "all") -> Encoded:
            out = super().forward(waves, mask, layers)
            if len(self.passes) > 1:  # the first is looked at by itself
                out.layers[0][0, 0 if where == "first" else -1, 0] = torch.inf
            return out

    given, _ = source(tmp_path)
    given.passes.encoder = Bad()
    asked = windows(wav, 1.0, 1.5)
    given.passes.encode(asked[:1])
    said = rf"test_cache_kept:.*Bad gives values that are not finite \({wav}, 1 to 2\.5 s\)$"
    with pytest.raises(DivergedError, match=said):
        given.passes.encode(asked[1:])
    kept = Window(asked[1].clip, (1, 14))
    given.passes.encode([kept])  # what isn't kept is nobody's concern
