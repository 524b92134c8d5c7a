"""Reading audio: any span of any file equals that span of the whole file."""

from __future__ import annotations

import math
import multiprocessing
import struct
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from audio_files import FORMATS, make, sound, sparse_wav, whole, write
from places import REAL

from bab.audio import decoding, ogg, reading
from bab.audio.wav import data_chunk
from bab.core.errors import AudioError


def spans(duration: float, count: int, seed: int) -> list[tuple[float, float]]:
    """Random spans, short and long, and those that touch the borders of the file."""
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, duration - 0.05, count)
    lengths = np.exp(rng.uniform(math.log(0.002), math.log(4), count))
    late = duration - rng.uniform(0.01, 1, count // 3)
    found = [(float(a), float(a + d)) for a, d in zip(starts, lengths, strict=True)]
    found += [(float(a), float(a) + 2) for a in late]
    return [*found, (0.0, 0.3), (0.0, duration), (1.0, 2.0), (duration - 0.05, duration)]


def worst(path: Path, rate: int, count: int = 18) -> float:
    """The largest difference between spans and the whole file. Lengths must agree exactly."""
    reference = whole(path, rate)
    largest = 0.0
    for start, end in spans(reading.duration(path), count, seed=rate):
        got = reading.read(path, start, end, rate)
        expected = reference[round(start * rate) : round(end * rate)]
        assert got.shape == expected.shape, (start, end)
        assert got.dtype == np.float32
        largest = max(largest, float(np.abs(got - expected).max(initial=0)))
    return largest


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("kind", [k for k in FORMATS if k.startswith("wav")])
def test_spans_of_every_wav(tmp_path: Path, kind: str, channels: int) -> None:
    path = make(tmp_path, kind, 44100, channels, 6.1)
    assert worst(path, 44100) == pytest.approx(0, abs=1e-6)
    assert worst(path, 16000) < 1e-4


@pytest.mark.parametrize("target", [16000, 48000])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000])
def test_spans_at_every_rate(tmp_path: Path, rate: int, target: int) -> None:
    assert worst(make(tmp_path, "wav-float", rate), target) < 1e-5


@pytest.mark.parametrize(
    ("kind", "rate", "channels"),
    [
        ("flac", 44100, 2),
        ("ogg", 8000, 1),
        ("ogg", 16000, 2),
        ("ogg", 44100, 1),
        ("opus", 16000, 1),
        ("opus", 48000, 2),
        ("mp3", 16000, 1),
        ("mp3", 22050, 2),
        ("mp3", 44100, 1),
    ],
)
def test_spans_of_compressed_files(tmp_path: Path, kind: str, rate: int, channels: int) -> None:
    path = make(tmp_path, kind, rate, channels, 40.137 if kind == "ogg" else 20.137)
    assert worst(path, rate, 20 if kind == "opus" else 45) < 1e-5
    assert worst(path, 16000 if rate != 16000 else 48000, 6) < 1e-5


@pytest.mark.parametrize(("kind", "seconds"), [("ogg", 90.0), ("opus", 60.0)])
def test_ogg_is_not_decoded_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seconds: float
) -> None:
    path = make(tmp_path, kind, 16000, 1, seconds)
    taken: list[int] = []
    real = ogg._decode

    def counted(data: bytes, limit: int) -> np.ndarray:
        out = real(data, limit)
        taken.append(len(out))
        return out

    monkeypatch.setattr(ogg, "_decode", counted)
    monkeypatch.setattr(decoding, "_from_beginning", None)  # calling it would fail
    reading.read(path, seconds - 30, seconds - 29)
    taken.clear()
    reading.read(path, seconds - 20, seconds - 19)
    assert sum(taken) < 10 * 16000


def test_a_stream_that_begins_late_is_read_from_its_first_sample(tmp_path: Path) -> None:
    """A Vorbis file cut out of a running stream: its first position isn't 0."""
    path = make(tmp_path, "ogg", 16000, 1, 30.0)
    data = path.read_bytes()
    pages = []
    with path.open("rb") as file:
        pages = list(ogg._pages(file, 0))
    late = tmp_path / "late.ogg"
    parts = []
    for number, page in enumerate(pages):
        granule = page.granule + 1_000_000 if page.granule > 0 else page.granule
        body = data[page.at : page.end]
        parts.append(ogg._stamp(body, number, page.flags, granule))
    late.write_bytes(b"".join(parts))
    assert reading.info(late).frames == reading.info(path).frames
    assert worst(late, 16000) < 1e-5


def test_resampling_neither_delays_nor_scales(tmp_path: Path) -> None:
    t = np.arange(44100 * 3) / 44100
    path = write(tmp_path / "a.wav", np.sin(2 * np.pi * 440 * t)[:, None], 44100, "wav-float")
    got = reading.read(path, 1.0, 2.0, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000, 32000) / 16000)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_channels_are_averaged_and_the_native_rate_is_kept(tmp_path: Path) -> None:
    both = np.stack([np.full(800, 0.5), np.full(800, -0.25)], axis=1)
    path = write(tmp_path / "a.wav", both, 8000, "wav-float")
    np.testing.assert_array_equal(reading.read(path), np.full(800, 0.125, np.float32))


