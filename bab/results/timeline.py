"""A picture of a recording: who speaks when, where it is silent, and the day at a glance.

Up to an hour is one row with a lane for each voice. What is longer has a row for each hour (of the
clock, where the start is known), and each row's speech as a bar beside it; beyond 30 hours a row is
a day, and the height of a mark the share of its 5 minutes in which that voice speaks (the fullest 5
minutes of all voices fill their lane). Needs matplotlib (`pip install 'bab[plots]'`), but no
display and not pyplot.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bab.core.annotations import Annotation
from bab.core.atomic import StrPath, atomic_path
from bab.core.errors import BabError
from bab.results.clock import DAY_MS, HOUR_MS, clock_text, since_midnight
from bab.results.vocalisations import VOICES, Voc, duration_ms, vocalisations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008), "Color Universal Design": colours that people of any colour vision tell
# apart. These four for the voices that VTC knows; the others for other labels, in this order.
COLOURS: Mapping[str, str] = {
    "KCHI": "#D55E00",  # vermillion
    "OCH": "#E69F00",  # orange
    "MAL": "#0072B2",  # blue
    "FEM": "#56B4E9",  # sky blue
}
_OTHERS = ("#009E73", "#CC79A7", "#000000", "#F0E442")
_MEANINGS = {"KCHI": "key child", "OCH": "other child", "MAL": "male adult", "FEM": "female adult"}
_SILENCE = "#EBEBEB"
_FORMATS = (".png", ".svg")
_MOST_HOURS = 30  # rows of one hour; beyond, rows of a day
_WIDTH = 13.33  # inches: a slide of 16:9
_DPI = 150
_COLUMNS = 900  # of a row: nothing is drawn narrower than one, or it would not be seen
_BIN = 300_000  # ms: where a row is a day, the share of speech in each 5 minutes is drawn
_LONGEST_NAME = 90  # characters of a title


class _Row(NamedTuple):
    """One row: ms of the recording at its left edge (may be before 0), and what it covers."""

    label: str
    left: int
    start: int
    end: int


class _Box(NamedTuple):
    """A mark: its row, ms from the row's left edge, and a height of which the largest fills."""

    row: int
    begin: float
    end: float
    height: float


class _Plan(NamedTuple):
    """Rows of `width` ms each, and where its ticks stand: (ms from the left edge, text)."""

    rows: list[_Row]
    width: int
    ticks: list[tuple[int, str]]
    caption: str


def draw_timeline(recording: Annotation, *paths: StrPath, voices: Sequence[str] = VOICES) -> None:
    """Draw one recording, and write the picture to each of `paths` (.png, 2000 pixels wide; .svg).

    The same recording gives the same bytes with the same matplotlib. Its settings (rcParams) are as
    they were afterwards; while it draws they are its defaults, so don't draw in two threads.

    Args:
        voices: a lane for each, from the top.

    Raises:
        BabError: matplotlib is missing, another ending, no duration; see also `vocalisations`.
    """
    for path in map(Path, paths):
        if path.suffix.lower() not in _FORMATS:
            raise BabError(f"{path}: a timeline is drawn as {' or '.join(_FORMATS)}; name it so")
    vocs = vocalisations(recording, voices)
    plan = _plan(recording)
    with _defaults():
        figure = _draw(recording, vocs, plan, voices)
        for path in map(Path, paths):
            form = path.suffix.lower()[1:]
            metadata = {"Date": None} if form == "svg" else {"Software": None}
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=form, dpi=_DPI, metadata=metadata)


@contextmanager
def _defaults() -> Iterator[None]:
    """matplotlib's own defaults and a fixed salt for ids in SVG; all put back at the end."""
    try:
        import matplotlib
    except ImportError:
        raise BabError("timeline pictures need matplotlib: pip install 'bab[plots]'") from None
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in another script
        matplotlib.rcdefaults()
        # Text stays text in SVG: it can be edited, and the viewer's fonts know more scripts.
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "bab",
                "svg.fonttype": "none",
                "text.parse_math": False,
                "font.size": 12,
                "hatch.linewidth": 0.5,
            }
        )
        yield


