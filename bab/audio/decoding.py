"""Open audio files with libsndfile: what they are, and their samples by position, native rate.

Every fault is an `UnreadableError` that names the file, the time and the remedy.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bab.audio import mp3, ogg, seen, wav
from bab.core.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


CONVERT = "convert it, e.g. with `ffmpeg -i IN OUT.wav`"
REPLACE = "get it again, look with `bab data check`, or leave such files out with `--skip-bad`"
PATH = "check the corpus's path"
# An MP3 frame may lie in up to 511 bytes of the frames before it: up to .5 s at low bit rates.
# With 1 s decoded before a span, spans equal the whole file to 3e-7 at 8 to 48 kHz [measured].
_MP3_WARM_UP = 1.0  # seconds
_MP3_FRAME = 1152  # samples, at most
_MP3_HANDLES = 32  # files kept open per process
_MPG123 = re.compile(rb"\[src/libmpg123|Note: |Warning: |\s*$")
_NO_LENGTH = 1 << 48  # more samples than any file has: libsndfile's word for "unknown"


class UnreadableError(AudioError):
    """What is wrong with a file.

    kind: missing, unreadable, empty, unsupported, zero-length, truncated, not-finite or span.
    """

    def __init__(self, kind: str, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.kind = kind


def of_a_file(error: AudioError) -> str:
    """What is said where a file was named by itself: no corpus is to be looked at."""
    return (
        str(error)
        .replace(f"; {REPLACE}", "; get it again")
        .replace(f"; {PATH}", "; check its path")
    )


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says: rate in Hz, frames = samples per channel, duration in seconds.

    truncated: what is missing at the end, in words; "" where nothing is known to be.
    """

    rate: int
    channels: int
    frames: int
    duration: float
    format: str  # libsndfile's names: WAV, FLAC, OGG, MP3
    subtype: str  # PCM_16, FLOAT, VORBIS, OPUS, ...
    truncated: str = ""


def info(path: str) -> AudioInfo:
    """Read a file's header (remembered while the file doesn't change).

    Raises:
        UnreadableError: the file is missing, empty, not audio, or holds no sound.
    """
    return _probe(*key(path))


def key(path: str) -> tuple[str, int, int]:
    """(path, bytes, time of the last change): the same as long as the file is."""
    try:
        state = os.stat(path)  # noqa: PTH116 - a path object costs more than the call
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UnreadableError("missing", path, f"{why}; {PATH}") from None
    return path, state.st_size, state.st_mtime_ns


# Hz. A damaged header's 1 Hz would make a gigabyte of 32 KB when it is resampled.
_SLOWEST, _FASTEST = 1_000, 768_000
# Samples in a byte: FLAC holds 65,535 equal ones in some 11 bytes; no other format as many.
_DENSEST = 6_000


@functools.lru_cache(maxsize=4096)
def _probe(path: str, size: int, modified: int) -> AudioInfo:
    header = seen.recall(path, size, modified)[2]
    if header is not None:
        return AudioInfo(*header)
    about = _looked_at(path, size)
    if not about.truncated:
        seen.note(path, size, modified, header=astuple(about))
    return about


def _looked_at(path: str, size: int) -> AudioInfo:
    if os.path.isdir(path):  # noqa: PTH112
        raise UnreadableError("unsupported", path, f"is a folder, and no file; {PATH}")
    if size == 0:
        raise UnreadableError("empty", path, f"the file is empty (0 bytes); {REPLACE}")
    with _opened(path) as file:
        about = AudioInfo(
            file.samplerate,
            file.channels,
            file.frames,
            file.frames / file.samplerate,
            file.format.removesuffix("EX"),  # WAVEX is WAV with a longer header
            file.subtype,
        )
    if about.frames <= 0:
        raise UnreadableError(
            "zero-length", path, f"the file holds no sound (0 samples); {REPLACE}"
        )
    if not _SLOWEST <= about.rate <= _FASTEST:
        why = f"its header claims {about.rate:,} samples per second, which no recording has"
        raise UnreadableError("implausible", path, f"{why}; {REPLACE}")
    if size * _DENSEST < about.frames < _NO_LENGTH:
        hours = f"{about.frames / about.rate / 3600:,.0f} h in {size:,} bytes"
        why = f"its header claims {hours}, which no format can hold"
        raise UnreadableError("implausible", path, f"{why}; {REPLACE}")
    frames = _length(path, about)
    return replace(
        about,
        frames=frames,
        duration=frames / about.rate,
        truncated=_missing(path, about, size),
    )


