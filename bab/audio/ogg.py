"""Exact seeking in Ogg Vorbis and Opus, and whether an Ogg file has its end.

libsndfile 1.2.2 seeks wrongly in both: of random seeks in Vorbis 1-10 % land a few hundred samples
off, and all into the last page do. So a span is decoded here from a small file in memory: the
stream's headers, then the pages around the span. Where its first sample stands follows from the
count of samples up to a page's granule position, which is exact by definition.
Layouts: RFC 3533 (Ogg pages), RFC 7845 (Opus), the Vorbis I specification, section 4.2.
"""

from __future__ import annotations

import functools
import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_MAGIC = b"OggS\x00"
_LARGEST = 27 + 255 + 255 * 255  # bytes of the largest page
_STEP = 1 << 16  # bytes read at once
_EOS = 4
_FAR = 1 << 40  # a granule position beyond every file's
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Page:
    """One Ogg page: where it stands and its end in time (-1 where no packet ends in it)."""

    at: int
    size: int
    granule: int
    serial: int
    flags: int
    packets: int  # packets that end in it

    @property
    def end(self) -> int:
        return self.at + self.size


@dataclass(frozen=True, slots=True)
class Stream:
    """What seeking in a file needs: its header pages, and where its sound begins.

    Positions count in granules: samples (Vorbis), or 1/48000 s (Opus).
    audio_at: byte where sound begins; warm_up: granules to decode before a span;
    scale: granules per sample; origin: position of the first sample (0 in most files).
    """

    header: bytes
    serial: int
    audio_at: int
    size: int
    warm_up: int
    scale: int
    origin: int


def _parse(data: bytes, at: int, offset: int) -> Page | None:
    """The page that starts at `data[at]`; None where it isn't whole. offset: data's."""
    if len(data) - at < 27:
        return None
    flags, granule, serial = struct.unpack_from("<BqI", data, at + 5)
    lacing = data[at + 27 : at + 27 + data[at + 26]]
    size = 27 + data[at + 26] + sum(lacing)
    if len(data) - at < size:
        return None
    packets = sum(value < 255 for value in lacing)
    return Page(offset + at, size, granule, serial, flags, packets)


def _pages(file: BinaryIO, at: int, serial: int | None = None) -> Iterator[Page]:
    """The whole pages (of one stream) from byte `at` on; stretches that are no page are skipped."""
    data, offset = b"", at
    while True:
        file.seek(offset + len(data))
        more = file.read(_STEP)
        data += more
        here = 0
        while (place := data.find(_MAGIC, here)) >= 0:
            page = _parse(data, place, offset)
            if page is None:
                if more:
                    break  # the rest of it comes with the next step
                here = place + 1
                continue
            here = place + page.size
            if serial is None or page.serial == serial:
                yield page
        if not more:
            return
        keep = place if place >= 0 else max(here, len(data) - len(_MAGIC) + 1)
        data, offset = data[keep:], offset + keep


def last_page(path: str) -> Page | None:
    """The last whole page of an Ogg file; only its end is read."""
    with Path(path).open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        last = None
        for page in _pages(file, max(0, size - 2 * _LARGEST)):
            last = page
    return last


def is_cut(path: str) -> bool:
    """Whether the stream lacks its end: no last page, no end-of-stream flag, or bytes after it."""
    page = last_page(path)
    return page is None or not page.flags & _EOS


