"""Reading audio that is damaged, odd or none at all: named, or read as far as it goes."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import cut, make, sound, whole, write

from bab.audio import decoding, mp3, reading
from bab.core.errors import AudioError
from bab.kit.recordings import walk


def unreadable(path: Path, kind: str) -> str:
    """Every way in must say the same of a file that can't be used at all."""
    for way in (reading.info, reading.read, reading.duration):
        with pytest.raises(reading.UnreadableError) as caught:
            way(path)
        assert caught.value.kind == kind
        assert str(caught.value).startswith(str(path))
    assert [(p.kind, p.fatal) for p in reading.check(path)] == [(kind, True)]
    found = reading.peek(path)
    assert found is not None and found.kind == kind and found.message == str(caught.value)
    return found.message


def test_files_that_are_no_audio(tmp_path: Path) -> None:
    unreadable(tmp_path / "missing.wav", "missing")
    (tmp_path / "empty.wav").touch()
    assert "0 bytes" in unreadable(tmp_path / "empty.wav", "empty")
    (tmp_path / "text.wav").write_text("this is no audio\n" * 50)
    assert "ffmpeg" in unreadable(tmp_path / "text.wav", "unsupported")
    (tmp_path / "text.mp3").write_text("this is no audio\n" * 50)
    unreadable(tmp_path / "text.mp3", "unsupported")
    (tmp_path / "folder.wav").mkdir()
    assert "is a folder, and no file; check" in unreadable(tmp_path / "folder.wav", "unsupported")
    (tmp_path / "short.wav").write_bytes(b"RIFF\x00\x00")
    unreadable(tmp_path / "short.wav", "unsupported")


@pytest.mark.parametrize("kind", ["flac", "ogg", "opus", "mp3"])
def test_files_cut_off_in_their_headers(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind, 16000, 1, 3.0)
    path.write_bytes(path.read_bytes()[:40])
    unreadable(path, "unsupported")


def test_files_without_sound(tmp_path: Path) -> None:
    path = write(tmp_path / "none.wav", np.zeros((0, 1), np.float32), 16000)
    unreadable(path, "zero-length")
    listed = tmp_path / "listed.wav"  # an empty data chunk, and then a tag: not a streamed file
    listed.write_bytes(path.read_bytes()[:44] + struct.pack("<4sI4s", b"LIST", 4, b"INFO"))
    unreadable(listed, "zero-length")


@pytest.mark.parametrize("kind", ["wav-16", "wav-24", "flac", "ogg", "opus", "mp3"])
def test_truncated_files(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind, 16000, 1, 20.0)
    full = whole(path, 16000)
    cut(path, 0.6)
    for found in (reading.check(path)[0], reading.peek(path)):
        assert found is not None and found.kind == "truncated" and found.fatal
        assert str(path) in found.message and "--skip-bad" in found.message
    with pytest.raises(AudioError, match=r"truncated.*bab data check"):
        reading.read(path)
    with pytest.raises(AudioError, match="truncated"):
        reading.read(path, 19.0, 20.0, 8000)
    # What is there can still be used.
    np.testing.assert_allclose(reading.read(path, 3.0, 5.0), full[48000:80000], atol=1e-4)


