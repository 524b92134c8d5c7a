"""What is known and said of audio files, to the letter: headers, spans, warnings, what is kept."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from audio_files import FORMATS, cut, make, sound, whole, write

from bab.audio import decoding, mp3, reading, seen, streaming
from bab.audio.decoding import UnreadableError
from bab.audio.streaming import Stream

REPLACE = "get it again, look with `bab data check`, or leave such files out with `--skip-bad`"
CONVERT = "convert it, e.g. with `ffmpeg -i IN OUT.wav`"
OLD = 1_600_000_000_000_000_000  # ns: long settled


def said(call: object, *given: object, **more: object) -> tuple[str, str]:
    with pytest.raises(UnreadableError) as caught:
        call(*given, **more)  # type: ignore[operator]
    return caught.value.kind, str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_header_says(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind, 16000, 2, 1.5)
    about = reading.info(path)
    ending, container, subtype = FORMATS[kind]
    assert (about.rate, about.channels, about.frames) == (16000, 2, len(whole(path, 16000)))
    assert about.duration == about.frames / 16000 == reading.duration(str(path))
    assert (about.format, about.subtype) == (container.removesuffix("EX"), subtype)
    assert about.truncated == "" and path.suffix == f".{ending}"


def test_what_is_said_of_files_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    gone = f"{path}: there is no such file; check the corpus's path"
    assert said(reading.info, path) == ("missing", gone)
    assert said(reading.info, path / "b.wav")[0] == "missing"
    assert said(reading.info, tmp_path) == (
        "unsupported",
        f"{tmp_path}: is a folder, and no file; check the corpus's path",
    )

    def refused(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    path.write_text("x")
    with monkeypatch.context() as patch:
        patch.setattr("bab.audio.wav.data_chunk", refused)
        told = f"{path}: can't be read (Permission denied); see its permissions, and its disk"
        assert said(reading.info, path) == ("unreadable", told)
    path.write_text("")
    assert said(reading.info, path) == ("empty", f"{path}: the file is empty (0 bytes); {REPLACE}")
    blocked = path / "b.wav"
    told = said(reading.info, blocked)[1]
    assert told.startswith(f"{blocked}: [Errno 20]") and told.endswith("; check the corpus's path")
    for text in (path, path.with_suffix(".mp3")):
        text.write_text("no audio" * 9)
        assert said(reading.info, text) == (
            "unsupported",
            f"{text}: it can't be decoded (Format not recognised): not a wav, flac, ogg, opus or "
            f"mp3 file, or cut off in its header; {CONVERT}",
        )
    write(path, np.zeros((0, 1), np.float32), 8000)
    nothing = f"{path}: the file holds no sound (0 samples); {REPLACE}"
    assert said(reading.info, path) == ("zero-length", nothing)
    data = bytearray(write(path, sound(8000, 1.0), 8000).read_bytes())
    for rate, fine in ((999, False), (1000, True), (768_000, True), (768_001, False)):
        data[24:28] = rate.to_bytes(4, "little")
        path.write_bytes(data)
        if fine:
            assert reading.info(path).rate == rate
            continue
        told = f"its header claims {rate:,} samples per second, which no recording has"
        assert said(reading.info, path) == ("implausible", f"{path}: {told}; {REPLACE}")


def test_a_length_that_no_bytes_can_hold(tmp_path: Path) -> None:
    """36 bits of a FLAC's header; 6,000 samples in a byte are the most that is believed."""
    path = write(tmp_path / "a.flac", sound(8000, 1.0), 8000, "flac")
    data = bytearray(path.read_bytes())
    most = 6000 * len(data)
    for frames, fine in ((most, True), (most + 1, False)):
        data[21] = (data[21] & 0xF0) | frames >> 32
        data[22:26] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
        path.write_bytes(data)
        if fine:
            assert reading.info(path).frames == frames
            continue
        hours = f"{frames / 8000 / 3600:,.0f} h in {len(data):,} bytes"
        told = f"its header claims {hours}, which no format can hold"
        assert said(reading.info, path) == ("implausible", f"{path}: {told}; {REPLACE}")