def _length(path: str, about: AudioInfo) -> int:
    """Samples per channel that can be decoded; libsndfile only guesses where no header says it."""
    frames = about.frames
    if about.subtype == "MPEG_LAYER_III":
        counted = mp3.counted_samples(path)
        if counted is not None:
            # libsndfile stops where its guess ends, so a low one would lose sound.
            frames = _NO_LENGTH if frames < counted - _MP3_FRAME else min(frames, counted)
    if frames >= _NO_LENGTH:
        raise UnreadableError(
            "unsupported", path, f"its header doesn't say how long it is; {CONVERT}"
        )
    return frames


def _missing(path: str, about: AudioInfo, size: int) -> str:
    """What the file lacks at its end, in words."""
    if about.format == "OGG" and ogg.is_cut(path):
        return "its last page (if nothing more is to be had, convert it)"
    chunk = wav.data_chunk(path)
    if chunk is None or not chunk.missing:
        return ""
    seconds = chunk.missing / size * about.duration
    return f"the last {seconds:.2f} s that its header promises"


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """A new `SoundFile` for reading from the beginning, closed afterwards."""
    with _quiet(path):
        file = _open(path)
    with file:
        yield file


def _open(path: str) -> Any:
    """A new `SoundFile`; also for a WAV whose recorder left its size at 0."""
    import soundfile

    try:
        chunk = wav.data_chunk(path)
        if chunk is not None and chunk.promised is None:
            return soundfile.SoundFile(wav.OpenEnded(path, chunk.size_at))
        return soundfile.SoundFile(path)
    except OSError as error:
        told = f"can't be read ({error.strerror or error}); see its permissions, and its disk"
        raise UnreadableError("unreadable", path, told) from None
    except soundfile.SoundFileError as error:
        why = str(error).rpartition(": ")[2].rstrip(".")
        if "does not exist" in why:  # libsndfile of a text called .mp3
            why = "Format not recognised"
        raise UnreadableError(
            "unsupported",
            path,
            f"it can't be decoded ({why}): not a wav, flac, ogg, opus or mp3 file, or cut off in "
            f"its header; {CONVERT}",
        ) from None


def blocks(path: str, size: int = 1 << 16) -> Iterator[NDArray[np.float32]]:
    """A whole file from its beginning, as f32[<= size, channels] at the native rate.

    Raises:
        UnreadableError: where decoding stops before the length that the header gives.
    """
    promised = info(path)
    done = 0
    with _opened(path) as file:
        while done < promised.frames:
            block = _take(file, path, promised, done, min(size, promised.frames - done))
            done += len(block)
            yield block


def _take(file: Any, path: str, about: AudioInfo, at: int, count: int) -> NDArray[np.float32]:
    """The next `count` samples, f32[count, channels], which begin at sample `at`; all, or raise."""
    import soundfile

    try:
        with _quiet(path):
            data = _read(file, count)
    except soundfile.SoundFileError:
        data = _nothing()
    if len(data) < count:
        raise _too_short(path, about, at, at + count, at + len(data))
    return data


def _read(file: Any, count: int) -> NDArray[np.float32]:
    """f32[<= count, channels] from where the file stands."""
    if file.tell() >= file.frames:  # a damaged MP3 may seek to beyond its end
        return _nothing()
    data: NDArray[np.float32] = file.read(count, dtype="float32", always_2d=True)
    return data


def _nothing() -> NDArray[np.float32]:
    import numpy as np

    return np.zeros((0, 1), np.float32)


def _too_short(path: str, about: AudioInfo, start: int, stop: int, got: int) -> UnreadableError:
    rate = about.rate
    return UnreadableError(
        "truncated",
        path,
        f"the file is truncated or damaged: {start / rate:.3f} to {stop / rate:.3f} s were asked "
        f"of {about.duration:.3f} s, and decoding stops at {got / rate:.3f} s; {REPLACE}",
    )