def test_a_wav_that_lost_three_bytes(tmp_path: Path) -> None:
    path = make(tmp_path, "wav-16", 16000, 1, 2.0)
    path.write_bytes(path.read_bytes()[:-3])
    assert [p.kind for p in reading.check(path)] == ["truncated"]


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_whose_recorder_left_its_size_open(tmp_path: Path, size: int) -> None:
    path = make(tmp_path, "wav-16", 16000, 2, 3.0)
    full = whole(path, 16000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    assert reading.duration(path) == 3.0
    assert reading.check(path) == [] and reading.peek(path) is None
    np.testing.assert_array_equal(reading.read(path), full)
    np.testing.assert_array_equal(reading.read(path, 1.0, 2.5), full[16000:40000])


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_chunk_of_odd_size_has_a_byte_of_padding(tmp_path: Path, size: int) -> None:
    """As RIFF has it: what comes behind, such as an open data chunk, is looked for there."""
    path = make(tmp_path, "wav-16", 16000, 1, 1.0)
    full = whole(path, 16000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data")
    data[at + 4 : at + 8] = struct.pack("<I", 0)
    note = struct.pack("<4sI", b"note", size) + bytes(size + size % 2)
    path.write_bytes(data[:at] + note + data[at:])
    assert reading.duration(path) == 1.0
    np.testing.assert_array_equal(reading.read(path), full)
    cut(path, 0.8)
    assert reading.duration(path) < 0.9 and reading.check(path) == []  # still open: no loss to see
    closed = bytearray(path.read_bytes())
    at = closed.index(b"data")
    closed[at + 4 : at + 8] = struct.pack("<I", 32000)
    path.write_bytes(closed)
    assert [problem.kind for problem in reading.check(path)] == ["truncated"]


def test_a_flac_of_unknown_length(tmp_path: Path) -> None:
    path = make(tmp_path, "flac", 16000, 1, 2.0)
    data = bytearray(path.read_bytes())
    data[8 + 13] &= 0xF0  # the lower 36 bits there count the samples; 0 = unknown
    data[8 + 14 : 8 + 18] = bytes(4)
    path.write_bytes(data)
    assert "how long" in unreadable(path, "unsupported")


def headless_mp3(path: Path, rate: int, mode: str, tag: bytes) -> Path:
    """An MP3 of 10 s without the frame that holds its length, after a tag."""
    with soundfile.SoundFile(
        path, "w", rate, 1, format="MP3", bitrate_mode=mode, compression_level=0.5
    ) as file:
        file.write(sound(rate, 10.0))
    data = path.read_bytes()
    assert b"Info" in data[:60] or b"Xing" in data[:60]
    path.write_bytes(tag + data[data.index(data[:2], 10) :])
    return path


def test_an_mp3_of_varying_bit_rate_and_unknown_length(tmp_path: Path) -> None:
    path = headless_mp3(tmp_path / "a.mp3", 16000, "VARIABLE", b"")
    assert soundfile.info(path).frames < 100000  # libsndfile would lose the rest
    assert "how long" in unreadable(path, "unsupported")


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000])
def test_an_mp3_of_constant_bit_rate_is_counted(tmp_path: Path, rate: int) -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x40\x00" + bytes(64 * 128)  # libsndfile takes it for sound
    path = headless_mp3(tmp_path / "a.mp3", rate, "CONSTANT", tag)
    with soundfile.SoundFile(path) as file:
        guess, decoded = file.frames, len(file.read())
    assert reading.info(path).frames == decoded < guess
    assert reading.check(path) == [] and reading.peek(path) is None
    np.testing.assert_allclose(reading.read(path), whole(path, rate)[:decoded], atol=1e-6)


@pytest.mark.parametrize(
    ("head", "size", "samples"),
    [
        (b"\xff\xfb\x90\x00", 417, 1152),  # MPEG 1, 128 kbit/s at 44.1 kHz
        (b"\xff\xfb\x92\x00", 418, 1152),  # padded
        (b"\xff\xf3\x80\x00", 208, 576),  # MPEG 2, 64 kbit/s at 22.05 kHz
        (b"\xff\xe3\x18\x00", 72, 576),  # MPEG 2.5, 8 kbit/s at 8 kHz
        (b"\xff\xe3\x44\x00", 192, 576),  # MPEG 2.5, 32 kbit/s at 12 kHz
        (b"\xff\xeb\x90\x00", 0, 0),  # no such version
        (b"\xff\xfd\x90\x00", 0, 0),  # layer II
        (b"\xff\xfb\xf0\x00", 0, 0),  # no such bit rate
        (b"\xff\xfb\x9c\x00", 0, 0),  # no such sampling rate
        (b"\xfe\xfb\x90\x00", 0, 0),
    ],
)
def test_the_sizes_of_mp3_frames_are_the_standards(head: bytes, size: int, samples: int) -> None:
    assert mp3._frame(head) == (size, samples)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(tmp_path: Path, value: float) -> None:
    samples = sound(16000, 3.0, 2)
    samples[20000, 1] = value
    path = write(tmp_path / "bad.wav", samples, 16000, "wav-float")
    found = reading.check(path)
    assert [(p.kind, p.fatal) for p in found] == [("not-finite", True)]
    assert "1.2500 s" in found[0].message
    with pytest.raises(AudioError, match=r"bad\.wav: .*1\.2500 s"):
        reading.read(path, 1.0, 2.0, 8000)
    assert np.isfinite(reading.read(path, 2.0, 3.0, 8000)).all()


