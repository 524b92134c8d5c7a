"""Pages of Ogg files: found, measured, stamped and sought, against a reader of their own."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from audio_files import make, whole

from bab.audio import decoding, ogg, reading


class Seen(NamedTuple):
    """A page, as RFC 3533 lays it out."""

    at: int
    size: int
    flags: int
    granule: int
    serial: int
    number: int
    crc: int
    packets: int


def pages(data: bytes) -> list[Seen]:
    """All pages of a file that holds nothing else."""
    listed, at = [], 0
    while at < len(data):
        magic, version, flags, granule, serial, number, crc, count = struct.unpack_from(
            "<4sBBqIIIB", data, at
        )
        assert (magic, version) == (b"OggS", 0)
        lacing = list(data[at + 27 : at + 27 + count])
        size = 27 + count + sum(lacing)
        ends = len([value for value in lacing if value != 255])
        listed.append(Seen(at, size, flags, granule, serial, number, crc, ends))
        at += size
    assert at == len(data)
    return listed


def crc(data: bytes) -> int:
    """Bit by bit: polynomial 0x04C11DB7, from 0, nothing reflected (RFC 3533)."""
    register = 0
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1) ^ (0x04C11DB7 if register & 0x80000000 else 0)
            register &= 0xFFFFFFFF
    return register


def page(body: bytes, granule: int = 7, serial: int = 5, flags: int = 0, number: int = 0) -> bytes:
    """A page of one packet under 255 bytes."""
    head = struct.pack("<4sBBqIIIBB", b"OggS", 0, flags, granule, serial, number, 0, 1, len(body))
    return head + body


def found(path: Path, at: int = 0, serial: int | None = None) -> list[ogg.Page]:
    with path.open("rb") as file:
        return list(ogg._pages(file, at, serial))


@pytest.fixture(scope="module", params=["ogg", "opus"])
def stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("ogg"), request.param, 16000, 1, 20.0)


def opened(path: Path) -> ogg.Stream | None:
    state = path.stat()
    return ogg._open(str(path), state.st_size, state.st_mtime_ns)


def test_every_page_is_found_from_any_byte_on(stream: Path) -> None:
    expected = pages(stream.read_bytes())
    assert len(expected) > 10
    made = found(stream)
    assert [(p.at, p.size, p.flags, p.granule, p.serial, p.packets) for p in made] == [
        (p.at, p.size, p.flags, p.granule, p.serial, p.packets) for p in expected
    ]
    assert [p.end for p in made] == [p.at + p.size for p in expected]
    third = made[2].at
    assert found(stream, third) == made[2:] and found(stream, third + 1) == made[3:]
    assert found(stream, third - 1) == made[2:]
    serial = expected[0].serial
    assert found(stream, 0, serial) == made and found(stream, 0, serial + 1) == []
    assert found(stream, made[-1].end) == [] and ogg.last_page(str(stream)) == made[-1]


def test_pages_across_the_borders_of_what_is_read_at_once(
    stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = found(stream)
    for step in (1000, 4099, 9973):
        monkeypatch.setattr(ogg, "_STEP", step)
        assert found(stream) == made


def test_what_is_no_page_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ogg"
    one, two = page(b"one"), page(b"two", 9, 6)
    junk = b"OggS\x01 another version, OggS"
    cut = page(b"x" * 200)[:100]
    for step in (1, 2, 7, 30, 64, 1 << 16):
        monkeypatch.setattr(ogg, "_STEP", step)
        path.write_bytes(junk + one + junk + two)
        made = found(path)
        assert [(p.at, p.granule, p.serial) for p in made] == [
            (len(junk), 7, 5), (2 * len(junk) + len(one), 9, 6),
        ]  # fmt: skip
        assert [p.granule for p in found(path, 0, 6)] == [9]
        path.write_bytes(one + cut)  # the last one's end is lacking
        assert [(p.at, p.size) for p in found(path)] == [(0, len(one))]
        path.write_bytes(one + cut[:20])
        assert len(found(path)) == 1
        path.write_bytes(cut[:40] + one)  # a header that promises more than there is
        assert [p.at for p in found(path)] == [40]
    empty = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 8, 5, 0, 0, 0)  # a page of no packet
    path.write_bytes(one + empty)
    assert [(p.size, p.granule, p.packets) for p in found(path)] == [(31, 7, 1), (27, 8, 0)]
    path.write_bytes(one + empty[:26])
    assert len(found(path)) == 1
    path.write_bytes(b"")
    assert found(path) == [] and ogg.last_page(str(path)) is None and ogg.is_cut(str(path))


def test_an_ogg_file_ends_where_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    for flags, cut in ((0, True), (4, False), (5, False), (2, True)):
        path.write_bytes(page(b"a", flags=2) + page(b"b", flags=flags))
        assert ogg.is_cut(str(path)) == cut
    path.write_bytes(page(b"a", flags=4) + page(b"b"))  # the end is the last page's
    assert ogg.is_cut(str(path))
    ended = page(b"a") + page(b"b", flags=4)
    for junk, cut in ((100, False), (200_000, True)):  # as much as two pages may hold
        path.write_bytes(ended + b"x" * junk)
        assert ogg.is_cut(str(path)) == cut


def test_checksums_are_the_standards(stream: Path) -> None:
    data = stream.read_bytes()
    for one in pages(data)[:4]:
        body = bytearray(data[one.at : one.at + one.size])
        body[22:26] = bytes(4)
        assert ogg._crc(bytes(body)) == crc(bytes(body)) == one.crc
    assert ogg._crc(b"") == 0


def test_a_stamped_page_is_the_same_with_another_place(stream: Path) -> None:
    data = stream.read_bytes()
    one = pages(data)[3]
    body = data[one.at : one.at + one.size]
    stamped = ogg._stamp(body, 77, 4, 1 << 40)
    (seen,) = pages(stamped)
    assert (seen.number, seen.flags, seen.granule) == (77, 4, 1 << 40)
    assert (seen.serial, seen.size, seen.packets) == (one.serial, one.size, one.packets)
    assert stamped[26:] == body[26:]
    assert seen.crc == crc(stamped[:22] + bytes(4) + stamped[26:])


def test_what_seeking_knows_of_a_stream(stream: Path) -> None:
    """The headers are three packets (Vorbis) or two (Opus); sound begins on the next page."""
    data = stream.read_bytes()
    opus = stream.suffix == ".opus"
    listed, packets, last = pages(data), 0, 0
    for number, one in enumerate(listed):
        packets += one.packets
        if packets >= (2 if opus else 3):
            last = number
            break
    made = opened(stream)
    assert made is not None
    assert made.audio_at == listed[last].at + listed[last].size
    assert made.header == data[: made.audio_at] and made.serial == listed[0].serial
    assert made.size == len(data)
    # Opus counts from before the samples that its decoder is to skip (RFC 7845, section 4.2).
    assert made.origin == (struct.unpack_from("<H", data, 28 + 10)[0] if opus else 0)
    if opus:  # .08 s are enough (RFC 7845); 1 s is taken
        assert made.warm_up == 48000 and made.scale == 3
    else:  # three of the larger blocks, whose size stands in the last byte but one of the packet
        assert made.warm_up == 3 << (data[28 + 28] >> 4)


def test_pages_are_rebuilt_as_a_file_of_their_own(stream: Path) -> None:
    data = stream.read_bytes()
    made = opened(stream)
    assert made is not None
    listed = [one for one in pages(data) if one.at >= made.audio_at]
    other = ogg._stamp(data[listed[0].at : listed[0].at + listed[0].size], 0, 0, 5)
    alien = other[:14] + struct.pack("<I", made.serial + 1) + other[18:]
    begin, end = listed[2].at, listed[5].at
    for body, kept in (
        (data[begin:end], listed[2:5]),
        (data[begin:end] + alien, listed[2:5]),
        (data[listed[-2].at :], listed[-2:]),
        (b"", []),
    ):
        rebuilt = ogg._stream(made, body)
        assert rebuilt.startswith(made.header)
        seen = pages(rebuilt)
        heads = len(pages(made.header))
        assert [one.number for one in seen[heads:]] == list(range(heads, heads + len(kept) + 1))
        granules = [1 << 40 if one.flags & 4 else one.granule for one in kept]
        assert [one.granule for one in seen[heads:]] == [*granules, 1 << 40]
        assert not any(one.flags & 4 for one in seen[heads:])
        assert {one.serial for one in seen} == {made.serial}
        assert seen[-1].size == 27 and seen[-1].flags == 0


def test_sound_from_a_page_on_begins_where_it_should(stream: Path) -> None:
    """Wherever decoding begins: what it gives are the samples at the place that is told."""
    made = opened(stream)
    assert made is not None
    full = whole(stream, 16000)
    data = stream.read_bytes()
    starts = [one for one in pages(data) if one.at > made.audio_at]
    with stream.open("rb") as file:
        for one in starts[1:-3:3]:
            first = ogg._first_sample(file, made, one.at)
            assert first is not None
            got = ogg._decode(ogg._stream(made, data[one.at : starts[-2].at]), 1 << 30)[:, 0]
            at = (first - made.origin) // made.scale
            settled = 16000 if stream.suffix == ".opus" else 4096
            same = full[at + settled : at + len(got)]
            np.testing.assert_allclose(got[settled:][: len(same)], same, atol=1e-4)
        assert ogg._first_sample(file, made, starts[-1].at) is None  # its position is trimmed
        assert ogg._first_sample(file, made, len(data)) is None


def test_a_place_is_found_by_its_granule(stream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the last page that ends before it, or is it: however far bisection has to go."""
    made = opened(stream)
    assert made is not None
    listed = [one for one in pages(stream.read_bytes()) if one.at >= made.audio_at]
    wanted = [0, listed[0].granule - 1, listed[0].granule, listed[5].granule + 1]
    wanted += [listed[7].granule - 1, listed[-1].granule, listed[-1].granule + 10**6, -5]
    for step in (1, 500, 5000, 1 << 16):
        monkeypatch.setattr(ogg, "_STEP", step if step > 1 else 300)
        with stream.open("rb") as file:
            for granule in wanted:
                before = [one.at + one.size for one in listed if one.granule <= granule]
                assert ogg._find(file, made, granule) == max(before, default=made.audio_at)