def _plan(recording: Annotation) -> _Plan:
    """Which rows there are, and their scale."""
    end = duration_ms(recording)
    if end == 0:
        raise BabError(f"{recording.uri}: 0 s long, nothing to draw; leave it out")
    known = recording.began is not None
    midnight = since_midnight(recording.began) if recording.began is not None else 0
    if end <= HOUR_MS:
        ticks = _short_ticks(end, midnight, known)
        return _Plan([_Row("", 0, 0, end)], end, ticks, "time of day" if known else "min:s")
    width = HOUR_MS if end <= _MOST_HOURS * HOUR_MS else DAY_MS
    rows = [
        _Row(_row_label(recording, index, width), left, max(left, 0), min(left + width, end))
        for index, left in enumerate(range(-(midnight % width), end, width))
    ]
    if width == HOUR_MS:
        ticks = [(m * 60_000, str(m)) for m in range(0, 61, 10)]
        return _Plan(rows, width, ticks, "minutes of the hour")
    ticks = [(h * HOUR_MS, f"{h:02d}:00" if known else f"{h} h") for h in range(0, 25, 3)]
    return _Plan(rows, width, ticks, "time of day" if known else "hours of the row")


def _row_label(recording: Annotation, index: int, width: int) -> str:
    """`08:00` | `3 h` | `2023-11-04` | `day 2`."""
    start = recording.began
    if width == HOUR_MS:
        if start is None:
            return f"{index} h"
        return clock_text((since_midnight(start) // HOUR_MS + index) * HOUR_MS)
    if isinstance(start, datetime):
        return (start.date() + timedelta(days=index)).isoformat()
    return f"day {index + 1}"


def _short_ticks(end: int, midnight: int, known: bool) -> list[tuple[int, str]]:
    """Ticks of a single row, at round times of the clock (or of the recording)."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
    step = next((s for s in steps if end / (s * 1000) <= 10), steps[-1]) * 1000
    first = -midnight % step
    return [
        (
            at,
            clock_text(midnight + at, seconds=step < 60_000)
            if known
            else f"{at // 60_000}:{at // 1000 % 60:02d}",
        )
        for at in range(first, end + 1, step)
    ]


def _draw(recording: Annotation, vocs: Sequence[Voc], plan: _Plan, voices: Sequence[str]) -> Figure:
    """The whole picture: heading, legend, rows, and amounts at the right."""
    from matplotlib.figure import Figure

    count = len(plan.rows)
    each = 0.8 if plan.width == DAY_MS else 0.32
    body = 2.4 if count == 1 else max(each * count, 1.6)
    height = max(body + 2.1, 7.5) if count > 12 else body + 2.1
    body = height - 2.1
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    bottom, tall = 0.75 / height, body / height
    left, wide = 1.35 / _WIDTH, 8.75 / _WIDTH
    axes = figure.add_axes((left, bottom, wide, tall))
    _draw_rows(axes, vocs, plan, voices)
    amounts = figure.add_axes((left + wide + 0.4 / _WIDTH, bottom, 2.4 / _WIDTH, tall))
    if count == 1:
        _draw_totals(amounts, vocs, voices)
    else:
        _draw_amounts(amounts, vocs, plan, voices)
    _draw_heading(figure, recording, vocs, plan, voices)
    return figure


def _colours(voices: Sequence[str]) -> dict[str, str]:
    """Each voice's colour; labels that VTC doesn't know take the remaining ones in turn."""
    others = [voice for voice in voices if voice not in COLOURS]
    spare = {voice: _OTHERS[i % len(_OTHERS)] for i, voice in enumerate(others)}
    return {voice: COLOURS.get(voice) or spare[voice] for voice in voices}


def _named(voice: str, between: str) -> str:
    """`KCHI key child`, or the label alone where its meaning isn't known."""
    meaning = _MEANINGS.get(voice)
    return printable(voice) if meaning is None else f"{voice}{between}{meaning}"


def _draw_rows(axes: Axes, vocs: Sequence[Voc], plan: _Plan, voices: Sequence[str]) -> None:
    """Rows from the top, each 1 high; lanes inside them; what isn't recorded is hatched."""
    from matplotlib.patches import PathPatch, Rectangle

    pad = 0.0 if len(plan.rows) == 1 else 0.07
    lane = (1 - 2 * pad) / max(len(voices), 1)
    style: dict[str, Any] = {"linewidth": 0, "snap": False}
    for index, row in enumerate(plan.rows):
        y, inner = index + pad, 1 - 2 * pad
        if (row.start, row.end) != (row.left, row.left + plan.width):
            axes.add_patch(
                Rectangle((0, y), plan.width, inner, facecolor="white", edgecolor="#C8C8C8",
                          hatch="////", linewidth=0)
            )  # fmt: skip
        covered = row.end - row.start
        axes.add_patch(
            Rectangle((row.start - row.left, y), covered, inner, facecolor=_SILENCE, **style)
        )
        for line in range(1, len(voices)):
            axes.plot(
                [row.start - row.left, row.end - row.left], [y + line * lane] * 2,
                color="white", linewidth=2.0 if len(plan.rows) == 1 else 0.4, zorder=1.5,
            )  # fmt: skip
    boxes = {voice: _boxes([v for v in vocs if v.voice == voice], plan) for voice in voices}
    full = max((box.height for each in boxes.values() for box in each), default=1)
    for place, (voice, colour) in enumerate(_colours(voices).items()):
        path = _marks(boxes[voice], full, pad + place * lane, lane)
        axes.add_patch(PathPatch(path, facecolor=colour, zorder=2, **style))
    _label_rows(axes, plan, voices)


def _label_rows(axes: Axes, plan: _Plan, voices: Sequence[str]) -> None:
    """Scale and names: of the lanes where there is one row, of the rows otherwise."""
    axes.set_xlim(0, plan.width)
    axes.set_ylim(len(plan.rows), 0)
    axes.set_xticks([at for at, _ in plan.ticks], [text for _, text in plan.ticks])
    axes.set_xlabel(plan.caption)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "left", "right"]].set_visible(False)
    if len(plan.rows) == 1:
        named = [_named(voice, "\n") for voice in voices]
        axes.set_yticks([(i + 0.5) / len(voices) for i in range(len(voices))], named)
    else:
        axes.set_yticks([i + 0.5 for i in range(len(plan.rows))], [r.label for r in plan.rows])


