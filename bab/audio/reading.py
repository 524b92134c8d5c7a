"""Read any span of any audio file as mono float32 at a rate, and say what is wrong with a file.

wav (8, 16, 24, 32 bit, float), flac, ogg, opus and mp3, any channel count and rate, by seeking. A
span equals the same span of the whole file read and resampled: to 1e-4 at every boundary.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bab.audio import decoding, seen
from bab.audio.decoding import AudioInfo, UnreadableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# Names of audio files, where a folder is searched for them. What is in one decides how it is read.
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})
StrPath = str | os.PathLike[str]
# Samples of the slower rate that soxr is given beyond each border. With 128 spans already equal
# the whole file to 2e-6, for all of 8 to 96 kHz -> 8, 16 and 48 kHz, on noise and clicks of +-1
# [measured].
_MARGIN = 512
_PIECE = 300.0  # seconds read at once: bounds memory where a long span has many channels
_SILENT = 1e-4  # peak, 3 steps of 16 bits
_CLIPPED = 0.01  # share of samples at full scale that is worth a warning


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file. fatal: it can't be used; otherwise a warning."""

    path: str
    kind: str  # UnreadableError's kinds; silent and clipped are warnings
    message: str
    fatal: bool


def info(path: StrPath) -> AudioInfo:
    """What a file's header says.

    Raises:
        UnreadableError: the file is missing, empty, not audio, or holds no sound.
    """
    return decoding.info(os.fspath(path))


def duration(path: StrPath) -> float:
    """Seconds of sound in a file, from its header. Raises as `info` does."""
    return info(path).duration


def read(
    path: StrPath, start: float = 0.0, end: float | None = None, rate: int | None = None
) -> NDArray[np.float32]:
    """Read a span of a file: f32[S], mono (the mean of the channels), usually in [-1, 1].

    Args:
        path: the file.
        start: seconds from the start of the file.
        end: seconds; None = the end of the file. Beyond it, the span is cut there.
        rate: Hz of the result; None = the file's own.

    Returns:
        Samples [round(start * rate), round(end * rate)) of the whole file at `rate`.

    Raises:
        UnreadableError: a file that is missing, empty, not audio, truncated where it is asked for,
            or has samples that aren't finite; a span that is empty or begins after the end.
    """
    import numpy as np

    name = os.fspath(path)
    about = decoding.info(name)
    rate = about.rate if rate is None else rate
    first, last = _limits(name, about, start, end, rate)
    step = round(_PIECE * rate)
    out = np.empty(last - first, np.float32)
    for at in range(first, last, step):
        stop = min(at + step, last)
        out[at - first : stop - first] = _piece(name, about, at, stop, rate)
    return out


def _limits(
    path: str, about: AudioInfo, start: float, end: float | None, rate: int
) -> tuple[int, int]:
    """The span in samples at `rate`, cut at the file's end."""
    total = (2 * about.frames * rate + about.rate) // (2 * about.rate)
    first = round(start * rate)
    wanted = total if end is None else round(end * rate)
    asked = f"{start:.3f} to {about.duration if end is None else end:.3f} s were asked"
    if first < 0 or first >= wanted:
        raise UnreadableError(
            "span", path, f"{asked}, which is no stretch of time; check the corpus's times"
        )
    if wanted >= total and about.truncated:
        raise UnreadableError(
            "truncated",
            path,
            f"the file is truncated: {asked}, it stops at {about.duration:.3f} s and lacks "
            f"{about.truncated}; {decoding.REPLACE}",
        )
    if first >= total:
        raise UnreadableError(
            "span",
            path,
            f"{asked}, but it ends at {about.duration:.3f} s; check the corpus's times",
        )
    return first, min(wanted, total)


def _piece(path: str, about: AudioInfo, first: int, last: int, rate: int) -> NDArray[np.float32]:
    """f32[last - first]: samples [first, last) of the whole file at `rate`.

    soxr is started on the raster that both rates share (44.1 and 16 kHz meet every 441 samples of
    the one and 160 of the other), so that its filter stands in the same phase as over the whole.
    """
    if rate == about.rate:
        return decoding.samples(path, first, last)
    import soxr

    common = math.gcd(about.rate, rate)
    down, up = about.rate // common, rate // common
    margin = math.ceil(_MARGIN * max(1.0, about.rate / rate))
    block = max(0, first * about.rate // rate - margin) // down
    begin = block * down
    stop = min(about.frames, -(-last * about.rate // rate) + margin)
    native = decoding.samples(path, begin, stop)
    out: NDArray[np.float32] = soxr.resample(native, about.rate, rate, quality="HQ")
    return out[first - block * up : last - block * up]


def peek(path: StrPath) -> Problem | None:
    """What is wrong with a file, as far as its header and its last sample tell; quick. What was
    found sound and hasn't changed isn't opened again."""
    name = os.fspath(path)
    try:
        key = decoding.key(name)
        if seen.recall(*key)[0]:
            return None
        about = decoding.info(name)
        if not about.truncated and about.format != "OGG":  # whose last page was looked at
            decoding.samples(name, about.frames - 1, about.frames)
    except UnreadableError as error:
        return Problem(name, error.kind, str(error), fatal=True)
    cut = _truncation(name, about)
    if cut is None:
        seen.note(*key, sound=True)
    return cut


def check(path: StrPath) -> list[Problem]:
    """All that is wrong with a file: decodes it from beginning to end, in bounded memory.

    Fatal: missing, empty, unsupported, zero-length, truncated, not-finite. Warnings: silent (peak
    under 1e-4), clipped (more than 1 % of the samples at full scale).
    """
    import numpy as np

    name = os.fspath(path)
    peak, clipped, done = 0.0, 0, 0
    try:
        about = decoding.info(name)
        cut = _truncation(name, about)
        if cut is not None:
            return [cut]
        # The largest positive 8-bit sample is 127/128.
        full = 0.99 if about.subtype in ("PCM_U8", "PCM_S8") else 0.999
        for block in decoding.blocks(name):
            if not np.isfinite(block).all():
                row = int(np.argmin(np.isfinite(block).all(axis=1)))
                raise decoding.not_finite(name, (done + row) / about.rate)
            size = np.abs(block)
            peak = max(peak, float(size.max()))
            clipped += int((size >= full).sum())
            done += len(block)
    except UnreadableError as error:
        return [Problem(name, error.kind, str(error), fatal=True)]
    return _warnings(name, peak, clipped / (done * about.channels))


def _truncation(path: str, about: AudioInfo) -> Problem | None:
    if not about.truncated:
        return None
    message = (
        f"{path}: the file is truncated: it stops at {about.duration:.3f} s and lacks "
        f"{about.truncated}; {decoding.REPLACE}"
    )
    return Problem(path, "truncated", message, fatal=True)


def _warnings(path: str, peak: float, clipped: float) -> list[Problem]:
    problems = []
    if peak < _SILENT:
        problems.append(
            Problem(path, "silent", f"{path}: all of it is silent (peak {peak:.1e})", fatal=False)
        )
    if clipped > _CLIPPED:
        message = f"{path}: {100 * clipped:.1f} % of the samples are at full scale (clipped)"
        problems.append(Problem(path, "clipped", message, fatal=False))
    return problems
