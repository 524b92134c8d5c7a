"""When a recording began, on the clock on the wall: read from its file's name, or not at all.

A start that is wrong moves a whole day, so only spellings that can hardly mean anything else are
read. Metadata (ChildProject's `start_time`, a `.its` file) is better, and comes from the caller.
"""

from __future__ import annotations

import re
from datetime import datetime, time

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

Start = datetime | time

_EXTENSION = re.compile(r"\.(?=\w*[A-Za-z])\w{1,5}$")
# e20160420_165405_010572.its: LENA names a file by when it was transferred, days or weeks later
# (<TransferTime> inside; the recording's own start is its <Recording startClockTime>).
_LENA = re.compile(r"^e\d{8}_\d{6}_\d{6}", re.IGNORECASE)
# What may not follow: a digit; am or pm; a zone (Z, UTC, GMT, +01), by which it isn't local time.
_END = r"(?!\d)(?!:\d)(?![ _]?[ap]\.?m\b)(?![ _]?(?:Z(?![a-z])|UTC|GMT)|\+\d)"
_DATE = r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<a>[-_.]?)(?P<month>\d\d)(?P=a)(?P<day>\d\d)"
# 08-15-00, 08:15:00, 081500 | 08h15, 08h15m, 08h15m30s
_TIME = r"(?P<hour>\d\d)(?P<b>[-_.:]?)(?P<minute>\d\d)(?P=b)(?P<second>\d\d)"
_H_TIME = (
    r"(?P<h_hour>\d\d)h(?P<h_minute>\d\d)(?:m(?:in)?(?:(?P<h_second>\d\d)s?)?)?(?![A-Za-z0-9])"
)
_DATED = re.compile(rf"{_DATE}(?:[-_ T]{{1,2}}|)(?:{_TIME}|{_H_TIME}){_END}", re.IGNORECASE)
_ALONE = re.compile(rf"(?<![A-Za-z0-9]){_H_TIME}{_END}", re.IGNORECASE)


def start_of(name: str) -> Start | None:
    """The start that a file's name tells: local date and time, time alone, or None.

    Read: a date and a time with seconds (`20231104_081500`, `20231104T081500`, `20231104081500`,
    `2023-11-04_08-15-00`, `2023-11-04 08.15.00`), a date and hours with an h
    (`2023-11-04_08h15`), hours with an h alone (`home3_08h15m30s`).
    Not read: two-digit years (which of the three is the day?), times of four digits (`0815` may
    be a child's number), 12-hour clocks, times with a zone (`...Z`, `+01`), LENA's own names
    (their time is that of the transfer), and names with two starts that differ.

    Args:
        name: of a file; folders before it and its ending are left aside.
    """
    stem = _EXTENSION.sub("", re.split(r"[/\\]", name)[-1])
    if _LENA.match(stem):
        return None
    starts: list[Start | None] = [_moment(match) for match in _DATED.finditer(stem)]
    if all(start is None for start in starts):
        starts = [_time(match) for match in _ALONE.finditer(stem)]
    distinct = {start for start in starts if start is not None}
    return distinct.pop() if len(distinct) == 1 else None


def _time(match: re.Match[str]) -> time | None:
    """The time of a match, or None where no clock shows it."""
    parts = match.groupdict()
    prefix = "h_" if parts.get("hour") is None else ""
    hour, minute, second = (int(parts[prefix + n] or 0) for n in ("hour", "minute", "second"))
    try:
        return time(hour, minute, second)
    except ValueError:
        return None


def _moment(match: re.Match[str]) -> datetime | None:
    """The date and time of a match, or None where no calendar has it."""
    clock = _time(match)
    if clock is None:
        return None
    try:
        return datetime(
            int(match["year"]), int(match["month"]), int(match["day"]),
            clock.hour, clock.minute, clock.second,
        )  # fmt: skip
    except ValueError:
        return None


def moment_of(text: str) -> Start:
    """`2023-11-04T08:15:00` or `08:15:00` (ISO 8601) as a moment."""
    return datetime.fromisoformat(text) if "T" in text else time.fromisoformat(text)


def since_midnight(start: Start) -> int:
    """Milliseconds from midnight to `start`, by its own clock."""
    seconds = (start.hour * 60 + start.minute) * 60 + start.second
    return seconds * 1000 + start.microsecond // 1000


def clock_text(ms: int, seconds: bool = False) -> str:
    """Milliseconds since midnight as `08:15` or `08:15:30`; the next day begins at 00:00 again."""
    whole = ms % DAY_MS // 1000
    text = f"{whole // 3600:02d}:{whole // 60 % 60:02d}"
    return f"{text}:{whole % 60:02d}" if seconds else text