def test_warnings_are_not_fatal(tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.wav", np.zeros((8000, 1), np.float32), 8000)
    loud = write(tmp_path / "loud.wav", np.sign(sound(8000, 1.0)) * 1.0, 8000)
    loud8 = write(tmp_path / "loud8.wav", np.sign(sound(8000, 1.0)) * 1.0, 8000, "wav-8")
    fine = write(tmp_path / "fine.wav", sound(8000, 1.0), 8000)
    assert [(p.kind, p.fatal) for p in reading.check(silent)] == [("silent", False)]
    assert [(p.kind, p.fatal) for p in reading.check(loud)] == [("clipped", False)]
    assert [(p.kind, p.fatal) for p in reading.check(loud8)] == [("clipped", False)]
    assert reading.check(fine) == []


def test_the_clipped_share_is_of_all_channels_samples(tmp_path: Path) -> None:
    """1.2 % of one of two channels is 0.6 % of the samples; 1.2 % of both is 1.2 %."""
    for channels, kinds in ((1, []), (2, ["clipped"])):
        samples = sound(8000, 1.0, 2) * 0.5
        samples[:96, :channels] = 1.0
        path = write(tmp_path / f"{channels}.wav", samples, 8000)
        problems = reading.check(path)
        assert [problem.kind for problem in problems] == kinds
    assert "1.2 % of the samples" in problems[0].message


def test_the_mp3_decoder_is_silent_and_others_are_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path, "mp3", 16000, 1, 30.0)
    with soundfile.SoundFile(path) as file:  # it does complain when it is left to itself
        for at in range(16000, 400000, 5000):
            file.seek(at)
            file.read(100)
    assert "mpg123" in capfd.readouterr().err
    for at in range(1, 25):
        reading.read(path, at, at + 0.1)
    assert capfd.readouterr().err == ""
    with decoding._quiet(str(path)):
        os.write(2, b"something else\n[src/libmpg123/x.c] error: y\n")
    assert capfd.readouterr().err == "something else\n"


@pytest.mark.parametrize("kind", ["wav-16", "flac", "ogg", "opus", "mp3"])
def test_damage_of_any_kind_gives_a_clear_error_or_sound(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind, 16000, 1, 5.0)
    whole_file = path.read_bytes()
    rng = np.random.default_rng(5)
    for number in range(40):
        data = bytearray(whole_file)
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 1500))
        if number % 4 == 0:
            del data[at : at + length]
        elif number % 4 == 1:
            data[at : at + length] = rng.bytes(len(data[at : at + length]))
        elif number % 4 == 2:
            data[at:at] = rng.bytes(length)
        else:
            data[int(rng.integers(min(100, len(data))))] ^= 1 << int(rng.integers(8))
        damaged = tmp_path / f"{number}{path.suffix}"
        damaged.write_bytes(data)
        problems = reading.check(damaged)
        assert all(str(damaged) in p.message for p in problems)
        reading.peek(damaged)
        for span in ((0.0, None), (3.0, 4.0)):
            try:
                assert np.isfinite(reading.read(damaged, *span, 8000)).all()
            except reading.UnreadableError as error:
                assert str(damaged) in str(error)


@pytest.mark.parametrize("rate", [1, 999, 768_001, 4_000_000])
def test_a_rate_that_no_recording_has_is_refused(tmp_path: Path, rate: int) -> None:
    """1 Hz would make a gigabyte of a short file when it is resampled."""
    path = write(tmp_path / "a.wav", sound(8000, 1.0), 8000)
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")  # fmt chunk: samples per second
    path.write_bytes(content)
    assert f"{rate:,} samples per second" in unreadable(path, "implausible")


def test_pipes_in_a_corpus_are_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "home.rttm")  # reading it would wait for ever
    (tmp_path / "gone.rttm").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a.rttm").touch()
    assert [path.name for path in walk(tmp_path)] == ["a.rttm", "gone.rttm"]


