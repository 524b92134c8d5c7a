"""How long an MP3 file is that doesn't say so.

libsndfile takes the length from a Xing, Info or VBRI header. Without one it guesses it from the
first frame's bit rate and the file's size: wrong by tags, and by far where the bit rate varies.
Layouts: ISO/IEC 11172-3 and 13818-3 (frame header), id3.org (the size of an ID3v2 tag).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

_STEP = 1 << 18  # bytes read at once
_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # MPEG 1, layer III
_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # MPEG 2 and 2.5
_HZ = (44100, 48000, 32000)  # of MPEG 1; half of it in MPEG 2, a quarter in MPEG 2.5
_HEADER = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]")  # of layer III
_TAGS = (b"Xing", b"Info", b"VBRI")


def counted_samples(path: str) -> int | None:
    """Samples per channel, counted frame by frame; None where a header gives them.

    Reads all of the file, in bounded memory: only for files that leave no other way.
    """
    total = 0
    with Path(path).open("rb") as file:
        head = file.read(10)
        start = 0
        if head[:3] == b"ID3" and len(head) == 10:
            start = 10 + sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(head[6:]))
        for frame, samples in _frames(file, start):
            if total == 0 and any(tag in frame for tag in _TAGS):
                return None
            total += samples
    return total


def _frames(file: BinaryIO, at: int) -> Iterator[tuple[bytes, int]]:
    """(bytes, samples) of the whole layer III frames from byte `at` on; what is none is skipped."""
    file.seek(at)
    data = file.read(_STEP)
    here, kind = 0, None
    while True:
        if len(data) - here < 2048:  # longer than every frame
            more = file.read(_STEP)
            data, here = data[here:] + more, 0
            if len(data) < 4:
                return
        size, samples = _frame(data[here : here + 4])
        same = kind is None or kind == _kind(data[here : here + 4])
        if size and same and here + size <= len(data):
            kind = _kind(data[here : here + 4])
            yield data[here : here + size], samples
            here += size
        else:  # on to what may be a header: half a minute for 30 MB, byte by byte
            there = (_HEADER if kind is None else _like(kind)).search(data, here + 1)
            here = there.start() if there else len(data) - 3


@cache
def _like(kind: tuple[int, int]) -> re.Pattern[bytes]:
    """A header of a file's kind: whether it has a checksum, its bit rate and padding may differ."""
    second = bytes((kind[0], kind[0] | 1))
    third = bytes(x for x in range(0x10, 0xF0) if x & 0x0C == kind[1])
    return re.compile(b"\xff[%b][%b]" % (re.escape(second), re.escape(third)), re.DOTALL)


def _kind(head: bytes) -> tuple[int, int]:
    """What all frames of a file have in common: version, layer and sampling rate."""
    return head[1] & 0xFE, head[2] & 0x0C


def _frame(head: bytes) -> tuple[int, int]:
    """(bytes, samples per channel) of a frame by its 4-byte header; (0, 0) where it is none."""
    if len(head) < 4:
        return 0, 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    rate, hz, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    synchronised = head[0] == 0xFF and head[1] >> 5 == 7
    if not synchronised or version == 1 or layer != 1 or rate in (0, 15) or hz == 3:
        return 0, 0
    if version == 3:
        return 144_000 * _KBPS_1[rate] // _HZ[hz] + padding, 1152
    return 72_000 * _KBPS_2[rate] // (_HZ[hz] // (2 if version == 2 else 4)) + padding, 576