def samples(path: str, start: int, stop: int) -> NDArray[np.float32]:
    """f32[stop - start]: the mean of the channels over samples [start, stop), native rate.

    Reads by seeking. Exact for every format; MP3 to 3e-7 (see `_MP3_WARM_UP`).

    Raises:
        UnreadableError: truncated or damaged within the span, or a sample isn't finite.
    """
    import numpy as np

    about = info(path)
    data = _span(path, about, start, stop)
    if len(data) < stop - start:
        raise _too_short(path, about, start, stop, start + len(data))
    mono = data[:, 0] if data.shape[1] == 1 else data.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        at = (start + int(np.argmin(np.isfinite(mono)))) / about.rate
        raise not_finite(path, at)
    return np.ascontiguousarray(mono)


def not_finite(path: str, seconds: float) -> UnreadableError:
    return UnreadableError(
        "not-finite", path, f"a sample is NaN or infinite at {seconds:.4f} s; {REPLACE}"
    )


def _span(path: str, about: AudioInfo, start: int, stop: int) -> NDArray[np.float32]:
    """f32[stop - start, channels]; fewer rows where decoding stops early."""
    import soundfile

    try:
        if about.format == "OGG":
            # libsndfile seeks wrongly in Ogg files: see bab.audio.ogg.
            near = ogg.read_span(path, start, stop)
            return _from_beginning(path, about, start, stop) if near is None else near
        if about.format == "MP3":
            return _mp3(path, about, start, stop)
        with _opened(path) as file:
            file.seek(start)
            return _read(file, stop - start)
    except soundfile.SoundFileError:
        return _nothing()


def _from_beginning(path: str, about: AudioInfo, start: int, stop: int) -> NDArray[np.float32]:
    """The span, with all that comes before it decoded and dropped, in bounded memory."""
    with _opened(path) as file:
        at = 0
        while at < start:
            at += len(_take(file, path, about, at, min(1 << 16, start - at)))
        return _take(file, path, about, start, stop - start)


_mp3_lock = threading.RLock()
_mp3_files: OrderedDict[tuple[str, int, int], Any] = OrderedDict()


def _mp3(path: str, about: AudioInfo, start: int, stop: int) -> NDArray[np.float32]:
    """The span from an MP3 file, which is kept open.

    A seek walks through all frame headers before it, unless the open file remembers them: a span
    of 4 s in an hour takes 88 ms from a new file and 2 ms from one kept open [measured].
    """
    before = max(0, start - int(_MP3_WARM_UP * about.rate))
    kept = key(path)
    with _quiet(path):
        file = _mp3_files.pop(kept, None) or _open(path)
        file.seek(before)
        data = _read(file, stop - before)
        _mp3_files[kept] = file
        while len(_mp3_files) > _MP3_HANDLES:
            _mp3_files.popitem(last=False)[1].close()
    return data[start - before :]


@atexit.register
def close_kept() -> None:
    """Close them all: at the interpreter's end soundfile's own names may be gone before its files,
    and each then leaves a line on the terminal."""
    with _mp3_lock:
        while _mp3_files:
            _mp3_files.popitem()[1].close()


@contextmanager
def _quiet(path: str) -> Iterator[None]:
    """Keep libmpg123's complaints from the terminal, and only those.

    After a seek it prints an "error" for each frame that begins before, which the warm-up drops;
    libsndfile has no switch for it. One thread at a time, as file descriptor 2 is the process's.
    """
    if not _maybe_mp3(path):
        yield
        return
    with _mp3_lock, tempfile.TemporaryFile() as sink:
        try:
            saved = os.dup(2)
        except OSError:  # there is no standard error to keep clean
            yield
            return
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            for line in sink:
                if not _MPG123.match(line):
                    os.write(2, line)


def _maybe_mp3(path: str) -> bool:
    """Whether libsndfile may take the file for an MP3: none of the other formats' first bytes."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(4)
    except OSError:
        return False
    return start not in (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM")


def _after_fork() -> None:
    """A child must not share open files with its parent: their position would be shared too."""
    _mp3_lock.release()
    with suppress(Exception):
        _mp3_files.clear()


os.register_at_fork(
    before=_mp3_lock.acquire, after_in_parent=_mp3_lock.release, after_in_child=_after_fork
)
