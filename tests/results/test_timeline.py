"""Pictures of recordings: what the pixels say, and that nothing else is touched."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from said import said

from bab.core.errors import BabError
from bab.core.types import Segment
from bab.results.timeline import COLOURS, draw_timeline, printable
from bab.results.vocalisations import VOICES

matplotlib = pytest.importorskip("matplotlib")
SILENCE = "#EBEBEB"


def rgb(colour: str) -> np.ndarray[Any, Any]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def pixels(path: Path) -> np.ndarray[Any, Any]:
    """u8[height, width, 3]"""
    from matplotlib.image import imread

    return np.round(imread(path)[..., :3] * 255).astype(int)


def places(image: np.ndarray[Any, Any], colour: str) -> np.ndarray[Any, Any]:
    """bool[height, width]: where the picture has this colour, exactly."""
    return (image == rgb(colour)).all(axis=-1)


def texts(path: Path) -> list[str]:
    tree = ElementTree.parse(path)
    return ["".join(node.itertext()) for node in tree.iter() if node.tag.endswith("text")]


def test_marks_lie_where_the_voices_speak(tmp_path: Path) -> None:
    """Widths in pixels against seconds, in lanes from the top, of 600 s."""
    spans = {"KCHI": [(0, 60), (300, 330)], "OCH": [(60, 120)], "MAL": [(500, 600)], "FEM": []}
    segments = [Segment(a, b, voice) for voice, each in spans.items() for a, b in each]
    draw_timeline(said("a.wav", 600, segments), path := tmp_path / "a.png")
    image = pixels(path)
    assert image.shape[1] == pytest.approx(2000, abs=2)
    body = image[places(image, SILENCE).sum(axis=1) > 500]  # the lanes, not the legend
    # The scale: KCHI speaks from 0 s, MAL until 600 s; the totals are right of column 1520.
    left = np.flatnonzero(places(body, COLOURS["KCHI"]).any(axis=0))[0]
    width = np.flatnonzero(places(body, COLOURS["MAL"])[:, :1520].any(axis=0))[-1] + 1 - left
    tops = []
    for voice, each in spans.items():
        there = places(body, COLOURS[voice])[:, left : left + width]
        at = np.flatnonzero(there.any(axis=0)) / width * 600
        assert len(at) / width * 600 == pytest.approx(sum(b - a for a, b in each), abs=3), voice
        for second in at:
            assert any(a - 1 <= second <= b + 1 for a, b in each), (voice, second)
        if each:
            tops.append(np.flatnonzero(there.any(axis=1))[0])
    assert tops == sorted(tops) and len(set(tops)) == 3


def test_a_tenth_of_a_second_is_seen_in_a_day(tmp_path: Path) -> None:
    segments = [Segment(1000, 1000.1, "MAL"), Segment(40_000, 40_000.05, "FEM")]
    draw_timeline(said("a.wav", 16 * 3600, segments), path := tmp_path / "a.png")
    image = pixels(path)[300:, :1500]  # below the legend, left of the bars
    for voice in ("MAL", "FEM"):
        assert (np.abs(image - rgb(COLOURS[voice])).max(axis=-1) < 90).any(), voice


def test_a_day_has_a_row_for_each_hour_of_the_clock(tmp_path: Path) -> None:
    start = datetime(2023, 11, 4, 8, 15)
    draw_timeline(said("a.wav", 16 * 3600, [], start), path := tmp_path / "a.svg")
    shown = texts(path)
    hours = [f"{h % 24:02d}:00" for h in range(8, 25)]
    assert [text for text in shown if text in hours] == hours
    assert "2023-11-04, 08:15 to 00:15 (16 h 00 min); speech 0.0 s, silence 16 h 00 min" in shown
    assert {"silence", "not recorded", "KCHI key child", "FEM female adult"} <= set(shown)


@pytest.mark.parametrize(
    ("seconds", "start", "expected"),
    [
        (600, None, ["0:00", "10:00", "min:s"]),
        (600, time(8, 55, 20), ["08:56", "09:05", "time of day"]),
        (5, time(8, 0), ["08:00:00", "08:00:05"]),
        (2.5 * 3600, None, ["0 h", "1 h", "2 h", "not recorded"]),
        (2 * 3600, None, ["0 h", "1 h"]),
        (40 * 3600, None, ["day 1", "day 2", "3 h"]),
        (40 * 3600, datetime(2023, 12, 31, 20), ["2023-12-31", "2024-01-01", "2024-01-02"]),
    ],
)  # fmt: skip
def test_scales(tmp_path: Path, seconds: float, start: Any, expected: list[str]) -> None:
    segments = [Segment(1, 2, "KCHI"), Segment(seconds - 1, seconds, "FEM")]
    draw_timeline(said("a.wav", seconds, segments, start), path := tmp_path / "a.svg")
    shown = texts(path)
    assert set(expected) <= set(shown)
    assert ("not recorded" in shown) == (seconds in (2.5 * 3600, 40 * 3600))


def test_speech_and_silence_are_those_of_the_union(tmp_path: Path) -> None:
    segments = [Segment(0, 10, "KCHI"), Segment(5, 20, "FEM"), Segment(6, 7, "MAL")]
    draw_timeline(said("a.wav", 60, segments), path := tmp_path / "a.svg")
    assert "1 min 00 s; speech 20.0 s, silence 40.0 s" in texts(path)


def test_days_show_shares(tmp_path: Path) -> None:
    """All of a 5 minutes against a half: the heights of two marks."""
    day = 24 * 3600
    segments = [Segment(30_000, 30_300, "KCHI"), Segment(60_000, 60_150, "KCHI")]
    draw_timeline(said("a.wav", 2 * day, segments), path := tmp_path / "a.png")
    image = pixels(path)[:, 200:1500]
    marks = places(image, COLOURS["KCHI"])
    marks[:170] = False  # the legend
    high = marks.sum(axis=0)
    columns = np.flatnonzero(high)
    one, two = high[columns[columns < 500]], high[columns[columns > 500]]
    assert np.median(two) / np.median(one) == pytest.approx(0.5, abs=0.1)


def other_process(path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from bab.core.annotations import Annotation, Mark
from bab.results.timeline import draw_timeline
assert "matplotlib" not in sys.modules
draw_timeline(Annotation("a.wav", (Mark(1, 2, "KCHI"),), duration=7200),
              {str(path)!r} + ".png", {str(path)!r} + ".svg")
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {"MPLBACKEND": "TkAgg", "DISPLAY": "", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_the_same_bytes_whatever_the_settings_and_they_stay(tmp_path: Path) -> None:
    other_process(tmp_path / "other")
    recording = said("a.wav", 7200, [Segment(1, 2, "KCHI")])
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "mine", "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        draw_timeline(recording, tmp_path / "mine.svg", tmp_path / "mine.png")
        assert dict(matplotlib.rcParams) == before
    for form in ("svg", "png"):
        mine = (tmp_path / f"mine.{form}").read_bytes()
        assert mine == (tmp_path / f"other.{form}").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "mine.svg").read_bytes()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\x1b[31m\t.wav", "a\\nb\\x1b[31m\\t.wav"),
        ("$x^2$ & <b>.wav", "$x^2$ & <b>.wav"),
        ("bad \udcff\ufffe\u202e.wav", "bad \\udcff\\ufffe\\u202e.wav"),
        ("बच्चा\u200d.wav", "बच्चा\u200d.wav"),
        ("x" * 200 + ".wav", "x" * 44 + "…" + "x" * 41 + ".wav"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_names_are_titles_as_they_are_or_escaped(tmp_path: Path, name: str, shown: str) -> None:
    assert printable(name) == shown
    draw_timeline(
        said(name, 60, []), tmp_path / "a.svg", tmp_path / "a.png", voices=("KCHI", name[:9])
    )
    assert shown in texts(tmp_path / "a.svg")


def test_voices_of_another_task(tmp_path: Path) -> None:
    voices = ("cry", "laugh", "KCHI")
    draw_timeline(
        said("a.wav", 60, [Segment(1, 2, "cry")]), path := tmp_path / "a.svg", voices=voices
    )
    assert set(voices[:2]) <= set(texts(path))


def test_errors_name_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BabError, match=r"a\.pdf.*\.png or \.svg"):
        draw_timeline(said("a.wav", 60, []), tmp_path / "a.pdf")
    with pytest.raises(BabError, match=r"a\.wav: 0 s long"):
        draw_timeline(said("a.wav", 0, []), tmp_path / "a.png")
    with pytest.raises(BabError, match="'DOG'"):
        draw_timeline(said("a.wav", 9, [Segment(0, 1, "DOG")]), tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BabError, match=r"pip install 'bab\[plots\]'"):
        draw_timeline(said("a.wav", 60, []), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                            [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip


def lab(colour: str, vision: str) -> np.ndarray[Any, Any]:
    """CIELAB (1976, D65) of an sRGB colour as seen with this vision."""
    value = rgb(colour) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(VISIONS[vision] @ linear, 0, 1)
    to_xyz = np.array(
        [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    )
    x, y, z = np.cbrt(np.maximum(to_xyz @ seen / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def pairs() -> Iterator[tuple[str, str]]:
    yield from itertools.combinations([*(COLOURS[voice] for voice in VOICES), SILENCE], 2)


@pytest.mark.parametrize("vision", VISIONS)
def test_the_colour_blind_can_tell_the_voices_apart(vision: str) -> None:
    """A difference of 2.3 can just be seen; 15 is far more."""
    for one, two in pairs():
        assert np.linalg.norm(lab(one, vision) - lab(two, vision)) > 15, (one, two)
