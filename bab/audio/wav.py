"""How long a WAV file says it is, against how long it really is.

libsndfile quietly shortens a truncated WAV, and finds no sound in one whose recorder never came
back to fill in the size. Both are seen in the size of the `data` chunk. Layouts: Microsoft's
"Multimedia Programming Interface and Data Specifications 1.0" (RIFF), EBU Tech 3306 (RF64).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

# A recorder that streams can't know the size: it writes 0, or a number at the top of its range
# (sox writes 0x7FFFF000 and its like, ffmpeg and libsndfile 0xFFFFFFFF).
_OPEN_SIZES = (range(0x7FFFF000, 0x80000000), range(0xFFFFF000, 0x100000000))


@dataclass(frozen=True, slots=True)
class DataChunk:
    """The `data` chunk of a WAV file, in bytes.

    promised: the size that its header gives; None where a streaming recorder left it open.
    present: from its start to the end of the file. size_at: where the 32-bit size field stands.
    """

    promised: int | None
    present: int
    size_at: int

    @property
    def missing(self) -> int:
        """Bytes that the header promises and the file doesn't hold."""
        return 0 if self.promised is None else max(0, self.promised - self.present)


def data_chunk(path: str) -> DataChunk | None:
    """The `data` chunk of a RIFF or RF64 file; None where there is none."""
    with Path(path).open("rb") as file:
        total = file.seek(0, io.SEEK_END)
        file.seek(0)
        head = file.read(12)
        if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
            return None
        wide = None  # RF64 keeps the real size of the data in its own chunk
        at = 12
        while at + 8 <= total:
            name, size = _chunk(file, at)
            if name == b"ds64" and at + 24 <= total:
                wide = struct.unpack("<8xQ", file.read(16))[0]
            if name == b"data":
                present = total - at - 8
                promised = wide if wide and size == 0xFFFFFFFF else _closed(size)
                if size == 0 and (present == 0 or _only_chunks(file, at + 8, total)):
                    promised = 0
                return DataChunk(promised, present, at + 4)
            at += 8 + size + size % 2
    return None


def _chunk(file: BinaryIO, at: int) -> tuple[bytes, int]:
    """Name and size of the chunk at byte `at`; the file then stands at its contents."""
    file.seek(at)
    name, size = struct.unpack("<4sI", file.read(8))
    return name, size


def _closed(size: int) -> int | None:
    """`size`, or None where it is one that streaming recorders write."""
    return None if size == 0 or any(size in sizes for sizes in _OPEN_SIZES) else size


def _only_chunks(file: BinaryIO, at: int, total: int) -> bool:
    """Whether the bytes from `at` on are whole chunks, so that a data chunk of size 0 is empty."""
    while at + 8 <= total:
        name, size = _chunk(file, at)
        if not name.isascii() or not name.decode("ascii").isprintable():
            return False
        at += 8 + size + size % 2
    return at in (total, total + 1)


class OpenEnded(io.RawIOBase):
    """A WAV file whose data size reads as 0xFFFFFFFF, which decoders take for "to the end".

    It stands in for a file whose size field is 0, which libsndfile takes at its word.
    """

    def __init__(self, path: str, size_at: int) -> None:
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._size_at = size_at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start = self._file.tell()
        count = self._file.readinto(view) or 0
        for i in range(max(start, self._size_at), min(start + count, self._size_at + 4)):
            view[i - start] = 0xFF
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
