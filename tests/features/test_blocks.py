"""A block of cached features: every window and every crop, read the first time and again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bab.core.sealed import DamagedError
from bab.features import blocks
from bab.features.store import Store

WINDOWS = [torch.arange(2 * n * 3.0).view(2, n, 3) + 100 * n for n in (4, 1, 6)]  # [L, T, D]


@pytest.fixture(params=[torch.float32, torch.float16])
def block(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "b.safetensors"
    blocks.write(path, "key", [w.to(request.param) for w in WINDOWS])
    return path


def test_what_is_read_and_read_again_is_what_was_written(block: Path) -> None:
    reader = blocks.Reader()
    crops = [(index, None) for index in range(3)]
    crops += [(index, (a, b)) for index in (0, 2) for a in range(4) for b in range(a + 1, 5)]
    for index, crop in crops:
        a, b = crop or (0, 6)
        wanted = WINDOWS[index].transpose(0, 1)[a : min(b, WINDOWS[index].shape[1])]
        first = reader.read(block, "key", index, crop)
        again = reader.again("key", index, crop)
        if crop is None or b <= WINDOWS[index].shape[1]:
            assert torch.equal(first.float(), wanted) and again is not None
        assert again is not None and torch.equal(again.float(), wanted)
        assert again.dtype == first.dtype


def test_what_is_known_of_a_block_is_read_again_without_opening_it(block: Path) -> None:
    reader = blocks.Reader()
    assert reader.again("key", 0, None) is None  # nothing is known
    reader.read(block, "key", 0, None)
    assert reader.again("other", 0, None) is None and reader.sound("key", 1, None) is None
    crop = reader.again("key", 2, (1, 3))  # its checksum is looked at now
    assert crop is not None and torch.equal(crop.float(), WINDOWS[2].transpose(0, 1)[1:3])
    rows = reader.sound("key", 2, (1, 9))  # as far as the window goes
    assert rows is not None and rows.end - rows.begin == 5
    room = rows.empty()
    assert room.shape == (5, 2, 3) and rows.into(room)
    assert torch.equal(room.float(), WINDOWS[2].transpose(0, 1)[1:])
    reader.forget("other")
    assert reader.again("key", 0, None) is not None
    reader.forget("key")
    assert reader.again("key", 0, None) is None and reader.sound("key", 2, None) is None
    reader.read(block, "key", 0, None)
    with block.open("ab") as file:
        file.write(b"x")
    assert reader.again("key", 0, None) is None  # not as it was
    assert reader.again("key", 1, None) is None


def test_each_window_has_its_own_checksum(block: Path) -> None:
    data = bytearray(block.read_bytes())
    begin, size = blocks._place(block)
    assert size == len(data)
    width = 4 if b"F32" in data[:begin] else 2
    data[begin + sum(w.numel() for w in WINDOWS) * width - 1] ^= 1  # the last window's last value
    block.write_bytes(data)
    reader = blocks.Reader()
    assert torch.equal(reader.read(block, "key", 0, None).float(), WINDOWS[0].transpose(0, 1))
    assert torch.equal(reader.read(block, "key", 1, None).float(), WINDOWS[1].transpose(0, 1))
    with pytest.raises(DamagedError, match=r"b\.safetensors: the checksum of window 2 doesn't"):
        reader.read(block, "key", 2, None)
    assert reader.again("key", 2, None) is None and reader.sound("key", 2, None) is None
    with pytest.raises(DamagedError, match="header's checksum doesn't hold"):
        blocks.Reader().read(block, "another", 0, None)
    with pytest.raises(DamagedError):
        reader.read(block, "key", 3, None)
    with pytest.raises(FileNotFoundError):
        reader.read(block.with_name("no"), "key", 0, None)


def test_what_can_t_be_kept_is_not_begun(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", 4000)
    states = [torch.ones(1, 10, 50)]  # 2,000 bytes and a header
    assert store.room_for([4000, 4001]) == [True, False]
    assert store.put("a" * 32, states) and not store.put("b" * 32, [torch.ones(1, 21, 50)])
    assert store.read("a" * 32, 0, None) is not None and store.read("b" * 32, 0, None) is None
    full = Store(tmp_path / "cache", 1_000_000)
    full._full = True
    assert full.room_for([1]) == [False] and not full.put("c" * 32, states)
