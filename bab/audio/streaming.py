"""A file from beginning to end in blocks, at a rate: also what libsndfile can't open, by ffmpeg.

Phones and cameras write AAC (m4a, mp4), AMR and WMA. Where ffmpeg is installed it decodes them into
a pipe: nothing is written to disk, and memory doesn't grow with length.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bab.audio import reading
from bab.audio.decoding import UnreadableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Names that libsndfile has no decoder for, audio and video.
FOREIGN = frozenset(
    {".m4a", ".m4b", ".mp4", ".m4v", ".aac", ".wma", ".amr", ".3gp", ".3g2", ".mov", ".mkv",
     ".mka", ".webm", ".avi", ".wmv", ".mpg", ".mpeg", ".mts", ".ac3", ".ape", ".mp2"}
)  # fmt: skip
# What libsndfile reads beside the usual ones.
RARE = frozenset({".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".wave"})

_BLOCK = 60.0  # seconds read at once
_CHUNK = 1 << 16  # samples per channel taken from ffmpeg's pipe at once


@dataclass(frozen=True, slots=True)
class Stream:
    """A file that can be read from beginning to end. duration: seconds, as its header says."""

    path: str
    duration: float
    channels: int
    rate: int
    foreign: bool  # read by ffmpeg


def looks_like_audio(path: Path) -> bool:
    """By its name: is this a file that a search for recordings should not pass over?"""
    return path.suffix.lower() in reading.SUFFIXES | RARE | FOREIGN


def open_stream(path: str) -> Stream:
    """Look at a file's header.

    Raises:
        UnreadableError: no audio, damaged, or what needs ffmpeg where that isn't installed.
    """
    suffix = Path(path).suffix.lower()
    try:
        about = reading.info(path)
    except UnreadableError as error:
        if error.kind == "unsupported" and suffix in FOREIGN:
            return _probed(path)
        raise
    if about.truncated:
        raise UnreadableError(
            "truncated", path, f"the file is truncated: it lacks {about.truncated}; get it again"
        )
    return Stream(path, about.duration, about.channels, about.rate, foreign=False)


def blocks(
    stream: Stream, rate: int, start: float = 0.0, end: float | None = None, skip: int = 0
) -> Iterator[NDArray[np.float32]]:
    """Blocks of a file, or of [start, end) seconds of it: f32[S] at `rate`, mono.

    skip: samples at `rate` of the span that are left out at its beginning. The samples are those
    of the whole file resampled, to 1e-4.

    Raises:
        UnreadableError: as `reading.read`; of a foreign file what ffmpeg says.
    """
    if stream.foreign:
        yield from _cut(_decoded(stream, rate), round(start * rate) + skip, end, rate)
        return
    total = round((stream.duration if end is None else end) * rate)
    step = round(_BLOCK * rate)
    first = round(start * rate) + skip
    while first < total:
        last = min(first + step, total)
        # Only the last block asks for "the end", which may lie half a sample off.
        stop = None if last == total and end is None else last / rate
        block = reading.read(stream.path, first / rate, stop, rate)
        yield block
        if len(block) < last - first:
            return
        first = last


def _cut(
    pieces: Iterator[NDArray[np.float32]], first: int, end: float | None, rate: int
) -> Iterator[NDArray[np.float32]]:
    """Samples [first, end) of what comes piece by piece."""
    last = None if end is None else round(end * rate)
    at = 0
    for piece in pieces:
        if last is not None and at >= last:
            return
        low, high = max(0, first - at), len(piece) if last is None else min(len(piece), last - at)
        at += len(piece)
        if low < high:  # a resampler's first pieces may be empty
            yield piece[low:high]


# ------------------------------------------------------------------------------- ffmpeg


def _tool(name: str, path: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise UnreadableError(
            "unsupported",
            path,
            f"{Path(path).suffix} files are read by ffmpeg, which isn't installed (no `{name}` on "
            "the PATH): install it (https://ffmpeg.org, `apt install ffmpeg`, `brew install "
            "ffmpeg`, `conda install ffmpeg`), or convert the file to wav",
        )
    return program


def _source(path: str) -> list[str]:
    """A local file and nothing else: no playlist may lead elsewhere, no name may be an option."""
    return ["-protocol_whitelist", "file,pipe", "-i", f"file:{Path(path).absolute()}"]


def _probed(path: str) -> Stream:
    command = [_tool("ffprobe", path), "-v", "error", "-select_streams", "a:0", "-of", "json"]
    command += ["-show_entries", "stream=sample_rate,channels,duration:format=duration"]
    said = subprocess.run(
        [*command, *_source(path)], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    try:
        told: dict[str, Any] = json.loads(said.stdout)
        (first,) = told["streams"]
        seconds = float(first.get("duration") or told.get("format", {}).get("duration") or 0)
        rate, channels = int(first["sample_rate"]), int(first["channels"])
    except (KeyError, ValueError, TypeError):
        why = _line(said.stderr) or "it holds no sound"
        raise UnreadableError("unsupported", path, f"ffmpeg can't read it: {why}") from None
    _tool("ffmpeg", path)
    return Stream(path, seconds, channels, rate, foreign=True)


def _decoded(stream: Stream, rate: int) -> Iterator[NDArray[np.float32]]:
    """The whole file at `rate`, mono, block by block."""
    import numpy as np
    import soxr

    command = [_tool("ffmpeg", stream.path), "-v", "error", "-nostdin", *_source(stream.path)]
    command += ["-map", "a:0", "-ar", str(stream.rate), "-ac", str(stream.channels)]
    command += ["-f", "f32le", "-c:a", "pcm_f32le", "pipe:1"]
    resampler = soxr.ResampleStream(stream.rate, rate, 1, dtype="float32", quality="HQ")
    frame, some = 4 * stream.channels, False
    # Complaints go to a file: a pipe that nobody reads would stop ffmpeg when it is full.
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
        )
        assert process.stdout is not None
        try:
            while data := process.stdout.read(_CHUNK * frame):
                whole = np.frombuffer(data[: len(data) // frame * frame], dtype="<f4")
                mono = whole.reshape(-1, stream.channels).mean(axis=1, dtype=np.float32)
                some = some or len(mono) > 0
                if not np.isfinite(mono).all():
                    raise UnreadableError("not-finite", stream.path, "samples that aren't finite")
                yield mono if rate == stream.rate else resampler.resample_chunk(mono)
            if rate != stream.rate:
                yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
            if process.wait() != 0 or not some:
                complaints.seek(0)
                why = _line(complaints.read().decode("utf-8", "replace")) or "it holds no sound"
                raise UnreadableError(
                    "truncated", stream.path, f"ffmpeg stopped: {why}; get it again"
                )
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _line(text: str) -> str:
    """The last line of what a program complained of, short."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