def test_an_mp3_that_is_as_long_as_libsndfile_guesses(tmp_path: Path) -> None:
    """Of a constant bit rate, without the frame that says its length."""
    path = tmp_path / "a.mp3"
    asked = {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": 0.5}
    with soundfile.SoundFile(path, "w", 16000, 1, **asked) as file:
        file.write(sound(16000, 3.0))
    path.write_bytes(path.read_bytes().replace(b"Xing", b"XXXX").replace(b"Info", b"XXXX"))
    counted = mp3.counted_samples(str(path))
    about = soundfile.info(path)
    assert counted and abs(about.frames - counted) <= 1152
    assert reading.info(path).frames == min(about.frames, counted)
    assert reading.check(path) == []


def test_what_is_said_of_a_truncated_file(tmp_path: Path) -> None:
    path = make(tmp_path, "wav-16", 8000, 1, 2.0)
    path.write_bytes(path.read_bytes()[: 44 + 16000])  # 1 of 2 s
    lost = f"the last {16000 / 16044:.2f} s that its header promises"
    assert reading.info(path).truncated == lost and reading.info(path).duration == 1.0
    told = f"{path}: the file is truncated: it stops at 1.000 s and lacks {lost}; {REPLACE}"
    assert reading.peek(path) == reading.Problem(str(path), "truncated", told, True)
    assert reading.check(path) == [reading.peek(path)]
    asked = "the file is truncated: {} s were asked, it stops at 1.000 s and lacks " + lost
    for span, words in (((0.5, 1.0), "0.500 to 1.000"), ((0.0, None), "0.000 to 1.000"),
                        ((1.5, 2.5), "1.500 to 2.500")):  # fmt: skip
        kind, message = said(reading.read, path, *span)
        assert (kind, message) == ("truncated", f"{path}: {asked.format(words)}; {REPLACE}")
    assert len(reading.read(path, 0.5, 0.9999)) == 3999
    with pytest.raises(UnreadableError) as caught:
        streaming.open_stream(str(path))
    assert str(caught.value) == f"{path}: the file is truncated: it lacks {lost}; get it again"
    ogg = cut(make(tmp_path, "ogg", 8000, 1, 9.0), 0.7)
    assert reading.info(ogg).truncated == "its last page (if nothing more is to be had, convert it)"


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        (-0.25, 1.0, "-0.250 to 1.000 s were asked, which is no stretch of time"),
        (1.0, 1.0, "1.000 to 1.000 s were asked, which is no stretch of time"),
        (1.0, 0.5, "1.000 to 0.500 s were asked, which is no stretch of time"),
        (2.0, None, "2.000 to 2.000 s were asked, which is no stretch of time"),
        (2.0, 3.0, "2.000 to 3.000 s were asked, but it ends at 2.000 s"),
    ],
)
def test_spans_that_are_none(tmp_path: Path, start: float, end: float | None, told: str) -> None:
    path = make(tmp_path, "wav-16", 8000, 1, 2.0)
    kind, message = said(reading.read, path, start, end)
    assert (kind, message) == ("span", f"{path}: {told}; check the corpus's times")


def test_spans_are_rounded_to_samples_of_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    path = make(tmp_path, "wav-float", 8000, 1, 2.0)
    full = whole(path, 8000)
    np.testing.assert_array_equal(reading.read(path, 0.99990, 1.0002), full[7999:8002])
    np.testing.assert_array_equal(reading.read(path, 0.0, 0.000125), full[:1])
    np.testing.assert_array_equal(reading.read(path, 1.999875, None), full[-1:])
    assert (
        len(reading.read(path, 1.0, 99.0)) == 8000 and len(reading.read(path, rate=12000)) == 24000
    )
    odd = write(tmp_path / "odd.wav", sound(8000, 1.0)[:7999], 8000, "wav-float")
    for rate in (16000, 11025, 4000):  # as long as soxr makes the whole
        assert len(reading.read(odd, rate=rate)) == len(soxr.resample(whole(odd, 8000), 8000, rate))