def test_a_long_span_in_pieces_equals_one_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PIECE", 0.7)
    path = make(tmp_path, "wav-float", 44100, 2)
    np.testing.assert_allclose(reading.read(path, rate=16000), whole(path, 16000), atol=1e-5)


def _bytes_read() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the kernel counts no bytes read")
@pytest.mark.parametrize(("rate", "hours"), [(16000, 16.0), (96000, 8.0)])
def test_a_span_of_a_day_costs_only_itself(tmp_path: Path, rate: int, hours: float) -> None:
    """2 and 5.5 GB (RF64), sparse: nothing of them may be read but the span."""
    marks = (10000 * np.sin(np.arange(2 * rate) / 20)).astype(np.int16)
    at = (hours - 1) * 3600 + 0.5
    path = sparse_wav(tmp_path / "day.wav", rate, hours, at, marks)
    assert reading.duration(path) == hours * 3600
    reading.read(path, 0, 1, 16000)  # imports
    before = _bytes_read()
    tracemalloc.start()
    got = reading.read(path, at, at + 2, rate)
    resampled = reading.read(path, at, at + 2, 16000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert _bytes_read() - before < 2 * 2 * 3.2 * rate + 200_000
    assert peak < 20 * 4 * rate
    np.testing.assert_array_equal(got, marks / np.float32(32768))
    assert len(resampled) == 32000
    assert reading.peek(path) is None


def test_rf64_says_its_size_in_a_chunk_of_its_own(tmp_path: Path) -> None:
    """EBU Tech 3306: the size in `data` counts unless it is 0xFFFFFFFF."""
    wide = struct.pack("<4sIQQQI", b"ds64", 28, 100, 8, 4, 0)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    for said, promised in ((0xFFFFFFFF, 8), (6, 6)):
        head = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE") + wide + form
        path = tmp_path / "a.wav"
        path.write_bytes(head + struct.pack("<4sI", b"data", said) + bytes(8))
        chunk = data_chunk(path)
        assert chunk is not None and (chunk.promised, chunk.present) == (promised, 8)


def test_span_limits(tmp_path: Path) -> None:
    path = make(tmp_path, "wav-16", 8000, 1, 2.0)
    assert len(reading.read(path, 1.5, 9.0)) == 4000
    assert len(reading.read(path, 0.50001, 0.7501, 16000)) == round(0.7501 * 16000) - 8000
    for start, end in ((2.0, 3.0), (5.0, None), (1.0, 1.0), (1.0, 0.5), (-0.5, 1.0)):
        with pytest.raises(AudioError, match=r"wav-16\.wav: .* were asked"):
            reading.read(path, start, end)


def test_a_file_that_changes_is_looked_at_again(tmp_path: Path) -> None:
    path = make(tmp_path, "wav-16", 16000, 1, 2.0)
    assert reading.duration(path) == 2.0
    write(path, sound(16000, 3.0), 16000)
    assert reading.duration(path) == 3.0


def test_threads_read_the_same(tmp_path: Path) -> None:
    paths = [make(tmp_path, kind, 16000, 1, 8.0) for kind in ("mp3", "ogg", "flac", "wav-16")]
    jobs = [(p, 0.3 * i, 0.3 * i + 1) for i in range(20) for p in paths]
    alone = [reading.read(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: reading.read(*job), jobs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def _in_child(path: Path, start: float) -> np.ndarray:
    return reading.read(path, start, start + 1)


def test_forked_processes_do_not_share_a_position(tmp_path: Path) -> None:
    path = make(tmp_path, "mp3", 16000, 1, 20.0)
    starts = [float(s) for s in range(2, 18)]
    alone = [reading.read(path, s, s + 1) for s in starts]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        waiting = [pool.apply_async(_in_child, (path, s)) for s in starts]
        meanwhile = [reading.read(path, s, s + 1) for s in starts]
        children = [w.get(30) for w in waiting]
    np.testing.assert_allclose(np.stack(children), np.stack(alone), atol=1e-6)
    np.testing.assert_allclose(np.stack(meanwhile), np.stack(alone), atol=1e-6)


def test_importing_costs_nothing() -> None:
    code = (
        "import sys, bab.audio.reading\n"
        "heavy = ['soundfile', 'soxr', 'torch', 'pydantic']\n"
        "print([name for name in ['numpy', *heavy] if name in sys.modules])\n"
        "import bab.data.content\n"  # columns of clips are numpy's
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["[]", "[]"]


@pytest.mark.skipif(not REAL.exists(), reason="the development recordings are not here")
@pytest.mark.parametrize(
    "name",
    [
        "scenes/wav/home03.ogg",
        "scenes/wav/home16.wav",
        "scenes/wav/home17.flac",
        "scenes/wav/home18.mp3",
        "esc50/audio/4-167077-B-20.flac",
        "commonvoice/hi/clips/common_voice_hi_00A001.mp3",
    ],
)
def test_real_files(name: str) -> None:
    path = REAL / name
    assert worst(path, 16000, 20) < 1e-5
    assert worst(path, 48000, 6) < 1e-5
    assert [p for p in reading.check(path) if p.fatal] == []
    assert reading.peek(path) is None