def _crc(data: bytes) -> int:
    """Ogg's checksum: zlib's polynomial with the bits the other way round, from 0 (RFC 3533)."""
    crc = zlib.crc32(data.translate(_MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def _stamp(page: bytes, number: int, flags: int, granule: int) -> bytes:
    """A page with another number, flags and position, and the checksum that goes with them."""
    head = page[:5] + struct.pack("<Bq", flags, granule) + page[14:18] + struct.pack("<I", number)
    crc = _crc(head + bytes(4) + page[26:])
    return head + struct.pack("<I", crc) + page[26:]


def _stream(stream: Stream, body: bytes) -> bytes:
    """An Ogg file of the headers and the whole pages in `body`.

    Its last page is moved to a far position and an empty one follows, so that a decoder neither
    trims nor stops early: only the position of the first sample and its own count matter.
    """
    parts, number, at = [stream.header], stream.header.count(_MAGIC), 0
    while (page := _parse(body, at, 0)) is not None:
        at = page.end
        if page.serial == stream.serial:
            last = page.flags & _EOS
            granule = _FAR if last else page.granule
            parts.append(_stamp(body[page.at : page.end], number, page.flags & ~_EOS, granule))
            number += 1
    empty = struct.pack("<5sBqIIIB", _MAGIC, 0, 0, stream.serial, 0, 0, 0)
    return b"".join([*parts, _stamp(empty, number, 0, _FAR)])


def _decode(data: bytes, limit: int) -> NDArray[np.float32]:
    """f32[n, channels]: all that an Ogg file in memory holds, `limit` samples at most."""
    import soundfile

    with soundfile.SoundFile(io.BytesIO(data)) as file:
        decoded: NDArray[np.float32] = file.read(limit, dtype="float32", always_2d=True)
    return decoded


def _first_sample(file: BinaryIO, stream: Stream, at: int) -> int | None:
    """Position of the first sample that decoding from the page at byte `at` gives, in granules.

    Decodes up to the first page before which samples came: they end at its granule position.
    None where only the end of the file follows, whose last position is trimmed.
    """
    for page in _pages(file, at, stream.serial):
        if page.flags & _EOS:
            return None
        if page.granule < 0:
            continue
        file.seek(at)
        body = file.read(page.end - at)
        count = len(_decode(_stream(stream, body), 1 << 20))
        if count:
            return page.granule - count * stream.scale
    return None


def _identify(file: BinaryIO) -> tuple[int, int, bool] | None:
    """(header packets, warm-up, Opus?) of the stream that begins the file; None if unknown."""
    file.seek(27 + 1)  # the first page holds one packet
    packet = file.read(30)
    if packet[:7] == b"\x01vorbis":
        # Decoding begins a block late, and a packet that began on an earlier page is lost too.
        return 3, 3 << (packet[28] >> 4), False
    if packet[:8] == b"OpusHead":
        # The decoder's state needs .08 s to settle (RFC 7845, section 4.6); 1 s left no difference
        # that could be measured.
        return 2, 48000, True
    return None


@functools.lru_cache(maxsize=256)
def _open(path: str, size: int, modified: int) -> Stream | None:
    """Read a file's headers. None where it isn't one stream that can be seeked in."""
    import soundfile

    with Path(path).open("rb") as file:
        known = _identify(file)
        if known is None:
            return None
        packets, stream = known[0], None
        for page in _pages(file, 0):
            packets -= page.packets
            if stream is not None and page.serial != stream.serial:
                return None  # several streams side by side
            stream = Stream(b"", page.serial, page.end, size, known[1], 1, 0)
            if packets <= 0:
                break
        if stream is None or packets > 0:
            return None
        file.seek(0)
        stream = replace(stream, header=file.read(stream.audio_at))
        if known[2]:  # libsndfile decodes Opus to the recording's original rate, or to 48 kHz
            stream = replace(stream, scale=48000 // soundfile.info(path).samplerate)
        origin = _first_sample(file, stream, stream.audio_at)
    return None if origin is None else replace(stream, origin=origin)


def _find(file: BinaryIO, stream: Stream, granule: int) -> int:
    """Byte of a page from which all samples from `granule` on are decoded; found by bisection."""
    low, high = stream.audio_at, stream.size
    while high - low > _STEP:
        middle = (low + high) // 2
        page = next((p for p in _pages(file, middle, stream.serial) if p.granule >= 0), None)
        if page is not None and page.granule <= granule:
            low = page.end
        else:
            high = middle
    best = low
    for page in _pages(file, low, stream.serial):
        if page.granule > granule:
            break
        if page.granule >= 0:
            best = page.end
    return best


def read_span(path: str, start: int, stop: int) -> NDArray[np.float32] | None:
    """f32[stop - start, channels]: samples [start, stop) of an Ogg file, exactly.

    Fewer where the file ends before. None where the span lies near enough to the beginning to be
    decoded from there, or where the file isn't one plain stream: the caller reads it from the
    beginning, which is always exact.
    """
    state = os.stat(path)  # noqa: PTH116
    stream = _open(path, state.st_size, state.st_mtime_ns)
    if stream is None:
        return None
    first_wanted = stream.origin + start * stream.scale
    last_wanted = stream.origin + stop * stream.scale
    with Path(path).open("rb") as file:
        at = _find(file, stream, first_wanted - stream.warm_up)
        first = None
        while at > stream.audio_at and first is None:
            first = _first_sample(file, stream, at)
            if first is None:  # too near the end to be placed: begin some pages earlier
                at = _earlier(file, stream, at)
        if first is None:
            return None
        end = next(
            (p.end for p in _pages(file, at, stream.serial) if p.granule >= last_wanted),
            stream.size,
        )
        file.seek(at)
        body = file.read(end - at)
    skip = (first_wanted - first) // stream.scale
    return _decode(_stream(stream, body), skip + stop - start)[skip:]


def _earlier(file: BinaryIO, stream: Stream, at: int) -> int:
    """Byte of a page some way before `at`, or where the sound begins."""
    back = max(stream.audio_at, at - 2 * _LARGEST)
    page = next(_pages(file, back, stream.serial), None)
    return stream.audio_at if page is None or page.at >= at else page.at