def test_an_earlier_page(stream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(stream)
    assert made is not None
    listed = [one for one in pages(stream.read_bytes()) if one.at >= made.audio_at]
    monkeypatch.setattr(ogg, "_LARGEST", listed[6].size)
    with stream.open("rb") as file:
        back = listed[8].at - 2 * listed[6].size
        expected = min(one.at for one in listed if one.at >= back)
        assert ogg._earlier(file, made, listed[8].at) == expected < listed[8].at
        assert ogg._earlier(file, made, listed[1].at) == made.audio_at
        monkeypatch.setattr(ogg, "_LARGEST", 1)
        assert ogg._earlier(file, made, listed[8].at) == made.audio_at  # none lies between


@pytest.mark.parametrize("what", ["no stream", "two streams", "headers alone", "one page"])
def test_what_is_no_plain_stream_is_read_from_its_beginning(
    tmp_path: Path, stream: Path, what: str
) -> None:
    data, path = stream.read_bytes(), tmp_path / "a.ogg"
    listed = pages(data)
    second = data[listed[1].at : listed[1].at + listed[1].size]
    other = second[:14] + struct.pack("<I", 99) + second[18:]
    made = opened(stream)
    assert made is not None
    content = {
        "no stream": b"OggS" + bytes(200),
        "two streams": data[: listed[1].at] + other + data[listed[1].at :],
        "headers alone": made.header,
        "one page": data[: listed[1].at],
    }[what]
    if what == "headers alone" and stream.suffix == ".opus":
        pytest.skip("libsndfile refuses it before")
    path.write_bytes(content)
    assert opened(path) is None and ogg.read_span(str(path), 0, 10) is None


def test_spans_that_can_t_be_placed_are_none_and_those_beyond_the_end_short(
    stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ogg, "_LARGEST", 8000)  # the file is as short as a few large pages
    frames = reading.info(stream).frames
    assert ogg.read_span(str(stream), 0, 100) is None  # near the beginning: from there
    late = ogg.read_span(str(stream), frames - 50, frames + 50)
    assert late is not None and len(late) >= 50  # the last packet of Opus goes on
    one = ogg.read_span(str(stream), frames - 8000, frames - 7990)
    assert one is not None and one.shape == (10, 1)
    full = whole(stream, 16000)
    np.testing.assert_allclose(one[:, 0], full[frames - 8000 : frames - 7990], atol=1e-4)
    np.testing.assert_allclose(late[:50, 0], full[-50:], atol=1e-4)


def test_two_channels_and_silence_between_them(tmp_path: Path, monkeypatch: Any) -> None:
    """Long runs of nothing are pages on which no packet ends, and few pages: still exact."""
    t = np.arange(16000 * 30) / 16000
    wave = np.stack([np.sin(2000 * t) * (t > 25), np.sin(700 * t) * (t < 3)], 1) * 0.5
    path = tmp_path / "a.ogg"
    with soundfile.SoundFile(path, "w", 16000, 2, format="OGG", subtype="VORBIS") as file:
        for at in range(0, len(wave), 8192):
            file.write(wave[at : at + 8192])
    full = whole(path, 16000)
    for start, stop in ((4 * 16000, 5 * 16000), (24 * 16000, 27 * 16000), (470_000, 480_000)):
        got = decoding.samples(str(path), start, stop)
        np.testing.assert_allclose(got, full[start:stop], atol=1e-5)


def test_a_packet_that_goes_on_over_a_page_on_which_none_ends(tmp_path: Path) -> None:
    """Such a page has no position (RFC 3533, section 6: -1): its samples count with the next."""
    path = make(tmp_path, "opus", 48000, 2, 6.0)
    data, full = path.read_bytes(), whole(path, 48000)
    parts, serial, split = [], pages(data)[0].serial, 0
    for one in pages(data):
        raw, count = data[one.at : one.at + one.size], data[one.at + 26]
        lacing, body = raw[27 : 27 + count], raw[27 + count :]
        if one.granule > 48000 and lacing[0] == 255:
            head = raw[:5] + bytes([one.flags & ~4]) + struct.pack("<q", -1) + raw[14:26]
            parts.append(head + b"\x01\xff" + body[:255])
            head = raw[:5] + bytes([one.flags | 1]) + raw[6:26]
            raw = head + bytes([count - 1]) + lacing[1:] + body[255:]
            split += 1
        parts.append(raw)
    assert split > 3
    path.write_bytes(
        b"".join(
            ogg._stamp(raw, i, raw[5], struct.unpack_from("<q", raw, 6)[0])
            for i, raw in enumerate(parts)
        )
    )
    listed = found(path)
    assert len(listed) == len(parts) and {p.serial for p in listed} == {serial}
    assert sum(p.granule == -1 and p.packets == 0 for p in listed) == split
    np.testing.assert_array_equal(whole(path, 48000), full)  # libsndfile agrees
    stream = opened(path)
    assert stream is not None
    late = [p for p in listed[:-3] if p.granule == -1][-1]
    with path.open("rb") as file:
        first = ogg._first_sample(file, stream, late.at)
    assert first is not None
    body = path.read_bytes()[late.at :]
    got, at = ogg._decode(ogg._stream(stream, body), 1 << 20).mean(axis=1), first - stream.origin
    np.testing.assert_allclose(got[24000 : len(full) - at], full[at + 24000 :], atol=1e-4)


def test_no_more_of_a_file_is_read_than_a_span_needs(
    stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = pages(stream.read_bytes())
    monkeypatch.setattr(ogg, "_LARGEST", max(one.size for one in listed))
    sizes: list[int] = []
    real = ogg._decode
    monkeypatch.setattr(
        ogg, "_decode", lambda data, limit: sizes.append(len(data)) or real(data, limit)
    )
    assert opened(stream) is not None
    sizes.clear()
    assert ogg.read_span(str(stream), 5 * 16000, 5 * 16000 + 100) is not None
    body = max(sizes) - listed[0].size - listed[1].size
    assert body < 6 * max(one.size for one in listed) < stream.stat().st_size / 2
