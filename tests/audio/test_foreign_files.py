"""What ffmpeg is asked and what is made of its answers, with programs that answer as it does."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soxr
from audio_files import make, whole

from bab.audio import decoding, streaming
from bab.audio.decoding import UnreadableError
from bab.audio.streaming import FOREIGN, Stream, blocks, open_stream

PROGRAM = """#!{python} -IS
import sys
here = {here!r}
with open(here + "/asked", "a") as file:
    print({name!r}, *sys.argv[1:], sep="\\n", end="\\n--\\n", file=file)
sys.stderr.write(open(here + "/{name}.err").read())
sys.stdout.buffer.write(open(here + "/{name}.out", "rb").read())
sys.exit(int(open(here + "/{name}.rc").read()))
"""


class Programs:
    """ffprobe and ffmpeg that say what a test tells them to."""

    def __init__(self, here: Path) -> None:
        self.here = here
        for name in ("ffprobe", "ffmpeg"):
            path = here / name
            path.write_text(PROGRAM.format(python=sys.executable, here=str(here), name=name))
            path.chmod(0o755)
            self.says(name)

    def says(self, name: str, out: bytes = b"", err: str = "", status: int = 0) -> None:
        (self.here / f"{name}.out").write_bytes(out)
        (self.here / f"{name}.err").write_text(err)
        (self.here / f"{name}.rc").write_text(str(status))

    def asked(self) -> list[list[str]]:
        text = (self.here / "asked").read_text()
        (self.here / "asked").unlink()
        return [one.strip("\n").split("\n") for one in text.split("--\n") if one.strip()]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    here = tmp_path / "bin"
    here.mkdir()
    monkeypatch.setenv("PATH", str(here))
    return Programs(here)


@pytest.fixture
def phone(tmp_path: Path) -> str:
    path = tmp_path / "phone.m4a"
    path.write_bytes(bytes(5000))
    return str(path)


def refused(call: Any, *given: Any) -> tuple[str, str]:
    with pytest.raises(UnreadableError) as caught:
        call(*given)
    return caught.value.kind, str(caught.value)


def probed(**stream: object) -> bytes:
    about = stream.pop("format", {})
    return json.dumps({"streams": [stream], "format": about}).encode()


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ({"duration": "3.5"}, 3.5),
        ({"duration": "3.5", "format": {"duration": "9"}}, 3.5),
        ({"format": {"duration": "2.25"}}, 2.25),
        ({}, 0.0),
    ],
)
def test_what_ffprobe_says(
    programs: Programs, phone: str, answer: dict[str, Any], seconds: float
) -> None:
    programs.says("ffprobe", probed(sample_rate="44100", channels=2, **answer))
    assert open_stream(phone) == Stream(phone, seconds, 2, 44100, foreign=True)
    (asked,) = programs.asked()
    loud = Path(phone).rename(Path(phone).with_name("PHONE.M4A"))
    assert open_stream(str(loud)).foreign
    assert asked == [
        "ffprobe", "-v", "error", "-select_streams", "a:0", "-of", "json", "-show_entries",
        "stream=sample_rate,channels,duration:format=duration", "-protocol_whitelist", "file,pipe",
        "-i", f"file:{phone}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("out", "err", "why"),
    [
        (b"", "", "it holds no sound"),
        (b'{"streams": []}', "first\nlast line \n\n", "last line"),
        (b"{}", "x" * 300, "x" * 200),
        (b"[1]", "", "it holds no sound"),
        (b'{"streams": [{"sample_rate": null, "channels": 1}]}', "", "it holds no sound"),
        (b"no JSON", "moov atom not found", "moov atom not found"),
        (b'{"streams": [{"channels": 1}]}', "", "it holds no sound"),
        (b'{"streams": [{"sample_rate": "many", "channels": 1}]}', "", "it holds no sound"),
    ],
)
def test_what_ffprobe_can_t_read(
    programs: Programs, phone: str, out: bytes, err: str, why: str
) -> None:
    programs.says("ffprobe", out, err, 1)
    assert refused(open_stream, phone) == ("unsupported", f"{phone}: ffmpeg can't read it: {why}")


def test_a_program_that_isn_t_there_is_named(programs: Programs, phone: str) -> None:
    def told(name: str) -> str:
        return (
            f"{phone}: .m4a files are read by ffmpeg, which isn't installed (no `{name}` on the "
            "PATH): install it (https://ffmpeg.org, `apt install ffmpeg`, `brew install ffmpeg`, "
            "`conda install ffmpeg`), or convert the file to wav"
        )

    programs.says("ffprobe", probed(sample_rate="8000", channels=1))
    (programs.here / "ffmpeg").unlink()
    assert refused(open_stream, phone) == ("unsupported", told("ffmpeg"))
    (programs.here / "ffprobe").unlink()
    assert refused(open_stream, phone) == ("unsupported", told("ffprobe"))
    other = Path(phone).with_suffix(".xyz")
    other.write_bytes(bytes(5000))
    assert "not a wav, flac" in refused(open_stream, str(other))[1]  # ffmpeg isn't asked
    assert refused(open_stream, "gone.m4a")[0] == "missing"


def test_samples_come_through_a_pipe(programs: Programs, phone: str) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, (150_001, 2)).astype("<f4")
    programs.says("ffmpeg", wave.tobytes() + b"xyz")  # half a sample at the end is none
    stream = Stream(phone, 0.0, 2, 8000, foreign=True)
    made = list(blocks(stream, 8000))
    assert [len(block) for block in made] == [65536, 65536, 150_001 - 2 * 65536]
    mono = wave.mean(1, dtype=np.float32)
    np.testing.assert_array_equal(np.concatenate(made), mono)
    (asked,) = programs.asked()
    assert asked == [
        "ffmpeg", "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe", "-i",
        f"file:{phone}", "-map", "a:0", "-ar", "8000", "-ac", "2", "-f", "f32le", "-c:a",
        "pcm_f32le", "pipe:1",
    ]  # fmt: skip
    twice = np.concatenate(list(blocks(stream, 16000)))
    np.testing.assert_allclose(twice, soxr.resample(mono, 8000, 16000), atol=1e-4)
    part = np.concatenate(list(blocks(stream, 8000, start=1.0, end=2.5, skip=5)))
    np.testing.assert_array_equal(part, mono[8005:20000])


@pytest.mark.parametrize(
    ("out", "err", "status", "why"),
    [
        (np.zeros(9, "<f4").tobytes(), "a\nInvalid data\n", 1, "Invalid data"),
        (np.zeros(9, "<f4").tobytes(), "", 1, "it holds no sound"),
        (b"", "", 0, "it holds no sound"),
        (b"abc", "odd", 0, "odd"),
    ],
)
def test_what_stops_ffmpeg(
    programs: Programs, phone: str, out: bytes, err: str, status: int, why: str
) -> None:
    programs.says("ffmpeg", out, err, status)
    stream = Stream(phone, 0.0, 1, 8000, foreign=True)
    told = f"{phone}: ffmpeg stopped: {why}; get it again"
    assert refused(lambda: list(blocks(stream, 8000))) == ("truncated", told)


def test_samples_of_ffmpeg_that_aren_t_finite(programs: Programs, phone: str) -> None:
    programs.says("ffmpeg", np.array([0, np.inf], "<f4").tobytes())
    stream = Stream(phone, 0.0, 1, 8000, foreign=True)
    told = f"{phone}: samples that aren't finite"
    assert refused(lambda: list(blocks(stream, 8000))) == ("not-finite", told)


def test_complaints_are_passed_over_where_there_is_sound(programs: Programs, phone: str) -> None:
    for count in (1, 9):
        programs.says("ffmpeg", np.ones(count, "<f4").tobytes(), "a frame was broken\n")
        made = list(blocks(Stream(phone, 0.0, 1, 8000, foreign=True), 8000))
        assert np.concatenate(made).tolist() == [1.0] * count


def test_a_few_samples_are_not_lost_when_they_are_resampled(programs: Programs, phone: str) -> None:
    """The resampler gives nothing before its end."""
    wave = np.linspace(-0.5, 0.5, 40).astype("<f4")
    programs.says("ffmpeg", wave.tobytes())
    made = np.concatenate(list(blocks(Stream(phone, 0.0, 1, 8000, foreign=True), 16000)))
    np.testing.assert_allclose(made, soxr.resample(wave, 8000, 16000), atol=1e-4)


def test_a_reader_that_goes_leaves_no_program_behind(programs: Programs, phone: str) -> None:
    programs.says("ffmpeg", np.zeros(10**6, "<f4").tobytes())
    reader = blocks(Stream(phone, 0.0, 1, 8000, foreign=True), 8000)
    assert len(next(reader)) == 65536
    mine = str(programs.here / "ffmpeg")
    assert any(mine in child.cmdline() for child in psutil.Process().children())
    reader.close()
    assert not any(mine in child.cmdline() for child in psutil.Process().children())


def test_names_of_recordings() -> None:
    for name in ("a.wav", "a.M4A", "b.w64", "x.caf", "y.webm"):
        assert streaming.looks_like_audio(Path(name))
    assert not streaming.looks_like_audio(Path("a.txt")) and ".wav" not in FOREIGN


# ------------------------------------------------------------------------------- standard error


def test_without_standard_error_an_mp3_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, "mp3", 16000, 1, 2.0)

    def closed(number: int) -> int:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(decoding.os, "dup", closed)
    decoding._probe.cache_clear()
    assert decoding.info(str(path)).frames == len(whole(path, 16000))
    assert len(decoding.samples(str(path), 16000, 16100)) == 100


def test_files_kept_open_are_closed_at_the_end(tmp_path: Path) -> None:
    path = str(make(tmp_path, "mp3", 16000, 1, 2.0))
    decoding.samples(path, 16000, 16100)
    (kept,) = [file for (name, _, _), file in decoding._mp3_files.items() if name == path]
    decoding.close_kept()
    assert kept.closed
    assert not decoding._mp3_files
    assert len(decoding.samples(path, 16000, 16100)) == 100


def test_a_child_begins_without_open_files_and_with_a_free_lock(tmp_path: Path) -> None:
    path = str(make(tmp_path, "mp3", 16000, 1, 2.0))
    decoding.samples(path, 16000, 16100)
    assert decoding._mp3_files
    child = os.fork()
    if child == 0:  # the lock is free in a thread, too, and nothing is open
        status = 1
        try:
            free: list[bool] = []
            thread = threading.Thread(
                target=lambda: free.append(decoding._mp3_lock.acquire(timeout=1))
            )
            thread.start()
            thread.join(5)
            status = 0 if free == [True] and not decoding._mp3_files else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert decoding._mp3_files
    assert decoding._mp3_lock.acquire(blocking=False)
    decoding._mp3_lock.release()
    with pytest.raises(RuntimeError):
        decoding._mp3_lock.release()
