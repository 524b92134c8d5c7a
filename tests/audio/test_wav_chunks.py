"""The data chunk of WAV files: promised and present bytes, whatever stands before and behind it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from bab.audio.wav import DataChunk, OpenEnded, data_chunk

FORM = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
OPEN = (0, 0x7FFFF000, 0x7FFFF800, 0x7FFFFFFF, 0xFFFFF000, 0xFFFFFFFF)


def chunk(name: bytes, size: int, body: bytes | None = None) -> bytes:
    body = bytes(size) if body is None else body
    return struct.pack("<4sI", name, size) + body + bytes(len(body) % 2)


def wide(size: int) -> bytes:
    return struct.pack("<4sIQQQI", b"ds64", 28, 100, size, 4, 0)


def riff(*parts: bytes, kind: bytes = b"RIFF", form: bytes = b"WAVE") -> bytes:
    return kind + struct.pack("<I", 4) + form + b"".join(parts)


def data(size: int, present: int) -> bytes:
    return struct.pack("<4sI", b"data", size) + bytes(present)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (riff(FORM, data(8, 8)), (8, 8, 40)),
        (riff(data(8, 8)), (8, 8, 16)),
        (riff(FORM, data(8, 5)), (8, 5, 40)),
        (riff(FORM, data(8, 8) + chunk(b"LIST", 4)), (8, 20, 40)),
        (riff(chunk(b"note", 3), data(8, 8)), (8, 8, 28)),  # padded
        (riff(chunk(b"note", 4), data(8, 8)), (8, 8, 28)),
        (riff(FORM, data(8, 8), kind=b"BW64"), (8, 8, 40)),
        (riff(FORM, data(8, 8), kind=b"RIFX"), None),
        (riff(FORM, data(8, 8), form=b"AVI "), None),
        (riff(FORM), None),
        (riff(FORM, b"data\x08\x00\x00"), None),  # cut in its header
        (b"RIFF\x00\x00\x00\x00WAV", None),
        (b"", None),
        # RF64: its own chunk says how long, where the 32 bits are all ones.
        (riff(wide(6), data(0xFFFFFFFF, 8), kind=b"RF64"), (6, 8, 52)),
        (riff(wide(6), data(4, 8), kind=b"RF64"), (4, 8, 52)),
        (riff(wide(0), data(0xFFFFFFFF, 8), kind=b"RF64"), (None, 8, 52)),
        (riff(wide(6)[:23], kind=b"RF64"), None),
        (riff(wide(6)[:24], kind=b"RF64"), None),
        # Without a size: open, where something that is no chunk follows.
        (riff(FORM, data(0, 8)), (None, 8, 40)),
        (riff(FORM, data(0, 0)), (0, 0, 40)),
        (riff(FORM, data(0, 0) + chunk(b"LIST", 4)), (0, 12, 40)),
        (riff(FORM, data(0, 0) + chunk(b"LIST", 3)), (0, 12, 40)),
        (riff(FORM, data(0, 0) + chunk(b"LIST", 3)[:-1]), (0, 11, 40)),  # without its padding
        (riff(FORM, data(0, 0) + chunk(b"LIST", 4)[:-2]), (None, 10, 40)),
        (riff(FORM, data(0, 0) + chunk(b"LIST", 4) + b"x"), (None, 13, 40)),
        (riff(FORM, data(0, 0) + chunk(b"LI\x01T", 4)), (None, 12, 40)),
        (riff(FORM, data(0, 0) + chunk(b"LI\xffT", 4)), (None, 12, 40)),
        (riff(FORM, data(0, 0) + chunk(b"LIST", 2) + chunk(b"note", 6)), (0, 24, 40)),
        *[(riff(FORM, data(size, 8)), (None, 8, 40)) for size in OPEN],
        (riff(FORM, data(0x7FFFEFFF, 8)), (0x7FFFEFFF, 8, 40)),
        (riff(FORM, data(0x80000000, 8)), (0x80000000, 8, 40)),
        (riff(FORM, data(0xFFFFEFFF, 8)), (0xFFFFEFFF, 8, 40)),
    ],
)
def test_what_a_header_promises(
    tmp_path: Path, content: bytes, expected: tuple[int | None, int, int] | None
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    made = data_chunk(str(path))
    assert made == (None if expected is None else DataChunk(*expected))


def test_what_is_missing() -> None:
    assert DataChunk(8, 8, 0).missing == 0 == DataChunk(8, 9, 0).missing
    assert DataChunk(8, 5, 0).missing == 3 and DataChunk(None, 5, 0).missing == 0


def test_an_open_file_reads_as_one_of_the_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = bytes(range(20))
    path.write_bytes(content)
    shown = content[:8] + b"\xff" * 4 + content[12:]
    for size in (1, 3, 7, 20, 64):
        file = OpenEnded(str(path), 8)
        parts = []
        while part := file.read(size):
            parts.append(part)
        assert b"".join(parts) == shown
        assert file.tell() == 20 and file.readable() and file.seekable()
        file.close()
        assert file.closed
        with pytest.raises(ValueError, match="closed"):
            file.tell()
    with OpenEnded(str(path), 8) as file:
        for at in range(20):
            assert file.seek(at) == at and file.read(1) == shown[at : at + 1]
        assert file.seek(-9, io.SEEK_END) == 11 and file.read(2) == shown[11:13]
        assert file.seek(1) == 1 and file.seek(2, io.SEEK_CUR) == 3
        buffer = bytearray(6)
        file.seek(6)
        assert file.readinto(buffer) == 6 and bytes(buffer) == shown[6:12]