def test_pieces_of_five_minutes_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path, "wav-float", 8000, 1, 3.0)
    taken: list[tuple[int, int]] = []
    real = decoding.samples
    monkeypatch.setattr(decoding, "samples", lambda p, a, b: taken.append((a, b)) or real(p, a, b))
    monkeypatch.setattr(reading, "_PIECE", 1.0)
    np.testing.assert_array_equal(reading.read(path, 0.5, 2.75), whole(path, 8000)[4000:22000])
    assert taken == [(4000, 12000), (12000, 20000), (20000, 22000)]
    taken.clear()
    reading.read(path, 0.5, 1.5)  # not more than a piece
    assert taken == [(4000, 12000)]


def test_a_span_is_decoded_with_a_margin_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """512 samples of the slower rate on each side, from a place that both rates share."""
    path = make(tmp_path, "wav-float", 44100, 1, 9.0)
    taken: list[tuple[int, int]] = []
    real = decoding.samples
    monkeypatch.setattr(decoding, "samples", lambda p, a, b: taken.append((a, b)) or real(p, a, b))
    reading.read(path, 4.0, 5.0, 16000)
    ((begin, stop),) = taken
    margin = 512 * 44100 / 16000
    assert begin % 441 == 0 and 0 <= 4 * 44100 - margin - begin < 442
    assert 0 <= stop - (5 * 44100 + margin) < 2
    taken.clear()
    reading.read(path, 0.0, 0.01, 48000)
    assert taken == [(0, 441 + 512)]
    taken.clear()
    reading.read(path, 8.99, None, 16000)
    assert taken[0][1] == 9 * 44100


def test_blocks_are_the_file_and_end_where_decoding_stops(tmp_path: Path) -> None:
    path = make(tmp_path, "wav-16", 8000, 2, 2.0)
    with soundfile.SoundFile(path) as file:
        samples = file.read(dtype="float32", always_2d=True)
    for size in (1000, 7000, 16000, 1 << 16):
        made = list(decoding.blocks(str(path), size))
        assert [len(block) for block in made[:-1]] == [size] * (len(made) - 1)
        np.testing.assert_array_equal(np.concatenate(made), samples)
    flac = cut(write(tmp_path / "a.flac", sound(8000, 9.0), 8000, "flac"), 0.7)
    kind, message = said(lambda: list(decoding.blocks(str(flac), 4096)))
    assert kind == "truncated" and "s were asked of 9.000 s, and decoding stops at " in message
    begun = message.split("damaged: ")[1].split(" to ")[0]
    assert float(begun) * 8000 % 4096 < 1 and message.endswith(f"s; {REPLACE}")


def test_a_sample_that_isn_t_finite_is_named_by_its_time(tmp_path: Path) -> None:
    samples = sound(8000, 2.0, 2)
    samples[12000, 1] = np.inf
    path = write(tmp_path / "a.wav", samples, 8000, "wav-float")
    told = f"{path}: a sample is NaN or infinite at 1.5000 s; {REPLACE}"
    assert said(reading.read, path, 0.25, 2.0) == ("not-finite", told)
    assert reading.check(path) == [reading.Problem(str(path), "not-finite", told, True)]
    assert len(reading.read(path, 0.0, 1.5)) == 12000


def test_a_loud_and_a_silent_file_to_the_letter(tmp_path: Path) -> None:
    """Warned of are a peak under 1e-4, and more than one sample in a hundred at full scale."""

    def checked(wave: np.ndarray, kind: str = "wav-float") -> list[str]:
        path = write(tmp_path / "a.wav", wave.astype(np.float32)[:, None], 8000, kind)
        problems = reading.check(path)
        assert not any(problem.fatal for problem in problems)
        return [problem.message.removeprefix(f"{path}: ") for problem in problems]

    wave = np.full(1000, 0.5)
    wave[:10] = -0.999
    assert checked(wave) == []
    wave[10] = 0.9995
    assert checked(wave) == ["1.1 % of the samples are at full scale (clipped)"]
    wave[:11] = 0.9985
    assert checked(wave) == []
    assert checked(np.full(1000, 1.0001e-4)) == []
    assert checked(np.full(1000, -0.5e-4)) == ["all of it is silent (peak 5.0e-05)"]
    wave[:20] = 0.9951  # 127 of 128
    assert checked(wave, "wav-8") == ["2.0 % of the samples are at full scale (clipped)"]
    assert checked(wave, "wav-16") == []


