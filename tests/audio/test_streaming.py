"""Files as a stream: the same samples as when they are read whole, whatever holds them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bab.audio import streaming
from bab.audio.decoding import UnreadableError
from bab.audio.reading import read

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stereo noise of 150 s at 22,050 Hz, two of the blocks that streams come in and a half."""
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, (22050 * 150, 2))
    soundfile.write(path, noise, 22050, subtype="PCM_16")
    return path


def whole(path: Path, rate: int, **options: float) -> np.ndarray:
    stream = streaming.open_stream(str(path))
    return np.concatenate(list(streaming.blocks(stream, rate, **options)))  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [16000, 22050])
def test_blocks_are_the_file(sound: Path, rate: int) -> None:
    found = whole(sound, rate)
    wanted = read(str(sound), 0.0, None, rate)
    assert len(found) == len(wanted)
    assert np.abs(found - wanted).max() < 1e-4


@pytest.mark.parametrize(
    ("start", "end", "skip"), [(0, None, 1234567), (61.5, 130.25, 7), (3, 4, 0)]
)
def test_a_span_from_any_sample_on(sound: Path, start: float, end: float | None, skip: int) -> None:
    found = whole(sound, 16000, start=start, end=end, skip=skip)  # type: ignore[arg-type]
    wanted = read(str(sound), 0.0, None, 16000)[round(start * 16000) :]
    wanted = wanted[: None if end is None else round((end - start) * 16000)][skip:]
    assert len(found) == len(wanted) and np.abs(found - wanted).max() < 1e-4


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".mka", ".3gp"])
def test_what_ffmpeg_decodes_is_what_it_decodes_to_a_file(
    sound: Path, tmp_path: Path, suffix: str
) -> None:
    path, again = tmp_path / f"phone{suffix}", tmp_path / "decoded.wav"
    quiet = ["ffmpeg", "-v", "error", "-y"]
    subprocess.run([*quiet, "-i", sound, "-t", "70", "-c:a", "aac", path], check=True)
    subprocess.run([*quiet, "-i", path, "-c:a", "pcm_f32le", again], check=True)
    found, wanted = whole(path, 16000), read(str(again), 0.0, None, 16000)
    assert abs(len(found) - len(wanted)) <= 1
    n = min(len(found), len(wanted))
    assert np.abs(found[:n] - wanted[:n]).max() < 1e-4
    part = whole(path, 16000, start=10.0, end=20.0, skip=99)
    assert np.abs(part - found[160099:320000]).max() < 1e-6


@needs_ffmpeg
def test_a_foreign_file_that_is_cut_off_or_no_audio_is_refused(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "phone.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", sound, "-t", "5", path], check=True)
    for name, data in (("cut.m4a", path.read_bytes()[:2000]), ("text.mp4", b"hello")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableError, match=name):
            whole(tmp_path / name, 16000)


def test_without_ffmpeg_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "phone.m4a").write_bytes(b"\0" * 5000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreadableError, match=r"phone\.m4a.*apt install ffmpeg"):
        streaming.open_stream(str(tmp_path / "phone.m4a"))


def test_nothing_that_looks_like_audio_is_passed_over() -> None:
    for name in ("a.wav", "A.FLAC", "b.m4a", "c.MP4", "d.amr", "e.wma", "f.aiff", "g.opus"):
        assert streaming.looks_like_audio(Path(name)), name
    for name in ("a.txt", "b.rttm", "c.csv", "wav"):
        assert not streaming.looks_like_audio(Path(name)), name