def test_junk_after_an_mp3_is_passed_over_quickly(tmp_path: Path) -> None:
    """30 MB of it took 84 s, byte by byte."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, sound(16000, 3.0), 16000, format="MP3", subtype="MPEG_LAYER_III")
    data = path.read_bytes().replace(b"Xing", b"XXXX").replace(b"Info", b"XXXX")
    path.write_bytes(data)
    own = mp3.counted_samples(str(path))
    assert own and abs(own - 3.0 * 16000) < 4 * 1152
    noise = np.random.default_rng(0).integers(0, 256, 8_000_000, dtype=np.uint8).tobytes()
    for junk in (bytes(8_000_000), b"\xff" * 8_000_000, b"\xff\xfb\x00\x00" * 2_000_000, noise):
        path.write_bytes(data + junk)
        began = time.process_time()
        counted = mp3.counted_samples(str(path))
        assert time.process_time() - began < 2.0
        assert counted == own or junk is noise  # which holds headers by chance


def test_a_length_that_no_format_can_hold_is_refused_at_once(tmp_path: Path) -> None:
    """A flipped bit made 300 billion samples of a small MP3."""
    path = tmp_path / "a.flac"
    soundfile.write(path, sound(16000, 1.0), 16000, format="FLAC", subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F  # of the 36 bits of its length, the first four
    path.write_bytes(data)
    with pytest.raises(decoding.UnreadableError, match=r"claims [\d,]+ h in [\d,]+ bytes"):
        decoding.info(str(path))
    soundfile.write(path, np.zeros(16000 * 3600, np.int16), 16000, format="FLAC")
    assert decoding.info(str(path)).duration == 3600.0


# ISO/IEC 11172-3, table 2.4.2.3 and 13818-3: kbit/s of layer III by the header's index.
KBPS = {
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {1: (44100, 48000, 32000), 2: (22050, 24000, 16000), 2.5: (11025, 12000, 8000)}
BITS = {1: 3, 2: 2, 2.5: 0}


def mp3_head(version: float, index: int, rate: int, padding: int, checked: bool = False) -> bytes:
    second = 0xE0 | BITS[version] << 3 | 1 << 1 | (not checked)
    return bytes((0xFF, second, index << 4 | rate << 2 | padding << 1, 0x64))


@pytest.mark.parametrize("version", RATES)
def test_every_frame_of_the_standard_has_its_size(version: float) -> None:
    for index, kbps in enumerate(KBPS[1 if version == 1 else 2], start=1):
        for rate, hz in enumerate(RATES[version]):
            samples = 1152 if version == 1 else 576
            size = samples // 8 * kbps * 1000 // hz
            for padding in (0, 1):
                head = mp3_head(version, index, rate, padding)
                assert mp3._frame(head) == (size + padding, samples)
                assert mp3._frame(head[:3]) == (0, 0)


def test_what_is_no_frame_has_no_size() -> None:
    right = mp3_head(1, 9, 0, 0)
    wrong = [mp3_head(1, index, 0, 0) for index in (0, 15)] + [mp3_head(1, 9, 3, 0)]
    wrong += [bytes((0xFE, *right[1:])), bytes((0xFF, 0xDB, *right[2:]))]  # no sync word
    wrong += [bytes((0xFF, second, *right[2:])) for second in (0xEB, 0xF9, 0xFD, 0xFF)]
    assert mp3._frame(right) == (417, 1152) and [mp3._frame(head) for head in wrong] == [(0, 0)] * 9


def test_frames_are_counted_over_tags_junk_and_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    heads = [mp3_head(2, index, 2, padding) for index in (3, 4, 14) for padding in (0, 1)]
    frames = [head + bytes(mp3._frame(head)[0] - 4) for head in heads]

    def counted(*parts: bytes) -> int | None:
        path.write_bytes(b"".join(parts))
        return mp3.counted_samples(str(path))

    assert counted(*frames) == 6 * 576 and counted() == 0
    assert counted(*frames, b"TAG" + bytes(125)) == 6 * 576
    assert counted(*frames, frames[0][:-1]) == 6 * 576  # its end is cut
    assert counted(frames[0], b"junk \xff\xf3 junk", *frames[1:]) == 6 * 576
    checked = mp3_head(2, 5, 2, 0, checked=True)
    assert counted(*frames, checked + bytes(mp3._frame(checked)[0] - 4)) == 7 * 576
    private = bytes((*heads[0][:2], heads[0][2] | 1, heads[0][3]))  # a bit for whatever one likes
    assert counted(*frames, private + bytes(len(frames[0]) - 4)) == 7 * 576
    for other in (mp3_head(1, 9, 2, 0), mp3_head(2, 9, 1, 0)):  # another version, another rate
        assert counted(*frames, other + bytes(mp3._frame(other)[0] - 4)) == 6 * 576
    many = frames * 400  # more than is read at once
    assert sum(map(len, many)) > 2 * mp3._STEP and counted(*many) == 2400 * 576
    length = 300
    sizes = bytes((length >> shift) & 0x7F for shift in (21, 14, 7, 0))
    tag = b"ID3\x04\x00\x00" + sizes
    assert (
        counted(tag, (frames[0] * 4)[:length], *frames) == 6 * 576
    )  # what a tag holds is no frame
    first = heads[0] + b"Info" + bytes(len(frames[0]) - 8)
    assert counted(first, *frames) is None
    assert counted(frames[0], first, *frames) == 8 * 576  # of the first frame alone