# ------------------------------------------------------------------------------- what is remembered


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BAB_CACHE", str(tmp_path / "cache"))
    seen._folders.clear()
    return tmp_path / "cache"


def test_facts_of_a_file_are_added_up_and_kept(cache: Path) -> None:
    assert seen.recall("/x/a.wav", 5, OLD) == (False, "", None)
    seen.note("/x/a.wav", 5, OLD, sound=True)
    assert seen.recall("/x/a.wav", 5, OLD) == (True, "", None)
    seen.note("/x/a.wav", 5, OLD, content="c")
    seen.note("/x/a.wav", 5, OLD, header=[1])
    for _ in range(2):
        assert seen.recall("/x/a.wav", 5, OLD) == (True, "c", [1])
        assert seen.recall("/x/a.wav", 6, OLD) == (False, "", None)
        assert seen.recall("/x/a.wav", 5, OLD + 1) == (False, "", None)
        assert seen.recall("/x/b.wav", 5, OLD) == (False, "", None)
        seen.save()
        assert seen._folders == {}
    seen.note("/x/a.wav", 6, OLD, content="d")  # another file by now
    seen.note("/x/b.wav", 1, OLD)
    seen.save()
    assert seen.recall("/x/a.wav", 6, OLD) == (False, "d", None)
    assert seen.recall("/x/b.wav", 1, OLD) == (False, "", None)
    (entry,) = cache.glob("files/*/*.json")
    assert len(entry.parent.name) == 2 and len(entry.stem) == 30
    digest, text = entry.read_bytes().split(b"\n")
    assert len(digest) == 32 and json.loads(text)["files"]["b.wav"] == [1, OLD, False, "", None]


def test_only_what_is_new_is_written_and_added_to_what_others_wrote(cache: Path) -> None:
    seen.note("/x/a.wav", 5, OLD, content="a")
    seen.save()
    (entry,) = cache.glob("files/*/*.json")
    os.utime(entry, ns=(OLD, OLD))
    seen.recall("/x/a.wav", 5, OLD)
    seen.save()
    assert entry.stat().st_mtime_ns == OLD  # nothing was learnt
    seen.recall("/x/a.wav", 5, OLD)
    held = seen._folders.copy()
    seen.note("/x/b.wav", 5, OLD, content="b")
    seen._folders.clear()  # meanwhile another process notes, and saves
    seen.note("/x/c.wav", 5, OLD, content="c")
    seen.save()
    seen._folders.update(held)
    seen.save()
    told = [seen.recall(f"/x/{name}.wav", 5, OLD)[1] for name in "abc"]
    assert told == ["a", "b", "c"] and not list(cache.glob("files/*/.*"))