def _marks(boxes: Sequence[_Box], full: float, top: float, lane: float) -> Any:
    """One voice's marks in all rows, as one path of rectangles: a small SVG, drawn fast."""
    from matplotlib.path import Path as Outline

    corners: list[tuple[float, float]] = []
    for row, begin, end, height in boxes:
        low = row + top + 0.94 * lane
        high = low - 0.88 * lane * height / full
        corners += [(begin, high), (end, high), (end, low), (begin, low), (begin, high)]
    codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY] * len(boxes)
    return Outline(corners, codes) if corners else Outline([(0, 0)])


def _boxes(vocs: Sequence[Voc], plan: _Plan) -> list[_Box]:
    """One voice's marks: a box for each vocalisation; of rows that are days, for each 5 minutes."""
    boxes = []
    for index, row in enumerate(plan.rows):
        if plan.width == DAY_MS:
            boxes += [_Box(index, *share) for share in _shares(vocs, row)]
        else:
            spans = _spans(vocs, row, plan.width / _COLUMNS)
            boxes += [_Box(index, begin, end, 1.0) for begin, end in spans]
    return boxes


def _spans(vocs: Sequence[Voc], row: _Row, least: float) -> list[tuple[float, float]]:
    """What lies in the row, ms from its left edge, widened to `least`; what touches is joined."""
    merged: list[tuple[float, float]] = []
    edge = row.end - row.left
    for voc in vocs:
        begin, offset = max(voc.onset, row.start) - row.left, min(voc.offset - row.left, edge)
        if begin >= offset:
            continue
        end = min(max(offset, begin + least), edge)
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _shares(vocs: Sequence[Voc], row: _Row) -> list[tuple[float, float, float]]:
    """Of each 5 minutes of the row: (begin, end, share of it in which the voice speaks)."""
    spoken: dict[int, int] = {}
    for begin, end in _spans(vocs, row, 0):
        for place in range(int(begin) // _BIN, (int(end) - 1) // _BIN + 1):
            inside = min(end, (place + 1) * _BIN) - max(begin, place * _BIN)
            spoken[place] = spoken.get(place, 0) + int(inside)
    return [(i * _BIN, (i + 1) * _BIN, ms / _BIN) for i, ms in sorted(spoken.items())]


def _draw_amounts(axes: Axes, vocs: Sequence[Voc], plan: _Plan, voices: Sequence[str]) -> None:
    """Speech of each row, voice after voice, in minutes."""
    left = [0.0] * len(plan.rows)
    places = [i + 0.5 for i in range(len(plan.rows))]
    for voice, colour in _colours(voices).items():
        mine = [voc for voc in vocs if voc.voice == voice]
        minutes = [
            sum(max(0, min(v.offset, r.end) - max(v.onset, r.start)) for v in mine) / 60_000
            for r in plan.rows
        ]
        axes.barh(places, minutes, left=left, height=0.72, color=colour)
        left = [a + b for a, b in zip(left, minutes, strict=True)]
    axes.set_xlim(0, max([*left, 0.1]) * 1.05)
    axes.set_ylim(len(plan.rows), 0)
    axes.set_yticks([])
    axes.set_xlabel("speech (minutes)")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_totals(axes: Axes, vocs: Sequence[Voc], voices: Sequence[str]) -> None:
    """Beside the lanes of a single row: seconds of each voice, and how many vocalisations."""
    lane = 1 / max(len(voices), 1)
    most = 0.1
    for place, (voice, colour) in enumerate(_colours(voices).items()):
        lengths = [voc.offset - voc.onset for voc in vocs if voc.voice == voice]
        seconds = sum(lengths) / 1000
        most = max(most, seconds)
        y = (place + 0.5) * lane
        axes.barh(y, seconds, height=0.5 * lane, color=colour)
        axes.annotate(
            f"{seconds:.0f} s, n = {len(lengths)}", (seconds, y), (5, 0),
            textcoords="offset points", va="center", fontsize=11,
        )  # fmt: skip
    axes.set_xlim(0, most * 1.9)
    axes.set_ylim(1, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("speech (n vocalisations)")
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _draw_heading(
    figure: Figure, recording: Annotation, vocs: Sequence[Voc], plan: _Plan, voices: Sequence[str]
) -> None:
    """Name, a line of facts, and the legend, from the top."""
    from matplotlib.patches import Patch

    inch = 1 / float(figure.get_figheight())
    x = 0.35 / _WIDTH
    plain: dict[str, Any] = {"va": "top", "ha": "left"}
    figure.text(x, 1 - 0.2 * inch, printable(recording.uri), fontsize=18, weight="bold", **plain)
    figure.text(x, 1 - 0.58 * inch, _facts(recording, vocs), fontsize=13, color="#444444", **plain)
    keys = [
        Patch(color=colour, label=_named(voice, " ")) for voice, colour in _colours(voices).items()
    ]
    keys.append(Patch(facecolor=_SILENCE, edgecolor="#AAAAAA", linewidth=0.5, label="silence"))
    if any((r.start, r.end) != (r.left, r.left + plan.width) for r in plan.rows):
        keys.append(
            Patch(facecolor="white", edgecolor="#C8C8C8", hatch="////", label="not recorded")
        )
    figure.legend(
        handles=keys, loc="upper left", bbox_to_anchor=(x, 1 - 0.85 * inch), ncols=len(keys),
        frameon=False, borderaxespad=0, borderpad=0.2, handlelength=1.2, columnspacing=1.4,
        fontsize=12,
    )  # fmt: skip


def _facts(recording: Annotation, vocs: Sequence[Voc]) -> str:
    """`2023-11-04, 08:15 to 00:15 (16 h 00 min); speech 3 h 12 min, silence 12 h 48 min`."""
    end = duration_ms(recording)
    spoken = latest = 0
    for voc in vocs:  # sorted by onset: the union of all voices
        spoken += max(0, voc.offset - max(voc.onset, latest))
        latest = max(latest, voc.offset)
    length = _length(end)
    if recording.began is not None:
        day = f"{recording.began.date()}, " if isinstance(recording.began, datetime) else ""
        begin = since_midnight(recording.began)
        exact = end <= HOUR_MS
        length = f"{day}{clock_text(begin, exact)} to {clock_text(begin + end, exact)} ({length})"
    return f"{length}; speech {_length(spoken)}, silence {_length(end - spoken)}"


def _length(ms: int) -> str:
    """`16 h 00 min`, `9 min 58 s`, `3.2 s`."""
    seconds = round(ms / 1000)
    if seconds >= 3600:
        minutes = round(ms / 60_000)
        return f"{minutes // 60} h {minutes % 60:02d} min"
    if seconds >= 60:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{ms / 1000:.1f} s"


def printable(name: str) -> str:
    """A name for a title: what doesn't print is escaped, and the middle of a long one left out.

    The joiners of Indic and Arabic scripts (U+200C, U+200D) stay.
    """
    text = "".join(
        c if c.isprintable() or c in "\u200c\u200d" else c.encode("unicode_escape").decode("ascii")
        for c in name
    )
    if len(text) <= _LONGEST_NAME:
        return text
    half = _LONGEST_NAME // 2
    return f"{text[: half - 1]}…{text[-half:]}"