def test_a_file_of_the_last_two_seconds_is_not_noted(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, known in ((2_000_000_000, False), (2_000_000_001, True)):
        monkeypatch.setattr(seen.time, "time_ns", lambda now=OLD + age: now)
        seen.note("/x/a.wav", 5, OLD, content="c")
        assert (seen.recall("/x/a.wav", 5, OLD)[1] == "c") == known


def test_a_cache_that_can_t_be_written_costs_time_alone(cache: Path) -> None:
    cache.mkdir()
    (cache / "files").write_text("a file where a folder should be")
    seen.note("/x/a.wav", 5, OLD, content="c")
    seen.save()
    assert seen.recall("/x/a.wav", 5, OLD)[1] == ""


def test_each_cache_folder_has_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen.note("/x/a.wav", 5, OLD, content="c")
    monkeypatch.setenv("BAB_CACHE", str(cache / "other"))
    assert seen.recall("/x/a.wav", 5, OLD)[1] == ""
    monkeypatch.setenv("BAB_CACHE", str(cache))
    assert seen.recall("/x/a.wav", 5, OLD)[1] == "c"
    monkeypatch.chdir(cache.parent)
    seen.note("a.wav", 5, OLD, content="d")  # from the folder that one is in
    seen.save()
    assert seen.recall(str(cache.parent / "a.wav"), 5, OLD)[1] == "d"


# ------------------------------------------------------------------------------- streams


def test_a_stream_comes_in_blocks_of_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, "wav-float", 8000, 2, 3.3)
    stream = streaming.open_stream(str(path))
    assert stream == Stream(str(path), 3.3, 2, 8000, foreign=False)
    monkeypatch.setattr(streaming, "_BLOCK", 1.0)
    full = whole(path, 8000)

    def sizes(**asked: float) -> list[int]:
        made = list(streaming.blocks(stream, 8000, **asked))  # type: ignore[arg-type]
        first = round(asked.get("start", 0) * 8000) + int(asked.get("skip", 0))
        joined = np.concatenate(made) if made else np.zeros(0)
        np.testing.assert_array_equal(joined, full[first : first + len(joined)])
        return [len(block) for block in made]

    assert sizes() == [8000, 8000, 8000, 2400]
    assert sizes(start=0.5, end=2.0) == [8000, 4000] and sizes(skip=26399) == [1]
    assert sizes(skip=26400) == [] and sizes(end=1.0) == [8000] and sizes(start=1.0, end=1.0) == []
    assert sizes(start=3.0, end=9.0) == [2400]  # less than was asked: that is the end


def test_pieces_of_any_size_are_cut_alike() -> None:
    wave = np.arange(100, dtype=np.float32)
    for size in (1, 7, 30, 100):
        for first, end in ((0, None), (10, 5.0), (0, 10.0), (29, 3.0), (99, None), (50, 5.0)):
            pieces = [wave[at : at + size] for at in range(0, 100, size)]
            made = list(streaming._cut(iter([wave[:0], *pieces]), first, end, 10))
            assert all(len(piece) for piece in made)
            wanted = wave[first : None if end is None else round(end * 10)]
            np.testing.assert_array_equal(np.concatenate([wave[:0], *made]), wanted)


def test_standard_error_is_left_alone_for_files_that_are_no_mp3(tmp_path: Path) -> None:
    for start, may in ((b"RIFF", False), (b"RF64", False), (b"fLaC", False), (b"OggS", False),
                       (b"FORM", False), (b"ID3\x04", True), (b"\xff\xfb\x90d", True)):  # fmt: skip
        (tmp_path / "a").write_bytes(start + bytes(9))
        assert decoding._maybe_mp3(str(tmp_path / "a")) == may
    assert not decoding._maybe_mp3(str(tmp_path / "gone"))


@pytest.mark.parametrize(("at", "left"), [(0, 5), (8, 2), (10, 0), (11, 0)])
def test_where_a_seek_led_to_beyond_the_end_there_is_nothing(at: int, left: int) -> None:
    """As in damaged MP3 files, where libsndfile would be asked for less than nothing."""

    class Opened:
        frames = 10

        def tell(self) -> int:
            return at

        def read(self, count: int, dtype: str, always_2d: bool) -> np.ndarray:
            assert (dtype, always_2d) == ("float32", True) and count == 5 and self.frames > at
            return np.ones((min(count, self.frames - at), 1), np.float32)

    assert decoding._read(Opened(), 5).shape == (left, 1)


def test_mp3_files_stay_open_as_far_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding._mp3_files.clear()
    monkeypatch.setattr(decoding, "_MP3_HANDLES", 2)
    opened: list[str] = []
    real = decoding._open
    monkeypatch.setattr(decoding, "_open", lambda path: opened.append(path) or real(path))
    paths = []
    for name in "abc":
        made = make(tmp_path, "mp3", 16000, 1, 3.0).rename(tmp_path / f"{name}.mp3")
        reading.info(made)
        paths.append(made)
    opened.clear()
    a, b, c = paths
    for path in (a, b, a, b, c, b, c, a):
        reading.read(path, 1.0, 1.5)
    assert [Path(path).stem for path in opened] == ["a", "b", "c", "a"]
    assert len(decoding._mp3_files) == 2
    thread = threading.Thread(target=reading.read, args=(b, 1.0, 1.5))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    decoding._mp3_files.clear()
